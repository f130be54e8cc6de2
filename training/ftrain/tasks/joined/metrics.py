"""Metrics of a joined run: those of its first run, a retrieval run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftrain.data.types import Results
from ftrain.tasks.retrieval import metrics

if TYPE_CHECKING:
    from ftrain.tasks.joined.task import Joined


def compute_metrics(task: Joined, results: Results) -> dict[str, Any]:
    """See the retrieval task."""
    return metrics.compute_metrics(task.lead, results)
