"""Search among 139,709 embeddings of 512 dimensions: exact against scipy, and approximate against exact, in one run.

    python benchmarks/retrieval.py [--rows 139709] [--rounds 7] [--kinds hnsw,ivf] [--index FOLDER]

Three sets of vectors: embeddings like those of a trained network (categories, items and several views of each, with
most variance along few components), those of a real index (`--index`, interpolated between neighbors if it is smaller),
and random directions without structure, for which no index can gain much at high recall. Queries are views that are not
indexed. Everything runs on one thread in interleaved rounds; times are CPU milliseconds per query, and ratios are taken
within a round. `dimension` is the intrinsic dimension around the queries (Levina and Bickel, NIPS 2004); the lower it
is, the easier the search.

The reference is scipy's `cdist` in double precision followed by a sort, on features in single precision, which `cdist`
converts on each call. `cdist, ready` uses features converted in advance, at twice the memory. Exact search reads every
feature once and is bound by memory bandwidth; that row shows how much of the gain comes from avoiding the conversion.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fschemas.cores import let_waiting_threads_sleep

let_waiting_threads_sleep()  # before torch or another library loads OpenMP; inherited by child processes

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
DIMS, TOP, RECALL, SEED = 512, 20, 0.98, 0
BATCH, SINGLES, TEST_QUERIES = 100, 20, 1000
AIMS = {"one query": 4.0, "batch of 100": 15.0, "approximate": 50.0}


def main() -> None:
    """Run all benchmarks on one thread."""
    if any(os.environ.get(name) != "1" for name in THREADS):  # BLAS reads them on loading
        os.environ.update(dict.fromkeys(THREADS, "1"))
        os.execv(sys.executable, [sys.executable, *sys.argv])
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=139_709)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--kinds", default="hnsw,ivf", help="approximate indexes to build; of random vectors the last")
    parser.add_argument("--index", type=Path, help="a built index, whose embeddings are measured too")
    parser.add_argument("--no-random", action="store_true", help="leave the vectors without structure out")
    options = parser.parse_args()
    kinds = [kind for kind in options.kinds.split(",") if kind]
    missed = False
    sets: dict[str, Callable[[], tuple[Any, Any]]] = {"clustered": lambda: clustered(options.rows)}
    if options.index:
        sets[f"index {options.index.name}"] = lambda: tiled(options.index, options.rows)
    if not options.no_random:
        sets["random"] = lambda: unclustered(options.rows)
    for name, make in sets.items():
        some = kinds[-1:] if name == "random" else kinds  # a graph of random vectors takes minutes, to the same effect
        missed |= measure(name, *make(), some, options.rounds)
    sys.exit(1 if missed else 0)


def measure(name: str, gallery: Any, queries: Any, kinds: list[str], rounds: int) -> bool:
    """Build, time and evaluate one set of vectors; return True if a target is missed."""
    import numpy as np

    from ftrain.metrics.exact_search import ExactSearch, Features, Similarity
    from ftrain.search.approximate import build_approximate

    features, asked, similarity = Features(gallery), Features(queries), Similarity()
    features.deep_squares  # noqa: B018 - once per gallery, not per query
    exact = ExactSearch(features)
    truth = exact.search(asked, similarity, TOP)
    print(f"\n{name}: {len(gallery)} x {gallery.shape[1]}, dimension {intrinsic_dimension(truth.deep):.1f}", flush=True)
    searches: dict[str, Any] = {}
    for kind in kinds:
        start = time.process_time()
        searches[kind] = build_approximate(features, kind, RECALL)
        took = time.process_time() - start
        print("\n".join(f"  {line}" for line in searches[kind].approximation.lines()))
        print(f"  built and tuned in {took:.1f} CPU-s", flush=True)
    wide = gallery.astype(np.float64)
    methods: dict[str, Callable[[], object]] = {
        "seed": lambda: seeds_way(queries[:1], gallery),
        "cdist, ready": lambda: seeds_way(queries[:1], wide),
        "exact": lambda: exact.search(asked[:1], similarity, TOP),
        "exact, batch": lambda: exact.search(asked[:BATCH], similarity, TOP),
    }
    for kind, search in searches.items():
        methods[kind] = lambda search=search: [search.search(asked[n : n + 1], similarity, TOP) for n in range(SINGLES)]
        methods[f"{kind}, batch"] = lambda search=search: search.search(asked[:BATCH], similarity, TOP)
    counts = {method: BATCH if "batch" in method else SINGLES if method in searches else 1 for method in methods}
    for call in methods.values():  # the first access to memory costs more than the search
        call()
    seconds = [{method: timed(call) / counts[method] for method, call in methods.items()} for _ in range(rounds)]
    recalls = {"seed": share_found(seeds_answers(queries, wide), truth.rows), "exact": 1.0}
    for kind, search in searches.items():
        recalls[kind] = float((search.search(asked, similarity, TOP).scores >= truth.scores[:, -1:] - 1e-9).mean())
    return report(name, seconds, recalls, kinds)


def report(name: str, rounds: list[dict[str, float]], recalls: dict[str, float], kinds: list[str]) -> bool:
    """Print one table; return True if a target is missed. Random vectors have no target."""
    missed = False
    print(
        f"  {'':16s}{'ms a query':>11s}  {'recall@20':>9s}  ratio (median, lowest to highest of {len(rounds)} rounds)"
    )
    base = {"exact": "seed", "exact, batch": "seed"}
    base |= dict.fromkeys(kinds, "exact") | {f"{kind}, batch": "exact, batch" for kind in kinds}
    aims = {"exact": AIMS["one query"], "exact, batch": AIMS["batch of 100"]}
    best = max(
        kinds, key=lambda kind: statistics.median(entry["exact"] / entry[kind] for entry in rounds), default=None
    )
    for method in rounds[0]:
        time_taken = 1000 * statistics.median(entry[method] for entry in rounds)
        recall = recalls.get(method.removesuffix(", batch"))
        line = f"  {method:16s}{time_taken:11.3f}  {'' if recall is None else f'{recall:.4f}':>9s}  "
        if method == "cdist, ready":
            ratios = [entry[method] / entry["exact"] for entry in rounds]
            line += f"takes {statistics.median(ratios):.1f} x as long as exact ({min(ratios):.1f} to {max(ratios):.1f})"
        if method in base:
            ratios = [entry[base[method]] / entry[method] for entry in rounds]
            ratio = statistics.median(ratios)
            line += f"{ratio:6.1f} x {base[method]} ({min(ratios):.1f} to {max(ratios):.1f})"
            aim = AIMS["approximate"] if method == best else aims.get(method)
            if aim is not None and (name != "random" or method in aims):
                reached = ratio >= aim and (recall or 1.0) >= (RECALL if method == best else 1.0)
                missed |= not reached
                line += f"  aim {aim:g}: {'reached' if reached else 'MISSED'}"
        print(line)
    if name == "random":
        print("  no aim for approximate search here: without structure every list and every path is as good as another")
    return missed


def seeds_way(queries: Any, gallery: Any) -> Any:
    """Compute all distances in double precision, then sort them fully."""
    import numpy as np
    from scipy.spatial.distance import cdist

    return np.argsort(cdist(queries, gallery, "cosine"), axis=1)[:, :TOP]


def seeds_answers(queries: Any, gallery: Any) -> Any:
    """Results for the first queries, for comparison with exact search."""
    import numpy as np

    return np.concatenate([seeds_way(queries[n : n + 1], gallery) for n in range(50)])


def share_found(theirs: Any, ours: Any) -> float:
    """Share of `ours` that is among `theirs`."""
    import numpy as np

    return float(np.mean([len(np.intersect1d(a, b)) / TOP for a, b in zip(theirs, ours, strict=False)]))


def timed(call: Callable[[], object]) -> float:
    """Measure the CPU seconds of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def intrinsic_dimension(cosines: Any) -> float:
    """Maximum likelihood estimate from the first 20 neighbors (Levina and Bickel, with MacKay's mean of inverses)."""
    import numpy as np

    distances = np.sqrt(np.maximum(2 - 2 * cosines, 1e-12))
    return float(1 / np.log(distances[:, -1:] / distances[:, :-1]).mean())


