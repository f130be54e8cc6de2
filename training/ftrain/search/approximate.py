"""Approximate search with faiss: it selects a short list, which is scored exactly as in exact search.

Vectors are compressed (PCA to the components that hold most of the variance, one byte each) and arranged in inverted
lists around k-means centers (`ivf`; Jegou et al., PAMI 2011) or in a neighbor graph (`hnsw`; Malkov and Yashunin, PAMI
2020). The number of probed lists, or the width of the graph search, is not fixed: a sweep against exact search chooses
the smallest value that reaches the target recall@20. Probing a single list would lose neighbors beyond its border, by
an unknown amount.
"""

import re
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from fschemas import wording
from fschemas.failures import IntegrityError, UsageError
from fschemas.json_file import COUNT
from fschemas.preflight import check_installed
from ftrain.metrics.exact_search import ExactSearch, Features, SearchResults, Similarity

Kind = Literal["ivf", "hnsw"]

RECALL_AT = 20
_FEWEST = 100  # images in a gallery
_SWEEP_QUERIES = 1000  # at most, and at most a tenth of the gallery
_AXES = (96, 128, 192, 256, 384, 512)
_VARIANCE = 0.8  # least share of the kept components; if these are more than half, rotation does not pay off
_MAX_COMPARED = 0.2  # share of the images; beyond it, a matrix product is about as fast
_LINKS = 24  # per node of the graph
_TRAINING_VECTORS = 65_536
_VALUES = (1, 2, 4, 8, 12, 16, 20, 24, 32, 40, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096)
_SHORTLIST = (50, 2.5)  # minimum of rows, and rows per result: compression swaps near neighbors
_COLOR_SHORTLIST = (200, 10.0)  # the same if color, which the index does not contain, affects the score

APPROXIMATION_SHAPE = {  # schema of `Approximation.to_json`
    "kind": re.compile("ivf|hnsw"), "specification": str, "value": COUNT, "target": float, "recall": float, "reached": bool,
    "images": COUNT, "sweep": [{"value": COUNT, "recall": float, "low": float, "compared": float}],
}  # fmt: skip


@dataclass(frozen=True)
class SweepRow:
    """One value of the sweep: recall@20 with the lower end of its 95% interval, and rows compared per query."""

    value: int
    recall: float
    low: float
    compared: float


@dataclass(frozen=True)
class Approximation:
    """Description of an approximate index in index.json. `value` is the number of probed lists, or the search width."""

    kind: Kind
    specification: str  # for faiss's index factory
    value: int
    target: float
    recall: float
    reached: bool
    images: int  # in the index when it was tuned
    sweep: tuple[SweepRow, ...]

    @property
    def parameter(self) -> str:
        """Name of the tuned parameter in faiss."""
        return "nprobe" if self.kind == "ivf" else "efSearch"

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON values."""
        return {"parameter": self.parameter, "recall_at": RECALL_AT, **asdict(self)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Inverse of `to_json`."""
        names = ("kind", "specification", "value", "target", "recall", "reached", "images")
        fields = {name: value[name] for name in names}
        return cls(**fields, sweep=tuple(SweepRow(**row) for row in value["sweep"]))

    def lines(self) -> list[str]:
        """The sweep as a text table, with a warning if the target recall is out of reach."""
        head = [f"{self.specification}: {self.parameter} chosen by a sweep against exact search, recall@{RECALL_AT}"]
        head += [f"{self.parameter:>10}  recall   at least  rows compared"]
        rows = [
            f"{row.value:>10}  {row.recall:.4f}   {row.low:.4f}  {row.compared:>13,.0f}{'  <-' * (row.value == self.value)}"
            for row in self.sweep
        ]
        compared = next((row.compared for row in self.sweep if row.value == self.value), 0.0)
        if not self.reached:
            rows.append(
                f"WARNING: recall@{RECALL_AT} {self.target:g} is out of reach, {self.recall:.4f} is the most; these vectors have "
                "too little structure for such an index: use --kind exact"
            )
        elif compared > _MAX_COMPARED * self.images:
            rows.append(
                f"WARNING: each query is compared with {compared:,.0f} of {self.images:,} images, which gains little; use --kind exact"
            )
        return head + rows


