"""Metrics of the keypoints task."""

from typing import Any

import numpy as np

from ftrain.data.types import Results
from ftrain.metrics.normalized_error import normalized_distances, summarize
from ftrain.tasks.keypoints.task import Keypoints


def compute_metrics(task: Keypoints, results: Results) -> dict[str, Any]:
    """Compute NE with its breakdown and interval, and the accuracy of the garment."""
    points, target, visibility, garment = (results[name] for name in ("points", "target", "visibility", "garment"))
    width, height = results["size"].T
    errors = normalized_distances(points, target, visibility, garment, width, height, task.landmarks)
    predicted = results["garment_scores"].argmax(axis=1)
    return {**summarize(errors, task.landmarks), "garment_accuracy": float(np.mean(predicted == garment))}
