"""Predictions of a joined run for one image: those of its first run, with the joined embedding."""

from typing import Any

import numpy as np

from ftrain.data.types import Results
from ftrain.tasks.joined.task import Joined
from ftrain.tasks.retrieval import answer as retrieval


def describe(task: Joined, results: Results, index: int) -> dict[str, Any]:
    """See the retrieval task."""
    return retrieval.describe(task.lead, results, index)


def draw(task: Joined, image: np.ndarray, prediction: dict[str, Any]) -> np.ndarray:
    """See the retrieval task."""
    return retrieval.draw(task.lead, image, prediction)
