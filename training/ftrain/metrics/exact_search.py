"""Exact search: a matrix product in single precision selects a short list, and double precision ranks it.

The error of a single-precision score has a known bound (Higham, Accuracy and Stability of Numerical Algorithms, section
3.1). All rows within twice this bound of the k-th best score are scored again in double precision, each with the same
summation order, and sorted. The result equals brute force in double precision: it does not depend on batching, the
number of threads or the device. Among equal rows, the lowest comes first.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Self

import numpy as np
import torch

from fschemas.failures import UsageError

Metric = Literal["cosine", "euclidean"]

MAX_COLOR_WEIGHT = 1e6
_UNIT = 2.0**-24  # unit roundoff of single precision
_BLOCK_BYTES = 64 << 20  # of scores at a time; the whole query x gallery matrix is never materialized
_PER_BLOCK = 64  # rows per block; the block maxima give the lower bound of the k-th best score
_PAIRS = 1 << 14  # scored in double precision at a time


@dataclass(frozen=True)
class SearchResults:
    """The best rows of each of B queries, best first, with the components of their scores."""

    rows: np.ndarray  # B, K int64
    scores: np.ndarray  # B, K float64; higher is better
    deep: np.ndarray  # B, K float64: cosine, or negative Euclidean distance, of the deep features
    color: np.ndarray  # B, K float64: the same for the color features; 0 if they are not used


@dataclass(frozen=True)
class Features:
    """Features of a gallery or of queries: `deep` N, D and `color` N, C or None, float32."""

    deep: np.ndarray
    color: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.deep)

    def __getitem__(self, rows: slice | np.ndarray) -> Self:
        return type(self)(self.deep[rows], None if self.color is None else self.color[rows])

    @cached_property
    def deep_squares(self) -> np.ndarray:
        """Squared lengths of the deep features, float32 N."""
        return np.einsum("nd,nd->n", self.deep, self.deep)

    @cached_property
    def color_squares(self) -> np.ndarray:
        """Squared lengths of the color features, float32 N."""
        assert self.color is not None
        return np.einsum("nd,nd->n", self.color, self.color)


@dataclass(frozen=True)
class Similarity:
    """Similarity of two images: that of their deep features plus `color_weight` times that of their color features.

    `cosine` is the dot product of L2-normalized features, `euclidean` the negative distance. On L2-normalized features
    both give the same order; with color they do not, because sums of products and sums of distances differ.
    """

    metric: Metric = "cosine"
    color_weight: float = 0.0

    def check(self, gallery: Features, queries: Features) -> None:
        """Raise `UsageError` if queries and gallery cannot be compared."""
        if queries.deep.ndim != 2 or queries.deep.shape[1] != gallery.deep.shape[1]:
            mine, theirs = queries.deep.shape[-1], gallery.deep.shape[1]
            raise UsageError(f"the queries have {mine} dimensions, the index has {theirs}; use the run of the index")
        if not 0 <= self.color_weight <= MAX_COLOR_WEIGHT:  # a larger weight would overflow single precision
            raise UsageError(f"color weight {self.color_weight:g}: choose a number between 0 and {MAX_COLOR_WEIGHT:g}")
        if not self.color_weight:
            return
        if gallery.color is None or queries.color is None:
            where = "index" if gallery.color is None else "query"
            raise UsageError(
                f"color weight {self.color_weight:g}: the {where} has no color features; build the index with them, or use 0"
            )
        if queries.color.shape[1] != gallery.color.shape[1]:
            raise UsageError(
                f"the color feature of the queries has {queries.color.shape[1]} dimensions, that of the index "
                f"{gallery.color.shape[1]}; build the index again"
            )

    def pairs(
        self, gallery: Features, queries: Features, number: int, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Deep and color similarity of query `number` and R rows of the gallery: two arrays R, float64.

        Each pair is computed separately: in a matrix product, the last bits depend on the position within a block.
        """
        deep = self._similarity(gallery.deep, queries.deep[number], rows)
        if not self.color_weight:
            return deep, np.zeros(len(rows))
        assert gallery.color is not None
        assert queries.color is not None
        return deep, self._similarity(gallery.color, queries.color[number], rows)

    def _similarity(self, gallery: np.ndarray, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        parts = [self._pairs(gallery[rows[start : start + _PAIRS]], query) for start in range(0, len(rows), _PAIRS)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts or [np.empty(0)])

    def _pairs(self, those: np.ndarray, this: np.ndarray) -> np.ndarray:
        wide, one = those.astype(np.float64), this.astype(np.float64)
        if self.metric == "cosine":
            return np.einsum("nd,d->n", wide, one)
        wide -= one
        return -np.sqrt(np.einsum("nd,nd->n", wide, wide))

    def decide(self, gallery: Features, queries: Features, shortlists: list[np.ndarray], top: int) -> SearchResults:
        """Rank each query's short list (sorted rows, at least `top`) in double precision and keep the best `top`."""
        found = SearchResults(
            *(np.zeros((len(queries), top), kind) for kind in (np.int64, np.float64, np.float64, np.float64))
        )
        for number, rows in enumerate(shortlists):
            deep, color = self.pairs(gallery, queries, number, rows)
            scores = deep + self.color_weight * color if self.color_weight else deep
            best = np.argsort(-scores, kind="stable")[:top]
            found.rows[number], found.scores[number] = rows[best], scores[best]
            found.deep[number], found.color[number] = deep[best], color[best]
        return found


class ExactSearch:
    """Compare every query with all rows of a gallery; on a GPU, the features stay on the device."""

    def __init__(self, gallery: Features, device: torch.device | None = None) -> None:
        self.gallery = gallery
        self.device = device if device is not None and device.type != "cpu" else None
        if self.device is not None:
            self._deep = torch.from_numpy(gallery.deep).to(self.device)
            self._color = None if gallery.color is None else torch.from_numpy(gallery.color).to(self.device)

    def search(self, queries: Features, similarity: Similarity, top: int) -> SearchResults:
        """Return the `top` most similar rows of each query (all rows if there are fewer); ties go to the lowest row.

        Memory is bounded for any number of queries. Raises `UsageError` if dimensions differ or color features are
        missing.
        """
        similarity.check(self.gallery, queries)
        top = min(top, len(self.gallery))
        size = max(1, _BLOCK_BYTES // (4 * len(self.gallery)))
        shortlists: list[np.ndarray] = []
        for start in range(0, len(queries), size):
            block = queries[start : start + size]
            scores = self._scores(block, similarity)
            slack = 2 * _error_bound(self.gallery, block, similarity)
            shortlists += self._above(scores, top, slack)
        return similarity.decide(self.gallery, queries, shortlists, top)

    def _scores(self, queries: Features, similarity: Similarity) -> np.ndarray | torch.Tensor:
        """Single-precision scores B, N; for Euclidean distances without color, negative squared distances."""
        weight, is_cosine = similarity.color_weight, similarity.metric == "cosine"
        scores = self._products(queries.deep, "deep")
        if not is_cosine:
            scores = self._negative_squares(scores, queries.deep_squares, self.gallery.deep_squares)
        if not weight:
            return scores
        assert queries.color is not None
        color = self._products(queries.color, "color")
        if not is_cosine:
            color = self._negative_squares(color, queries.color_squares, self.gallery.color_squares)
            scores, color = -((-scores) ** 0.5), -((-color) ** 0.5)
        color *= weight
        scores += color  # type: ignore[operator]
        return scores

    def _products(self, queries: np.ndarray, part: Literal["deep", "color"]) -> np.ndarray | torch.Tensor:
        if self.device is None:
            # For one query, NumPy's BLAS reads memory twice as fast as torch's; for a hundred, it is 1.3 times as fast.
            return np.matmul(queries, getattr(self.gallery, part).T)
        rows = self._deep if part == "deep" else self._color
        assert rows is not None
        return torch.from_numpy(np.ascontiguousarray(queries)).to(self.device) @ rows.T

    def _negative_squares(
        self, products: np.ndarray | torch.Tensor, mine: np.ndarray, theirs: np.ndarray
    ) -> np.ndarray | torch.Tensor:
        """Convert products B, N to negative squared distances in place, at most 0.

        `mine` B and `theirs` N are squared lengths.
        """
        if isinstance(products, torch.Tensor):
            lengths = torch.from_numpy(theirs).to(products.device), torch.from_numpy(mine[:, None]).to(products.device)
            return products.mul_(2).sub_(lengths[0]).sub_(lengths[1]).clamp_(max=0)
        products *= 2
        products -= theirs
        products -= mine[:, None]
        return np.minimum(products, 0, out=products)

    def _above(self, scores: np.ndarray | torch.Tensor, top: int, slack: float) -> list[np.ndarray]:
        """Return, for each row of `scores` B, N, the sorted columns that may be among the best `top`."""
        if isinstance(scores, torch.Tensor):
            bounds = scores.topk(top, dim=1).values[:, -1:] - slack
            return [torch.nonzero(row >= bound)[:, 0].cpu().numpy() for row, bound in zip(scores, bounds, strict=True)]
        return [np.flatnonzero(row >= _lower_bound(row, top) - slack) for row in scores]


def _lower_bound(scores: np.ndarray, top: int) -> float:
    """Return a number that at least `top` of the `scores` N reach, close to the `top`-th best.

    It is the `top`-th best block maximum, which leaves 64 times fewer numbers to sort. The rows of a block are spread
    over the gallery, because neighboring rows are similar.
    """
    num_blocks = len(scores) // _PER_BLOCK
    if num_blocks < 2 * top:
        return float(np.partition(scores, len(scores) - top)[len(scores) - top])
    maxima = scores[: num_blocks * _PER_BLOCK].reshape(_PER_BLOCK, num_blocks).max(axis=0)
    return float(np.partition(maxima, num_blocks - top)[num_blocks - top])


def _error_bound(gallery: Features, queries: Features, similarity: Similarity) -> float:
    """Upper bound of the error of the scores of `_scores`."""

    def of(mine: np.ndarray, theirs: np.ndarray, dims: int) -> float:
        longest = float(np.sqrt(mine.max(initial=0))), float(np.sqrt(theirs.max(initial=0)))
        products = 1.01 * (dims + 4) * _UNIT * longest[0] * longest[1]
        squares = 1.01 * (dims + 8) * _UNIT * (longest[0] + longest[1]) ** 2
        if similarity.metric == "cosine":
            return products
        return float(np.sqrt(squares)) if similarity.color_weight else squares

    bound = of(queries.deep_squares, gallery.deep_squares, gallery.deep.shape[1])
    if similarity.color_weight:
        assert gallery.color is not None
        bound += similarity.color_weight * of(queries.color_squares, gallery.color_squares, gallery.color.shape[1])
        bound += 4 * _UNIT * (1 + similarity.color_weight)
    return bound
