"""Expected retrieval metrics of a random ranking, computed exactly rather than by sampling."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def chance_metrics(num_relevant: ArrayLike, num_gallery: ArrayLike, top: Sequence[int]) -> dict[str, float]:
    """Return the expected `hit_<k>`, `recall_<k>` and `map` of a random ranking, averaged over queries with a match.

    `num_relevant` Nq and `num_gallery` Nq (or a scalar) count the matches and all images compared with each query.
    hit@k is hypergeometric, recall@k is k / gallery, and the expected average precision of R matches among N is H(N) /
    N + (R - 1) / (N - 1) (1 - H(N) / N), with the harmonic number H.
    """
    right = np.asarray(num_relevant, np.float64)
    among = np.broadcast_to(np.asarray(num_gallery, np.float64), right.shape)
    right, among = right[right > 0], among[right > 0]
    if not len(right):
        return {}
    metrics: dict[str, float] = {}
    for k in top:
        steps = np.arange(k)[:, None]  # factors of the probability that the first k are all wrong
        wrong = np.clip((among - right - steps) / np.maximum(among - steps, 1), 0, 1).prod(axis=0)
        metrics[f"hit_{k}"] = float(1 - wrong.mean())
        metrics[f"recall_{k}"] = float(np.minimum(k / among, 1).mean())
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, int(among.max()) + 1))])[among.astype(int)]
    precision = harmonic / among + (right - 1) / np.maximum(among - 1, 1) * (1 - harmonic / among)
    metrics["map"] = float(precision.mean())
    return metrics