class ApproximateSearch:
    """A faiss index and the features from which it was built."""

    def __init__(self, gallery: Features, index: Any, approximation: Approximation) -> None:
        self.gallery, self.index, self.approximation = gallery, index, approximation
        self.probe(approximation.value)

    def probe(self, value: int) -> None:
        """Set the number of probed lists, or the search width."""
        faiss = _faiss()
        faiss.ParameterSpace().set_index_parameter(self.index, self.approximation.parameter, int(value))

    def search(self, queries: Features, similarity: Similarity, top: int) -> SearchResults:
        """Like `ExactSearch.search`, but only among rows suggested by the index; scores are exact.

        Raises the same `UsageError`.
        """
        similarity.check(self.gallery, queries)
        top = min(top, len(self.gallery))
        shortlists = self.suggest(queries, top, similarity)
        for number, rows in enumerate(shortlists):
            if len(rows) < top:  # the probed lists hold too few
                exact = ExactSearch(self.gallery)
                shortlists[number] = np.sort(exact.search(queries[number : number + 1], similarity, top).rows[0])
        return similarity.decide(self.gallery, queries, shortlists, top)

    def suggest(self, queries: Features, top: int, similarity: Similarity) -> list[np.ndarray]:
        """Short list of each query: sorted candidate rows for the best `top`."""
        least, times = _COLOR_SHORTLIST if similarity.color_weight else _SHORTLIST
        count = min(len(self.gallery), max(least, round(times * top)))
        _, suggested = self.index.search(np.ascontiguousarray(queries.deep), count)
        return [np.sort(rows[rows >= 0]) for rows in suggested]


