"""Quirks planted into a FashionAI key points sample, each listed in `defects.json`.

Every entry names the file, its line (1-based; null when it concerns the whole file), the image, the rule of the validator that
should notice it, what was done, and the verdict: `rejected`, `kept` (perhaps with a warning) or `blank` (no row at all).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from fprep.synthetic.garments.design import CATEGORIES
from fprep.synthetic.layouts.fashionai_rows import (
    NOT_ANNOTATED,
    TEST_A,
    TRAIN,
    TRAIN_CSV,
    Row,
    by_category,
    draw_rows,
    header,
    image_name,
    write_lines,
)  # fmt: skip
from fprep.synthetic.layouts.image_defects import SPOILT_IMAGES
from fschemas.landmarks import FASHIONAI_24

WARM_UP = "fashionAI_key_points_train_warm_up_20180222"
WARM_UP_CSV = f"{WARM_UP}/Annotations/annotations.csv"
_WARM_UP_IMAGES = 5


@dataclass(frozen=True)
class _Line:
    """A line of the CSV and, when it was spoilt, the rule, what was done and the verdict."""

    text: str
    image: str | None
    rule: str | None = None
    what: str = ""
    verdict: str = "rejected"


def plant_defects(folder: Path, train: list[Row], test: list[Row], *, images: int, seed: int) -> dict[str, int]:
    """Spoil training rows and images of a sample in `folder`, write its CSV, the warm-up archive and `defects.json`.

    One row at least for each rule; the choice depends on the seed only. Returns the counts of rows and of planted defects.
    """
    planter = _Planter(folder / TRAIN, train, np.random.default_rng(np.random.SeedSequence((seed, images, 9))))
    planter.spoil_images()
    planter.spoil_rows()
    planter.spoil_cells()
    planter.repeat(folder / TEST_A, test)
    planter.lines.insert(
        len(planter.lines) // 2, _Line("", None, "empty_row", "a blank line between two rows", "blank")
    )
    write_lines(folder / TRAIN_CSV, [header(), *(line.text for line in planter.lines)])
    warm_up = _write_warm_up(folder, planter.untouched[-1], images=images, seed=seed)
    defects = [
        {
            "file": file,
            "line": number,
            "image": line.image,
            "rule": line.rule,
            "what": line.what,
            "verdict": line.verdict,
        }
        for file, lines in ((TRAIN_CSV, planter.lines), (WARM_UP_CSV, warm_up))
        for number, line in enumerate(lines, start=2)
        if line.rule is not None
    ]
    for rule, what in (("bom", "EF BB BF before the header"), ("crlf", "every line ends with CR LF")):
        defects.append(
            {"file": WARM_UP_CSV, "line": None, "image": None, "rule": rule, "what": what, "verdict": "kept"}
        )
    (folder / "defects.json").write_text(json.dumps(defects, indent=2) + "\n", encoding="utf-8")
    return {"train": len(planter.lines) - 1, "warm_up": len(warm_up), "defects": len(defects)}


class _Planter:
    """Takes one untouched training row after the other and spoils it in place."""

    def __init__(self, archive: Path, rows: list[Row], generator: np.random.Generator) -> None:
        self.archive = archive
        self.lines = [_Line(row.text(), row.image_id) for row in rows]
        self.untouched: list[Row] = [rows[int(place)] for place in generator.permutation(len(rows))]
        self._places = {row.image_id: place for place, row in enumerate(rows)}

    def spoil_images(self) -> None:
        """Files that are damaged, missing, or not what their name says."""
        for rule in ("truncated_image", "zero_byte_image", "not_an_image"):
            what, change, _ = SPOILT_IMAGES[rule]
            row = self._take()
            path = self.archive / row.image_id
            path.write_bytes(change(path.read_bytes()))
            self._put(row, row, rule, what)
        row = self._take()
        (self.archive / row.image_id).unlink()
        self._put(row, row, "missing_image", "the file was deleted")
        for rule in ("wrong_extension", "exif_orientation", "grayscale_image", "cmyk_image"):
            what, change, _ = SPOILT_IMAGES[rule]
            row = self._take()
            content = change((self.archive / row.image_id).read_bytes())
            moved = self._move(row, f"Images/{row.category}/{image_name(content)}")
            (self.archive / moved.image_id).write_bytes(content)
            self._put(row, moved, rule, what, "kept")

    def spoil_rows(self) -> None:
        """Wrong numbers of cells, wrong categories, wrong paths."""
        row = self._take()
        self._put(row, replace(row, cells=row.cells[:-1]), "wrong_columns", "25 cells")
        row = self._take()
        self._put(row, replace(row, cells=(*row.cells, NOT_ANNOTATED)), "wrong_columns", "27 cells")
        row = self._take()
        name = row.image_id.rsplit("/", 1)[1]
        self._put(
            row,
            replace(self._move(row, f"Images/hat/{name}"), category="hat"),
            "unknown_category",
            "category and folder hat",
        )
        row = self._take()
        other = CATEGORIES[(CATEGORIES.index(row.category) + 1) % len(CATEGORIES)]
        moved = self._move(row, f"Images/{other}/{row.image_id.rsplit('/', 1)[1]}")
        self._put(row, moved, "category_folder_mismatch", f"a {row.category} in the folder {other}")
        row = self._take()
        self._put(
            row, replace(row, image_id="Images/../../../escape.jpg"), "path_escape", "a path that leaves the archive"
        )
        row = self._take()
        self._put(row, replace(row, image_id="/" + row.image_id), "absolute_path", "a path that starts at the root")

    def spoil_cells(self) -> None:
        """Cells that cannot be read, points outside the image, points that are swapped, missing or not the garment's."""
        for cell in ("12_x_1", "1_000_5_1", "nan_3_1"):
            self._change_cell("bad_cell", cell, "the cell is " + cell)
        self._change_cell("bad_visibility", "{x}_{y}_3", "visibility 3")
        self._change_cell("point_outside", "{outside}_{y}_1", "x is the width plus 7")
        self._change_cell("point_outside", "{x}_-5_1", "y is -5")
        self._change_cell("point_at_border", "{width}_{y}_1", "x equals the width", "kept")
        row = self._take(lambda row: NOT_ANNOTATED not in (row.cells[5], row.cells[6]) and row.category == "blouse")
        swapped = tuple(row.cells[partner] for partner in FASHIONAI_24.partners)
        self._put(
            row, replace(row, cells=swapped), "swapped_left_right", "left and right points changed places", "kept"
        )
        row = self._take(lambda row: NOT_ANNOTATED not in (row.cells[5], row.cells[6]))
        cells = (*row.cells[:5], NOT_ANNOTATED, *row.cells[6:])
        self._put(row, replace(row, cells=cells), "missing_normaliser", "armpit_left is not annotated", "kept")
        row = self._take(lambda row: row.category == "skirt")
        self._put(
            row, replace(row, cells=("100_50_1", *row.cells[1:])), "not_applicable_point", "a skirt with neckline_left"
        )

    def repeat(self, test_archive: Path, test: list[Row]) -> None:
        """A row twice, an image twice, an image of the test set among the training ones."""
        row = self._take()
        self._insert(row, row, "duplicate_row", "the line before once more")
        row = self._take()
        content = (self.archive / row.image_id).read_bytes()
        name = hashlib.md5(content + b"copy", usedforsecurity=False).hexdigest()
        copy = replace(row, image_id=f"Images/{row.category}/{name}.jpg")
        (self.archive / copy.image_id).write_bytes(content)
        self._insert(row, copy, "duplicate_image", "the bytes of the line before under another name")
        row, leaked = self._take(), test[0]
        (self.archive / leaked.image_id).write_bytes((test_archive / leaked.image_id).read_bytes())
        self._insert(row, leaked, "leaked_image", "an image of test a")

    def _take(self, suits: Callable[[Row], bool] = bool) -> Row:
        """The next untouched row that suits."""
        place = next(place for place, row in enumerate(self.untouched) if suits(row))
        return self.untouched.pop(place)

    def _move(self, row: Row, image_id: str) -> Row:
        target = self.archive / image_id
        target.parent.mkdir(exist_ok=True)
        (self.archive / row.image_id).rename(target)
        return replace(row, image_id=image_id)

    def _put(self, row: Row, spoilt: Row, rule: str, what: str, verdict: str = "rejected") -> None:
        """Let a spoilt row stand where the row stood."""
        self.lines[self._place(row)] = _Line(spoilt.text(), spoilt.image_id, rule, what, verdict)

    def _insert(self, row: Row, copy: Row, rule: str, what: str) -> None:
        """Add a line after that of the row."""
        place = self._place(row)
        self.lines.insert(place + 1, _Line(copy.text(), copy.image_id, rule, what))
        self._places = {image: at + (at > place) for image, at in self._places.items()}

    def _place(self, row: Row) -> int:
        return self._places[row.image_id]

    def _change_cell(self, rule: str, pattern: str, what: str, verdict: str = "rejected") -> None:
        """Rewrite the rightmost visible cell of a row: `{x}`, `{y}` and `{width}` of the pattern are filled in."""
        row = self._take()
        numbers = {
            index: cell.split("_")
            for index, cell in enumerate(row.cells)
            if cell.endswith("_1") and cell != NOT_ANNOTATED
        }
        index, (x, y, _) = max(numbers.items(), key=lambda item: int(item[1][0]))
        with Image.open(self.archive / row.image_id) as image:
            width = image.width
        cell = pattern.format(x=x, y=y, width=width, outside=width + 7)
        cells = (*row.cells[:index], cell, *row.cells[index + 1 :])
        self._put(row, replace(row, cells=cells), rule, f"{FASHIONAI_24.points[index]}: {what}", verdict)


def _write_warm_up(folder: Path, repeated: Row, *, images: int, seed: int) -> list[_Line]:
    """A second, older training archive with a byte order mark and CRLF; one of its images is also in the train archive."""
    for category in CATEGORIES:
        (folder / WARM_UP / "Images" / category).mkdir(parents=True)
    (folder / WARM_UP_CSV).parent.mkdir()
    rows = draw_rows(folder, range(images, images + _WARM_UP_IMAGES), seed, workers=1, archive=WARM_UP)
    (folder / WARM_UP / repeated.image_id).write_bytes((folder / TRAIN / repeated.image_id).read_bytes())
    lines = [_Line(row.text(), row.image_id) for row in by_category([*rows, repeated])]
    place = next(place for place, line in enumerate(lines) if line.image == repeated.image_id)
    lines[place] = replace(lines[place], rule="duplicate_image", what=f"the bytes of an image of {TRAIN}")
    write_lines(folder / WARM_UP_CSV, [header(), *(line.text for line in lines)], newline="\r\n", encoding="utf-8-sig")
    return lines
