"""Retrieval metrics for official query and gallery splits: hit@k, recall@k, mAP and R-precision, in chunks of queries.

In-shop protocol (Liu et al., CVPR 2016): every query image is compared with every gallery image, across categories.
hit@k: an image of the same item is among the first k ("recall" or "top-k accuracy" in papers). recall@k: the share of
the item's gallery images among the first k (top-k in mmfashion). mAP: mean of the average precision over the whole
ranking. mAP@R and R-precision: Musgrave et al., "A Metric Learning Reality Check", ECCV 2020. Ties count against the
model: a non-matching image at the same distance ranks before the match.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from fschemas.failures import NonFiniteError
from ftrain.metrics.bootstrap import ratio_interval

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

# float32 products that differ by less, relative to the lengths, count as equal.
_ROUNDING = 4 * float(np.finfo(np.float32).eps)


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
    query_rows: ArrayLike,
    gallery_rows: ArrayLike,
    top: Sequence[int] = (1, 5, 10, 20, 30, 40, 50),
    chunk: int = 512,
) -> RetrievalMetrics:
    """Rank the whole gallery Ng, D by cosine for every query Nq, D; images of the query's item are matches.

    Items are strings ("" unknown) or integers (negative unknown). An unknown item matches nothing, but its gallery
    images are ranked. `query_rows` Nq and `gallery_rows` Ng identify images (row numbers or keys): an image never
    matches itself, so one set can be both query and gallery (leave-one-out). `chunk` queries are compared at a time;
    besides the embeddings, this takes `chunk` x Ng x 4 bytes. Raises `NonFiniteError` for an embedding that is not
    finite.
    """
    queries, candidates = _embeddings(query, gallery)
    (items, candidate_items), (rows, candidate_rows) = (
        _codes(query_items, gallery_items),
        _codes(query_rows, gallery_rows),
    )
    assert len(items) == len(rows) == len(queries), "one item and one row for each query"
    assert len(candidate_items) == len(candidate_rows) == len(candidates), "one item and one row for each gallery image"
    of_item, of_row, num_queries = _Positions(candidate_items), _Positions(candidate_rows), len(queries)
    first, num_relevant = np.full(num_queries, -1, np.int64), np.zeros(num_queries, np.int64)
    recalls = np.full((num_queries, len(top)), math.nan)
    average_precision, map_r, r_precision = np.full((3, num_queries), math.nan)
    lengths, spans = (part.square().sum(dim=1).sqrt().double().numpy() for part in (queries, candidates))
    scores = torch.empty(min(chunk, num_queries), len(candidates))
    for start in range(0, num_queries, chunk):
        part = queries[start : start + chunk]
        block = torch.mm(part, candidates.T, out=scores[: len(part)]).numpy()
        for number, row in enumerate(block, start):
            itself = of_row.of(rows[number])
            right = np.setdiff1d(of_item.of(items[number]), itself, assume_unique=True)
            if not len(right):
                continue
            least = (row[right] - _ROUNDING * lengths[number] * spans[right]).astype(np.float32)
            row[right] = row[itself] = -np.inf
            row.sort()
            ranks = np.sort(len(row) - np.searchsorted(row, least)) + np.arange(len(right))  # of the matches
            precisions = np.arange(1, len(right) + 1) / (ranks + 1)
            first[number], num_relevant[number] = ranks[0], len(right)
            recalls[number] = np.searchsorted(ranks, top) / len(right)
            average_precision[number] = precisions.mean()
            map_r[number] = precisions[ranks < len(right)].sum() / len(right)
            r_precision[number] = np.mean(ranks < len(right))
    metrics = first, num_relevant, recalls, average_precision, map_r, r_precision
    return RetrievalMetrics(*metrics, top=tuple(top), num_gallery=len(candidates))


@dataclass(frozen=True)
class Entries:
    """Pairs of an image and a value it has: E image indices, attributes and values.

    An image with several values of an attribute has one entry per value, as in the lists of the ASEN papers. `is_query`
    marks queries, `is_gallery` gallery entries; all entries are both if a split is not divided into query and gallery.
    """

    images: IntArray
    attributes: IntArray
    values: IntArray
    is_query: NDArray[np.bool_]
    is_gallery: NDArray[np.bool_]


def attribute_map(embedding: ArrayLike, entries: Entries, names: Sequence[str]) -> dict[str, float]:
    """Attribute-specific retrieval as in ASEN (Ma et al., AAAI 2020): mAP of images with the same attribute value.

    Each row of `embedding` E, D embeds the image of an entry under its attribute, an index of `names`. Candidates of the
    same attribute are ranked by cosine. AP = sum of the precisions at the hits / number of matches; 0 without matches.

    `map/<attribute>`: mean over its queries. `map`: mean over all queries, with its 95% interval `map_low`, `map_high`.
    `map_of_attributes`: unweighted mean over attributes. Also `queries`, `gallery` and `queries_without_match` (they
    count as 0 in all means).
    """
    vectors, precisions, without_match = np.asarray(embedding), np.zeros(len(entries.images)), 0.0
    metrics: dict[str, float] = {}
    for number, name in enumerate(names):
        of_attribute = entries.attributes == number
        own, among = np.flatnonzero(of_attribute & entries.is_query), np.flatnonzero(of_attribute & entries.is_gallery)
        if not len(own):
            continue
        found = evaluate_retrieval(
            vectors[own],
            vectors[among],
            entries.values[own],
            entries.values[among],
            query_rows=entries.images[own],
            gallery_rows=entries.images[among],
        )
        precisions[own] = np.where(found.evaluated, found.average_precision, 0.0)
        without_match += float((~found.evaluated).sum())
        metrics[f"map/{name}"] = _mean(precisions[own])
    precisions = precisions[entries.is_query]
    low, high = ratio_interval(precisions, np.ones(len(precisions)))
    mean = {"map": _mean(precisions), "map_low": low, "map_high": high, "map_of_attributes": _mean([*metrics.values()])}
    counts = {"queries": float(len(precisions)), "gallery": float(entries.is_gallery.sum())}
    return mean | metrics | counts | {"queries_without_match": without_match}


def random_precision(num_relevant: IntArray, num_gallery: IntArray) -> FloatArray:
    """Expected average precision Nq of a random ranking with R matches among N images, for R > 0.

    Each rank k has the same probability of a match, and of the k - 1 images before it a share of (R - 1) / (N - 1) is
    expected to match; the mean over k is H(N) / N + (R - 1) / (N - 1) (1 - H(N) / N), with the harmonic number H.
    """
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, num_gallery.max(initial=0) + 1))])
    shares = harmonic[num_gallery] / np.maximum(num_gallery, 1)
    return shares + (num_relevant - 1) / np.maximum(num_gallery - 1, 1) * (1 - shares)


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


def _embeddings(query: ArrayLike, gallery: ArrayLike) -> list[torch.Tensor]:
    """Convert both to float32, L2-normalized."""
    arrays = [np.asarray(value).astype(np.float32) for value in (query, gallery)]
    for name, array in zip(("query", "gallery"), arrays, strict=True):
        assert array.ndim == 2, array.shape
        if not np.isfinite(array).all():
            row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
            raise NonFiniteError(f"the embedding of {name} {row} is not finite; check the weights for NaN")
    assert arrays[0].shape[1] == arrays[1].shape[1], (arrays[0].shape, arrays[1].shape)
    units = (array / np.maximum(np.linalg.norm(array, axis=1, keepdims=True), 1e-12) for array in arrays)
    return [torch.from_numpy(np.ascontiguousarray(unit)) for unit in units]


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
