"""Headline metrics of an evaluation: flat and rounded, one column each in `dvc exp show`."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fschemas.publish import publish_bytes
from ftrain.data.csv_text import csv_bytes

MAX_METRICS = 13  # metrics; keeps a table of several models readable
BASELINES = ("mean_pose", "majority", "untrained", "chance")  # baseline sections of a report, the best known first
TRAINING_CURVE, VALIDATION_CURVE = "training_curve.csv", "validation_curve.csv"
_DIGITS = 6


def key_metrics(report: Mapping[str, Any], names: Sequence[str]) -> dict[str, float]:
    """Return at most `MAX_METRICS` metrics of a report, most important first: `samples`, `names`, an interval and a baseline.

    The first of `names` in the report comes with its 95% interval (`<name>_low`, `<name>_high`) and with the same
    metric of a baseline (`<baseline>_<name>`). Metrics are read from `report["model"]`; `category/top_1` is read from
    `report["category"]["model"]`, and its column is `category_top_1`. Without `names`, the first metrics of the model
    are used.
    """
    model: Mapping[str, Any] = report["model"]
    found = {
        name: metric_value(report, name)
        for name in names or [name for name in model if not name.endswith(("_low", "_high"))]
    }
    found = {name: value for name, value in found.items() if value is not None}
    chosen: dict[str, float] = {"samples": report["samples"]} if "samples" in report else {}
    for number, (name, value) in enumerate(found.items()):
        chosen[name.replace("/", "_")] = value
        if number == 0:
            chosen |= {
                f"{name}_{end}": edge
                for end in ("low", "high")
                if (edge := metric_value(report, f"{name}_{end}")) is not None
            }
            # The same metric of the first baseline that has it.
            known = [baseline for baseline in BASELINES if isinstance(report.get(baseline, {}).get(name), int | float)]
            chosen |= {f"{baseline}_{name}": report[baseline][name] for baseline in known[:1]}
    return {name: round(value, _DIGITS) for name, value in list(chosen.items())[:MAX_METRICS]}


def publish_curves(run: Path, out: Path, metric: str) -> None:
    """Write the learning curves of a run next to its report: `step` with `loss`, and `step` with `metric`.

    `metric` is the one that chose the checkpoint. A run without these values (no validation, or no training) gets files
    with a header only, so that every run has both.
    """
    for source, target, column in (
        ("training.csv", TRAINING_CURVE, "loss"),
        ("validation.csv", VALIDATION_CURVE, metric),
    ):
        rows = [(row["step"], row[column]) for row in read_curve(run / source) if row.get("step") and row.get(column)]
        publish_bytes(out / target, csv_bytes(["step", column], rows))


def read_curve(path: Path) -> list[dict[str, str]]:
    """Return the rows of `training.csv` or `validation.csv`; empty if the file does not exist."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        return []


def metric_value(report: Mapping[str, Any], name: str) -> float | None:
    """Return a finite metric of the model or of one of its sections (`section/name`), or None."""
    section, slash, last = name.rpartition("/")
    metrics = report.get(section, {}).get("model", {}) if slash else report["model"]
    value = metrics.get(last)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if is_number else None
