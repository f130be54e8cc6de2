"""One metric per slice (category, pose, size, visibility), to find weaknesses that a mean hides."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from ftrain.metrics.bootstrap import ratio_interval


def slices(
    values: ArrayLike, counts: ArrayLike | None, by: Mapping[str, ArrayLike], *, least: int = 20
) -> dict[str, dict[str, dict[str, float]]]:
    """Compute sum(values) / sum(counts) per value of every property: slices[name][value] = {value, low, high, count}.

    `values` and `counts` are N, one entry per image, as in `ratio_interval`: `values` are the numerators (hits, average
    precisions, sums of distances), `counts` the denominators (0 leaves the image out; None: all 1). `by` maps property
    names to N strings; images with "" are in no slice. `count` is the number of images in the slice. Slices with fewer
    than `least` images are left out, because their intervals are too wide to be useful, and so are properties without
    any slice. Slices are sorted by name.
    """
    divisors = np.ones(len(np.asarray(values))) if counts is None else np.asarray(counts, np.float64)
    sums = np.where(divisors > 0, np.asarray(values, np.float64), 0.0)
    result: dict[str, dict[str, dict[str, float]]] = {}
    for name, property_values in by.items():
        kinds = np.asarray(property_values).astype(str)
        assert kinds.shape == sums.shape == divisors.shape, (name, kinds.shape, sums.shape, divisors.shape)
        parts: dict[str, dict[str, float]] = {}
        for kind in np.unique(kinds[divisors > 0]).tolist():
            among = (kinds == kind) & (divisors > 0)
            if kind == "" or among.sum() < least:
                continue
            low, high = ratio_interval(sums[among], divisors[among])
            value = float(sums[among].sum() / divisors[among].sum())
            parts[kind] = {"value": value, "low": low, "high": high, "count": float(among.sum())}
        if parts:
            result[name] = parts
    return result
