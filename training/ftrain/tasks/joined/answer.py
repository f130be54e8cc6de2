"""Predictions of a joined run for one image: those of its first run, with the joined embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ftrain.data.types import Results
from ftrain.tasks.retrieval import answer as retrieval

if TYPE_CHECKING:
    from ftrain.tasks.joined.task import Joined


def describe(task: Joined, results: Results, index: int, category: str | None = None) -> dict[str, Any]:
    """See the retrieval task."""
    return retrieval.describe(task.lead, results, index, category)


def draw(task: Joined, image: np.ndarray, prediction: dict[str, Any]) -> np.ndarray:
    """See the retrieval task."""
    return retrieval.draw(task.lead, image, prediction)
