"""Do the coordinates of a whole table fit its images? Another unit, another form of boxes and exchanged axes are told by all rows.

One row that does not fit is a fault of this row. When most do not, and all fit as something else, the file is read wrongly:
the conversion is refused with the likely cause and, where the reader has one, the option that reads it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from fprep.readers.orientation import ASSUMED, TURN
from fprep.readers.reader import Reader
from fschemas.failures import UsageError
from fschemas.landmarks import Visibility

_SHARE = 1.5  # no garment is so small: such a box is given in shares of the image, shifted by a pixel at most
_FEW = 3  # rows that make a pattern
_NEARLY_ALL = 0.9
_SOME_INVERTED = 0.1
_PERCENT = 100.0
_SURELY_LARGER = 200  # pixels on each side of an image that percentages cannot reach
_ENOUGH = 50_000  # rows that are looked at, evenly spread


@dataclass
class Evidence:
    """Boxes and points of the rows seen so far, as arrays: `add` takes rows, `evaluate` raises where they do not fit."""

    boxes: list[np.ndarray] = field(default_factory=list[np.ndarray])  # (boxes, 4)
    box_sizes: list[np.ndarray] = field(default_factory=list[np.ndarray])  # (boxes, 2), NaN where unknown
    # (rows, 4): smallest and largest x, y of the points
    extents: list[np.ndarray] = field(default_factory=list[np.ndarray])
    point_sizes: list[np.ndarray] = field(default_factory=list[np.ndarray])
    # (boxes), whether the size may be the other way round
    box_lying: list[np.ndarray] = field(default_factory=list[np.ndarray])
    point_lying: list[np.ndarray] = field(default_factory=list[np.ndarray])

    def add(self, frame: pl.DataFrame) -> None:
        """Take rows whose coordinates belong to the pixels that `TURN` says (upright where there is no such column)."""
        frame = frame.gather_every(max(1, len(frame) // _ENOUGH))
        sizes, lying = _sizes(frame), _may_lie(frame)
        if "box" in frame.columns:
            known = frame["box"].is_not_null() & (frame["box"].list.len() == 4)
            self._add_boxes(frame["box"].filter(known).explode(), sizes[known.to_numpy()], lying[known.to_numpy()])
        if "garment_boxes" in frame.columns and len(frame):
            counts = frame["garment_boxes"].list.len().to_numpy() // 4
            boxes = frame["garment_boxes"].explode().drop_nulls()
            self._add_boxes(boxes, np.repeat(sizes, counts, axis=0), np.repeat(lying, counts))
        for kind in ("landmark", "joint"):
            if f"{kind}_x" in frame.columns and len(frame):
                self._add_points(frame, kind, sizes, lying)

    def _add_boxes(self, values: pl.Series, sizes: np.ndarray, lying: np.ndarray) -> None:
        self.boxes.append(values.cast(pl.Float64).to_numpy().reshape(-1, 4))
        self.box_sizes.append(sizes)
        self.box_lying.append(lying)

    def _add_points(self, frame: pl.DataFrame, kind: str, sizes: np.ndarray, lying: np.ndarray) -> None:
        lengths = frame[f"{kind}_visibility"].list.len().to_numpy()
        rows = np.repeat(np.arange(len(frame)), lengths)
        names = (f"{kind}_{name}" for name in ("x", "y", "visibility"))
        x, y, visibility = (frame[name].explode().drop_nulls().to_numpy() for name in names)
        if not len(rows) == len(x) == len(y) == len(visibility):
            return  # lists of different length, which a rule refuses
        placed = visibility >= Visibility.OCCLUDED
        rows, x, y = rows[placed], x[placed].astype(np.float64), y[placed].astype(np.float64)
        several = np.bincount(rows, minlength=len(frame)) >= 2
        extents = np.full((len(frame), 4), (np.inf, np.inf, -np.inf, -np.inf))
        np.minimum.at(extents[:, 0], rows, x)
        np.minimum.at(extents[:, 1], rows, y)
        np.maximum.at(extents[:, 2], rows, x)
        np.maximum.at(extents[:, 3], rows, y)
        self.extents.append(extents[several])
        self.point_sizes.append(sizes[several])
        self.point_lying.append(lying[several])

    def evaluate(self, reader: Reader, form: str = "corners", orientation: str = "upright") -> str:
        """Raise `UsageError` for a table that is read wrongly; else a note of what only may be wrong, or "".

        `form` is how boxes are written in the file, of `fprep.readers.units.BOX_FORMS`; `orientation` is which pixels of images with an EXIF
        orientation coordinates are taken to belong to where no size tells: "stored" or "upright".
        """
        note = ""
        for what, parts, sides, lie in (
            ("boxes", self.boxes, self.box_sizes, self.box_lying),
            ("rows of points", self.extents, self.point_sizes, self.point_lying),
        ):
            values, sizes, lying = _joined(parts, 4), _joined(sides, 2), np.concatenate([np.zeros(0, bool), *lie])
            if not len(values):
                continue
            found = (
                _shares(values, what)
                or (_forms(values, sizes, form) if what == "boxes" else None)
                or _turn(values[lying], sizes[lying], what, orientation)
                or _axes(values, sizes, what)
            )
            if found is not None:
                raise UsageError(f"{found[0]}: {_remedy(reader, *found[1:])}")
            note = note or _percent(values, sizes, what, reader)
        return note


def share_rows(frame: pl.DataFrame) -> dict[str, pl.Series]:
    """By column, which rows have a box, or several points, within the first pixel of the image: too small for a garment."""
    found: dict[str, pl.Series] = {}
    if "box" in frame.columns:
        found["box"] = frame.select((_largest("box") <= _SHARE) & (pl.col("box").list.len() == 4)).to_series()
    if "landmark_x" in frame.columns:
        several = pl.col("landmark_visibility").list.eval(pl.element() >= Visibility.OCCLUDED.value).list.sum() >= 2
        near = pl.max_horizontal(_largest("landmark_x"), _largest("landmark_y")) <= _SHARE
        found["landmark_x"] = frame.select(several & near).to_series()
    return {column: rows.fill_null(value=False) for column, rows in found.items()}


def _largest(column: str) -> pl.Expr:
    values = pl.col(column).list
    return pl.max_horizontal(values.max(), -values.min())


Cause = tuple[str, str, str]  # what was found, the key of --map, its value


def _shares(values: np.ndarray, what: str) -> Cause | None:
    small = int((np.abs(values) <= _SHARE).all(1).sum())
    if 2 * small <= len(values):
        return None
    found = f"{small} of {len(values)} {what} lie within 0 to 1: shares of the image instead of pixels"
    return found, "unit", "relative"


def _forms(boxes: np.ndarray, sizes: np.ndarray, form: str) -> Cause | None:
    """Boxes that make no sense as they were read, but all do in another form."""
    inverted = (boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])
    count, total, known = int(inverted.sum()), len(boxes), ~np.isnan(sizes[:, 0])
    if form == "corners" and count >= _FEW:
        as_size = np.column_stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
        fit = (boxes[:, 2:] > 0).all(1) & ~_outside(as_size, sizes)
        if 2 * count > total or (known.all() and count > _SOME_INVERTED * total and fit.mean() >= _NEARLY_ALL):
            what = f"{count} of {total} boxes end before they begin when read as x1, y1, x2, y2"
            return (
                (f"{what}: they look like x, y, width, height", "box-form", "size")
                if fit.mean() >= _NEARLY_ALL
                else None
            )
    outside = _outside(boxes, sizes)
    if form != "corners" and known.any() and 2 * int(outside.sum()) > total and int(outside.sum()) >= _FEW:
        as_corners = np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2] + 1])
        if form == "center":
            size = boxes[:, 2:] - boxes[:, :2] + 1
            as_corners = np.column_stack([boxes[:, :2] + size / 2, size])
        fit = (as_corners[:, 2:] > as_corners[:, :2]).all(1) & ~_outside(as_corners, sizes)
        if fit.mean() >= _NEARLY_ALL:
            what = f"{int(outside.sum())} of {total} boxes leave their images when read as x, y, width, height"
            return f"{what}: they look like x1, y1, x2, y2", "box-form", "corners"
    return None


def _turn(values: np.ndarray, sizes: np.ndarray, what: str, orientation: str) -> Cause | None:
    """Coordinates on images with an EXIF orientation that leave the pixels that they are taken to belong to, but fit the others."""
    outside, turned = _outside(values, sizes), _outside(values, sizes[:, ::-1])
    count, other = int(outside.sum()), "stored" if orientation == "upright" else "upright"
    if count < _FEW or 2 * count <= len(values) or turned.mean() > 1 - _NEARLY_ALL:
        return None
    found = f"{count} of {len(values)} {what} on images that EXIF turns on their side leave the {orientation} pixels"
    return f"{found}, but fit the {other} ones", "orientation", other


def _axes(values: np.ndarray, sizes: np.ndarray, what: str) -> Cause | None:
    outside, exchanged = _outside(values, sizes), _outside(values[:, (1, 0, 3, 2)], sizes)
    count = int(outside.sum())
    if count < _FEW or 2 * count <= len(values) or exchanged.mean() > 1 - _NEARLY_ALL:
        return None
    return f"{count} of {len(values)} {what} leave their images, but fit when x and y change places", "axes", "yx"


def _percent(values: np.ndarray, sizes: np.ndarray, what: str, reader: Reader) -> str:
    if len(values) < _FEW or np.isnan(sizes).any() or sizes.min() < _SURELY_LARGER:
        return ""
    if values.min() < 0 or values.max() > _PERCENT or values.max() < _PERCENT / 2:
        return ""
    how = "run again with --map unit=percent" if "unit" in reader.mapping else "convert them to pixels"
    return f"all {len(values)} {what} lie within 0 to 100, and the images are larger; if these are percentages, {how}"


def _remedy(reader: Reader, key: str, value: str) -> str:
    if key in reader.mapping:
        return f"if so, run again with --map {key}={value}; otherwise correct the file"
    return f"{reader.name} has x1, y1, x2, y2 or x, y in pixels; convert the numbers, or restore the released file"


def _outside(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Which of (rows, 4) leave their images by more than a pixel; none where the size is not known."""
    with np.errstate(invalid="ignore"):
        return np.asarray((values[:, :2] < -1).any(1) | (values[:, 2:] > sizes).any(1))


def _sizes(frame: pl.DataFrame) -> np.ndarray:
    """(rows, 2) width and height of the pixels that the coordinates belong to."""
    sizes = np.column_stack([frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in ("width", "height")])
    if TURN in frame.columns:
        transposed = (frame[TURN] >= 5).to_numpy()
        sizes[transposed] = sizes[transposed][:, ::-1]
    return sizes


def _may_lie(frame: pl.DataFrame) -> np.ndarray:
    """(rows) whether EXIF turns the image on its side, and no stated size tells which pixels the coordinates belong to."""
    if ASSUMED not in frame.columns:
        return np.zeros(len(frame), bool)
    return (frame[ASSUMED] & (frame["image_orientation"] >= 5).fill_null(value=False)).to_numpy()


def _joined(parts: Iterable[np.ndarray], columns: int) -> np.ndarray:
    return np.concatenate([np.zeros((0, columns)), *parts])
