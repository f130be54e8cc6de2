"""Sample of the FashionAI keypoint challenge: its archives, names, CSV dialect and quirks, with synthetic images.

Layout and encoding follow the round-1 archives (Tianchi 2018): `train.csv` in `Annotations/` with 26 columns,
`test.csv` with two, the ground truth of test a next to the archives, and images named `Images/<category>/<md5 of the
bytes>.jpg`. Image i depends only on (seed, i). Four fifths of the images are for training.
"""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from PIL import Image as PillowImage

from fprep.synthetic.defects import IMAGE_DEFECTS, Flaw, LineDefect, ListSpoiler, damage
from fprep.synthetic.files import jpeg_bytes, write_text
from fprep.synthetic.garments.design import CATEGORIES
from fprep.synthetic.garments.render import Image, render
from fprep.synthetic.garments.wardrobe import draw_design
from fprep.synthetic.skeleton import Defect, Group, Layout, Request, chance, map_images
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
_TRAIN_CYCLE = (0, 1, 2, 3, 4, 0, 2, 4, 1, 0, 3, 2, 4)  # of categories, in the proportions of the real archive


def _write(folder: Path, request: Request) -> dict[str, int]:
    for archive in (TRAIN, TEST_A):
        _make_folders(folder, archive)
    (folder / TRAIN_CSV).parent.mkdir()
    lines = map_images(folder, request, _render_line)
    train = _by_category([line for index, line in enumerate(lines) if not _is_test(index)])
    test = _by_category([line for index, line in enumerate(lines) if _is_test(index)])
    write_text(folder / TEST_CSV, ["image_id,image_category", *(",".join(line.split(",")[:2]) for line in test)])
    write_text(folder / ANSWER_CSV, [_HEADER, *test])
    write_text(folder / TRAIN_CSV, [_HEADER, *train])
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


