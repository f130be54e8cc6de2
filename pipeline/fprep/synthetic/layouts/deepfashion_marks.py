"""Boxes and landmarks of DeepFashion's four benchmarks, measured on synthetic images, and the text of their rows.

Crosswalk from the 24 FashionAI points to DeepFashion's eight (viewer's left and right, as on frontal photographs; they change
places in back views, as in the released files):

- collar: `neckline_left/right`.
- sleeve: `cuff_left/right_out`, the outer end of the cuff; without sleeves the shoulder, without shoulders the armpit.
- waistline: `waistband` of skirts and trousers; of dresses and coats `waistline`, or, where no seam or belt marks it, the
  point of the side seam (armpit to hem) at the height of the natural waist.
- hem: `hemline` of skirts and dresses, `top_hem` of tops and coats, `bottom_left/right_out` of trousers.

Coordinates in the files are whole, 1-based pixels. Visibility: 0 visible, 1 occluded, 2 cut off (at 0 0).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.garments.design import WAIST
from fprep.synthetic.garments.items import Item
from fprep.synthetic.garments.shoot import Piece, Shot
from fschemas.landmarks import DEEPFASHION_8, FASHIONAI_24, Visibility

WIDTH, HEIGHT, BOX, VARIATION, POINTS = 0, 1, slice(2, 6), 6, slice(7, 31)
"""Columns of the marks of an image: 31 whole numbers; points are 8 x (visibility, x, y), visibility -1 where not applicable."""
NUM_COLUMNS = 31
_POINT = {name: index for index, name in enumerate(FASHIONAI_24.points)}
_ARMPIT_HEIGHT = 17.0
_LONG = ("coat", "trench")
_CANDIDATES = {
    "collar": ("neckline_{}",),
    "sleeve": ("cuff_{}_out", "shoulder_{}", "armpit_{}"),
    "waistline": ("waistband_{}", "waistline_{}"),
    "hem": ("hemline_{}", "top_hem_{}", "bottom_{}_out"),
}


def clothes_type(item: Item) -> int:
    """DeepFashion's clothes type: 1 upper-body, 2 lower-body, 3 full-body (dresses and long coats)."""
    if item.category in ("skirt", "trousers"):
        return 2
    return 3 if item.category == "dress" or item.kind in _LONG else 1


def measure(shot: Shot, piece: Piece) -> NDArray[np.int32]:
    """Marks (31,) of a piece of a photograph."""
    marks = np.full(NUM_COLUMNS, -1, np.int32)
    height, width = shot.image.shape[:2]
    marks[[WIDTH, HEIGHT, VARIATION]] = width, height, shot.variation
    marks[BOX] = np.array(piece.box) + 1
    points = np.full((len(DEEPFASHION_8), 3), -1, np.int32)
    for index in valid_points(clothes_type(piece.item)):
        x, y, visibility = _eighth(piece, DEEPFASHION_8.points[index])
        code = {Visibility.VISIBLE: 0, Visibility.OCCLUDED: 1}.get(visibility, 2)
        place = (np.clip(round(x), 0, width - 1) + 1, np.clip(round(y), 0, height - 1) + 1) if code < 2 else (0, 0)
        points[index] = code, *place
    if shot.figure.back:
        points = points[list(DEEPFASHION_8.partners)]
    marks[POINTS] = points.ravel()
    return marks


def valid_points(garment_type: int) -> tuple[int, ...]:
    """Indices of the landmarks that a clothes type has."""
    return DEEPFASHION_8.garments[("upper", "lower", "full")[garment_type - 1]]


def _eighth(piece: Piece, name: str) -> tuple[float, float, Visibility]:
    part, side = name.split("_")
    for candidate in _CANDIDATES[part]:
        index = _POINT[candidate.format(side)]
        if piece.visibility[index] >= Visibility.OCCLUDED:
            return (
                float(piece.points[index, 0]),
                float(piece.points[index, 1]),
                Visibility(int(piece.visibility[index])),
            )
        if piece.visibility[index] == Visibility.ABSENT and part == "sleeve" and piece.item.design.sleeve:
            return 0.0, 0.0, Visibility.ABSENT  # a cuff outside the image
    return _side_seam(piece, side) if part == "waistline" else (0.0, 0.0, Visibility.ABSENT)


def _side_seam(piece: Piece, side: str) -> tuple[float, float, Visibility]:
    """The side seam at the height of the natural waist."""
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
    """Marks (count, 31) of images that nobody draws: plausible places in a frame whose longer side is `side`."""
    marks = np.full((count, NUM_COLUMNS), -1, np.int32)
    size = np.stack([np.round(side * generator.uniform(0.6, 1.0, count)), np.full(count, side)], axis=1)
    low = generator.uniform(0.01, 0.25, (count, 2)) * size
    high = generator.uniform(0.75, 1.0, (count, 2)) * (size - 1)
    kind = clothes_type(item)
    valid = list(valid_points(kind))
    template = _TEMPLATE_LOWER if kind == 2 else _TEMPLATE[valid]
    share = np.clip(template + generator.normal(0, 0.02, (count, *template.shape)), 0, 1)
    places = np.round(low[:, None] + share * (high - low)[:, None]) + 1
    codes = generator.choice([0, 0, 0, 0, 0, 1, 1, 2], (count, len(valid)))
    points = np.full((count, len(DEEPFASHION_8), 3), -1, np.int32)
    points[:, valid] = np.concatenate([codes[..., None], places * (codes < 2)[..., None]], axis=2)
    marks[:, [WIDTH, HEIGHT]] = size
    marks[:, BOX] = np.round(np.concatenate([low, high], axis=1)) + 1
    marks[:, VARIATION] = generator.integers(1, 6, count)
    marks[:, POINTS] = points.reshape(count, -1)
    return marks


def padded(path: str) -> str:
    """A path in its column: 70 wide, left-justified, and one space."""
    return f"{path:<70} "


def box_text(marks: list[int]) -> str:
    """Box of a row: four zero-padded numbers."""
    return "{:03d} {:03d} {:03d} {:03d}".format(*marks[BOX])


def landmark_text(marks: list[int]) -> str:
    """Landmarks of a row, `  v xxx yyy` each and a space after the last; what the type does not have is left out."""
    numbers = marks[POINTS]
    triples = [numbers[place : place + 3] for place in range(0, len(numbers), 3)]
    return "".join(f"  {v} {x:03d} {y:03d}" for v, x, y in triples if v >= 0) + " "


def landmark_header(*, variation: bool) -> str:
    """Header of a landmark list."""
    names = [f"landmark_visibility_{n}  landmark_location_x_{n}  landmark_location_y_{n}" for n in range(1, 9)]
    return padded("image_name") + "  ".join(["clothes_type", *(["variation_type"] if variation else []), *names])
