"""Metrics of the style task: classification, or retrieval by attribute."""

import math
from typing import Any

from ftrain.data.types import Results
from ftrain.metrics.classification import classification_metrics
from ftrain.tasks.style.attribute_search import search_metrics
from ftrain.tasks.style.task import Style

TOP = (1, 3)


def compute_metrics(task: Style, results: Results) -> dict[str, Any]:
    """Compute top-k, macro-F1 and balanced accuracy for styles; mAP per attribute and overall for attributes."""
    if task.labels.classes is None:
        return search_metrics(task.labels, results)
    metrics = classification_metrics(results["scores"], results["values"][:, 0], top=TOP)
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
