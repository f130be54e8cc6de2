"""Re-ranking by k-reciprocal neighbors (Zhong et al., CVPR 2017).

The paper compares every query with the whole gallery. Here, each query is re-ranked separately, with neighbors among
its M best candidates only, so memory is (M + 1) squared for any gallery. With the whole gallery as candidates, the
result is that of the paper.
"""

import numpy as np

from ftrain.metrics.exact_search import Features, SearchResults, Similarity

CANDIDATES = 100  # at least; five per requested result


def num_candidates(top: int) -> int:
    """Number of candidates for `top` requested results."""
    return max(CANDIDATES, 5 * top)


def rerank_candidates(
    gallery: Features,
    found: SearchResults,
    similarity: Similarity,
    top: int,
    *,
    neighbors: int = 20,
    expansion: int = 6,
    share: float = 0.3,
) -> SearchResults:
    """Re-rank the candidates in `found` by the paper's mixed distance and keep `top`.

    Scores of the result are negative distances. `neighbors` and `expansion` are k1 and k2 in the paper; `share` is
    lambda, the weight of the original distance.
    """
    top = min(top, found.rows.shape[1])
    result = SearchResults(
        *(np.empty((len(found.rows), top), part.dtype) for part in (found.rows, found.scores, found.deep, found.color))
    )
    for number, rows in enumerate(found.rows):
        distances = _distances(gallery, rows, found.scores[number], similarity)
        mixed = reciprocal_distances(distances, neighbors, expansion, share)
        best = np.lexsort((rows, np.round(mixed, 12)))[:top]
        result.rows[number], result.scores[number] = rows[best], -mixed[best]
        result.deep[number], result.color[number] = found.deep[number, best], found.color[number, best]
    return result


def reciprocal_distances(
    distances: np.ndarray, neighbors: int = 20, expansion: int = 6, share: float = 0.3
) -> np.ndarray:
    """Mixed distances M from image 0 to the M others; `distances` is M + 1, M + 1 with a zero diagonal."""
    count = len(distances)
    scaled = distances / np.maximum(distances.max(axis=1, keepdims=True), np.finfo(float).tiny)
    order = np.argsort(scaled, axis=1, kind="stable")
    wide, narrow = _reciprocal(order, neighbors), _reciprocal(order, round(neighbors / 2))
    # A neighbor's own, narrower set is added if two thirds of it are already included (equation 5).
    shared = wide.astype(np.int64) @ narrow.T.astype(np.int64)
    joins = wide & (3 * shared >= 2 * narrow.sum(axis=1)[None, :])
    members = wide | (joins.astype(np.int64) @ narrow.astype(np.int64) > 0)
    encoded = np.where(members, np.exp(-scaled), 0.0)  # equation 7
    encoded /= encoded.sum(axis=1, keepdims=True)
    if expansion > 1:  # equation 11
        encoded = encoded[order[:, : min(expansion, count)]].mean(axis=1)
    overlap = np.minimum(encoded[:1], encoded[1:]).sum(axis=1)  # rows sum to 1, so the maxima sum to 2 minus this
    jaccard = 1 - overlap / (2 - overlap)
    return (1 - share) * jaccard + share * scaled[0, 1:]


def _reciprocal(order: np.ndarray, neighbors: int) -> np.ndarray:
    """Mask M + 1, M + 1 of pairs that are among each other's nearest neighbors; each row is its own neighbor."""
    near = np.zeros(order.shape, dtype=bool)
    np.put_along_axis(near, order[:, : neighbors + 1], values=True, axis=1)
    return near & near.T


def _distances(gallery: Features, rows: np.ndarray, scores: np.ndarray, similarity: Similarity) -> np.ndarray:
    """Distances among one query (index 0) and its M candidates: float64 M + 1, M + 1; 0 for equal images."""
    those, every = gallery[rows], np.arange(len(rows))
    pairs = (similarity.pairs(those, those, number, every) for number in range(len(rows)))
    among = np.stack([deep + similarity.color_weight * color for deep, color in pairs])
    best = 1 + similarity.color_weight if similarity.metric == "cosine" else 0.0
    whole = np.zeros((len(rows) + 1, len(rows) + 1))
    whole[0, 1:] = whole[1:, 0] = best - scores
    whole[1:, 1:] = best - among
    np.fill_diagonal(whole, 0.0)
    return np.maximum(whole, 0.0)
