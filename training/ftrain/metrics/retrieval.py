"""Retrieval figures by the official query and gallery: hit@k, recall@k, mAP, R-precision, without the full matrix.

In-shop protocol (Liu et al., CVPR 2016): every query image is compared with every gallery image, whatever its category.
hit@k: an image of the same item is among the first k (the papers' "recall" or "top-k accuracy"); recall@k: the share
of the item's gallery images among the first k (what mmfashion calls top-k); mAP: mean of the average precision over the
whole ranking; mAP@R and R-precision as in Musgrave et al., "A Metric Learning Reality Check", ECCV 2020.
Ties count against the model: a foreign image as near as the right one stands before it.
"""

from __future__ import annotations

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
)  # products of float32 that differ by less, relative to the lengths, are equal


@dataclass(frozen=True)
class RetrievalMetrics:
    """What `evaluate_retrieval` finds for each of Nq queries; a query without match has first -1 and NaN elsewhere.

    `first` Nq is the rank of the first right gallery image (0 = first), `num_relevant` Nq the number of right ones, `recalls`
    Nq, len(top) the share of them among the first k, `average_precision`, `map_r`, `r_precision` are Nq. `num_gallery`
    counts images.
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
        """Nq: the queries with a right image in the gallery, over which every figure is a mean."""
        return self.num_relevant > 0

    def hits(self, k: int) -> NDArray[np.bool_]:
        """Nq: a right image is among the first k."""
        return self.evaluated & (self.first < k)

    def summary(self) -> dict[str, float]:
        """`hit_<k>` and `recall_<k>` for each k, `map`, `map_r`, `r_precision`: means over the queries with a match (else NaN).

        `hit_1_low`, `hit_1_high`, `map_low`, `map_high`: 95 % intervals over queries. `queries` counts all of them,
        `queries_without_match` those that no gallery image can answer and that are left out of the figures, `gallery` images.
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
    """Rank the whole gallery Ng, D for every query Nq, D; right are images of the query's item.

    Items are strings ("" unknown) or integers (negative unknown); an unknown item matches nothing, but its gallery image competes.
    `query_rows` Nq and `gallery_rows` Ng name images (row numbers or keys): an image never finds itself, so that one set may
    serve as both, leaving one out. `chunk` queries are compared at a time: beside the embeddings, memory is `chunk` x Ng x 4 bytes.
    Raises `NonFiniteError` for an embedding that is not finite.
    """
    assert metric in ("cosine", "euclidean"), metric
    assert (query_rows is None) == (gallery_rows is None), "query_rows and gallery_rows belong together"
    questions, candidates = _embeddings(query, gallery, metric)
    rows = None if query_rows is None or gallery_rows is None else _codes(query_rows, gallery_rows)
    items = _codes(query_items, gallery_items)
    for names in (items, rows or items):
        assert [len(part) for part in names] == [len(questions), len(candidates)], (
            "one item and one row for each embedding"
        )
    truth = _Truth(items, rows)
    metrics = _empty(len(questions), len(candidates), tuple(top))
    for number, ranks in _ranks(questions, candidates, truth, metric, chunk):
        _enter(metrics, number, ranks)
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
    """Attribute-specific retrieval as in ASEN (Ma et al., AAAI 2020): how early images of the same value come.

    Each entry of `query` Nq, D and `gallery` Ng, D is an image seen under one attribute: `query_attributes` Nq and
    `gallery_attributes` Ng index `names`, `query_values` and `gallery_values` are its values there (integers or strings). The
    candidates of the same attribute are ranked by cosine; AP = sum of the precisions at the hits / number of right candidates,
    0 if there is none. `map/<attribute>`: mean over its queries; `map`: mean over all queries (so weighted by their number)
    with its 95 % interval `map_low`, `map_high`; `map_of_attributes`: plain mean of the attributes; `queries`, `gallery`,
    `queries_without_match` (they count as 0 in all of these). Rows as in `evaluate_retrieval`.
    """
    kinds, candidate_kinds = np.asarray(query_attributes), np.asarray(gallery_attributes)
    questions, candidates = np.asarray(query), np.asarray(gallery)
    precisions = np.zeros(len(kinds))
    lonely = 0.0
    metrics: dict[str, float] = {}
    for number, name in enumerate(names):
        ask, among = np.flatnonzero(kinds == number), np.flatnonzero(candidate_kinds == number)
        if not len(ask):
            continue
        found = evaluate_retrieval(
            questions[ask], candidates[among], np.asarray(query_values)[ask], np.asarray(gallery_values)[among],
            query_rows=None if query_rows is None else np.asarray(query_rows)[ask],
            gallery_rows=None if gallery_rows is None else np.asarray(gallery_rows)[among], chunk=chunk,
        )  # fmt: skip
        precisions[ask] = np.where(found.evaluated, found.average_precision, 0.0)
        lonely += float((~found.evaluated).sum())
        metrics[f"map/{name}"] = _mean(precisions[ask])
    low, high = ratio_interval(precisions, np.ones(len(precisions)))
    overall = {
        "map": _mean(precisions),
        "map_low": low,
        "map_high": high,
        "map_of_attributes": _mean(list(metrics.values())),
    }
    counts = {"queries": float(len(kinds)), "gallery": float(len(candidate_kinds)), "queries_without_match": lonely}
    return overall | metrics | counts


