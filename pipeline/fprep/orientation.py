"""EXIF orientation of annotations: from pixels as stored, which annotation tools show, to the upright picture of the table."""

from __future__ import annotations

from typing import Any

import polars as pl

from fschemas.landmarks import Visibility

Row = dict[str, Any]
_MOVED = (
    "landmark_x", "landmark_y", "box", "joint_x", "joint_y", "polygons", "garment_polygons", "garment_boxes",
)  # fmt: skip


def upright_point(x: float, y: float, orientation: int, width: int, height: int) -> tuple[float, float]:
    """Where a stored pixel centre is displayed. `orientation` is the EXIF value 1-8, `width` and `height` the displayed size."""
    if orientation >= 5:  # transposed first; what follows happens in the displayed frame
        x, y = y, x
    flips_x = orientation in (2, 3, 6, 7)
    flips_y = orientation in (3, 4, 7, 8)
    return (width - 1 - x if flips_x else x), (height - 1 - y if flips_y else y)


def turn_upright(frame: pl.DataFrame) -> pl.DataFrame:
    """Turn the points, boxes and outlines of rows with an EXIF orientation; their `width` and `height` are upright already.

    The raw formats are silent here. Raw coordinates are taken to belong to the pixels as stored: so did MATLAB, OpenCV before
    3.1 and browsers before 2020, with which these sets were annotated.
    """
    turned = frame["image_orientation"].fill_null(1) != 1
    if not turned.any():
        return frame
    columns = [name for name in _MOVED if name in frame.columns]
    values: dict[str, list[Any]] = {name: frame[name].to_list() for name in columns}
    for index in turned.arg_true():
        row = frame.row(index, named=True)
        for name, moved in _turned(row).items():
            values[name][index] = moved
    return frame.with_columns(pl.Series(name, values[name], frame.schema[name]) for name in columns)


def _turned(row: Row) -> Row:
    """The columns of a row that move, moved."""
    moved: Row = {}
    for kind in ("landmark", "joint"):
        if f"{kind}_x" in row:
            moved[f"{kind}_x"], moved[f"{kind}_y"] = _points(row, kind)
    if row.get("box") is not None:
        moved["box"] = _box(row, row["box"])
    if "garment_boxes" in row:
        flat: list[float] = row["garment_boxes"]
        boxes = [flat[start : start + 4] for start in range(0, len(flat), 4)]
        moved["garment_boxes"] = [value for box in boxes for value in _box(row, box)]
    for name in ("polygons", "garment_polygons"):
        if name in row:
            moved[name] = [_outline(row, outline) for outline in row[name]]
    return moved


def _points(row: Row, kind: str) -> tuple[list[float], list[float]]:
    points = list(zip(row[f"{kind}_x"], row[f"{kind}_y"], strict=True))
    for index, visibility in enumerate(row[f"{kind}_visibility"]):
        if visibility >= Visibility.OCCLUDED:
            points[index] = upright_point(*points[index], row["image_orientation"], row["width"], row["height"])
    return [x for x, _ in points], [y for _, y in points]


def _outline(row: Row, outline: list[float]) -> list[float]:
    turn = (row["image_orientation"], row["width"], row["height"])
    points = zip(outline[::2], outline[1::2], strict=True)
    return [value for x, y in points for value in upright_point(x, y, *turn)]


def _box(row: Row, box: list[float]) -> list[float]:
    x1, y1, x2, y2 = box
    if x1 > x2 or y1 > y2:
        return [x1, y1, x2, y2]  # inverted: left as it is, so that the rule sees it
    turn = (row["image_orientation"], row["width"], row["height"])
    (left, top), (right, bottom) = upright_point(x1, y1, *turn), upright_point(x2, y2, *turn)
    return [min(left, right), min(top, bottom), max(left, right), max(top, bottom)]
