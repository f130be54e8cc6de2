"""Predictions of the retrieval task for one image: its embedding, and the category if it has a classifier."""

from typing import Any

import numpy as np

from ftrain.data.types import Results
from ftrain.plots.overlay import captioned
from ftrain.tasks.retrieval.task import Retrieval


def describe(task: Retrieval, results: Results, index: int) -> dict[str, Any]:
    """Return the `embedding`, to four decimals, and with a classifier `category`, `category_score` and `recognized`.

    The category is None if its score is below `least_score`.
    """
    least_score = task.config.score_threshold
    prediction: dict[str, Any] = {}
    if "class_scores" in results:
        scores = results["class_scores"][index]
        best, score = int(scores.argmax()), round(float(scores.max()), 4)
        recognized = score >= least_score
        prediction = {
            "recognized": recognized,
            "least_score": least_score,
            "category": task.categories[best] if recognized else None,
        }
        prediction["category_score"] = score
    return prediction | {"embedding": [round(float(value), 4) for value in results["embedding"][index]]}


def draw(task: Retrieval, image: np.ndarray, prediction: dict[str, Any]) -> np.ndarray:
    """Draw the category in a corner of the image; without a classifier, return the image unchanged."""
    del task
    if "category" not in prediction:
        return image
    name = (prediction["category"] or "nothing recognized").replace("_", " ")
    return captioned(image, f"{name}  {100 * prediction['category_score']:.0f}%")
