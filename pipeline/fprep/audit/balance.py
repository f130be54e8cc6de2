"""Label distribution over the splits, and the majority baseline."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from fprep.audit.findings import Findings
from fprep.audit.tables import AuditTable
from fschemas.splits import HELD_OUT, SIDES, SPLITS
from fschemas.wording import count

_COLUMNS = ("category", "garment", "style", "domain", "gender", "variation")
_UNKNOWN = ("", "unknown")
_LabelCounts = tuple[str, dict[str, dict[str, int]], dict[str, int], bool]


@dataclass(frozen=True)
class Baseline:
    """Majority baseline of one label in one split.

    It has the number of labeled rows and classes, the most frequent class with its share, and the rarest class with its
    rows. For multi-label attributes (`several`), `share` is the fraction of images with the most frequent attribute,
    and `mean` the average number of attributes per image.
    """

    table: str
    label: str
    split: str
    rows: int
    classes: int
    majority: str
    share: float
    rarest: str
    rarest_rows: int
    several: bool = False
    mean: float = 1.0


def find_balance(table: AuditTable, findings: Findings) -> list[Baseline]:
    """Return and report one baseline per label and split; also report classes evaluated but never trained."""
    baselines: list[Baseline] = []
    for label, counts, totals, several in _label_counts(table):
        for split in (split for split in SPLITS if totals.get(split)):
            here = {value: rows[split] for value, rows in counts.items() if rows.get(split)}
            if not here:
                continue
            ordered = sorted(here, key=lambda value: (here[value], value))
            majority, rarest, total = ordered[-1], ordered[0], totals[split]
            baseline = Baseline(
                table.name, label, split, total, len(here), majority, here[majority] / total, rarest, here[rarest],
                several, sum(here.values()) / total,
            )  # fmt: skip
            baselines.append(baseline)
            findings.add("balance", "info", _sentence(baseline), table=table.name, split=split)
        untrained = {value: rows for value, rows in counts.items() if not rows.get("train")}
        for value, rows in untrained.items() if len(untrained) < len(counts) else ():
            held_out = [split for split, number in rows.items() if SIDES[split] in HELD_OUT and number]
            if held_out:
                what = f"{label} {value} is in {rows[held_out[0]]} rows of {held_out[0]}, but never in train"
                severity = "info" if several else "warning"
                findings.add("balance_unseen", severity, what, table=table.name, split=held_out[0])
    return baselines


def _label_counts(table: AuditTable) -> list[_LabelCounts]:
    """Return for each label: rows by value and split, labeled rows by split, and whether it is multi-label."""
    frame = table.frame.with_columns(pl.col("split").cast(pl.String)).filter(pl.col("split") != "unlabeled")
    found: list[_LabelCounts] = []
    for column in _COLUMNS:
        if column in frame.columns:
            known = frame.select("split", value=pl.col(column).cast(pl.String)).filter(~pl.col("value").is_in(_UNKNOWN))
            found.append((column, _counted(known), _by_split(known), False))
    vocabulary: dict[str, Any] = table.metadata.get("vocabularies", {}).get("attributes") or {}
    if not vocabulary or "attributes_positive" not in frame.columns:
        return found
    names = pl.Series(vocabulary["values"], dtype=pl.String)
    positive = frame.select("split", pl.col("attributes_positive").alias("id")).explode("id").drop_nulls()
    if not vocabulary.get("exclusive"):
        known = positive.with_columns(value=names.gather(positive["id"].cast(pl.UInt32)))
        return [*found, ("attribute", _counted(known), _by_split(frame), True)]
    for group, members in vocabulary["groups"].items():
        members_only = positive.filter(pl.col("id").is_in(members))
        known = members_only.with_columns(value=names.gather(members_only["id"].cast(pl.UInt32)))
        found.append((f"attribute {group}", _counted(known), _by_split(known), False))
    return found


def _counted(known: pl.DataFrame) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for value, split, number in known.group_by("value", "split").len().sort("value", "split").iter_rows():
        counts.setdefault(value, {})[split] = number
    return counts


def _by_split(known: pl.DataFrame) -> dict[str, int]:
    return dict(known.group_by("split").len().sort("split").iter_rows())


def _sentence(baseline: Baseline) -> str:
    head = f"{baseline.label} in {baseline.split}: {count(baseline.rows, 'row')}, {count(baseline.classes, 'value')}"
    if baseline.several:
        return f"{head}, {baseline.mean:.2f} per row; {baseline.majority} in {100 * baseline.share:.1f}%, {baseline.rarest} in {count(baseline.rarest_rows, 'row')}"
    always = f"always predicting {baseline.majority} is correct for {100 * baseline.share:.1f}%"
    return f"{head}; {always}; the rarest is {baseline.rarest} ({baseline.rarest_rows})"
