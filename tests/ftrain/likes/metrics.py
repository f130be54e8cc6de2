"""Metrics of the task: none of interest."""

from __future__ import annotations

from typing import Any

from ftrain.data.types import Results
from ftrain.tasks.task import Task


def compute_metrics(task: Task, results: Results) -> dict[str, Any]:
    return {"accuracy": 0.0}
