"""Metrics of the style task: of the classes, or of the search by attribute."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ftrain.data.types import Results
from ftrain.metrics.classification import classification_metrics
from ftrain.tasks.style.attribute_search import search_metrics

if TYPE_CHECKING:
    from ftrain.tasks.style.task import Style

TOP = (1, 3)


def measure(task: Style, results: Results) -> dict[str, Any]:
    """Style: top-k, macro-F1, balanced accuracy. Attributes: mAP of each and over all."""
    if task.labels.classes is None:
        return search_metrics(task.labels, results)
    metrics = classification_metrics(results["scores"], results["values"][:, 0], top=TOP)
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
