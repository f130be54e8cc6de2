"""Predictions of the keypoints task for one image: as JSON, and drawn on the image."""

from typing import Any

import numpy as np

from fschemas.failures import UsageError
from ftrain.data.types import Results
from ftrain.plots.overlay import draw_landmarks
from ftrain.tasks.keypoints.crop import found_crop
from ftrain.tasks.keypoints.task import Keypoints


def describe(task: Keypoints, results: Results, index: int, category: str | None = None) -> dict[str, Any]:
    """Return size, garment (`category`, or the predicted one) with its score, its landmarks in pixels and their box."""
    landmarks, scores = task.landmarks, results["garment_scores"][index]
    garments = list(landmarks.garments)
    garment = category or task.config.garment or garments[int(scores.argmax())]
    width, height = (int(side) for side in results["size"][index])
    valid = list(landmarks.valid_landmarks(garment))
    box = found_crop(results["points"][index, valid], results["scores"][index, valid], width, height)
    points = [
        {
            "name": landmarks.names[point],
            "x": round(float(results["points"][index, point, 0]), 2),
            "y": round(float(results["points"][index, point, 1]), 2),
            "score": round(float(results["scores"][index, point]), 4),
        }
        for point in valid
    ]
    garment_score = round(float(scores[garments.index(garment)]), 4)
    return {
        "width": width,
        "height": height,
        "garment": garment,
        "garment_score": garment_score,
        "box": [round(edge, 2) for edge in box],
        "points": points,
    }


def draw(task: Keypoints, image: np.ndarray, prediction: dict[str, Any]) -> np.ndarray:
    """Draw the landmarks with their names and the lines between them."""
    return draw_landmarks(image, prediction, task.landmarks)


def check_category(task: Keypoints, category: str | None) -> None:
    """Raise `UsageError` unless `category` is a garment of the landmark set that the run can predict.

    A run of one garment predicts that garment only; a run without a garment classifier needs a category.
    """
    own = task.config.garment
    if category is not None:
        task.landmarks.valid_landmarks(category)  # raises for an unknown garment
    if own is not None and category not in (None, own):
        raise UsageError(f"the run was trained for {own} only; choose one of all garments or of {category}")
    if own is None and category is None and task.config.garment_loss_weight == 0:
        raise UsageError(
            "the run did not learn to predict garments (model.garment_loss_weight=0); choose one with --garment"
        )
