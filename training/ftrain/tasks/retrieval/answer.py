"""Predictions of the retrieval task for one image: its embedding, and the category if it has a classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ftrain.data.types import Results
from ftrain.plots.overlay import caption

if TYPE_CHECKING:
    from ftrain.tasks.retrieval.task import Retrieval


def answer(task: Retrieval, results: Results, number: int, category: str | None = None) -> dict[str, Any]:
    """Return the `embedding`, to four decimals, and with a classifier `category`, `category_score` and `recognized`.

    The category is None if its score is below `least_score`.
    """
    del category
    least_score = task.config.score_threshold
    said: dict[str, Any] = {}
    if "class_scores" in results:
        scores = results["class_scores"][number]
        best, score = int(scores.argmax()), round(float(scores.max()), 4)
        recognized = score >= least_score
        said = {
            "recognized": recognized,
            "least_score": least_score,
            "category": task.categories[best] if recognized else None,
        }
        said["category_score"] = score
    return said | {"embedding": [round(float(value), 4) for value in results["embedding"][number]]}


def draw(task: Retrieval, image: np.ndarray, answer: dict[str, Any]) -> np.ndarray:
    """Draw the category in a corner of the image; without a classifier, return the image unchanged."""
    del task
    if "category" not in answer:
        return image
    drawn = Image.fromarray(np.ascontiguousarray(image))
    name = (answer["category"] or "nothing recognized").replace("_", " ")
    caption(drawn, f"{name}  {100 * answer['category_score']:.0f} %", max(drawn.size) / 800)
    return np.asarray(drawn)
