"""Shared code of the DeepFashion benchmarks: coordinates in rendered images, text of rows, and defects of lists.

Crosswalk from the 24 FashionAI landmarks to DeepFashion's eight (left and right as seen in frontal views; swapped in
back views, as in the released files):

- collar: `neckline_left/right`.
- sleeve: `cuff_left/right_out`, the outer end of the cuff; without sleeves the shoulder, without shoulders the armpit.
- waistline: `waistband` of skirts and trousers; `waistline` of dresses and coats or, without a seam or belt, the point
  of the side seam (armpit to hem) at the height of the natural waist.
- hem: `hemline` of skirts and dresses, `top_hem` of tops and coats, `bottom_left/right_out` of trousers.

Coordinates in the files are integer, 1-based pixels. Visibility: 0 visible, 1 occluded, 2 cut off (at 0 0).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.defects import Flaw, LineDefect, ListSpoiler
from fprep.synthetic.files import JPEG_QUALITY, write_image, write_text
from fprep.synthetic.garments.design import WAIST
from fprep.synthetic.garments.items import Item
from fprep.synthetic.garments.shoot import Piece, Shot
from fprep.synthetic.skeleton import Request, chance
from fschemas.landmarks import DEEPFASHION_8, FASHIONAI_24, Visibility

EVAL, IMAGES = "Eval/list_eval_partition.txt", "Img"

WIDTH, HEIGHT, BOX, VARIATION, POINTS = 0, 1, slice(2, 6), 6, slice(7, 31)
"""Columns of the marks of an image, int (31,). Landmarks are 8 x (visibility, x, y), visibility -1 if not applicable.
"""
NUM_COLUMNS = 31
_POINT = {name: index for index, name in enumerate(FASHIONAI_24.names)}
_ARMPIT_HEIGHT = 17.0
_LONG = ("coat", "trench")
_CANDIDATES = {
    "collar": ("neckline_{}",),
    "sleeve": ("cuff_{}_out", "shoulder_{}", "armpit_{}"),
    "waistline": ("waistband_{}", "waistline_{}"),
    "hem": ("hemline_{}", "top_hem_{}", "bottom_{}_out"),
}


def clothes_type(item: Item) -> int:
    """Return DeepFashion's clothes type: 1 upper-body, 2 lower-body, 3 full-body (dresses and long coats)."""
    if item.category in ("skirt", "trousers"):
        return 2
    return 3 if item.category == "dress" or item.kind in _LONG else 1


def measure(shot: Shot, piece: Piece) -> NDArray[np.int32]:
    """Return the marks (31,) of a garment in an image."""
    marks = np.full(NUM_COLUMNS, -1, np.int32)
    height, width = shot.image.shape[:2]
    marks[[WIDTH, HEIGHT, VARIATION]] = width, height, shot.variation
    marks[BOX] = np.array(piece.box) + 1
    points = np.full((len(DEEPFASHION_8), 3), -1, np.int32)
    for index in valid_points(clothes_type(piece.item)):
        x, y, visibility = _eighth(piece, DEEPFASHION_8.names[index])
        code = {Visibility.VISIBLE: 0, Visibility.OCCLUDED: 1}.get(visibility, 2)
        position = (np.clip(round(x), 0, width - 1) + 1, np.clip(round(y), 0, height - 1) + 1) if code < 2 else (0, 0)
        points[index] = code, *position
    if shot.figure.back:
        points = points[list(DEEPFASHION_8.flip_index)]
    marks[POINTS] = points.ravel()
    return marks


def valid_points(garment_type: int) -> tuple[int, ...]:
    """Return the indices of the landmarks of a clothes type."""
    return DEEPFASHION_8.garments[("upper", "lower", "full")[garment_type - 1]]


def _eighth(piece: Piece, name: str) -> tuple[float, float, Visibility]:
    part, side = name.split("_")
    for candidate in _CANDIDATES[part]:
        index = _POINT[candidate.format(side)]
        if piece.visibility[index] >= Visibility.OCCLUDED:
            x, y = piece.points[index].tolist()
            return x, y, Visibility(int(piece.visibility[index]))
        if piece.visibility[index] == Visibility.ABSENT and part == "sleeve" and piece.item.design.sleeve:
            return 0.0, 0.0, Visibility.ABSENT  # the cuff is outside the image
    return _side_seam(piece, side) if part == "waistline" else (0.0, 0.0, Visibility.ABSENT)


def _side_seam(piece: Piece, side: str) -> tuple[float, float, Visibility]:
    """Return the point of the side seam at the height of the natural waist."""
    hem = "hemline" if piece.item.category == "dress" else "top_hem"
    ends = [_POINT[f"armpit_{side}"], _POINT[f"{hem}_{side}"]]
    if (piece.visibility[ends] < Visibility.OCCLUDED).any() or piece.item.design.waist is not None:
        return 0.0, 0.0, Visibility.ABSENT
    share = (WAIST - _ARMPIT_HEIGHT) / (piece.item.end - _ARMPIT_HEIGHT)
    x, y = piece.points[ends[0]] * (1 - share) + piece.points[ends[1]] * share
    column, row = round(float(x)), round(float(y))
    seen = piece.mask[max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4].mean() > 0.2
    return float(x), float(y), Visibility.VISIBLE if seen else Visibility.OCCLUDED


_TEMPLATE = np.array(
    [[0.38, 0.02], [0.62, 0.02], [0.03, 0.5], [0.97, 0.5], [0.22, 0.42], [0.78, 0.42], [0.12, 0.98], [0.88, 0.98]]
)
_TEMPLATE_LOWER = np.array([[0.3, 0.02], [0.7, 0.02], [0.1, 0.98], [0.9, 0.98]])


