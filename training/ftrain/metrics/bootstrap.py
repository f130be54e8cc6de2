"""Bootstrap intervals (Efron and Tibshirani, 1993, chapter 13) that resample pictures, not points."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

_DRAWS_AT_ONCE = 2_000_000


def ratio_interval(
    sums: ArrayLike, counts: ArrayLike, num_resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of sum(sums) / sum(counts) over resampled pictures.

    `sums` and `counts` are N, one entry a picture: points of one picture err together, so whole pictures are drawn,
    N of N with replacement. The same pictures in any order give the same interval. NaN, NaN when nothing counts.
    """
    values = np.stack((np.asarray(sums, np.float64), np.asarray(counts, np.float64)), axis=1)
    values = values[values[:, 1] > 0]
    if not len(values):
        return math.nan, math.nan
    values = values[np.lexsort(values.T)]
    generator = np.random.default_rng(seed)
    rounds = max(1, _DRAWS_AT_ONCE // len(values))
    ratios: list[np.ndarray] = []
    for start in range(0, num_resamples, rounds):
        drawn = generator.integers(0, len(values), size=(min(rounds, num_resamples - start), len(values)))
        ratios.append(values[drawn, 0].sum(axis=1) / values[drawn, 1].sum(axis=1))
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(ratios), [tail, 1 - tail])
    return float(low), float(high)