class _Positions:
    """Where each code stands in a list of codes; codes below 0 stand nowhere."""

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
    """What each query shall find and what it must not: the gallery positions of its item, and those of itself."""

    def __init__(self, items: tuple[IntArray, IntArray], rows: tuple[IntArray, IntArray] | None) -> None:
        self._items, self._of_item = items[0], _Positions(items[1])
        self._rows, self._of_row = (rows[0], _Positions(rows[1])) if rows else (None, None)

    def of(self, query: int) -> tuple[IntArray, IntArray]:
        """Positions of the right candidates, without the query itself, and positions of the query itself."""
        right = self._of_item.of(int(self._items[query]))
        if self._rows is None or self._of_row is None:
            return right, right[:0]
        itself = self._of_row.of(int(self._rows[query]))
        return np.setdiff1d(right, itself, assume_unique=True), itself


def _ranks(
    questions: torch.Tensor, candidates: torch.Tensor, truth: _Truth, metric: str, chunk: int
) -> Iterator[tuple[int, IntArray]]:
    """Number and ascending ranks of the right candidates of each query that has any."""
    squares = candidates.square().sum(dim=1)
    # q.g - |g|^2 / 2 orders candidates as their distance from q does; q.g as their cosine.
    offsets = squares / -2 if metric == "euclidean" else torch.zeros_like(squares)
    spans, lengths = squares.sqrt().double().numpy(), questions.square().sum(dim=1).sqrt().double().numpy()
    scores = torch.empty(min(chunk, len(questions)), len(candidates))
    for start in range(0, len(questions), chunk):
        part = questions[start : start + chunk]
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
    """Figures of queries none of which has a match yet."""
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


def _enter(metrics: RetrievalMetrics, number: int, ranks: IntArray) -> None:
    """Put down the figures of one query whose right images stand at the ascending `ranks`."""
    num_relevant = len(ranks)
    precisions = np.arange(1, num_relevant + 1) / (ranks + 1)
    metrics.first[number], metrics.num_relevant[number] = ranks[0], num_relevant
    metrics.recalls[number] = np.searchsorted(ranks, metrics.top) / num_relevant
    metrics.average_precision[number] = precisions.mean()
    metrics.map_r[number] = precisions[ranks < num_relevant].sum() / num_relevant
    metrics.r_precision[number] = np.mean(ranks < num_relevant)


def _embeddings(query: ArrayLike, gallery: ArrayLike, metric: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Both as float32: of length 1 for the cosine, moved to the middle of the gallery (which rounds less) for the distance."""
    arrays = [np.asarray(value).astype(np.float32) for value in (query, gallery)]
    for name, array in zip(("query", "gallery"), arrays, strict=True):
        assert array.ndim == 2, array.shape
        if not np.isfinite(array).all():
            row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
            raise NonFiniteError(f"the embedding of {name} {row} is not finite; look for NaN in the weights")
    assert arrays[0].shape[1] == arrays[1].shape[1], (arrays[0].shape, arrays[1].shape)
    if metric == "cosine":
        arrays = [array / np.maximum(np.linalg.norm(array, axis=1, keepdims=True), 1e-12) for array in arrays]
    elif len(arrays[1]):
        middle = arrays[1].mean(axis=0, dtype=np.float64).astype(np.float32)
        arrays = [array - middle for array in arrays]
    first, second = (torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)
    return first, second


def _codes(first: ArrayLike, second: ArrayLike) -> tuple[IntArray, IntArray]:
    """Names of two lists as common integers; unknown ones ("" or negative) as -1."""
    names = [np.asarray(value) for value in (first, second)]
    joined = np.concatenate([value.astype(str) if value.dtype.kind in "OUS" else value for value in names])
    codes = np.unique(joined, return_inverse=True)[1].astype(np.int64)
    codes[joined == "" if joined.dtype.kind == "U" else joined < 0] = -1
    return codes[: len(names[0])], codes[len(names[0]) :]


def _mean(values: ArrayLike) -> float:
    numbers = np.asarray(values, np.float64).tolist()
    return math.fsum(numbers) / len(numbers) if numbers else math.nan
