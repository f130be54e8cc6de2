"""The PCK curve (Yang and Ramanan, 2013), the share of keypoints within a distance, and the area under it."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def detection_curve(
    distances: ArrayLike, counted: ArrayLike, limit: float = 0.2, num_thresholds: int = 101
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return thresholds T from 0 to `limit` and, for each, the share of counted keypoints within that distance.

    `distances` and `counted` are N, K as in `PointErrors`. Shares are NaN if no keypoint is counted.
    """
    thresholds = np.linspace(0.0, limit, num_thresholds)
    chosen = np.sort(np.asarray(distances, np.float64)[np.asarray(counted, bool)])
    if not len(chosen):
        return thresholds, np.full(num_thresholds, math.nan)
    return thresholds, np.searchsorted(chosen, thresholds, side="right") / len(chosen)


def area_under_curve(thresholds: ArrayLike, shares: ArrayLike) -> float:
    """Trapezoidal area under the curve, divided by the range of the thresholds: 1 for a perfect model. Both are T."""
    x = np.asarray(thresholds, np.float64)
    return float(np.trapezoid(np.asarray(shares, np.float64), x) / (x[-1] - x[0]))
