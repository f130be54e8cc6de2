"""Implausible labels, and labels that annotators were unsure of."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from fprep.audit.findings import Findings, RowRef
from fprep.audit.tables import AuditTable
from fschemas.landmarks import Visibility
from fschemas.wording import count

_OUTSIDE = 0.05  # tolerance for landmarks outside the box, relative to its longer side
_TINY, _TINY_SIDE = 0.005, 12.0  # share of the image, pixels
_WHOLE = 0.98  # share of the image
_LABELS = ("category", "style")
_LIMBS = ("cuff", "sleeve", "bottom")  # left and right limbs cross in ordinary poses


def find_label_problems(table: AuditTable, refs: Sequence[RowRef], findings: Findings) -> None:
    """Report every implausible label of a table. `where` are its rows."""
    labeled = (table.frame["split"].cast(pl.String) != "unlabeled").to_numpy()
    if "landmark_x" in table.frame.columns:
        _check_landmarks(table, refs, labeled, findings)
    for column in ("box", "garment_boxes"):
        if column in table.frame.columns:
            _check_boxes(table.frame, column, refs, labeled, findings)
    if "attributes_positive" in table.frame.columns:
        _check_groups(table, refs, labeled, findings)
    _check_presence(table.frame, refs, labeled, findings)


def _check_landmarks(table: AuditTable, refs: Sequence[RowRef], labeled: np.ndarray, findings: Findings) -> None:
    frame, landmarks = table.frame, table.metadata.get("landmark_set")
    x, y = (np.array(frame[f"landmark_{axis}"].to_list(), np.float32) for axis in "xy")
    visibility = np.array(frame["landmark_visibility"].to_list(), np.int8)
    if not landmarks or visibility.ndim != 2 or not len(visibility):
        return
    names: list[str] = landmarks["points"]
    present = visibility >= Visibility.OCCLUDED
    swapped = np.zeros_like(present)
    for left, right in enumerate(landmarks["partners"]):
        if left < right and not names[left].startswith(_LIMBS):
            swapped[:, left] = present[:, left] & present[:, right] & (x[:, left] > x[:, right])
    width, height = (frame[side].cast(pl.Float32).fill_null(np.inf).to_numpy()[:, None] for side in ("width", "height"))
    beyond = present & ((x < -0.5) | (y < -0.5) | (x > width - 0.5) | (y > height - 0.5))
    odd = [
        ("label_left_right", "info", "is right of its right counterpart", swapped),
        ("label_point_outside_image", "info", "is outside the image", beyond),
    ]
    if "box" in frame.columns:
        box = np.array(frame["box"].to_list(), np.float32)
        margin = _OUTSIDE * np.maximum(box[:, 2] - box[:, 0], box[:, 3] - box[:, 1])[:, None]
        low_x, low_y, high_x, high_y = (box[:, side : side + 1] for side in range(4))
        beyond = present & ((x < low_x - margin) | (y < low_y - margin) | (x > high_x + margin) | (y > high_y + margin))
        odd.append(("label_point_outside_box", "warning", "is outside the box", beyond))
    for kind, severity, what, marked in odd:
        for row in np.flatnonzero(marked.any(1)).tolist():
            first, *others = np.flatnonzero(marked[row]).tolist()
            more = f", and {len(others)} more" if others else ""
            landmark = f"{names[first]} ({x[row, first]:.0f}, {y[row, first]:.0f})"
            findings.add(kind, severity, f"{refs[row].image}: {landmark} {what}{more}", refs[row])
    for row in np.flatnonzero(labeled & ~present.any(1)).tolist():
        findings.add("label_no_points", "info", f"{refs[row].image} has no landmark", refs[row])


def _check_boxes(
    frame: pl.DataFrame, column: str, refs: Sequence[RowRef], labeled: np.ndarray, findings: Findings
) -> None:
    boxes = frame.with_row_index("row").filter(pl.col(column).list.len() > 0)
    boxes = boxes.select("row", column, "width", "height").explode(column)
    corners = np.array(boxes[column].to_list(), np.float32).reshape(-1, 4)
    rows = boxes["row"].to_numpy()[::4]
    sizes = [boxes[side].cast(pl.Float32).fill_null(np.nan).to_numpy()[::4] for side in ("width", "height")]
    width, height = corners[:, 2] - corners[:, 0] + 1, corners[:, 3] - corners[:, 1] + 1
    share = width * height / (sizes[0] * sizes[1])  # NaN (unknown image size) compares as false
    tiny = (np.minimum(width, height) < _TINY_SIDE) | (share < _TINY)
    for kind, severity, hits in (("label_box_tiny", "warning", tiny), ("label_box_whole", "info", share > _WHOLE)):
        for number in np.flatnonzero(hits & labeled[rows]).tolist():
            row = int(rows[number])
            of_image = "" if np.isnan(share[number]) else f", {_percent(share[number])} of the image"
            what = f"{refs[row].image}: a box of {width[number]:.0f} x {height[number]:.0f} pixels{of_image}"
            findings.add(kind, severity, what, refs[row])


def _check_groups(table: AuditTable, refs: Sequence[RowRef], labeled: np.ndarray, findings: Findings) -> None:
    """Report groups of an exclusive vocabulary with no value, or with several positive ones."""
    vocabulary: dict[str, Any] = table.metadata.get("vocabularies", {}).get("attributes") or {}
    if not vocabulary.get("exclusive"):
        return
    frame = table.frame
    for group, members in vocabulary["groups"].items():
        numbers = pl.Series(members, dtype=pl.Int16)
        kinds = ("attributes_positive", "attributes_unknown", "attributes_maybe")
        columns = [name for name in kinds if name in frame.columns]
        is_member = pl.element().is_in(numbers.implode())
        counts = frame.select(pl.col(columns).list.eval(is_member).list.sum().fill_null(0)).to_numpy()
        for row in np.flatnonzero(labeled & (counts == 0).all(1)).tolist():
            findings.add("label_group_empty", "info", f"{refs[row].image}: no value of {group}", refs[row])
        for row in np.flatnonzero(counts[:, 0] > 1).tolist():
            ids = [number for number in frame["attributes_positive"][row].to_list() if number in members]
            values = " and ".join(vocabulary["values"][number] for number in ids)
            findings.add("label_group_double", "warning", f"{refs[row].image}: {group} is {values}", refs[row])


def _check_presence(frame: pl.DataFrame, refs: Sequence[RowRef], labeled: np.ndarray, findings: Findings) -> None:
    for column in _LABELS:
        if column in frame.columns and (frame[column] != "").any():
            for row in np.flatnonzero((frame[column] == "").to_numpy() & labeled).tolist():
                findings.add("label_missing", "info", f"{refs[row].image} has no {column}", refs[row])
    if "attributes_maybe" in frame.columns:
        counts = frame["attributes_maybe"].list.len().to_numpy()
        for row in np.flatnonzero(counts > 0).tolist():
            what = f"{refs[row].image}: {count(int(counts[row]), 'value')} marked as possible only"
            findings.add("label_maybe", "info", what, refs[row])


def _percent(share: float) -> str:
    """Format a share as `0.034%`, `12%`, `100%`: two significant digits, never an exponent."""
    return f"{100 * share:.0f}%" if share >= 0.0995 else f"{100 * share:.2g}%" if share >= 1e-6 else "0%"
