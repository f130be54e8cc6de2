"""Defects of real archives that are inserted into synthetic ones: damaged images, and a record of each change."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import cv2
import numpy as np
from PIL import Image

from fprep.synthetic.skeleton import Defect

T = TypeVar("T")
Change = Callable[[bytes], bytes]


def _as_png(content: bytes) -> bytes:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None, "our own JPEG can be decoded"
    return cv2.imencode(".png", image)[1].tobytes()


def _in_mode(mode: str) -> Change:
    def convert(content: bytes) -> bytes:
        buffer = io.BytesIO()
        Image.open(io.BytesIO(content)).convert(mode).save(buffer, "JPEG", quality=88)
        return buffer.getvalue()

    return convert


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
    "grayscale_image": ("a JPEG with one channel", _in_mode("L"), "kept"),
    "cmyk_image": ("a JPEG with four channels, CMYK", _in_mode("CMYK"), "kept"),
    "missing_image": ("the file was deleted", None, "rejected"),
}
"""By rule: description, change (None: delete the file), and the verdict on a row with such an image."""


class Spoiler(Generic[T]):
    """Selects unmodified rows one by one, so that none gets two defects, and records defects in `defects`."""

    def __init__(self, folder: Path, unmodified: Sequence[T]) -> None:
        """`unmodified` are the rows (or images, or documents) in the order of use."""
        self.folder = folder
        self.unmodified = list(unmodified)
        self.defects: list[Defect] = []

    def take(self, suits: Callable[[T], bool] = lambda _: True) -> T:
        """Return the next unmodified row that suits."""
        return self.unmodified.pop(next(index for index, row in enumerate(self.unmodified) if suits(row)))

    def note(
        self, file: str, line: int | None, image: str | None, rule: str, what: str, verdict: str = "rejected"
    ) -> None:
        """Record a defect."""
        self.defects.append(Defect(file, line, image, rule, what, verdict))

    def change_file(self, file: str, change: Change) -> None:
        """Rewrite the bytes of a file below the folder."""
        path = self.folder / file
        path.write_bytes(change(path.read_bytes()))

    def damage(self, image: str, rule: str) -> tuple[str, str, str]:
        """Damage an image file as defined by `IMAGE_DEFECTS`; return rule, description and verdict."""
        what, change, verdict = IMAGE_DEFECTS[rule]
        if change is None:
            (self.folder / image).unlink()
        else:
            self.change_file(image, change)
        return rule, what, verdict
