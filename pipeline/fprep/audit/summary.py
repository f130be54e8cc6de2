"""The audit summary as text."""

from collections.abc import Sequence

import polars as pl

from fprep.audit.balance import Baseline
from fprep.audit.findings import KINDS, SEVERITIES
from fprep.audit.tables import AuditTable
from fschemas.wording import count

_EXAMPLES = {"error": 3, "warning": 2, "info": 1}
_MAX_BASELINES = 24
_WIDTH = 160


def summary_text(
    tables: Sequence[AuditTable], findings: pl.DataFrame, baselines: Sequence[Baseline], notes: Sequence[str]
) -> str:
    """Return the summary: tables, kinds of findings with count, meaning, action and worst examples, and baselines."""
    lines: list[str] = []
    for table in tables:
        counts = table.frame.group_by(pl.col("split").cast(pl.String)).len().sort("split").iter_rows()
        splits = ", ".join(f"{number} {split}" for split, number in counts)
        lines.append(f"{table.name}: {count(len(table.frame), 'row')}, {splits}")
    lines += [f"note: {note}" for note in notes]
    shown = findings.filter(pl.col("kind") != "balance")
    if shown.is_empty():
        lines += ["", "Nothing found: no duplicates, no leaks, no implausible labels."]
    for severity in SEVERITIES:
        of_severity = shown.filter(pl.col("severity") == severity)
        if of_severity.is_empty():
            continue
        lines += ["", f"{severity.upper()}"]
        for kind, (meaning, remedy) in KINDS.items():
            rows = of_severity.filter(pl.col("kind") == kind)
            if rows.is_empty():
                continue
            lines.append(f"{len(rows):>7}  {kind}: {meaning}; {remedy}")
            for message in rows["message"].head(_EXAMPLES[severity]):
                lines.append(f"{'':>9}{message if len(message) <= _WIDTH else f'{message[: _WIDTH - 1]}…'}")
    if baselines:
        what = "accuracy of always predicting the most frequent class (for multi-label attributes: its frequency)"
        lines += ["", f"BASELINE: {what}"]
        for one in baselines[:_MAX_BASELINES]:
            several = f", {one.mean:.2f} per row" if one.several else ""
            classes = f"{count(one.classes, 'value')}{several}, rarest {one.rarest} ({one.rarest_rows})"
            label = f"{one.table} {one.label}, {one.split}: {one.majority}"
            lines.append(f"{100 * one.share:>6.1f}%  {label}; {classes}")
        if len(baselines) > _MAX_BASELINES:
            lines.append(f"{'':>9}and {len(baselines) - _MAX_BASELINES} more in audit.parquet (kind balance)")
    return "\n".join([*lines, "", verdict(findings)]) + "\n"


def verdict(findings: pl.DataFrame) -> str:
    """Return one sentence on whether scores can be trusted."""
    errors = findings.filter((pl.col("severity") == "error") & pl.col("kind").str.starts_with("leak"))
    if not errors.is_empty():
        counts = errors.group_by("kind", maintain_order=True).len().iter_rows()
        kinds = ", ".join(f"{number} {kind}" for kind, number in counts)
        return f"LEAKS: {kinds}. Scores on these splits are too good; fix the splits before you trust any number."
    warned = findings.filter((pl.col("severity") == "warning") & pl.col("kind").str.starts_with("leak"))
    if not warned.is_empty():
        return f"No held-out image, item or group of these tables is in train; {count(len(warned), 'possible leak')} (warnings)."
    return "No leak: no held-out image, item or group is in train."
