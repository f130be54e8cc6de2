"""`ftrain query INDEX IMAGES`: the most similar images of an index, as JSON lines and one contact sheet per image."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fschemas import wording
from fschemas.cores import available_cores
from fschemas.failures import RejectedError, UsageError
from fschemas.folders import claim_output
from fschemas.names import output_path
from fschemas.progress import show
from fschemas.publish import exclusive, publish_bytes, sha256_of
from fschemas.shard_set import ShardSet
from fschemas.walk import readable
from ftrain.data.remote import open_shards
from ftrain.data.user_images import FoundImage, ImageError, find_images, quiet_decoder, read_image
from ftrain.fit.distributed import one_process
from ftrain.fit.run_folder import RunFolder
from ftrain.inference.detector import Detector
from ftrain.inference.prediction_file import publish_predictions
from ftrain.inference.trained_task import load_ahead, predict_batch
from ftrain.layers.color import color_feature
from ftrain.metrics.exact_search import ExactSearch, Features, Found, Metric, Similarity
from ftrain.search.approximate import ApproximateSearch
from ftrain.search.build import COLOR, deep_features, unit, weights_digest
from ftrain.search.index_file import IndexFolder
from ftrain.search.rerank import num_candidates, rerank_candidates
from ftrain.search.result_sheet import draw_result, small
from ftrain.tasks.task import Task

RESULTS_FILE, SHEET_FOLDER = "results.jsonl", "sheets"

Answer = dict[str, Any]


@dataclass(frozen=True)
class _Photo:
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
    boxes: Path | None = None,
    item: str | None = None,
    device: str = "auto",
    batch_size: int = 16,
) -> list[Answer]:
    """Search an index for images similar to each query image; publish `results.jsonl` and `sheets/` in `out`.

    `photos` are files and folders. `run` and `shards` default to those recorded in the index. An image that is part of
    the index (same bytes) is excluded from its own results, and its item is known, so matches are framed on its sheet;
    `item` is the item of all other images. `boxes` is a run that predicts the bounding box, for a run trained on boxes.
    An image that cannot be read has the result {"image", "error"}: see `refuse_broken`. Raises `UsageError` if the
    index, the run and the options do not fit together, and `IntegrityError` for a damaged index.
    """
    if top < 1:
        raise UsageError(f"top {top}: take 1 or more")
    out = claim_output(Path(out), "query")
    found = find_images(photos, skip=out)
    opened = IndexFolder.open(index)
    similarity = Similarity(metric, color_weight)
    similarity.check(opened.features, opened.features[:1])
    with one_process(device) as place, quiet_decoder():
        task = _load_task(opened, run, place)
        find = None if boxes is None else Detector(boxes, task, place)
        images = _images_of(opened, shards)
        search = _Search(opened, opened.searcher(place), similarity, top, rerank)
        known = _KnownItems(opened, images, item)
        with exclusive(out), ThreadPoolExecutor(max_workers=min(4, available_cores())) as pool:
            answers: list[Answer] = []
            for loaded in load_ahead(pool, lambda photo: _load(task, opened, photo, find), found, batch_size):
                sound = [photo for photo in loaded if isinstance(photo, _Photo)]
                said = iter(_answers(search, known, sound, _queries(task, opened, sound, place)))
                for photo in loaded:
                    if not isinstance(photo, _Photo):
                        answers.append(photo)
                        continue
                    answers.append(next(said))
                    publish_bytes(out / answers[-1]["sheet"], draw_result(photo.tile, answers[-1], images))
                show("querying", len(answers), len(found))
            publish_predictions(out / RESULTS_FILE, answers, SHEET_FOLDER, "sheet")
    return answers


def refuse_broken(answers: list[Answer], out: Path) -> None:
    """Raise `RejectedError` (exit code 3) if any images could not be read."""
    broken = [answer for answer in answers if "error" in answer]
    if broken:
        raise RejectedError(
            f"{broken[0]['image']}: {broken[0]['error']}; {len(broken)} of {wording.count(len(answers), 'photo')} cannot be used, "
            f"the answers for the others stand in {out}/{RESULTS_FILE}"
        )


@dataclass(frozen=True)
class _Search:
    """The index to search, with the options of the search."""

    index: IndexFolder
    searcher: ExactSearch | ApproximateSearch
    similarity: Similarity
    top: int
    reranks: bool

    def __call__(self, queries: Features, without: list[np.ndarray]) -> list[Found]:
        """Best results of each query, excluding its own rows in `without` (the same image)."""
        count = num_candidates(self.top) if self.reranks else self.top
        most = max(len(rows) for rows in without)
        found = self.searcher.search(queries, self.similarity, count + most)
        return [self._one(found, number, rows, count) for number, rows in enumerate(without)]

    def _one(self, found: Found, number: int, without: np.ndarray, count: int) -> Found:
        keep = np.flatnonzero(~np.isin(found.rows[number], without))[:count]
        one = Found(*(part[number : number + 1, keep] for part in (found.rows, found.scores, found.deep, found.color)))
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

    def rows(self, photo: _Photo) -> np.ndarray:
        """Rows of the index with the same image."""
        return np.array(self._rows.get(photo.digest, []), dtype=np.int64)

    def of(self, photo: _Photo) -> str:
        """Item of the image, or "" if unknown."""
        if self.item is not None:
            return self.item
        rows = self.rows(photo)
        return str(self.index.items["item"][rows[0]]) if len(rows) else self._others.get(photo.digest, "")

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
    made_by = index.note["run"]
    place = Path(index.place_of("run")) if run is None else run
    if run is None and not place.is_dir():
        raise UsageError(f"{index.path}: its run is not at {place} any more; name it with --run")
    task, _, _ = RunFolder(place).load(str(made_by["checkpoint"]))
    if weights_digest(task) != made_by["weights_sha256"]:
        raise UsageError(
            f"{index.path}: was not built with the weights of {place}; name its run with --run, or build it again"
        )
    task.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return task


def _images_of(index: IndexFolder, shards: str | None) -> ShardSet | None:
    """Shard set with the thumbnails, or None if the one recorded in the index no longer exists."""
    try:
        opened = open_shards(shards or index.place_of("shards"))
    except (UsageError, OSError):
        if shards is not None:
            raise
        return None
    if opened.plan_id != index.note["shards"]["plan_id"]:
        if shards is not None:
            raise UsageError(
                f"{shards}: not the shard set that the index {index.path} was built from; leave --shards out"
            )
        return None
    return opened


def _load(task: Task, index: IndexFolder, photo: FoundImage, find: Detector | None) -> _Photo | Answer:
    try:
        image = read_image(photo.path)
    except ImageError as error:
        return {"image": readable(photo.path), "error": str(error)}
    color = color_feature(image) if index.note["color"] == "image" else None
    box = None if find is None else find(image)
    return _Photo(photo, sha256_of(photo.path), small(image), task.encode_image(image, box), color)


def _queries(task: Task, index: IndexFolder, photos: list[_Photo], device: torch.device) -> Features:
    """Compute features of the query images in the same way as those of the index."""
    if not photos:
        return index.features[:0]
    results = predict_batch(task, [photo.inputs for photo in photos], device)
    source, color = index.note["color"], None
    if source == "network":
        color = unit(results[COLOR])
    elif source == "image":
        color = np.stack([photo.color for photo in photos if photo.color is not None])
    return Features(deep_features(results), color)


def _answers(search: _Search, known: _KnownItems, photos: list[_Photo], queries: Features) -> list[Answer]:
    if not photos:
        return []
    answers: list[Answer] = []
    themselves = [known.rows(photo) for photo in photos]
    for photo, itself, found in zip(photos, themselves, search(queries, themselves), strict=True):
        item = known.of(photo)
        answers.append(
            {
                "image": readable(photo.found.path),
                "item": item,
                "in_index": [str(search.index.items["key"][row]) for row in itself],
                "metric": search.similarity.metric,
                "color_weight": search.similarity.color_weight,
                "reranked": search.reranks,
                "matches": [_match(search.index.items, found, place, item) for place in range(found.rows.shape[1])],
                "sheet": output_path(Path(SHEET_FOLDER), photo.found.name, ".png").as_posix(),
            }
        )
    return answers


def _match(items: dict[str, np.ndarray], found: Found, place: int, item: str) -> Answer:
    row = int(found.rows[0, place])
    labels = {name: str(items[name][row]) for name in ("key", "item", "category", "split", "image")}
    metrics = {name: round(float(getattr(found, part)[0, place]), 6) for name, part in _FIGURES.items()}
    return {
        "rank": place + 1,
        **metrics,
        **labels,
        "hit": labels["item"] == item if item else None,
        "row": int(items["row"][row]),
    }


_FIGURES = {"score": "scores", "deep": "deep", "color": "color"}
