"""Findings of an audit. Their kind defines the meaning and the recommended action."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import polars as pl

SEVERITIES = ("error", "warning", "info")
SCHEMA: dict[str, pl.DataType] = {
    "kind": pl.String(), "severity": pl.String(), "table": pl.String(), "key": pl.String(), "other_table": pl.String(),
    "other_key": pl.String(), "split": pl.String(), "other_split": pl.String(), "distance": pl.Int32(), "message": pl.String(),
}  # fmt: skip

# Meaning and recommended action of each kind, in the order of the summary.
_REGROUP, _DECIDE = "convert with --group-split", "look at both and decide; one of them is wrong"
_HOLD_OUT = f"{_REGROUP}, or shard with --lock and --leave-out"
KINDS: dict[str, tuple[str, str]] = {
    "leak_identical": ("the same image on both sides", _HOLD_OUT),
    "leak_near": ("nearly the same image on both sides", _HOLD_OUT),
    "leak_item": ("a product on both sides", _REGROUP),
    "leak_group": ("a group (shoot, product folder) on both sides", _REGROUP),
    "leak_coarse_split": (
        "trained here, but held out in the coarse benchmark",
        "never evaluate on the coarse benchmark what was trained on these rows, or audit both with --write-lock and shard with --leave-out",
    ),
    "image_changed": ("other bytes than when the table was written", "run fprep convert again"),
    "image_unreadable": ("the image cannot be decoded", "run fprep convert with --check-images full"),
    "image_missing": ("the image is missing", "unpack the images or give their folder with --images"),
    "image_blank": ("the image shows nothing", "drop it"),
    "conflict_category": ("twins with different categories", _DECIDE),
    "conflict_garment": ("twins with different garments", _DECIDE),
    "conflict_style": ("twins with different styles", "look at both and decide, or count both as right"),
    "conflict_attributes": ("twins with contradicting attributes", "look at both; of many, this is label noise"),
    "label_left_right": ("a left point of the trunk is right of its right twin", "a back view, or left and right are swapped"),
    "label_point_outside_image": ("a point outside the image", "look at it: the wrong resolution or a slip"),
    "label_point_outside_box": ("points far outside the box", "look at it: box or points belong to another garment"),
    "label_box_tiny": ("a box that covers next to nothing", "drop it, or take the whole image"),
    "label_box_whole": ("a box that covers all of the image", "nothing, if images are cut to the garment"),
    "label_no_points": ("a labeled row without a single point", "it teaches no landmark; leave it out of landmark scores"),
    "label_group_empty": ("no value of a group of which each garment has one", "count it as unknown"),
    "label_group_double": ("several values of a group of which each garment has one", "look at it"),
    "label_near_equal": ("classes whose names differ in case, whitespace or look-alike letters alone", "spell them alike in the raw files"),
    "label_missing": ("a labeled row without this label", "nothing, if the source left it open"),
    "label_maybe": ("annotators were not sure", "train with soft targets; leave it out of strict scores"),
    "duplicate_identical": ("the same image twice on one side", "keep one; twins count double"),
    "duplicate_near": ("nearly the same image twice on one side", "keep one, or ignore it"),
    "duplicate_rejected": ("an image that convert has left out as a duplicate", "nothing"),
    "balance_unseen": ("a class that is evaluated but never trained", f"drop the class, or {_REGROUP}"),
    "balance": ("how labels spread, and the score that needs no model", "compare every result with this baseline"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
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
        self, kind: str, severity: str, message: str, place: Place | None = None, other: Place | None = None, *,
        table: str = "", split: str = "", other_split: str = "", distance: int | None = None,
    ) -> None:  # fmt: skip
        """Add a finding about a row, optionally compared with another one; without a row, about a table or split."""
        assert kind in KINDS, kind
        assert severity in SEVERITIES, severity
        self.rows.append(
            {
                "kind": kind, "severity": severity, "distance": distance, "message": message,
                "table": place.table if place else table, "key": place.key if place else "",
                "split": place.split if place else split,
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


def places(rows: pl.DataFrame) -> list[Place]:
    """Return a reference to each row."""
    return [Place(*values) for values in rows.select("name", "key", "split", "side", "image", "table").iter_rows()]