def build_approximate(gallery: Features, kind: Kind, target: float = 0.98, seed: int = 0) -> ApproximateSearch:
    """Build and tune an index of the deep features (N, D, L2-normalized) of a gallery.

    The same features give the same index. Raises `EnvironmentProblem` if faiss is not installed, and `UsageError` for a
    gallery of fewer than 100 images.
    """
    faiss = _faiss()
    if len(gallery) < _FEWEST:
        raise UsageError(
            f"{wording.count(len(gallery), 'image')} {wording.are(len(gallery))} too few to tune an approximate index with; use --kind exact"
        )
    generator = np.random.default_rng(seed)
    features = np.ascontiguousarray(gallery.deep)
    specification = _specification(features, kind, generator)
    # Distances, not inner products: PCA centers the vectors, which changes inner products but not distances.
    inner = faiss.index_factory(features.shape[1], specification, faiss.METRIC_L2)
    if kind == "ivf":
        clustering = faiss.extract_index_ivf(inner).cp
        clustering.seed, clustering.niter, clustering.min_points_per_centroid = seed + 1, 10, 1
    held_out = np.sort(generator.choice(len(features), min(_SWEEP_QUERIES, len(features) // 10), replace=False))
    others = np.setdiff1d(np.arange(len(features)), held_out)
    sample = np.sort(generator.choice(others, min(len(others), _TRAINING_VECTORS), replace=False))
    index = faiss.IndexIDMap(inner)
    threads = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(1 if kind == "hnsw" else threads)  # the graph depends on the order of insertion
        index.train(features[sample])
        index.add_with_ids(features[others], others)
        search = ApproximateSearch(
            gallery, index, Approximation(kind, specification, 1, target, 0.0, reached=False, images=0, sweep=())
        )
        search.approximation = _tune(search, Features(features[others]), Features(features[held_out]))
        index.add_with_ids(features[held_out], held_out)
    finally:
        faiss.omp_set_num_threads(threads)
    search.probe(search.approximation.value)
    return search


def load_approximate(path: Path, gallery: Features, approximation: Approximation) -> ApproximateSearch:
    """Load a faiss file (its digest is already verified) and set the value chosen by the sweep."""
    faiss = _faiss()
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[-120:]
        raise IntegrityError(f"{path}: not an index that this faiss reads ({reason}); build it again") from None
    if index.ntotal != len(gallery) or index.d != gallery.deep.shape[1]:
        raise IntegrityError(
            f"{path}: holds {index.ntotal} x {index.d} instead of {len(gallery)} x {gallery.deep.shape[1]}; build it again"
        )
    return ApproximateSearch(gallery, index, approximation)


def write_approximate(search: ApproximateSearch, path: Path) -> None:
    """Write the faiss index to one file."""
    _faiss().write_index(search.index, str(path))


def require_faiss() -> None:
    """Raise `EnvironmentProblem` if faiss is missing, before any long computation."""
    check_installed("faiss", instead=", or use --kind exact")


def _faiss() -> Any:
    require_faiss()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from its bindings on Python 3.12
        import faiss
    return faiss


def _specification(features: np.ndarray, kind: Kind, generator: np.random.Generator) -> str:
    """Index factory string of faiss: components, arrangement and quantizer."""
    count, dims = features.shape
    sample = features[np.sort(generator.choice(count, min(count, 20_000), replace=False))].astype(np.float64)
    variances = np.linalg.eigvalsh(np.cov(sample, rowvar=False).reshape(dims, dims))[::-1]
    shares = np.cumsum(variances) / max(variances.sum(), np.finfo(float).tiny)
    axes = next((kept for kept in _AXES if 2 * kept <= dims and kept < count and shares[kept - 1] >= _VARIANCE), None)
    # Balances the cost of comparing centers and probed rows; a power of two, at most 4 sqrt(N).
    num_lists = 2 ** max(0, int(np.log2(4 * np.sqrt(count))))
    num_lists = min(num_lists, max(1, count // 8))
    arrangement = f"IVF{num_lists},SQ8" if kind == "ivf" else f"HNSW{_LINKS}_SQ8"
    return f"PCA{axes},{arrangement}" if axes else arrangement


def _tune(search: ApproximateSearch, inside: Features, queries: Features) -> Approximation:
    """Increase the value until the lower end of the recall interval reaches the target; if none does, choose the best.

    The index contains the rows `inside`. The queries are held-out gallery images, because queries that are in the index
    would overestimate recall.
    """
    faiss, approximation, similarity = _faiss(), search.approximation, Similarity()
    top = min(RECALL_AT, len(inside))
    worst = ExactSearch(inside).search(queries, similarity, top).scores[:, -1]
    is_ivf = approximation.kind == "ivf"
    most = faiss.extract_index_ivf(search.index).nlist if is_ivf else max(1, min(len(inside), 1024))
    stats = faiss.cvar.indexIVF_stats if is_ivf else faiss.cvar.hnsw_stats
    rows: list[SweepRow] = []
    for value in [value for value in _VALUES if value < most] + [most]:
        search.probe(value)
        stats.reset()
        hits = np.empty(len(queries))
        for number, suggested in enumerate(search.suggest(queries, top, similarity)):
            scores, _ = similarity.pairs(search.gallery, queries, number, suggested)
            hits[number] = min(
                1.0, np.count_nonzero(scores >= worst[number] - 1e-9) / top
            )  # equal images are interchangeable
        low = hits.mean() - 1.96 * hits.std() / np.sqrt(len(hits))
        recall, compared = round(float(hits.mean()), 5), round(stats.ndis / len(queries), 1)
        rows.append(SweepRow(value, recall, round(float(low), 5), compared))
        if low >= approximation.target:
            break
    reached = rows[-1].low >= approximation.target
    chosen = rows[-1] if reached else max(rows, key=lambda row: (row.recall, -row.value))
    return replace(
        approximation, value=chosen.value, recall=chosen.recall, reached=reached, images=len(inside), sweep=tuple(rows)
    )
