"""Defects of real archives that are inserted into synthetic ones: changed lines, damaged images, and their record."""

import io
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from fprep.synthetic.skeleton import Defect, chance, shuffled

Change = Callable[[bytes], bytes]
Edit = Callable[[str], str]


def _as_png(content: bytes) -> bytes:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None, "our own JPEG can be decoded"
    return cv2.imencode(".png", image)[1].tobytes()


def _in_mode(mode: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(content)).convert(mode).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _with_orientation(content: bytes) -> bytes:
    """Insert an EXIF segment after the start marker (big-endian TIFF, one entry: tag 0x0112, orientation 6)."""
    tiff = b"MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    body = b"Exif\x00\x00" + tiff
    return content[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + content[2:]


_ORIENTATION = "EXIF orientation 6 was added; the landmarks belong to the pixels as stored"
IMAGE_DEFECTS: dict[str, tuple[str, Change | None, str]] = {
    "truncated_image": ("the file ends after 40% of its bytes", lambda data: data[: len(data) * 2 // 5], "rejected"),
    "zero_byte_image": ("the file is empty", lambda _: b"", "rejected"),
    "not_an_image": ("the file holds an HTML page", lambda _: b"<html><body>403 Forbidden</body></html>\n", "rejected"),
    "wrong_extension": ("PNG bytes under a name that ends in .jpg", _as_png, "kept"),
    "exif_orientation": (_ORIENTATION, _with_orientation, "kept"),
    "grayscale_image": ("a JPEG with one channel", partial(_in_mode, "L"), "kept"),
    "cmyk_image": ("a JPEG with four channels, CMYK", partial(_in_mode, "CMYK"), "kept"),
    "missing_image": ("the file was deleted", None, "rejected"),
}
"""By rule: description, change (None: delete the file), and the verdict on a row with such an image."""


class Flaw(NamedTuple):
    """What is wrong: rule, description, and the verdict on the row."""

    rule: str
    what: str
    verdict: str = "rejected"


LineDefect = tuple[Flaw, str, str]  # pattern and replacement
DocumentDefect = tuple[Flaw, Change]


def damage(path: Path, rule: str) -> Flaw:
    """Damage an image file as defined by `IMAGE_DEFECTS`."""
    what, change, verdict = IMAGE_DEFECTS[rule]
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))
    return Flaw(rule, what, verdict)


@dataclass(eq=False)
class Line:
    """A line of a list, and its defect, whose line number is set at the end."""

    text: str
    defect: Defect | None = None


class ListSpoiler:
    """Inserts defects into lists of images, and into the images. Each image gets at most one."""

    def __init__(
        self, folder: Path, seed: int, files: dict[str, str], images: str, *, header: int = 0, separator: str = ","
    ) -> None:
        """`files` maps short names to lists below `folder` whose rows start with an image, relative to `images`.

        The first list has all images, below `header` lines.
        """
        self.folder, self.images, self.files, self._separator = folder, folder / images, files, separator
        self.lines = {
            name: [Line(text) for text in (folder / file).read_text(encoding="utf-8").splitlines()]
            for name, file in files.items()
        }
        rows = next(iter(self.lines.values()))[header:]
        self.unmodified = shuffled(list(dict.fromkeys(self._image(row) for row in rows)), chance(seed, 127))
        self.defects: list[Defect] = []

    def take(self, name: str, suits: Callable[[str], bool] = lambda _: True) -> Line:
        """Return the row in a list of the next unmodified image whose row suits."""
        for image in self.unmodified:
            row = next(row for row in self.lines[name] if self._image(row) == image)
            if suits(row.text):
                self.unmodified.remove(image)
                return row
        raise AssertionError("`least_for_defects` images are enough")

    def mark(self, name: str, row: Line, flaw: Flaw, image: str = "") -> None:
        """Record the defect of a row."""
        row.defect = Defect(self.files[name], None, image or self._image(row) or None, *flaw)

    def edit(self, name: str, flaw: Flaw, edit: Edit, suits: Callable[[str], bool] = lambda _: True) -> None:
        """Rewrite a row of a list that suits."""
        row = self.take(name, suits)
        row.text = edit(row.text)
        self.mark(name, row, flaw)

    def change(self, name: str, *defects: LineDefect) -> None:
        """Rewrite one row of a list for each defect."""
        for flaw, pattern, replacement in defects:
            self.edit(name, flaw, partial(re.sub, pattern, replacement))

    def insert(self, name: str, flaw: Flaw, edit: Edit) -> None:
        """Add a line after a row: an edited copy of it."""
        row = self.take(name)
        copy = Line(edit(row.text))
        self.lines[name].insert(self.lines[name].index(row) + 1, copy)
        self.mark(name, copy, flaw)

    def remove(self, name: str, verdict: str = "rejected") -> None:
        """Delete the row of an image from one list; its count line is then too high by one."""
        row = self.take(name)
        self.lines[name].remove(row)
        self.note(name, Flaw("missing_row", "the row was deleted", verdict), self._image(row))

    def spoil_images(self, name: str, rules: Iterable[str] = IMAGE_DEFECTS) -> None:
        """Damaged, missing and mislabeled image files."""
        for rule in rules:
            row = self.take(name)
            self.mark(name, row, damage(self.images / self._image(row), rule))

    def note(self, name: str, flaw: Flaw, image: str | None = None) -> None:
        """Record a defect of a whole list, or of a row that it lacks."""
        self.defects.append(Defect(self.files[name], None, image, *flaw))

    def finish(self, **newlines: str) -> list[Defect]:
        """Write the lists, with optional line endings by list, and return the inserted defects."""
        for name, lines in self.lines.items():
            newline = newlines.get(name, "\n")
            (self.folder / self.files[name]).write_bytes("".join(line.text + newline for line in lines).encode())
            self.defects += [replace(line.defect, line=number) for number, line in enumerate(lines, 1) if line.defect]
        return self.defects

    def _image(self, row: Line) -> str:
        return row.text.split(self._separator, 1)[0]


def edited(change: Callable[[dict[str, Any]], object]) -> Change:
    """Return a function that edits the values of a JSON document."""

    def edit(content: bytes) -> bytes:
        document = json.loads(content)
        change(document)
        return json.dumps(document, ensure_ascii=False).encode()

    return edit


def spoil_documents(
    folder: Path,
    generator: np.random.Generator,
    places: tuple[str, str],
    defects: Iterable[DocumentDefect],
    rules: Iterable[str] = IMAGE_DEFECTS,
) -> list[Defect]:
    """Insert defects into documents, and `rules` into images; `places` are the folders of documents and images."""
    labels, images = places
    stems = sorted(str(path.relative_to(folder / labels))[:-5] for path in (folder / labels).rglob("*.json"))
    order = iter(shuffled(stems, generator))
    found: list[Defect] = []
    for (flaw, change), stem in zip(defects, order, strict=False):
        path = folder / labels / f"{stem}.json"
        path.write_bytes(change(path.read_bytes()))
        found.append(Defect(f"{labels}/{stem}.json", 1, f"{images}/{stem}.jpg", *flaw))
    for rule, stem in zip(rules, order, strict=False):
        image = f"{images}/{stem}.jpg"
        found.append(Defect(f"{labels}/{stem}.json", 1, image, *damage(folder / image, rule)))
    return found
