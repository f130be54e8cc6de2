"""Retrieval metrics for official query and gallery splits: hit@k, recall@k, mAP and R-precision, in chunks of queries.

In-shop protocol (Liu et al., CVPR 2016): every query image is compared with every gallery image, across categories.
hit@k: an image of the same item is among the first k ("recall" or "top-k accuracy" in papers). recall@k: the share of
the item's gallery images among the first k (top-k in mmfashion). mAP: mean of the average precision over the whole
ranking. mAP@R and R-precision: Musgrave et al., "A Metric Learning Reality Check", ECCV 2020. Ties count against the
model: a non-matching image at the same distance ranks before the match.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from fschemas.failures import NonFiniteError
from ftrain.metrics.bootstrap import ratio_interval

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

_ROUNDING = 4 * float(
    np.finfo(np.float32).eps
)  # float32 products that differ by less, relative to the lengths, count as equal


@dataclass(frozen=True)
class RetrievalMetrics:
    """Metrics of each of Nq queries; for a query without match, `first` is -1 and the others are NaN.

    `first` Nq is the rank of the first match (0 = first), `num_relevant` Nq the number of matches, `recalls` Nq,
    len(top) the share of the matches among the first k. `average_precision`, `map_r` and `r_precision` are Nq.
    `num_gallery` counts images.
    """

    first: IntArray
    num_relevant: IntArray
    recalls: FloatArray
    average_precision: FloatArray
    map_r: FloatArray
    r_precision: FloatArray
    top: tuple[int, ...]
    num_gallery: int

    @property
    def evaluated(self) -> NDArray[np.bool_]:
        """Mask Nq of the queries with a match in the gallery; all means are over these."""
        return self.num_relevant > 0

    def hits(self, k: int) -> NDArray[np.bool_]:
        """Mask Nq of the queries with a match among the first k."""
        return self.evaluated & (self.first < k)

    def summary(self) -> dict[str, float]:
        """Return `hit_<k>` and `recall_<k>` for each k, `map`, `map_r` and `r_precision`, with intervals and counts.

        Metrics are means over the queries with a match (NaN if there are none). `hit_1_low`, `hit_1_high`, `map_low`
        and `map_high` are 95% intervals over queries. `queries` counts all queries, `queries_without_match` those left
        out because the gallery has no match, `gallery` the gallery images.
        """
        evaluated = self.evaluated
        metrics = {f"hit_{k}": _mean(self.hits(k)[evaluated]) for k in sorted({1, *self.top})}
        metrics |= {f"recall_{k}": _mean(self.recalls[evaluated, column]) for column, k in enumerate(self.top)}
        metrics |= {"map": _mean(self.average_precision[evaluated]), "map_r": _mean(self.map_r[evaluated])}
        metrics["r_precision"] = _mean(self.r_precision[evaluated])
        ones = np.ones(int(evaluated.sum()))
        metrics["hit_1_low"], metrics["hit_1_high"] = ratio_interval(self.hits(1)[evaluated], ones)
        metrics["map_low"], metrics["map_high"] = ratio_interval(self.average_precision[evaluated], ones)
        return metrics | {
            "queries": float(len(self.first)),
            "queries_without_match": float((~evaluated).sum()),
            "gallery": float(self.num_gallery),
        }


def evaluate_retrieval(
    query: ArrayLike,
    gallery: ArrayLike,
    query_items: ArrayLike,
    gallery_items: ArrayLike,
    *,
    query_rows: ArrayLike | None = None,
    gallery_rows: ArrayLike | None = None,
    metric: Literal["cosine", "euclidean"] = "cosine",
    top: Sequence[int] = (1, 5, 10, 20, 30, 40, 50),
    chunk: int = 512,
) -> RetrievalMetrics:
    """Rank the whole gallery Ng, D for every query Nq, D; images of the query's item are matches.

    Items are strings ("" unknown) or integers (negative unknown). An unknown item matches nothing, but its gallery
    images are ranked. `query_rows` Nq and `gallery_rows` Ng identify images (row numbers or keys): an image never
    matches itself, so one set can be both query and gallery (leave-one-out). `chunk` queries are compared at a time;
    besides the embeddings, this takes `chunk` x Ng x 4 bytes. Raises `NonFiniteError` for an embedding that is not
    finite.
    """
    assert metric in ("cosine", "euclidean"), metric
    assert (query_rows is None) == (gallery_rows is None), "query_rows and gallery_rows belong together"
    queries, candidates = _embeddings(query, gallery, metric)
    rows = None if query_rows is None or gallery_rows is None else _codes(query_rows, gallery_rows)
    items = _codes(query_items, gallery_items)
    for names in (items, rows or items):
        assert [len(part) for part in names] == [len(queries), len(candidates)], (
            "one item and one row for each embedding"
        )
    truth = _Truth(items, rows)
    metrics = _empty(len(queries), len(candidates), tuple(top))
    for number, ranks in _ranks(queries, candidates, truth, metric, chunk):
        _record(metrics, number, ranks)
    return metrics


def attribute_map(
    query: ArrayLike,
    gallery: ArrayLike,
    query_values: ArrayLike,
    gallery_values: ArrayLike,
    query_attributes: ArrayLike,
    gallery_attributes: ArrayLike,
    names: Sequence[str],
    *,
    query_rows: ArrayLike | None = None,
    gallery_rows: ArrayLike | None = None,
    chunk: int = 512,
) -> dict[str, float]:
    """Attribute-specific retrieval as in ASEN (Ma et al., AAAI 2020): mAP of images with the same attribute value.

    Each row of `query` Nq, D and `gallery` Ng, D embeds an image under one attribute: `query_attributes` Nq and
    `gallery_attributes` Ng index `names`, and `query_values` Nq and `gallery_values` Ng are the values of that
    attribute (integers or strings). Candidates of the same attribute are ranked by cosine. AP = sum of the precisions
    at the hits / number of matches; 0 without matches.

    `map/<attribute>`: mean over its queries. `map`: mean over all queries, with its 95% interval `map_low`, `map_high`.
    `map_of_attributes`: unweighted mean over attributes. Also `queries`, `gallery` and `queries_without_match` (they
    count as 0 in all means). `query_rows`, `gallery_rows` and `chunk` are those of `evaluate_retrieval`.
    """
    kinds, candidate_kinds = np.asarray(query_attributes), np.asarray(gallery_attributes)
    queries, candidates = np.asarray(query), np.asarray(gallery)
    precisions = np.zeros(len(kinds))
    without_match = 0.0
    metrics: dict[str, float] = {}
    for number, name in enumerate(names):
        own, among = np.flatnonzero(kinds == number), np.flatnonzero(candidate_kinds == number)
        if not len(own):
            continue
        found = evaluate_retrieval(
            queries[own], candidates[among], np.asarray(query_values)[own], np.asarray(gallery_values)[among],
            query_rows=None if query_rows is None else np.asarray(query_rows)[own],
            gallery_rows=None if gallery_rows is None else np.asarray(gallery_rows)[among], chunk=chunk,
        )  # fmt: skip
        precisions[own] = np.where(found.evaluated, found.average_precision, 0.0)
        without_match += float((~found.evaluated).sum())
        metrics[f"map/{name}"] = _mean(precisions[own])
    low, high = ratio_interval(precisions, np.ones(len(precisions)))
    overall = {
        "map": _mean(precisions),
        "map_low": low,
        "map_high": high,
        "map_of_attributes": _mean(list(metrics.values())),
    }
    counts = {
        "queries": float(len(kinds)),
        "gallery": float(len(candidate_kinds)),
        "queries_without_match": without_match,
    }
    return overall | metrics | counts


class _Positions:
    """Positions of each code in an array of codes N; negative codes have none."""

    def __init__(self, codes: IntArray) -> None:
        self._order = np.argsort(codes, kind="stable")
        self._sorted = codes[self._order]

    def of(self, code: int) -> IntArray:
        """Ascending positions of `code`."""
        if code < 0:
            return self._order[:0]
        left, right = np.searchsorted(self._sorted, (code, code + 1))
        return self._order[left:right]


class _Truth:
    """Ground truth of each query: the gallery positions of its item, and those of the query image itself."""

    def __init__(self, items: tuple[IntArray, IntArray], rows: tuple[IntArray, IntArray] | None) -> None:
        self._items, self._of_item = items[0], _Positions(items[1])
        self._rows, self._of_row = (rows[0], _Positions(rows[1])) if rows else (None, None)

    def of(self, query: int) -> tuple[IntArray, IntArray]:
        """Positions of the matches (without the query itself), and positions of the query itself."""
        right = self._of_item.of(int(self._items[query]))
        if self._rows is None or self._of_row is None:
            return right, right[:0]
        itself = self._of_row.of(int(self._rows[query]))
        return np.setdiff1d(right, itself, assume_unique=True), itself


def _ranks(
    queries: torch.Tensor, candidates: torch.Tensor, truth: _Truth, metric: str, chunk: int
) -> Iterator[tuple[int, IntArray]]:
    """Yield the number and the ascending ranks of the matches of each query that has any.

    `queries` is Nq, D and `candidates` Ng, D.
    """
    squares = candidates.square().sum(dim=1)
    # q.g - |g|^2 / 2 orders candidates by their distance from q, and q.g by their cosine.
    offsets = squares / -2 if metric == "euclidean" else torch.zeros_like(squares)
    spans, lengths = squares.sqrt().double().numpy(), queries.square().sum(dim=1).sqrt().double().numpy()
    scores = torch.empty(min(chunk, len(queries)), len(candidates))
    for start in range(0, len(queries), chunk):
        part = queries[start : start + chunk]
        block = torch.addmm(offsets, part, candidates.T, out=scores[: len(part)]).numpy()
        for number, row in enumerate(block, start):
            right, itself = truth.of(number)
            if not len(right):
                continue
            own = row[right].astype(np.float64)
            slack = _ROUNDING * (lengths[number] * spans[right] - offsets.numpy()[right])
            row[right] = row[itself] = -np.inf
            row.sort()
            better = len(row) - np.searchsorted(row, (own - slack).astype(np.float32), side="left")
            yield number, np.sort(better) + np.arange(len(right))


def _empty(num_queries: int, num_gallery: int, top: tuple[int, ...]) -> RetrievalMetrics:
    """Metrics of queries before any match is recorded."""
    return RetrievalMetrics(
        first=np.full(num_queries, -1, np.int64),
        num_relevant=np.zeros(num_queries, np.int64),
        recalls=np.full((num_queries, len(top)), math.nan),
        average_precision=np.full(num_queries, math.nan),
        map_r=np.full(num_queries, math.nan),
        r_precision=np.full(num_queries, math.nan),
        top=top,
        num_gallery=num_gallery,
    )


def _record(metrics: RetrievalMetrics, number: int, ranks: IntArray) -> None:
    """Store the metrics of one query from the ascending `ranks` of its matches."""
    num_relevant = len(ranks)
    precisions = np.arange(1, num_relevant + 1) / (ranks + 1)
    metrics.first[number], metrics.num_relevant[number] = ranks[0], num_relevant
    metrics.recalls[number] = np.searchsorted(ranks, metrics.top) / num_relevant
    metrics.average_precision[number] = precisions.mean()
    metrics.map_r[number] = precisions[ranks < num_relevant].sum() / num_relevant
    metrics.r_precision[number] = np.mean(ranks < num_relevant)


def _embeddings(query: ArrayLike, gallery: ArrayLike, metric: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Convert both to float32: L2-normalized for cosine, centered on the gallery mean for Euclidean distance.

    Centering reduces rounding errors.
    """
    arrays = [np.asarray(value).astype(np.float32) for value in (query, gallery)]
    for name, array in zip(("query", "gallery"), arrays, strict=True):
        assert array.ndim == 2, array.shape
        if not np.isfinite(array).all():
            row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
            raise NonFiniteError(f"the embedding of {name} {row} is not finite; check the weights for NaN")
    assert arrays[0].shape[1] == arrays[1].shape[1], (arrays[0].shape, arrays[1].shape)
    if metric == "cosine":
        arrays = [array / np.maximum(np.linalg.norm(array, axis=1, keepdims=True), 1e-12) for array in arrays]
    elif len(arrays[1]):
        middle = arrays[1].mean(axis=0, dtype=np.float64).astype(np.float32)
        arrays = [array - middle for array in arrays]
    first, second = (torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)
    return first, second


def _codes(first: ArrayLike, second: ArrayLike) -> tuple[IntArray, IntArray]:
    """Encode two arrays of names as common integers; unknown ones ("" or negative) become -1."""
    names = [np.asarray(value) for value in (first, second)]
    joined = np.concatenate([value.astype(str) if value.dtype.kind in "OUS" else value for value in names])
    codes = np.unique(joined, return_inverse=True)[1].astype(np.int64)
    codes[joined == "" if joined.dtype.kind == "U" else joined < 0] = -1
    return codes[: len(names[0])], codes[len(names[0]) :]


def _mean(values: ArrayLike) -> float:
    numbers = np.asarray(values, np.float64).tolist()
    return math.fsum(numbers) / len(numbers) if numbers else math.nan
