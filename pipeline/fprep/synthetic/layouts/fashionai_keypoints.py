"""Sample of the FashionAI keypoint challenge: its archives, names, CSV dialect and quirks, with synthetic images.

Layout and encoding follow the round-1 archives (Tianchi 2018): `train.csv` in `Annotations/` with 26 columns,
`test.csv` with two, the ground truth of test a next to the archives, and images named `Images/<category>/<md5 of the
bytes>.jpg`. Image i depends only on (seed, i). Four fifths of the images are for training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from PIL import Image as PillowImage

from fprep.synthetic.defects import Spoiler
from fprep.synthetic.garments.design import CATEGORIES
from fprep.synthetic.garments.render import Image, render
from fprep.synthetic.garments.wardrobe import draw_design
from fprep.synthetic.skeleton import Defect, Layout, Request, chance, jpeg_bytes, map_groups, shuffled, write_text
from fschemas.landmarks import FASHIONAI_24, Visibility

TRAIN = "fashionAI_key_points_train_20180227"
TEST_A = "fashionAI_key_points_test_a_20180227"
WARM_UP = "fashionAI_key_points_train_warm_up_20180222"
TRAIN_CSV = f"{TRAIN}/Annotations/train.csv"
TEST_CSV = f"{TEST_A}/test.csv"
WARM_UP_CSV = f"{WARM_UP}/Annotations/annotations.csv"
ANSWER_CSV = "fashionAI_key_points_test_a_answer_20180426.csv"
NOT_ANNOTATED = "-1_-1_-1"
_HEADER = ",".join(("image_id", "image_category", *FASHIONAI_24.names))
_WARM_UP_IMAGES = 5
_TRAIN_CYCLE = [
    CATEGORIES[index] for index in (0, 1, 2, 3, 4, 0, 2, 4, 1, 0, 3, 2, 4)
]  # proportions of the real train archive


@dataclass(frozen=True)
class Row:
    """One annotated image: path relative to the archive, category and 24 cells `x_y_v`."""

    image_id: str
    category: str
    cells: tuple[str, ...]

    @classmethod
    def parse(cls, line: str) -> Row:
        """Parse a line of a 26-column CSV."""
        image_id, category, *cells = line.split(",")
        return cls(image_id, category, tuple(cells))

    def text(self) -> str:
        """Return the line of a 26-column CSV, without line ending."""
        return ",".join((self.image_id, self.category, *self.cells))


def _write(folder: Path, request: Request) -> dict[str, int]:
    for archive in (TRAIN, TEST_A):
        _make_folders(folder, archive)
    (folder / TRAIN_CSV).parent.mkdir()
    render = partial(_render_row, folder, request.seed, None)
    rows: list[Row] = list(map_groups(request, render, range(request.images), [1] * request.images))
    train = _by_category([row for index, row in enumerate(rows) if not _is_test(index)])
    test = _by_category([row for index, row in enumerate(rows) if _is_test(index)])
    write_text(folder / TEST_CSV, ["image_id,image_category", *(f"{row.image_id},{row.category}" for row in test)])
    write_text(folder / ANSWER_CSV, [_HEADER, *(row.text() for row in test)])
    write_text(folder / TRAIN_CSV, [_HEADER, *(row.text() for row in train)])
    return {"train": len(train), "test": len(test)}


def draw_image(seed: int, index: int) -> Image:
    """Render image `index` of a sample, with a longer side of 512 pixels."""
    generator = chance(seed, index)
    return render(draw_design(generator, _category(index)), generator)


def cells_of(image: Image) -> tuple[str, ...]:
    """Return the 24 cells of an image: integer pixels, 1 visible, 0 occluded, `-1_-1_-1` otherwise."""
    return tuple(
        f"{round(float(x))}_{round(float(y))}_{int(visibility == Visibility.VISIBLE)}"
        if visibility >= Visibility.OCCLUDED
        else NOT_ANNOTATED
        for (x, y), visibility in zip(image.points, image.visibility, strict=True)
    )


def _render_row(folder: Path, seed: int, archive: str | None, index: int) -> Row:
    """Write image `index` to the given archive or its own one, named after its bytes as in the real archives."""
    image = draw_image(seed, index)
    content = jpeg_bytes(image.image)
    image_id = f"Images/{image.category}/{_digest(content)}.jpg"
    (folder / (archive or (TEST_A if _is_test(index) else TRAIN)) / image_id).write_bytes(content)
    return Row(image_id, image.category, cells_of(image))


def _digest(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _make_folders(folder: Path, archive: str) -> None:
    for category in CATEGORIES:
        (folder / archive / "Images" / category).mkdir(parents=True)


def _is_test(index: int) -> bool:
    """Whether image `index` of a sample belongs to test a."""
    return index % 5 == 4


def _category(index: int) -> str:
    """Return the category of image `index`: a fixed cycle, so that small samples contain all five."""
    if _is_test(index):
        return CATEGORIES[index // 5 % 5]
    return _TRAIN_CYCLE[(index - index // 5) % len(_TRAIN_CYCLE)]


def _by_category(rows: Sequence[Row]) -> list[Row]:
    """Group the rows by category, in the order of the archives."""
    return sorted(rows, key=lambda row: CATEGORIES.index(row.category))


def _insert_defects(folder: Path, request: Request, counts: dict[str, int]) -> list[Defect]:
    """Insert defects into training rows and images, at least one row per rule, and add the warm-up archive."""
    spoiler = _RowSpoiler(folder, request)
    spoiler.spoil_images()
    spoiler.spoil_rows()
    spoiler.spoil_cells()
    spoiler.repeat()
    blank = _Line(None, None, ("empty_row", "a blank line between two rows", "blank"))
    spoiler.lines.insert(len(spoiler.lines) // 2, blank)
    write_text(folder / TRAIN_CSV, [_HEADER, *(line.row.text() if line.row else "" for line in spoiler.lines)])
    for number, line in enumerate(spoiler.lines, start=2):
        if line.defect:
            spoiler.note(TRAIN_CSV, number, line.row.image_id if line.row else None, *line.defect)
    repeated = spoiler.unmodified[-1]
    warm_up = _write_warm_up(folder, repeated, request)
    what = f"the bytes of an image of {TRAIN}"
    spoiler.note(WARM_UP_CSV, 2 + warm_up.index(repeated), repeated.image_id, "duplicate_image", what)
    spoiler.note(WARM_UP_CSV, None, None, "bom", "EF BB BF before the header", "kept")
    spoiler.note(WARM_UP_CSV, None, None, "crlf", "every line ends with CR LF", "kept")
    counts |= {"train": len(spoiler.lines) - 1, "warm_up": len(warm_up)}
    return spoiler.defects


def _write_warm_up(folder: Path, repeated: Row, request: Request) -> list[Row]:
    """Write a second, older training archive with BOM and CRLF; it repeats one image of the train archive."""
    _make_folders(folder, WARM_UP)
    (folder / WARM_UP_CSV).parent.mkdir()
    indices = range(request.images, request.images + _WARM_UP_IMAGES)
    rows = [_render_row(folder, request.seed, WARM_UP, index) for index in indices]
    (folder / WARM_UP / repeated.image_id).write_bytes((folder / TRAIN / repeated.image_id).read_bytes())
    rows = _by_category([*rows, repeated])
    texts = [_HEADER, *(row.text() for row in rows)]
    write_text(folder / WARM_UP_CSV, texts, newline="\r\n", encoding="utf-8-sig")
    return rows


@dataclass(frozen=True)
class _Line:
    """A line of the CSV: original row, current row, and the rule, description and verdict of its defect."""

    origin: Row | None
    row: Row | None
    defect: tuple[str, ...] = ()


class _RowSpoiler(Spoiler[Row]):
    """Inserts defects into unmodified training rows, one by one."""

    def __init__(self, folder: Path, request: Request) -> None:
        lines = {file: (folder / file).read_text(encoding="utf-8").splitlines()[1:] for file in (TRAIN_CSV, ANSWER_CSV)}
        rows = [Row.parse(line) for line in lines[TRAIN_CSV]]
        super().__init__(folder / TRAIN, shuffled(rows, chance(request.seed, request.images, 9)))
        self.leaked = Row.parse(lines[ANSWER_CSV][0])
        self.lines = [_Line(row, row) for row in rows]

    def spoil_images(self) -> None:
        """Damaged, missing and mislabeled image files."""
        for rule in ("truncated_image", "zero_byte_image", "not_an_image", "missing_image"):
            row = self.take()
            self.put(row, row, *self.damage(row.image_id, rule))
        for rule in ("wrong_extension", "exif_orientation", "grayscale_image", "cmyk_image"):
            row = self.take()
            defect = self.damage(row.image_id, rule)
            digest = _digest((self.folder / row.image_id).read_bytes())
            self.put(row, self.move(row, f"Images/{row.category}/{digest}.jpg"), *defect)

    def spoil_rows(self) -> None:
        """Wrong numbers of cells, wrong categories, wrong paths."""
        row = self.take()
        self.put(row, replace(row, cells=row.cells[:-1]), "wrong_columns", "25 cells")
        row = self.take()
        self.put(row, replace(row, cells=(*row.cells, NOT_ANNOTATED)), "wrong_columns", "27 cells")
        row = self.take()
        moved = replace(self.move(row, f"Images/hat/{Path(row.image_id).name}"), category="hat")
        self.put(row, moved, "unknown_category", "category and folder hat")
        row = self.take()
        other = CATEGORIES[(CATEGORIES.index(row.category) + 1) % len(CATEGORIES)]
        moved = self.move(row, f"Images/{other}/{Path(row.image_id).name}")
        self.put(row, moved, "category_folder_mismatch", f"a {row.category} in the folder {other}")
        row = self.take()
        escaped = replace(row, image_id="Images/../../../escape.jpg")
        self.put(row, escaped, "path_escape", "a path that leaves the archive")
        row = self.take()
        self.put(row, replace(row, image_id="/" + row.image_id), "absolute_path", "a path that starts at the root")

    def spoil_cells(self) -> None:
        """Unreadable cells, landmarks outside the image, and swapped, missing or inapplicable landmarks."""
        for cell in ("12_x_1", "1_000_5_1", "nan_3_1"):
            self.change_cell("bad_cell", cell, "the cell is " + cell)
        self.change_cell("bad_visibility", "{x}_{y}_3", "visibility 3")
        self.change_cell("point_outside", "{outside}_{y}_1", "x is the width plus 7")
        self.change_cell("point_outside", "{x}_-5_1", "y is -5")
        self.change_cell("point_at_border", "{width}_{y}_1", "x equals the width", "kept")
        row = self.take(lambda row: NOT_ANNOTATED not in row.cells[5:7] and row.category == "blouse")
        swapped = replace(row, cells=tuple(row.cells[partner] for partner in FASHIONAI_24.flip_index))
        self.put(row, swapped, "swapped_left_right", "left and right landmarks were swapped", "kept")
        row = self.take(lambda row: NOT_ANNOTATED not in row.cells[5:7])
        bare = replace(row, cells=(*row.cells[:5], NOT_ANNOTATED, *row.cells[6:]))
        self.put(row, bare, "missing_normalizer", "armpit_left is not annotated", "kept")
        row = self.take(lambda row: row.category == "skirt")
        wrong = replace(row, cells=("100_50_1", *row.cells[1:]))
        self.put(row, wrong, "not_applicable_point", "a skirt with neckline_left")

    def repeat(self) -> None:
        """A duplicate row, a duplicate image, and a test image in training."""
        row = self.take()
        self.insert(row, row, "duplicate_row", "the line before once more")
        row = self.take()
        content = (self.folder / row.image_id).read_bytes()
        copy = replace(row, image_id=f"Images/{row.category}/{_digest(content + b'copy')}.jpg")
        (self.folder / copy.image_id).write_bytes(content)
        self.insert(row, copy, "duplicate_image", "the bytes of the line before under another name")
        row, test = self.take(), self.folder.parent / TEST_A
        (self.folder / self.leaked.image_id).write_bytes((test / self.leaked.image_id).read_bytes())
        self.insert(row, self.leaked, "leaked_image", "an image of test a")

    def put(self, row: Row, spoilt: Row, *defect: str) -> None:
        """Replace a row with a defective one."""
        self.lines[self._index(row)] = _Line(row, spoilt, defect)

    def insert(self, row: Row, copy: Row, *defect: str) -> None:
        """Add a line after that of the row."""
        self.lines.insert(self._index(row) + 1, _Line(None, copy, defect))

    def move(self, row: Row, image_id: str) -> Row:
        """Rename the image of a row."""
        target = self.folder / image_id
        target.parent.mkdir(exist_ok=True)
        (self.folder / row.image_id).rename(target)
        return replace(row, image_id=image_id)

    def change_cell(self, rule: str, pattern: str, what: str, verdict: str = "rejected") -> None:
        """Rewrite the rightmost visible cell of a row. `pattern` may contain `{x}`, `{y}` and `{width}`."""
        row = self.take()
        cells = [cell.split("_") for cell in row.cells]
        visible = [index for index, cell in enumerate(row.cells) if cell.endswith("_1") and cell != NOT_ANNOTATED]
        index = max(visible, key=lambda index: int(cells[index][0]))
        x, y, _ = cells[index]
        with PillowImage.open(self.folder / row.image_id) as image:
            width = image.width
        cell = pattern.format(x=x, y=y, width=width, outside=width + 7)
        changed = replace(row, cells=(*row.cells[:index], cell, *row.cells[index + 1 :]))
        self.put(row, changed, rule, f"{FASHIONAI_24.names[index]}: {what}", verdict)

    def _index(self, row: Row) -> int:
        return next(index for index, line in enumerate(self.lines) if line.origin is row)


LAYOUT = Layout(
    published=31_631, write=_write, insert_defects=_insert_defects, least_for_defects=48, annotations_alone=False
)
