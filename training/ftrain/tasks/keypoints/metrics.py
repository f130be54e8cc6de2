"""Metrics of the keypoints task."""

from typing import Any

import numpy as np

from ftrain.data.types import Results
from ftrain.metrics.normalized_error import errors_by_unit, overall, summarize, with_unit
from ftrain.tasks.keypoints.task import Keypoints


def compute_metrics(task: Keypoints, results: Results) -> dict[str, Any]:
    """Compute NE with its breakdown and interval, NE and PCK of the image and the box, and the garment accuracy."""
    own, *others = errors_by_unit(results["points"], results, task.landmarks).items()
    found: dict[str, Any] = dict(summarize(own[1], task.landmarks))
    for unit, errors in others:
        found |= with_unit(overall(errors, num_resamples=0), unit)
    predicted = results["garment_scores"].argmax(axis=1)
    return {**found, "garment_accuracy": float(np.mean(predicted == results["garment"]))}
