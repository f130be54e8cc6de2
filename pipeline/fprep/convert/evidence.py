"""Check that the coordinates of a table fit its images, to detect another unit, another box format or swapped axes.

A single row that does not fit is an error in that row. If most rows do not fit, but all of them fit under another
interpretation, the file is being misread: the conversion is refused with the likely cause and, if the reader has one,
the option that fixes it.
"""

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from fprep.readers.orientation import ASSUMED, EXIF_ORIENTATION
from fprep.readers.reader import Reader
from fschemas.failures import UsageError
from fschemas.landmarks import Visibility

_SHARE = 1.5  # no garment is this small: such a box is normalized to 0..1, with at most a one-pixel shift
_FEW = 3  # minimum number of rows that form a pattern
_NEARLY_ALL = 0.9
_SOME_INVERTED = 0.1
_PERCENT = 100.0
_SURELY_LARGER = 200  # both image sides are larger, so percentages cannot reach them
_ENOUGH = 50_000  # maximum number of rows to inspect, evenly spaced


Parts = list[tuple[np.ndarray, np.ndarray, np.ndarray]]


@dataclass
class Evidence:
    """Boxes and landmarks of the rows seen so far: `add` collects rows, `evaluate` raises if they do not fit.

    A part has x, y, x, y (N, 4), the smallest and largest of a row for landmarks; sizes (N, 2), NaN where unknown; and
    whether width and height may be swapped (N).
    """

    boxes: Parts = field(default_factory=Parts)
    points: Parts = field(default_factory=Parts)

    def add(self, frame: pl.DataFrame) -> None:
        """Add rows; the `EXIF_ORIENTATION` column is the orientation of their coordinates (default: upright)."""
        frame = frame.gather_every(max(1, len(frame) // _ENOUGH))
        sizes, lying = _sizes(frame), np.zeros(len(frame), bool)
        if ASSUMED in frame.columns:
            lying = (frame[ASSUMED] & (frame["image_orientation"] >= 5).fill_null(value=False)).to_numpy()
        if "box" in frame.columns:
            known = frame["box"].is_not_null() & (frame["box"].list.len() == 4)
            boxes = frame["box"].filter(known).explode().cast(pl.Float64).to_numpy().reshape(-1, 4)
            self.boxes.append((boxes, sizes[known.to_numpy()], lying[known.to_numpy()]))
        if "garment_boxes" in frame.columns and len(frame):
            counts = frame["garment_boxes"].list.len().to_numpy() // 4
            boxes = frame["garment_boxes"].explode().drop_nulls().cast(pl.Float64).to_numpy().reshape(-1, 4)
            self.boxes.append((boxes, np.repeat(sizes, counts, axis=0), np.repeat(lying, counts)))
        for kind in ("landmark", "joint"):
            if f"{kind}_x" in frame.columns and len(frame):
                self._add_landmarks(frame, kind, sizes, lying)

    def _add_landmarks(self, frame: pl.DataFrame, kind: str, sizes: np.ndarray, lying: np.ndarray) -> None:
        lengths = frame[f"{kind}_visibility"].list.len().to_numpy()
        rows = np.repeat(np.arange(len(frame)), lengths)
        names = (f"{kind}_{name}" for name in ("x", "y", "visibility"))
        x, y, visibility = (frame[name].explode().drop_nulls().to_numpy() for name in names)
        if not len(rows) == len(x) == len(y) == len(visibility):
            return  # lists of different lengths are rejected by a rule
        present = visibility >= Visibility.OCCLUDED
        rows, points = rows[present], np.column_stack([x, y])[present].astype(np.float64)
        several = np.bincount(rows, minlength=len(frame)) >= 2
        extents = np.full((len(frame), 4), (np.inf, np.inf, -np.inf, -np.inf))
        np.minimum.at(extents[:, :2], rows, points)
        np.maximum.at(extents[:, 2:], rows, points)
        self.points.append((extents[several], sizes[several], lying[several]))

    def evaluate(self, reader: Reader, form: str = "corners", orientation: str = "upright") -> str:
        """Raise `UsageError` for a misread table. Otherwise return a note about a possible misreading, or "".

        `form` is the box format of the file (`fprep.readers.units.BOX_FORMS`). `orientation`, "stored" or "upright", is
        the assumption for images with an EXIF orientation if no size is stated.
        """
        note = ""
        for what, parts in (("boxes", self.boxes), ("rows of points", self.points)):
            if not sum(len(part[0]) for part in parts):
                continue
            values, sizes, lying = (np.concatenate(part) for part in zip(*parts, strict=True))
            cause = (
                _shares(values, what)
                or (_forms(values, sizes, form) if what == "boxes" else None)
                or _turn(values[lying], sizes[lying], what, orientation)
                or _axes(values, sizes, what)
            )
            if cause is not None:
                found, key, value = cause
                remedy = f"if so, run again with --map {key}={value}; otherwise correct the file"
                if key not in reader.mapping:
                    has = f"{reader.name} has x1, y1, x2, y2 or x, y in pixels"
                    remedy = f"{has}; convert the numbers, or restore the released file"
                raise UsageError(f"{found}: {remedy}")
            note = note or _percent(values, sizes, what, reader)
        return note


def share_rows(frame: pl.DataFrame) -> dict[str, pl.Series]:
    """Return by column the rows with a box, or with several landmarks, within one pixel: too small for a garment."""
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


Cause = tuple[str, str, str]  # problem found, key of --map, value of --map


def _shares(values: np.ndarray, what: str) -> Cause | None:
    small = int((np.abs(values) <= _SHARE).all(1).sum())
    if 2 * small <= len(values):
        return None
    found = f"{small} of {len(values)} {what} lie within 0 to 1: shares of the image instead of pixels"
    return found, "unit", "relative"


def _forms(boxes: np.ndarray, sizes: np.ndarray, form: str) -> Cause | None:
    """Detect boxes that are invalid as read, but all valid in another format."""
    inverted = (boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])
    count, total, known = int(inverted.sum()), len(boxes), ~np.isnan(sizes[:, 0])
    if form == "corners" and count >= _FEW:
        as_size = np.column_stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
        fit = (boxes[:, 2:] > 0).all(1) & ~_outside(as_size, sizes)
        if 2 * count > total or (known.all() and count > _SOME_INVERTED * total and fit.mean() >= _NEARLY_ALL):
            what = f"{count} of {total} boxes end before they begin when read as x1, y1, x2, y2"
            cause = (f"{what}: they look like x, y, width, height", "box-form", "size")
            return cause if fit.mean() >= _NEARLY_ALL else None
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
    """Detect coordinates that exceed images in the assumed EXIF orientation, but fit the other one."""
    other, count = "stored" if orientation == "upright" else "upright", _misfits(values, sizes, values, sizes[:, ::-1])
    found = f"{count} of {len(values)} {what} on images whose EXIF orientation rotates them by 90 degrees leave the {orientation} pixels"
    return (f"{found}, but fit the {other} ones", "orientation", other) if count else None


def _axes(values: np.ndarray, sizes: np.ndarray, what: str) -> Cause | None:
    count = _misfits(values, sizes, values[:, (1, 0, 3, 2)], sizes)
    found = f"{count} of {len(values)} {what} leave their images, but fit when x and y are swapped"
    return (found, "axes", "yx") if count else None


def _misfits(values: np.ndarray, sizes: np.ndarray, others: np.ndarray, other_sizes: np.ndarray) -> int:
    """Return how many `values` exceed their images if most of them do, but nearly all `others` fit; else 0."""
    count = int(_outside(values, sizes).sum())
    if count < _FEW or 2 * count <= len(values) or _outside(others, other_sizes).mean() > 1 - _NEARLY_ALL:
        return 0
    return count


def _percent(values: np.ndarray, sizes: np.ndarray, what: str, reader: Reader) -> str:
    if len(values) < _FEW or np.isnan(sizes).any() or sizes.min() < _SURELY_LARGER:
        return ""
    if values.min() < 0 or values.max() > _PERCENT or values.max() < _PERCENT / 2:
        return ""
    how = "run again with --map unit=percent" if "unit" in reader.mapping else "convert them to pixels"
    return f"all {len(values)} {what} lie within 0 to 100, and the images are larger; if these are percentages, {how}"


def _outside(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return which `values` (rows, 4) exceed their images by more than a pixel; False if the size is unknown."""
    with np.errstate(invalid="ignore"):
        return np.asarray((values[:, :2] < -1).any(1) | (values[:, 2:] > sizes).any(1))


def _sizes(frame: pl.DataFrame) -> np.ndarray:
    """Return (rows, 2): width and height of the pixel grid that the coordinates refer to."""
    sizes = np.column_stack([frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in ("width", "height")])
    if EXIF_ORIENTATION in frame.columns:
        transposed = (frame[EXIF_ORIENTATION] >= 5).to_numpy()
        sizes[transposed] = sizes[transposed][:, ::-1]
    return sizes
