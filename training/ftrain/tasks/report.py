"""What `ftrain evaluate` says of a task whose folder has no report of its own: the metrics alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ftrain.data.types import EvaluatedSplit
from ftrain.tasks.task import Task, part


def report(task: Task, evaluated: EvaluatedSplit, out: Path) -> dict[str, Any]:
    """The metrics as `model`; nothing is written."""
    del out
    return {"model": part(task, "measure")(task, evaluated.results)}


def summary(metrics: dict[str, Any]) -> Iterator[str]:
    """The metrics of `model`, one a line."""
    yield from (f"{name:<24}{value:.4f}" for name, value in metrics["model"].items() if isinstance(value, float))
