"""Findings of an audit. Their kind defines the meaning and the recommended action."""

from dataclasses import dataclass, field
from typing import Any

import polars as pl

SEVERITIES = ("error", "warning", "info")
SCHEMA: dict[str, pl.DataType] = {
    "kind": pl.String(), "severity": pl.String(), "table": pl.String(), "key": pl.String(), "other_table": pl.String(),
    "other_key": pl.String(), "split": pl.String(), "other_split": pl.String(), "distance": pl.Int32(), "message": pl.String(),
}  # fmt: skip

# Meaning and recommended action of each kind, in the order of the summary.
_REGROUP, _DECIDE = "convert with --group-split", "check both; one of them is wrong"
_HOLD_OUT = f"{_REGROUP}, or shard with --lock and --leave-out"
KINDS: dict[str, tuple[str, str]] = {
    "leak_identical": ("the same image on both sides", _HOLD_OUT),
    "leak_near": ("nearly the same image on both sides", _HOLD_OUT),
    "leak_item": ("a product on both sides", _REGROUP),
    "leak_group": ("a group (shoot, product folder) on both sides", _REGROUP),
    "leak_coarse_split": (
        "in train here, but held out in the coarse benchmark",
        "do not evaluate models trained on these rows on the coarse benchmark, or audit both with --write-lock and shard with --leave-out",
    ),
    "image_changed": ("the image has changed since the table was written", "run fprep convert again"),
    "image_unreadable": ("the image cannot be decoded", "run fprep convert with --check-images full"),
    "image_missing": ("the image is missing", "unpack the images or pass their folder with --images"),
    "image_blank": ("blank image", "remove it"),
    "conflict_category": ("near-identical images with different categories", _DECIDE),
    "conflict_garment": ("near-identical images with different garments", _DECIDE),
    "conflict_style": ("near-identical images with different styles", "check both, or count both as correct"),
    "conflict_attributes": ("near-identical images with contradicting attributes", "check both; if there are many, it is label noise"),
    "label_left_right": ("a left landmark of the trunk lies to the right of its right counterpart", "a back view, or left and right are swapped"),
    "label_point_outside_image": ("a landmark outside the image", "check it: wrong resolution, or an annotation error"),
    "label_point_outside_box": ("landmarks far outside the box", "check it: the box or the landmarks belong to another garment"),
    "label_box_tiny": ("a tiny box", "remove it, or use the whole image"),
    "label_box_whole": ("a box that covers the whole image", "none, if the images are cropped to the garment"),
    "label_no_points": ("a labeled row without landmarks", "it trains no landmark; exclude it from landmark metrics"),
    "label_group_empty": ("no value of a group in which every garment has one", "treat it as unknown"),
    "label_group_double": ("several values of a group in which every garment has one", "check it"),
    "label_near_equal": ("classes whose names differ only in case, whitespace or look-alike letters", "use one spelling in the raw files"),
    "label_missing": ("a labeled row without this label", "none, if the source does not label it"),
    "label_maybe": ("annotators were not sure", "train with soft targets; exclude it from strict metrics"),
    "duplicate_identical": ("the same image twice on one side", "keep one; both are counted"),
    "duplicate_near": ("nearly the same image twice on one side", "keep one, or ignore it"),
    "duplicate_rejected": ("an image that convert rejected as a duplicate", "none"),
    "balance_unseen": ("a class that is evaluated but never trained", f"remove the class, or {_REGROUP}"),
    "balance": ("the label distribution, and the majority baseline", "compare every result with this baseline"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RowRef:
    """A table row that findings refer to."""

    table: str
    key: str
    split: str
    side: str
    image: str
    number: int  # index of the table


@dataclass
class Findings:
    """Collects findings."""

    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def add(
        self,
        kind: str,
        severity: str,
        message: str,
        ref: RowRef | None = None,
        other: RowRef | None = None,
        *,
        table: str = "",
        split: str = "",
        other_split: str = "",
        distance: int | None = None,
    ) -> None:
        """Add a finding about a row, optionally compared with another one; without a row, about a table or split."""
        assert kind in KINDS, kind
        assert severity in SEVERITIES, severity
        self.rows.append(
            {
                "kind": kind, "severity": severity, "distance": distance, "message": message,
                "table": ref.table if ref else table, "key": ref.key if ref else "",
                "split": ref.split if ref else split,
                "other_table": other.table if other else "", "other_key": other.key if other else "",
                "other_split": other.split if other else other_split,
            }
        )  # fmt: skip

    def frame(self) -> pl.DataFrame:
        """Return all findings: the most severe first, then in the order of KINDS, then by distance."""
        frame = pl.DataFrame(self.rows, schema=SCHEMA)
        ranks = (
            pl.col(column).replace_strict({name: rank for rank, name in enumerate(names)}, return_dtype=pl.Int16)
            for column, names in (("severity", SEVERITIES), ("kind", KINDS))
        )
        order = (*ranks, "distance", "table", "key", "other_table", "other_key", "message")
        return frame.sort(order, nulls_last=True, maintain_order=True)


def row_refs(rows: pl.DataFrame) -> list[RowRef]:
    """Return a reference to each row."""
    return [RowRef(*values) for values in rows.select("name", "key", "split", "side", "image", "table").iter_rows()]
