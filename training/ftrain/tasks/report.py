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
    """Yield the metrics of `model`, one per line, next to those of the majority baseline, if there is one."""
    shown = {name: value for name, value in metrics["model"].items() if isinstance(value, float)}
    width = max(map(len, shown), default=0) + 2
    for name, value in shown.items():
        baseline = metrics.get("majority", {}).get(name)
        yield f"{name:<{width}}{value:<10.4f}{'' if baseline is None else f'{baseline:.4f} (majority)'}".rstrip()
