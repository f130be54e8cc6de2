"""What a random ranking scores in retrieval: the baseline below all baselines, exactly and not by drawing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def chance_metrics(num_relevant: ArrayLike, num_gallery: ArrayLike, top: Sequence[int]) -> dict[str, float]:
    """Expected `hit_<k>`, `recall_<k>` and `map` of a uniformly random ranking, meant over queries with a match.

    `num_relevant` Nq and `num_gallery` Nq (or one number) count the right images and all that the query is compared with. hit@k is
    hypergeometric, recall@k is k / gallery, and the expected average precision of R right ones among N is
    H(N) / N + (R - 1) / (N - 1) (1 - H(N) / N), with the harmonic number H.
    """
    right = np.asarray(num_relevant, np.float64)
    among = np.broadcast_to(np.asarray(num_gallery, np.float64), right.shape)
    right, among = right[right > 0], among[right > 0]
    if not len(right):
        return {}
    metrics: dict[str, float] = {}
    for k in top:
        steps = np.arange(k)[:, None]  # all of the first k are wrong
        wrong = np.clip((among - right - steps) / np.maximum(among - steps, 1), 0, 1).prod(axis=0)
        metrics[f"hit_{k}"] = float(1 - wrong.mean())
        metrics[f"recall_{k}"] = float(np.minimum(k / among, 1).mean())
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, int(among.max()) + 1))])[among.astype(int)]
    precision = harmonic / among + (right - 1) / np.maximum(among - 1, 1) * (1 - harmonic / among)
    metrics["map"] = float(precision.mean())
    return metrics
