"""`ftrain query INDEX IMAGES`: the most similar images of an index, as JSON lines and one contact sheet per image."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fschemas.failures import UsageError
from fschemas.folders import claim_output
from fschemas.names import output_path
from fschemas.progress import show
from fschemas.publish import exclusive, publish_bytes, sha256_of
from fschemas.shard_set import ShardSet
from fschemas.walk import readable
from ftrain.data.color import color_feature
from ftrain.data.remote import open_shards
from ftrain.data.user_images import FoundImage, ImageError, find_images, read_image
from ftrain.fit.distributed import one_process
from ftrain.fit.run_folder import RunFolder
from ftrain.inference.detector import Detector
from ftrain.inference.prediction_file import publish_predictions
from ftrain.inference.trained_task import image_threads, load_ahead, predict_batch, task_to_device
from ftrain.metrics.exact_search import ExactSearch, Features, Metric, SearchResults, Similarity
from ftrain.search.approximate import ApproximateSearch
from ftrain.search.build import COLOR, deep_features, unit, weights_digest
from ftrain.search.index_file import IndexFolder
from ftrain.search.rerank import num_candidates, rerank_candidates
from ftrain.search.result_sheet import draw_result, small
from ftrain.tasks.task import Task

RESULTS_FILE, SHEET_FOLDER = "results.jsonl", "sheets"

SearchResult = dict[str, Any]


@dataclass(frozen=True)
class _Query:
    """A loaded query image: SHA-256, thumbnail (uint8 H, W, 3), model inputs, and color feature (None if unused)."""

    found: FoundImage
    digest: str
    tile: np.ndarray
    inputs: dict[str, np.ndarray]
    color: np.ndarray | None


def query_index(
    index: Path,
    photos: Sequence[Path],
    out: Path,
    *,
    metric: Metric = "cosine",
    color_weight: float = 0.0,
    top: int = 10,
    rerank: bool = False,
    run: Path | None = None,
    shards: str | None = None,
    detector: Path | None = None,
    item: str | None = None,
    device: str = "auto",
    batch_size: int = 16,
) -> list[SearchResult]:
    """Search an index for images similar to each query image; publish `results.jsonl` and `sheets/` in `out`.

    `photos` are files and folders. `run` and `shards` default to those recorded in the index. An image that is part of
    the index (same bytes) is excluded from its own results, and its item is known, so matches are framed on its sheet;
    `item` is the item of all other images. `detector` is a run that predicts the bounding box, for a run trained on boxes.
    An image that cannot be read has the result {"image", "error"}: see `refuse_unreadable`. Raises `UsageError` if the
    index, the run and the options do not fit together, and `IntegrityError` for a damaged index.
    """
    if top < 1:
        raise UsageError(f"top {top}: must be at least 1")
    out = claim_output(Path(out), "query")
    found = find_images(photos, skip=out)
    opened = IndexFolder.open(index)
    similarity = Similarity(metric, color_weight)
    similarity.check(opened.features, opened.features[:1])
    with one_process(device) as target, image_threads() as pool:
        task = _load_task(opened, run, target)
        find_box = None if detector is None else Detector(detector, task, target)
        gallery = _gallery_images(opened, shards)
        search = _Search(opened, opened.searcher(target), similarity, top, rerank)
        known = _KnownItems(opened, gallery, item)
        with exclusive(out):
            results: list[SearchResult] = []
            for loaded in load_ahead(pool, lambda image: _load(task, opened, image, find_box), found, batch_size):
                queries = [query for query in loaded if isinstance(query, _Query)]
                ranked = iter(_results(search, known, queries, _features(task, opened, queries, target)))
                for query in loaded:
                    results.append(next(ranked) if isinstance(query, _Query) else query)
                    if isinstance(query, _Query):
                        publish_bytes(out / results[-1]["sheet"], draw_result(query.tile, results[-1], gallery))
                show("querying", len(results), len(found))
            publish_predictions(out / RESULTS_FILE, results, SHEET_FOLDER, "sheet")
    return results


@dataclass(frozen=True)
class _Search:
    """The index to search, with the options of the search."""

    index: IndexFolder
    searcher: ExactSearch | ApproximateSearch
    similarity: Similarity
    top: int
    reranks: bool

    def __call__(self, queries: Features, without: list[np.ndarray]) -> list[SearchResults]:
        """Best results of each query, excluding its own rows in `without` (the same image)."""
        count = num_candidates(self.top) if self.reranks else self.top
        most = max(len(rows) for rows in without)
        found = self.searcher.search(queries, self.similarity, count + most)
        return [self._one(found, number, rows, count) for number, rows in enumerate(without)]

    def _one(self, found: SearchResults, number: int, without: np.ndarray, count: int) -> SearchResults:
        keep = np.flatnonzero(~np.isin(found.rows[number], without))[:count]
        one = SearchResults(
            *(part[number : number + 1, keep] for part in (found.rows, found.scores, found.deep, found.color))
        )
        if not self.reranks:
            return one
        return rerank_candidates(self.index.features, one, self.similarity, self.top)


class _KnownItems:
    """Index rows and items of query images. An image is identified by its content, never by its path."""

    def __init__(self, index: IndexFolder, shards: ShardSet | None, item: str | None) -> None:
        self.index, self.shards, self.item = index, shards, item
        self._rows: dict[str, list[int]] = {}
        for row, digest in enumerate(index.items["sha256"].tolist()):
            self._rows.setdefault(digest, []).append(row)

    def rows(self, query: _Query) -> np.ndarray:
        """Rows of the index with the same image."""
        return np.array(self._rows.get(query.digest, []), dtype=np.int64)

    def of(self, query: _Query) -> str:
        """Item of the image, or "" if unknown."""
        if self.item is not None:
            return self.item
        rows = self.rows(query)
        return str(self.index.items["item"][rows[0]]) if len(rows) else self._others.get(query.digest, "")

    @cached_property
    def _others(self) -> dict[str, str]:
        """Items of images that are neither indexed nor in the training split, such as an official query split."""
        if self.shards is None or "item" not in self.shards.columns:
            return {}
        columns = self.shards.columns
        rows = np.flatnonzero((columns["split"] != "train") & (columns["copy"] == 0))
        rows = np.setdiff1d(rows, self.index.items["row"])
        return dict(zip(self.shards.image_digests(rows), columns["item"][rows].tolist(), strict=True))


def _load_task(index: IndexFolder, run: Path | None, device: torch.device) -> Task:
    """Load the task that built the index; raises `UsageError` if its weights differ."""
    source = index.metadata["run"]
    folder = Path(index.location_of("run")) if run is None else run
    if run is None and not folder.is_dir():
        raise UsageError(f"{index.path}: its run is no longer at {folder}; pass it with --run")
    task, _, _ = RunFolder(folder).load(str(source["checkpoint"]))
    if weights_digest(task) != source["weights_sha256"]:
        raise UsageError(
            f"{index.path}: was not built with the weights of {folder}; pass its run with --run, or build it again"
        )
    task.set_dim(source.get("dim"))
    return task_to_device(task, device)


def _gallery_images(index: IndexFolder, shards: str | None) -> ShardSet | None:
    """Shard set with the thumbnails, or None if the one recorded in the index no longer exists."""
    try:
        opened = open_shards(shards or index.location_of("shards"))
    except (UsageError, OSError):
        if shards is not None:
            raise
        return None
    if opened.plan_id != index.metadata["shards"]["plan_id"]:
        if shards is not None:
            raise UsageError(f"{shards}: the index {index.path} was built from another shard set; omit --shards")
        return None
    return opened


def _load(task: Task, index: IndexFolder, found: FoundImage, find_box: Detector | None) -> _Query | SearchResult:
    try:
        image = read_image(found.path)
    except ImageError as error:
        return {"image": readable(found.path), "error": str(error)}
    color = color_feature(image) if index.metadata["color"] == "image" else None
    box = None if find_box is None else find_box(image)
    return _Query(found, sha256_of(found.path), small(image), task.encode_image(image, box), color)


def _features(task: Task, index: IndexFolder, queries: list[_Query], device: torch.device) -> Features:
    """Compute features of the query images in the same way as those of the index."""
    if not queries:
        return index.features[:0]
    results = predict_batch(task, [query.inputs for query in queries], device)
    source, color = index.metadata["color"], None
    if source == "network":
        color = unit(results[COLOR])
    elif source == "image":
        color = np.stack([query.color for query in queries if query.color is not None])
    return Features(deep_features(results), color)


def _results(search: _Search, known: _KnownItems, queries: list[_Query], features: Features) -> list[SearchResult]:
    if not queries:
        return []
    results: list[SearchResult] = []
    same = [known.rows(query) for query in queries]
    for query, own_rows, found in zip(queries, same, search(features, same), strict=True):
        item = known.of(query)
        results.append(
            {
                "image": readable(query.found.path),
                "item": item,
                "in_index": [str(search.index.items["key"][row]) for row in own_rows],
                "metric": search.similarity.metric,
                "color_weight": search.similarity.color_weight,
                "reranked": search.reranks,
                "matches": [_match(search.index.items, found, rank, item) for rank in range(found.rows.shape[1])],
                "sheet": output_path(Path(SHEET_FOLDER), query.found.name, ".png").as_posix(),
            }
        )
    return results


def _match(items: dict[str, np.ndarray], found: SearchResults, rank: int, item: str) -> SearchResult:
    row = int(found.rows[0, rank])
    labels = {name: str(items[name][row]) for name in ("key", "item", "category", "split", "image")}
    metrics = {name: round(float(getattr(found, part)[0, rank]), 6) for name, part in _SCORES.items()}
    return {
        "rank": rank + 1,
        **metrics,
        **labels,
        "hit": labels["item"] == item if item else None,
        "row": int(items["row"][row]),
    }


_SCORES = {"score": "scores", "deep": "deep", "color": "color"}
