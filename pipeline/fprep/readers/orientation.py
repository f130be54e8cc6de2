"""EXIF orientation of annotations: find the pixel grid of coordinates, and map stored pixels to the upright image.

A stated size decides: labels for 64 x 112, on an image stored as 112 x 64 and displayed as 64 x 112, belong to the
upright image. If no size is stated, or both sizes are equal (squares, 180-degree rotations, flips), the reader's
`orientation` is assumed and the rows are counted with a warning; `--map orientation=` overrides it.
"""

from typing import Any

import numpy as np
import polars as pl

from fschemas.landmarks import Visibility

Row = dict[str, Any]

EXIF_ORIENTATION = "coordinate_turn"  # column: EXIF orientation to apply to the coordinates of a row; 1 for none
ASSUMED = "assumed_orientation"  # column: whether the orientation of a row is assumed
COORDINATES = (
    "landmark_x", "landmark_y", "box", "joint_x", "joint_y", "polygons", "garment_polygons", "garment_boxes",
)  # fmt: skip
_BACK = {6: 8, 8: 6}  # orientations with another inverse; all others are their own inverse
_ROWS_AT_ONCE = 16384


def upright_point(x: float, y: float, orientation: int, width: int, height: int) -> tuple[float, float]:
    """Map a stored pixel center to the displayed image.

    `orientation` is the EXIF value 1-8; `width` and `height` are the displayed size.
    """
    if orientation >= 5:  # transpose first; flips are in the displayed frame
        x, y = y, x
    flips_x = orientation in (2, 3, 6, 7)
    flips_y = orientation in (3, 4, 7, 8)
    return (width - 1 - x if flips_x else x), (height - 1 - y if flips_y else y)


def coordinate_orientations(
    orientations: np.ndarray, upright: np.ndarray, stated: np.ndarray, assumed: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the EXIF orientation to apply to coordinates, (rows,) int8, and whether it is assumed, (rows,) bool.

    `orientations` (rows,) are those of the images, `upright` (rows, 2) their displayed width and height, `stated`
    (rows, 2) the annotated size, 0 if it is not stated.
    """
    is_decisive = (orientations >= 5) & (upright[:, 0] != upright[:, 1]) & (stated[:, 0] > 0)
    is_upright = np.where(is_decisive, (stated == upright).all(1), assumed == "upright")
    return np.where(is_upright, 1, orientations).astype(np.int8), (orientations != 1) & ~is_decisive


def to_upright(frame: pl.DataFrame) -> pl.DataFrame:
    """Rotate landmarks, boxes and outlines to upright, according to the column `EXIF_ORIENTATION`.

    `width` and `height` already belong to the upright image. Blocks without rows to rotate are not copied.
    """
    if EXIF_ORIENTATION not in frame.columns or not (is_rotated := frame[EXIF_ORIENTATION] != 1).any():
        return frame
    columns = [name for name in COORDINATES if name in frame.columns]
    blocks: list[pl.DataFrame] = []
    for start in range(0, len(frame), _ROWS_AT_ONCE):
        block = frame[start : start + _ROWS_AT_ONCE]
        rotated_rows = is_rotated[start : start + _ROWS_AT_ONCE].arg_true().to_numpy()
        if len(rotated_rows):
            rows = [rotated(row, row[EXIF_ORIENTATION]) for row in block[rotated_rows.tolist()].iter_rows(named=True)]
            order = np.arange(len(block))
            order[rotated_rows] = len(block) + np.arange(len(rotated_rows))
            block = block.with_columns(
                pl.concat([block[name], pl.Series(name, [row[name] for row in rows], block.schema[name])]).gather(order)
                for name in columns
            )
        blocks.append(block)
    return pl.concat(blocks, rechunk=False)


def as_stored(row: Row) -> Row:
    """Return a row with coordinates and size before rotation to upright, for messages."""
    orientation = int(row.get(EXIF_ORIENTATION) or 1)
    if orientation == 1 or not row["width"]:
        return row
    size = {"width": row["height"], "height": row["width"]} if orientation >= 5 else {}
    return {**row, **rotated({**row, **size}, _BACK.get(orientation, orientation)), **size}


def rotated(row: Row, orientation: int) -> Row:
    """Return the coordinate columns of a row, mapped by `orientation` into an image with the row's width and height."""
    values: Row = {name: row[name] for name in COORDINATES if name in row}
    target = (orientation, row["width"], row["height"])
    for kind in ("landmark", "joint"):
        if values.get(f"{kind}_x") is not None:
            points = list(zip(row[f"{kind}_x"], row[f"{kind}_y"], strict=True))
            for index, visibility in enumerate(row[f"{kind}_visibility"]):
                if visibility >= Visibility.OCCLUDED:
                    points[index] = upright_point(*points[index], *target)
            values[f"{kind}_x"], values[f"{kind}_y"] = [x for x, _ in points], [y for _, y in points]
    if values.get("box") is not None:
        values["box"] = _rotate_box(row["box"], target)
    if values.get("garment_boxes") is not None:
        flat: list[float] = row["garment_boxes"]
        boxes = [flat[start : start + 4] for start in range(0, len(flat), 4)]
        values["garment_boxes"] = [value for box in boxes for value in _rotate_box(box, target)]
    for name in ("polygons", "garment_polygons"):
        if values.get(name) is not None:
            values[name] = [_rotate_outline(outline, target) for outline in row[name]]
    return values


def _rotate_outline(outline: list[float], target: tuple[int, int, int]) -> list[float]:
    points = zip(outline[::2], outline[1::2], strict=True)
    return [value for x, y in points for value in upright_point(x, y, *target)]


def _rotate_box(box: list[float], target: tuple[int, int, int]) -> list[float]:
    """Transform a box; an inverted box stays inverted, so that the rule detects it."""
    x1, y1, x2, y2 = box
    (left, top), (right, bottom) = upright_point(x1, y1, *target), upright_point(x2, y2, *target)
    if x1 > x2 or y1 > y2:
        return [max(left, right), max(top, bottom), min(left, right), min(top, bottom)]
    return [min(left, right), min(top, bottom), max(left, right), max(top, bottom)]
