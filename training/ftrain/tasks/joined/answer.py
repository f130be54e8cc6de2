"""Predictions of a joined run for one image: those of its first run, with the joined embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ftrain.data.types import Results
from ftrain.tasks.retrieval import answer as answer_of_retrieval

if TYPE_CHECKING:
    from ftrain.tasks.joined.task import Joined


def answer(task: Joined, results: Results, number: int, category: str | None = None) -> dict[str, Any]:
    """See the retrieval task."""
    return answer_of_retrieval.answer(task.lead, results, number, category)


def draw(task: Joined, image: np.ndarray, answer: dict[str, Any]) -> np.ndarray:
    """See the retrieval task."""
    return answer_of_retrieval.draw(task.lead, image, answer)
