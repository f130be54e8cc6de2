"""EXIF orientation of annotations: from pixels as stored, which annotation tools show, to the upright picture of the table."""

from __future__ import annotations

from typing import Any

import polars as pl

from fschemas.landmarks import Visibility

Row = dict[str, Any]


def upright_point(x: float, y: float, orientation: int, width: int, height: int) -> tuple[float, float]:
    """Where a stored pixel centre is displayed. `orientation` is the EXIF value 1-8, `width` and `height` the displayed size."""
    if orientation >= 5:  # transposed first; what follows happens in the displayed frame
        x, y = y, x
    flips_x = orientation in (2, 3, 6, 7)
    flips_y = orientation in (3, 4, 7, 8)
    return (width - 1 - x if flips_x else x), (height - 1 - y if flips_y else y)


def turn_upright(frame: pl.DataFrame) -> pl.DataFrame:
    """Turn the points and boxes of rows with an EXIF orientation; their `width` and `height` are upright already.

    The raw formats are silent here. Raw coordinates are taken to belong to the pixels as stored: so did MATLAB, OpenCV before
    3.1 and browsers before 2020, with which these sets were annotated.
    """
    turned = frame["image_orientation"].fill_null(1) != 1
    if not turned.any():
        return frame
    columns = [name for name in ("landmark_x", "landmark_y", "box") if name in frame.columns]
    values: dict[str, list[Any]] = {name: frame[name].to_list() for name in columns}
    for index in turned.arg_true():
        row = frame.row(index, named=True)
        if "landmark_x" in values:
            values["landmark_x"][index], values["landmark_y"][index] = _points(row)
        if row.get("box") is not None:
            values["box"][index] = _box(row)
    return frame.with_columns(pl.Series(name, values[name], frame.schema[name]) for name in columns)


def _points(row: Row) -> tuple[list[float], list[float]]:
    points = list(zip(row["landmark_x"], row["landmark_y"], strict=True))
    for index, visibility in enumerate(row["landmark_visibility"]):
        if visibility >= Visibility.OCCLUDED:
            points[index] = upright_point(*points[index], row["image_orientation"], row["width"], row["height"])
    return [x for x, _ in points], [y for _, y in points]


def _box(row: Row) -> list[float]:
    x1, y1, x2, y2 = row["box"]
    if x1 > x2 or y1 > y2:
        return [x1, y1, x2, y2]  # inverted: left as it is, so that the rule sees it
    turn = (row["image_orientation"], row["width"], row["height"])
    (left, top), (right, bottom) = upright_point(x1, y1, *turn), upright_point(x2, y2, *turn)
    return [min(left, right), min(top, bottom), max(left, right), max(top, bottom)]