def invent(item: Item, generator: np.random.Generator, count: int, side: int) -> NDArray[np.int32]:
    """Return marks (count, 31) for unrendered images: plausible coordinates in a frame with the longer side `side`."""
    marks = np.full((count, NUM_COLUMNS), -1, np.int32)
    size = np.stack([np.round(side * generator.uniform(0.6, 1.0, count)), np.full(count, side)], axis=1)
    low = generator.uniform(0.01, 0.25, (count, 2)) * size
    high = generator.uniform(0.75, 1.0, (count, 2)) * (size - 1)
    kind = clothes_type(item)
    valid = list(valid_points(kind))
    template = _TEMPLATE_LOWER if kind == 2 else _TEMPLATE[valid]
    share = np.clip(template + generator.normal(0, 0.02, (count, *template.shape)), 0, 1)
    positions = np.round(low[:, None] + share * (high - low)[:, None]) + 1
    codes = generator.choice([0, 0, 0, 0, 0, 1, 1, 2], (count, len(valid)))
    points = np.full((count, len(DEEPFASHION_8), 3), -1, np.int32)
    points[:, valid] = np.concatenate([codes[..., None], positions * (codes < 2)[..., None]], axis=2)
    marks[:, [WIDTH, HEIGHT]] = size
    marks[:, BOX] = np.round(np.concatenate([low, high], axis=1)) + 1
    marks[:, VARIATION] = generator.integers(1, 6, count)
    marks[:, POINTS] = points.reshape(count, -1)
    return marks


def padded(path: str) -> str:
    """Return a path padded to its column: 70 wide, left-justified, and one space."""
    return f"{path:<70} "


def box_text(marks: list[int]) -> str:
    """Return the box of a row: four zero-padded numbers."""
    return "{:03d} {:03d} {:03d} {:03d}".format(*marks[BOX])


def landmark_text(marks: list[int]) -> str:
    """Return the landmarks of a row as ` v xxx yyy`, without inapplicable ones and with a trailing space."""
    numbers = marks[POINTS]
    triples = [numbers[start : start + 3] for start in range(0, len(numbers), 3)]
    return "".join(f"  {v} {x:03d} {y:03d}" for v, x, y in triples if v >= 0) + " "


def landmark_header(*, variation: bool) -> str:
    """Return the header of a landmark list."""
    names = [f"landmark_visibility_{n}  landmark_location_x_{n}  landmark_location_y_{n}" for n in range(1, 9)]
    return padded("image_name") + "  ".join(["clothes_type", *(["variation_type"] if variation else []), *names])


def draw_side(generator: np.random.Generator) -> int:
    """Sample the longer side of an image: mostly 300 pixels, as in the release."""
    return 301 if generator.random() < 0.13 else 300


def render_marks(
    folder: Path,
    request: Request,
    item: Item,
    paths: Sequence[str],
    stream: int,
    side: int,
    shoot: Callable[[np.random.Generator, int], Shot],
    qualities: Sequence[int] = (),
) -> NDArray[np.int32]:
    """Render the images of an item below `folder`, or make up coordinates; return marks (count, 31).

    `shoot` photographs image `index` with a generator seeded by (seed, stream, number of the item, index).
    """
    keys = (request.seed, stream, item.number)
    if not request.with_images:
        return invent(item, chance(*keys), len(paths), side)
    marks: list[NDArray[np.int32]] = []
    for index, path in enumerate(paths):
        shot = shoot(chance(*keys, index), index)
        write_image(folder / IMAGES / path, shot.image, qualities[index] if qualities else JPEG_QUALITY)
        marks.append(measure(shot, shot.pieces[0]))
    return np.stack(marks)


def write_list(path: Path, header: str, lines: Sequence[str], num_items: int | None = None) -> None:
    """Write a list: the number of lines (or items), the header, the lines."""
    write_text(path, [str(len(lines) if num_items is None else num_items), header, *lines])


_BOX = r"(\d{3}) (\d{3}) (\d{3}) (\d{3})$"
_LIST_DEFECTS: dict[str, tuple[LineDefect, ...]] = {
    "bbox": (
        (Flaw("bad_cell", "x_1 is 1_2"), _BOX, r"1_2 \2 \3 \4"),
        (Flaw("bad_cell", "y_2 is nan"), r"\d{3}$", "nan"),
        (Flaw("wrong_columns", "three numbers"), r" \d{3}$", ""),
        (Flaw("box_inverted", "x_2 and x_1 changed places"), _BOX, r"\3 \2 \1 \4"),
        (Flaw("box_outside", "x_2 is 999"), r"\d{3} (\d{3})$", r"999 \1"),
    ),
    "landmarks": (
        (Flaw("bad_visibility", "the last visibility is 3"), r"\d (\d{3} \d{3}) $", r"3 \1 "),
        (Flaw("point_outside", "x of the last landmark is 999"), r"\d \d{3} (\d{3}) $", r"0 999 \1 "),
    ),
}
UNKNOWN_SPLIT: LineDefect = (Flaw("unknown_split", "the status is valid"), r"\w+$", "valid")


def spoil_lists(folder: Path, request: Request, files: dict[str, str], cut: int = 2) -> ListSpoiler:
    """Insert the defects that all benchmarks have into images and lists; `files` has `bbox` and `landmarks`.

    With `cut` numbers removed, a row of landmarks fits neither layout of such a list.
    """
    spoiler = ListSpoiler(folder, request.seed, files, IMAGES, header=2, separator=" ")
    for name, defects in _LIST_DEFECTS.items():
        spoiler.change(name, *defects)
    flaw = Flaw("wrong_columns", f"cut by {cut}: the last numbers are missing")
    spoiler.change("landmarks", (flaw, rf"( \d{{3}}){{{cut}}} $", " "))
    spoiler.spoil_images(next(iter(files)))
    return spoiler
