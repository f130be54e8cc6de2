"""Apply the rules of a table class to a frame: rejections with column, value and rule, and warnings."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from fprep.raw.folder import RawFolder
from fprep.readers.orientation import as_stored
from fprep.readers.reader import BOX_TEXT, Reader
from fprep.readers.units import CoordinateFormat, as_written
from fschemas.landmarks import LandmarkSet, Visibility
from fschemas.tables import landmark_rules

_RULE_NAMES = {"primary_key": "duplicate_key", "image_path_leaves_root": "path_escape"}

_LIMBS = ("cuff", "sleeve", "bottom", "front")  # arms and legs cross in ordinary poses, open fronts overlap

Row = dict[str, Any]
Problem = tuple[str, str, str]  # column, message, value found


def broken_rules(frame: pl.DataFrame, reader: Reader) -> dict[int, list[str]]:
    """Return row index -> names of the rules it breaks, most important first."""
    broken: dict[int, list[str]] = {}
    if reader.landmark_set is not None:
        rules = landmark_rules(reader.landmark_set)
        verdicts = frame.select(rule.fill_null(True).alias(name) for name, rule in rules.items())
        for name in verdicts.columns:
            for index in (~verdicts[name]).arg_true():
                broken.setdefault(index, []).append(name)
    _, failure = reader.table.filter(frame)
    if not len(failure):
        return broken
    index_of = {source: index for index, source in enumerate(frame.select("source_file", "source_line").rows())}
    details = failure.details()
    for name in [column for column in details.columns if column not in frame.columns]:
        for source in details.filter(pl.col(name) == "invalid").select("source_file", "source_line").rows():
            broken.setdefault(index_of[source], []).append(_RULE_NAMES.get(name, name.replace("|", "_")))
    return broken


def describe(rule: str, row: Row, reader: Reader, written: CoordinateFormat) -> Problem:
    """Return column, message and value of a broken rule; coordinates and sizes are quoted as in the raw files."""
    known = _DESCRIPTIONS.get(rule)
    if known is not None and (reader.landmark_set is not None or rule.startswith(("box", "garment_box"))):
        return known(_as_in_the_file(as_stored(row), reader.origin, written), reader.landmark_set)
    column = next((name for name in sorted(row, key=len, reverse=True) if rule.startswith(name)), "")
    return column, f"rule {rule} of {reader.table.__name__} is broken", repr(row.get(column, ""))


def count_warnings(frame: pl.DataFrame, reader: Reader, raw: RawFolder) -> None:
    """Count kept rows with landmarks on the border, with left and right swapped, or without a normalizer."""
    if reader.landmark_set is None or frame.is_empty():
        return
    landmarks = reader.landmark_set
    x, y, visibility = (
        frame[name].list.to_array(len(landmarks)).to_numpy()
        for name in ("landmark_x", "landmark_y", "landmark_visibility")
    )
    present = visibility >= Visibility.OCCLUDED
    size = {side: frame[side].cast(pl.Float32).fill_null(np.inf).to_numpy()[:, None] for side in ("width", "height")}
    border = (present & ((x >= size["width"]) | (y >= size["height"]) | (x < 0) | (y < 0))).any(1)
    swapped = np.zeros(len(frame), bool)
    for left, right in enumerate(landmarks.flip_index):
        if left < right and not landmarks.names[left].startswith(_LIMBS):
            swapped |= present[:, left] & present[:, right] & (x[:, left] > x[:, right])
    labeled = (frame["split"] != "unlabeled").to_numpy()
    missing = np.zeros(len(frame), bool)
    for garment, pair in landmarks.normalizer_pairs.items():
        missing |= (frame["garment"] == garment).to_numpy() & ~present[:, list(pair)].all(1) & labeled
    sources = frame.select("source_file", "source_line")
    for rule, rows in (("point_at_border", border), ("swapped_left_right", swapped), ("missing_normalizer", missing)):
        for file, line in sources.filter(pl.Series(np.asarray(rows, bool))).iter_rows():
            raw.warn(rule, f"{file}:{line}")


def _as_in_the_file(row: Row, origin: int, written: CoordinateFormat) -> Row:
    """Return the row with coordinates as in the raw file: 1 is added if the file counts pixels from 1.

    `quoted_x` and `quoted_y` are the landmarks in the unit and axis order of the file.
    """
    names = [name for name in ("landmark_x", "landmark_y", "box") if row.get(name)]
    shifted = {name: [value + origin for value in row[name]] for name in names}
    quoted = as_written({**row, **shifted}, written)
    return {
        **row, **shifted, "origin": origin, "quoted_x": quoted.get("landmark_x"), "quoted_y": quoted.get("landmark_y"),
    }  # fmt: skip


def _not_applicable(row: Row, landmarks: LandmarkSet | None) -> Problem:
    assert landmarks is not None
    valid = landmarks.garments[row["garment"]]
    for index, name in enumerate(landmarks.names):
        if (index in valid) == (row["landmark_visibility"][index] == Visibility.NOT_APPLICABLE):
            found = f"{row['quoted_x'][index]:g}_{row['quoted_y'][index]:g}"
            return name, f"{name} ({found}) is annotated, but the garment {row['garment']} has no such point", found
    return "landmark_visibility", "points do not fit the garment", ""


def _outside(row: Row, landmarks: LandmarkSet | None) -> Problem:
    assert landmarks is not None
    width, height, origin = row["width"], row["height"], row["origin"]
    size = "the image" if width is None else f"the image of {width} x {height}"
    for index, (name, x, y) in enumerate(zip(landmarks.names, row["landmark_x"], row["landmark_y"], strict=False)):
        if min(x, y) - origin < -1 or (width is not None and (x - origin > width or y - origin > height)):
            first, second = row["quoted_x"][index], row["quoted_y"][index]
            return name, f"{name} ({first:g}, {second:g}) lies outside {size}", f"{first:g}_{second:g}"
    return "landmark_x", f"a point lies outside {size}", ""


def _box_inverted(row: Row, _: LandmarkSet | None) -> Problem:
    x1, y1, x2, y2 = row["box"]
    if row.get(BOX_TEXT):
        return "box", f"the box ({row[BOX_TEXT]}) has no width or no height", row[BOX_TEXT]
    what = f"x_2 ({x2:g}) is not right of x_1 ({x1:g})" if x2 <= x1 else f"y_2 ({y2:g}) is not below y_1 ({y1:g})"
    return "box", what, _numbers(row["box"])


def _box_outside(row: Row, _: LandmarkSet | None) -> Problem:
    size, quoted = f"{row['width']} x {row['height']}", row.get(BOX_TEXT) or _numbers(row["box"])
    return "box", f"the box ({quoted}) leaves the image of {size}", quoted


def _garment_box_outside(row: Row, _: LandmarkSet | None) -> Problem:
    width, height, corners = row["width"], row["height"], row["garment_boxes"]
    for number, garment in enumerate(row["garments"]):
        x1, y1, x2, y2 = box = corners[4 * number : 4 * number + 4]
        if min(x1, y1, x2, y2) < -1 or (width is not None and (max(x1, x2) > width or max(y1, y2) > height)):
            size, quoted = "the image" if width is None else f"the image of {width} x {height}", _numbers(box)
            return "garment_boxes", f"the box of the {garment or 'garment'} ({quoted}) leaves {size}", quoted
    return "garment_boxes", "the box of a garment leaves the image", ""


def _numbers(values: list[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


_DESCRIPTIONS: dict[str, Callable[[Row, LandmarkSet | None], Problem]] = {
    "not_applicable_point": _not_applicable,
    "point_outside": _outside,
    "box_inverted": _box_inverted,
    "box_outside": _box_outside,
    "garment_box_outside": _garment_box_outside,
}
