"""Bootstrap intervals (Efron and Tibshirani, 1993, chapter 13) that resample images, not landmarks."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

_DRAWS_AT_ONCE = 2_000_000
_TAIL = (1 - 0.95) / 2

# Counts R, M and kinds M, W of images -> values R.
Statistic = Callable[[NDArray[np.float64], NDArray[np.int64]], NDArray[np.float64]]


def ratio_interval(sums: ArrayLike, counts: ArrayLike, num_resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95% percentile interval of sum(sums) / sum(counts) over resampled images.

    `sums` and `counts` are N, one entry per image. Errors within an image are correlated, so whole images are
    resampled, N of N with replacement. The order of the images does not matter. Returns NaN, NaN if all counts are
    zero.
    """
    values = np.stack((np.asarray(sums, np.float64), np.asarray(counts, np.float64)), axis=1)
    values = values[values[:, 1] > 0]
    if not len(values):
        return math.nan, math.nan
    values = values[np.lexsort(values.T)]
    generator = np.random.default_rng(seed)
    rounds = max(1, _DRAWS_AT_ONCE // len(values))
    ratios: list[NDArray[np.float64]] = []
    for start in range(0, num_resamples, rounds):
        drawn = generator.integers(0, len(values), size=(min(rounds, num_resamples - start), len(values)))
        ratios.append(values[drawn, 0].sum(axis=1) / values[drawn, 1].sum(axis=1))
    return _percentiles(np.concatenate(ratios))


def pattern_interval(patterns: ArrayLike, statistic: Statistic, num_resamples: int = 1000) -> tuple[float, float]:
    """95% percentile interval of any metric that depends only on how often each kind of image occurs.

    `patterns` N, W describe the images by integers (such as label and prediction). `statistic(weights, kinds)` takes the
    counts R, M of the M distinct patterns `kinds` M, W in R resamples and returns R values. Resampling N of N images
    with replacement equals drawing these counts from a multinomial, so neither cost nor result depends on the order of
    images. Returns NaN, NaN without images; resamples in which the metric is NaN are left out.
    """
    images = np.asarray(patterns, np.int64)
    if not len(images):
        return math.nan, math.nan
    kinds, counts = np.unique(images, axis=0, return_counts=True)
    generator = np.random.default_rng(0)
    rounds = max(1, _DRAWS_AT_ONCE // len(kinds))
    values: list[NDArray[np.float64]] = []
    for start in range(0, num_resamples, rounds):
        size = min(rounds, num_resamples - start)
        drawn = generator.multinomial(len(images), counts / len(images), size=size)
        values.append(statistic(drawn.astype(np.float64), kinds))
    finite = np.concatenate(values)
    finite = finite[~np.isnan(finite)]
    return _percentiles(finite) if len(finite) else (math.nan, math.nan)


def _percentiles(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, [_TAIL, 1 - _TAIL])
    return float(low), float(high)
