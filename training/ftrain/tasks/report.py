"""Default report of tasks without a `report.py`: the metrics alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ftrain.data.types import EvaluatedSplit
from ftrain.tasks.task import Task, task_function


def report(task: Task, evaluated: EvaluatedSplit, out: Path) -> dict[str, Any]:
    """Return the metrics as `model`; nothing is written."""
    del out
    return {"model": task_function(task, "compute_metrics")(task, evaluated.results)}


def summary(metrics: dict[str, Any]) -> Iterator[str]:
    """Yield the metrics of `model`, one per line."""
    yield from (f"{name:<24}{value:.4f}" for name, value in metrics["model"].items() if isinstance(value, float))
