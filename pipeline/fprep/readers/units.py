"""Conversion of coordinates in another unit (`--map unit=`) or with swapped axes (`--map axes=`) to pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from fprep.raw.folder import chosen_option
from fprep.readers.orientation import EXIF_ORIENTATION
from fschemas.failures import UsageError
from fschemas.wording import are, count

Row = dict[str, Any]

UNITS = {"pixel": None, "relative": 1.0, "percent": 100.0}  # value that corresponds to the whole side of an image
AXES = ("xy", "yx")
BOX_FORMS = ("corners", "size", "center")  # x1, y1, x2, y2; x, y, width, height; center, width, height
COORDINATE_KEYS = {  # for --map
    "unit": "pixel (default), relative (0 to 1 of the image's width and height) or percent: what boxes and points are given in",
    "axes": "xy (default), or yx where the file gives y before x",
}
_PAIRS = (("landmark_x", "landmark_y"), ("joint_x", "joint_y"))
_OUTLINES = ("polygons", "garment_polygons")


@dataclass(frozen=True)
class CoordinateFormat:
    """How the raw files write coordinates.

    `whole` is the value that corresponds to a whole side (None: pixels); `swapped` means y, x order.
    """

    whole: float | None = None
    swapped: bool = False

    @classmethod
    def of(cls, mapping: Mapping[str, str]) -> CoordinateFormat:
        """Parse the `--map` options. Raises `UsageError` for an unknown value."""
        unit = chosen_option(mapping, "unit", UNITS, "pixel")
        return cls(UNITS[unit], chosen_option(mapping, "axes", AXES, "xy") == "yx")

    @property
    def plain(self) -> bool:
        """Whether coordinates are x, y in pixels."""
        return self.whole is None and not self.swapped


def corners_of(numbers: Sequence[float], form: str, *, pixels: bool) -> list[float]:
    """Convert a box in one of BOX_FORMS to x1, y1, x2, y2: corner pixels for pixel units, else edge to edge."""
    first, second, third, fourth = numbers
    if form == "corners":
        return [first, second, third, fourth]
    last = 1.0 if pixels else 0.0
    if form == "center":
        first, second = first - third / 2, second - fourth / 2
    return [first, second, first + third - last, second + fourth - last]


def to_pixels(frame: pl.DataFrame, written: CoordinateFormat) -> pl.DataFrame:
    """Convert the coordinates of the frame to x, y in pixel centers of the annotated pixel grid.

    Relative boxes refer to pixel edges: 0 to 1 is the whole image, which is 0 to width - 1 in pixel centers. Raises
    `UsageError` if the size of an image is unknown.
    """
    if written.plain:
        return frame
    if written.whole is not None and (unknown := frame["width"].null_count()):
        rows = f"{count(unknown, 'row')} without one {are(unknown)} here"
        raise UsageError(f"--map unit needs the sizes of the images, and {rows}; use --check-images header or full")
    is_transposed = pl.col(EXIF_ORIENTATION) >= 5 if EXIF_ORIENTATION in frame.columns else pl.lit(value=False)
    pairs = (("width", "height"), ("height", "width"))
    sides = [pl.when(is_transposed).then(other).otherwise(side) for side, other in pairs]
    scale = [side.cast(pl.Float64) / written.whole if written.whole else pl.lit(1.0) for side in sides]
    point, corner = (0.5, 1.0) if written.whole else (0.0, 0.0)  # from pixel edges to centers
    columns: list[pl.Expr] = []
    for pair in _PAIRS:
        if pair[0] in frame.columns:
            sources = pair[::-1] if written.swapped else pair
            columns += [
                _scaled(pl.col(source), factor, point, pl.col(f"{pair[0][:-2]}_visibility")).alias(target)
                for source, target, factor in zip(sources, pair, scale, strict=True)
            ]
    if "box" in frame.columns:
        order = (1, 0, 3, 2) if written.swapped else (0, 1, 2, 3)
        corners = [pl.col("box").list.get(index, null_on_oob=True).cast(pl.Float64) for index in order]
        moved = [value * scale[index % 2] - (corner if index >= 2 else 0.0) for index, value in enumerate(corners)]
        scaled = pl.concat_list(moved).cast(pl.List(pl.Float32))
        columns.append(pl.when(pl.col("box").is_not_null()).then(scaled).alias("box"))
    frame = frame.with_columns(scale[0].alias("_x"), scale[1].alias("_y"))
    names = [name for name in _OUTLINES if name in frame.columns]
    outlines: list[pl.Series] = []
    for name in names:
        rows = frame.select("_x", "_y", name).iter_rows()
        moved_rows = [_outlines(x, y, found, swapped=written.swapped, shift=point) for x, y, found in rows]
        outlines.append(pl.Series(name, moved_rows, frame.schema[name]))
    return frame.with_columns(*columns, *outlines).drop("_x", "_y")


def as_written(row: Row, written: CoordinateFormat) -> Row:
    """Return a row with its landmarks as in the file, for messages; the input row is in the annotated pixel grid."""
    if written.plain or not row["width"]:
        return row
    values: Row = {}
    for pair in _PAIRS:
        if row.get(pair[0]) is None:
            continue
        for name, side in zip(pair, ("width", "height"), strict=True):
            values[name] = [(x + 0.5) / row[side] * written.whole if written.whole else x for x in row[name]]
        if written.swapped:
            values[pair[0]], values[pair[1]] = values[pair[1]], values[pair[0]]
    return {**row, **values}


def _scaled(values: pl.Expr, scale: pl.Expr, shift: float, visibility: pl.Expr) -> pl.Expr:
    """Multiply lists of coordinates by a number per row; landmarks without coordinates stay at 0."""
    present = visibility.list.eval((pl.element() > 0).cast(pl.Float64))
    return (values.cast(pl.List(pl.Float64)) * scale * present - present * shift).cast(pl.List(pl.Float32))


def _outlines(
    x: float, y: float, outlines: list[list[float]] | None, *, swapped: bool, shift: float
) -> list[list[float]] | None:
    if outlines is None:
        return None
    found: list[list[float]] = []
    for outline in outlines:
        xs, ys = (outline[1::2], outline[0::2]) if swapped else (outline[0::2], outline[1::2])
        found.append([value for a, b in zip(xs, ys, strict=True) for value in (a * x - shift, b * y - shift)])
    return found
