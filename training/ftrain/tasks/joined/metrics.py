"""Metrics of a joined run: those of its first run, a retrieval run."""

from typing import Any

from ftrain.data.types import Results
from ftrain.tasks.joined.task import Joined
from ftrain.tasks.retrieval import metrics


def compute_metrics(task: Joined, results: Results) -> dict[str, Any]:
    """See the retrieval task."""
    return metrics.compute_metrics(task.lead, results)