def _render_line(folder: Path, request: Request, group: Group, archive: str = "") -> str:
    """Write an image to the given archive or its own one, named after its bytes as in the real archives.

    Returns its line: path relative to the archive, category and 24 cells `x_y_v`.
    """
    image = draw_image(request.seed, group.number)
    content = jpeg_bytes(image.image)
    path = f"Images/{image.category}/{_digest(content)}.jpg"
    (folder / (archive or (TEST_A if _is_test(group.number) else TRAIN)) / path).write_bytes(content)
    return ",".join((path, image.category, *cells_of(image)))


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
    return CATEGORIES[_TRAIN_CYCLE[(index - index // 5) % len(_TRAIN_CYCLE)]]


def _by_category(lines: Sequence[str]) -> list[str]:
    """Group the lines by category, in the order of the archives."""
    return sorted(lines, key=lambda line: CATEGORIES.index(line.split(",")[1]))


_ROW_DEFECTS: tuple[LineDefect, ...] = (
    (Flaw("wrong_columns", "25 cells"), r",[^,]*$", ""),
    (Flaw("wrong_columns", "27 cells"), r"$", f",{NOT_ANNOTATED}"),
    (Flaw("path_escape", "a path that leaves the archive"), r"^[^,]+", "Images/../../../escape.jpg"),
    (Flaw("absolute_path", "a path that starts at the root"), r"^", "/"),
)
_CELL_DEFECTS = (  # of the rightmost visible landmark
    (Flaw("bad_cell", "the cell is 12_x_1"), "12_x_1"),
    (Flaw("bad_cell", "the cell is 1_000_5_1"), "1_000_5_1"),
    (Flaw("bad_cell", "the cell is nan_3_1"), "nan_3_1"),
    (Flaw("bad_visibility", "visibility 3"), "{x}_{y}_3"),
    (Flaw("point_outside", "x is the width plus 7"), "{outside}_{y}_1"),
    (Flaw("point_outside", "y is -5"), "{x}_-5_1"),
    (Flaw("point_at_border", "x equals the width", "kept"), "{width}_{y}_1"),
)


def _insert_defects(folder: Path, request: Request, counts: dict[str, int]) -> list[Defect]:
    """Insert defects into training rows and images, at least one row per rule, and add the warm-up archive."""
    archive, test = folder / TRAIN, (folder / ANSWER_CSV).read_text(encoding="utf-8").splitlines()[1]
    spoiler = ListSpoiler(folder, request.seed, {"train": TRAIN_CSV}, TRAIN, header=1)
    edit, insert = partial(spoiler.edit, "train"), partial(spoiler.insert, "train")
    flaw = Flaw("swapped_left_right", "left and right landmarks were swapped", "kept")
    edit(flaw, _swapped, lambda row: ",blouse," in row and _has_armpits(row))
    flaw = Flaw("missing_normalizer", "armpit_left is not annotated", "kept")
    edit(flaw, partial(_with_cell, 7, NOT_ANNOTATED), _has_armpits)
    flaw = Flaw("not_applicable_point", "a skirt with neckline_left")
    edit(flaw, partial(_with_cell, 2, "100_50_1"), lambda row: ",skirt," in row)
    edit(Flaw("unknown_category", "category and folder hat"), partial(_moved, archive, "hat", "hat"))
    flaw = Flaw("category_folder_mismatch", "a dress in the folder skirt")
    edit(flaw, partial(_moved, archive, "skirt", "dress"), lambda row: ",dress," in row)
    spoiler.change("train", *_ROW_DEFECTS)
    for flaw, cell in _CELL_DEFECTS:
        edit(flaw, partial(_with_visible_cell, archive, cell))
    for rule in IMAGE_DEFECTS:
        row = spoiler.take("train")
        flaw = damage(archive / row.text.split(",")[0], rule)
        row.text = _renamed(archive, row.text)
        spoiler.mark("train", row, flaw)
    insert(Flaw("duplicate_row", "the line before once more"), str)
    insert(Flaw("duplicate_image", "the bytes of the line before under another name"), partial(_copied, archive))
    insert(Flaw("leaked_image", "an image of test a"), lambda _: test)
    insert(Flaw("empty_row", "a blank line between two rows", "blank"), lambda _: "")
    leaked = test.split(",")[0]
    (archive / leaked).write_bytes((folder / TEST_A / leaked).read_bytes())
    warm_up = _write_warm_up(folder, repeated := spoiler.take("train").text, request)
    counts |= {"train": len(spoiler.lines["train"]) - 2, "warm_up": len(warm_up)}
    number, what = 2 + warm_up.index(repeated), f"the bytes of an image of {TRAIN}"
    return [
        *spoiler.finish(),
        Defect(WARM_UP_CSV, number, repeated.split(",")[0], "duplicate_image", what),
        Defect(WARM_UP_CSV, None, None, "bom", "EF BB BF before the header", "kept"),
        Defect(WARM_UP_CSV, None, None, "crlf", "every line ends with CR LF", "kept"),
    ]


def _write_warm_up(folder: Path, repeated: str, request: Request) -> list[str]:
    """Write a second, older training archive with BOM and CRLF; it repeats one image of the train archive."""
    _make_folders(folder, WARM_UP)
    (folder / WARM_UP_CSV).parent.mkdir()
    groups = [Group(index, index, 1) for index in range(request.images, request.images + _WARM_UP_IMAGES)]
    lines = [repeated, *(_render_line(folder, request, group, WARM_UP) for group in groups)]
    image = repeated.split(",", maxsplit=1)[0]
    (folder / WARM_UP / image).write_bytes((folder / TRAIN / image).read_bytes())
    lines = _by_category(lines)
    write_text(folder / WARM_UP_CSV, [_HEADER, *lines], newline="\r\n", encoding="utf-8-sig")
    return lines


def _has_armpits(row: str) -> bool:
    return NOT_ANNOTATED not in row.split(",")[7:9]


def _with_cell(index: int, cell: str, row: str) -> str:
    cells = row.split(",")
    return ",".join((*cells[:index], cell, *cells[index + 1 :]))


def _with_visible_cell(archive: Path, pattern: str, row: str) -> str:
    """Rewrite the rightmost visible cell. `pattern` may contain `{x}`, `{y}`, `{width}` and `{outside}`."""
    path, _, *cells = row.split(",")
    visible = [index for index, cell in enumerate(cells) if cell.endswith("_1") and cell != NOT_ANNOTATED]
    index = max(visible, key=lambda index: int(cells[index].split("_")[0]))
    x, y, _ = cells[index].split("_")
    with PillowImage.open(archive / path) as image:
        width = image.width
    return _with_cell(2 + index, pattern.format(x=x, y=y, width=width, outside=width + 7), row)


def _swapped(row: str) -> str:
    path, category, *cells = row.split(",")
    return ",".join((path, category, *(cells[partner] for partner in FASHIONAI_24.flip_index)))


def _moved(archive: Path, folder: str, category: str, row: str) -> str:
    """Move the image of a row to another folder, and set its category."""
    path, _, *cells = row.split(",")
    target = f"Images/{folder}/{Path(path).name}"
    (archive / target).parent.mkdir(exist_ok=True)
    (archive / path).rename(archive / target)
    return ",".join((target, category, *cells))


def _renamed(archive: Path, row: str) -> str:
    """Name a changed image after its bytes, unless it is missing or empty."""
    path, category, *cells = row.split(",")
    content = (archive / path).read_bytes() if (archive / path).exists() else b""
    target = f"Images/{category}/{_digest(content)}.jpg" if content else path
    if content:
        (archive / path).rename(archive / target)
    return ",".join((target, category, *cells))


def _copied(archive: Path, row: str) -> str:
    """Copy the image of a row under a new name."""
    path, category, *cells = row.split(",")
    content = (archive / path).read_bytes()
    target = f"Images/{category}/{_digest(content + b'copy')}.jpg"
    (archive / target).write_bytes(content)
    return ",".join((target, category, *cells))


LAYOUT = Layout(
    published=31_631, write=_write, insert_defects=_insert_defects, least_for_defects=48, annotations_alone=False
)