def clustered(rows: int) -> tuple[Any, Any]:
    """Generate embeddings like those of a trained network, and held-out views of the same items as queries.

    50 categories of unequal size; 2 to 40 views per item (7 on average, as in DeepFashion In-shop). Categories, items
    and views vary along the same components, with variance proportional to rank to the power -1.5. A view is half as
    far from its item as an item is from its category.
    """
    import numpy as np

    generator = np.random.default_rng(SEED)
    axes = np.arange(1, DIMS + 1) ** -0.75
    axes = (axes / np.linalg.norm(axes)).astype(np.float32)

    def spread(count: int) -> Any:
        return generator.standard_normal((count, DIMS), dtype=np.float32) * axes

    views = np.minimum(1 + generator.geometric(1 / 6, rows), 40)
    items = np.repeat(np.arange(rows), views)[:rows]
    share = 1 / np.arange(1, 51) ** 0.8
    categories = generator.choice(50, items[-1] + 1, p=share / share.sum())
    centers = spread(50)[categories] + spread(len(categories))
    asked = generator.integers(0, len(categories), TEST_QUERIES)
    return unit(centers[items] + 0.5 * spread(rows)), unit(centers[asked] + 0.5 * spread(TEST_QUERIES))


def unclustered(rows: int) -> tuple[Any, Any]:
    """Generate directions without structure."""
    import numpy as np

    generator = np.random.default_rng(SEED)
    vectors = unit(generator.standard_normal((rows + TEST_QUERIES, DIMS), dtype=np.float32))
    return vectors[:rows], vectors[rows:]


def tiled(folder: Path, rows: int) -> tuple[Any, Any]:
    """Load the embeddings of an index and hold out 1,000 of them as queries.

    If there are fewer than `rows`, points between each embedding and five of its ten nearest neighbors are added. They
    are not copies but stay on the manifold of the embeddings; the queries are then such points too.
    """
    import numpy as np

    from ftrain.metrics.exact_search import ExactSearch, Features, Similarity
    from ftrain.search.index_file import IndexFolder

    generator = np.random.default_rng(SEED)
    real = IndexFolder.open(folder).features.deep
    near = ExactSearch(Features(real)).search(Features(real), Similarity(), 11).rows
    parts = [real]
    while sum(map(len, parts)) < rows + TEST_QUERIES:
        partners = generator.permuted(near[:, 1:], axis=1)[:, :5]
        shares = generator.dirichlet(np.ones(6), len(real)).astype(np.float32)
        parts.append(unit(shares[:, :1] * real + np.einsum("np,npd->nd", shares[:, 1:], real[partners])))
    print(f"\n{folder}: {len(real)} embeddings of {real.shape[1]}, tiled {len(parts)} times")
    vectors = np.concatenate(parts)
    order = generator.permutation(len(vectors))
    return vectors[order[:rows]], vectors[order[rows : rows + TEST_QUERIES]]


def unit(vectors: Any) -> Any:
    """Normalize to length 1, in place."""
    import numpy as np

    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


if __name__ == "__main__":
    main()
