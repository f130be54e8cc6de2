"""`ftrain index RUN SHARDS OUT`: index the embeddings and colors of a shard set for queries."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from fschemas.failures import NonFiniteError, UsageError
from fschemas.folders import claim_output
from fschemas.publish import exclusive
from fschemas.shard_set import ShardSet
from fschemas.splits import GALLERY_SPLITS
from ftrain.data.color import color_feature
from ftrain.data.image import decode_exactly
from ftrain.data.remote import open_shards
from ftrain.data.types import Results
from ftrain.fit.checkpoint_state import TrainingState, step_folder
from ftrain.fit.distributed import Processes, one_process, workers_or_default
from ftrain.fit.evaluation import results_of_split
from ftrain.fit.run_folder import RunFolder
from ftrain.inference.label_mapping import ImageEncoder, has_annotations
from ftrain.inference.trained_task import predict_batch, task_to_device
from ftrain.metrics.exact_search import Features
from ftrain.search.approximate import Kind, build_approximate, require_faiss
from ftrain.search.index_file import write_index
from ftrain.tasks.task import Task

EMBEDDING, COLOR = "embedding", "color"  # keys of deep and color features in the output of a task's `predict`
ColorSource = Literal["network", "image", "none"]


def build_index(
    run: Path,
    shards: str,
    out: Path,
    *,
    splits: Sequence[str] | None = None,
    kind: Literal["exact"] | Kind = "exact",
    recall: float = 0.98,
    color: bool = True,
    dim: int | None = None,
    checkpoint: str = "best",
    batch_size: int = 64,
    workers: int | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Index the images of some splits and return the content of `out/index.json`; an index in `out` is replaced.

    Without `splits`, the gallery is indexed if the set has one, otherwise all splits. Colors come from the network if
    the task predicts them, otherwise from the center of the image. `dim` is passed to `Task.set_dim`. Labels are not
    required. Raises `UsageError` for a task without embeddings and for a set without the bounding boxes that the run
    needs, `EnvironmentProblem` if `kind` needs faiss and it is missing, and `NonFiniteError` for embeddings of length 0.
    """
    if not 0 < recall <= 1:
        raise UsageError(f"recall {recall:g}: must be above 0 and at most 1")
    if kind != "exact":
        require_faiss()
    out = claim_output(Path(out), "index")
    folder, opened = RunFolder(Path(run)), open_shards(shards)
    workers = workers_or_default(workers, device)
    with one_process(device, workers) as target, exclusive(out):
        task, _, state = folder.load(checkpoint)
        opened.require(task.config.groups_to_view())
        task.set_dim(dim)
        require_embeddings(task_to_device(task, target), target)
        encoder = None if has_annotations(task, opened) else ImageEncoder(task)
        digest = weights_digest(task)
        rows = _rows(task, opened, splits, has_labels=encoder is None)
        results = results_of_split(
            task, opened, rows, Processes(0, 1, target), batch_size, workers, encoder=encoder, stage="indexing"
        )
        features, source = _features(results, opened, rows, color=color, workers=workers)
        approximate = None if kind == "exact" else build_approximate(features, kind, recall)
        metadata = {
            "dataset": opened.metadata.get("dataset"),
            "splits": sorted(set(opened.columns["split"][rows].tolist())),
            "color": source,
            "run": {"path": _relative(run, out), "dim": dim, **_trained(task, state, digest)},
            "shards": {"path": shards if "://" in shards else _relative(Path(shards), out), "plan_id": opened.plan_id},
        }
        return write_index(out, features, _items(opened, rows), metadata, approximate)


def require_embeddings(task: Task, device: torch.device) -> None:
    """Raise `UsageError` if the task has no embeddings, before a whole set is encoded."""
    blank = np.zeros((32, 32, 3), np.uint8)
    if EMBEDDING not in predict_batch(task, [task.encode_image(blank)], device):
        raise UsageError(f"the task {task.name} has no embeddings; use a run of `ftrain retrieval`")


def deep_features(results: Results) -> np.ndarray:
    """Return the embeddings among predictions, L2-normalized: float32 B, D.

    Several attributes (B, A, D) are concatenated to B, A * D. Raises `NonFiniteError` for an embedding of length 0.
    """
    deep = np.ascontiguousarray(results[EMBEDDING], dtype=np.float32).reshape(len(results[EMBEDDING]), -1)
    lengths = np.linalg.norm(deep, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(lengths[:, 0]) & (lengths[:, 0] > 0)))
    if len(bad):
        raise NonFiniteError(f"{len(bad)} of {len(deep)} embeddings are 0 or not finite; choose another checkpoint")
    return deep / lengths


def weights_digest(task: Task) -> str:
    """SHA-256 of the names, shapes and values of a task's state; equal digests mean equal features."""
    digest = hashlib.sha256()
    for name, tensor in sorted(task.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data if values.numel() else b"")
    return digest.hexdigest()


def _rows(task: Task, shards: ShardSet, splits: Sequence[str] | None, *, has_labels: bool) -> np.ndarray:
    """Rows (without augmented copies) of the splits that the task can use."""
    known = list(shards.metadata["splits"])
    chosen = list(splits) if splits else [GALLERY_SPLITS[0]] if GALLERY_SPLITS[0] in known else known
    rows = np.unique(np.concatenate([shards.rows(split) for split in chosen]))
    rows = rows[shards.columns["copy"][rows] == 0]
    if has_labels:
        rows = task.rows_of_interest(task.config, shards.columns, rows)
    if len(rows) == 0:
        names = ", ".join(chosen)
        raise UsageError(f"{shards.location}: nothing to index in {names}; choose other splits with --split")
    return rows


def _features(
    results: Results, shards: ShardSet, rows: np.ndarray, *, color: bool, workers: int
) -> tuple[Features, ColorSource]:
    deep = deep_features(results)
    if not color:
        return Features(deep), "none"
    if COLOR in results:
        return Features(deep, unit(results[COLOR])), "network"

    def of(row: int) -> np.ndarray:
        return color_feature(decode_exactly(shards.read(row)[0]))

    with ThreadPoolExecutor(max(1, workers)) as pool:
        return Features(deep, np.stack(list(pool.map(of, rows.tolist())))), "image"


def unit(features: np.ndarray) -> np.ndarray:
    """L2-normalize the rows of `features` N, D: float32; zero rows stay zero."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return np.ascontiguousarray(features / np.maximum(lengths, np.finfo(np.float32).tiny), dtype=np.float32)


def _items(shards: ShardSet, rows: np.ndarray) -> dict[str, Any]:
    columns, empty = shards.columns, [""] * len(rows)
    return {
        "key": columns["key"][rows].tolist(),
        "split": columns["split"][rows].tolist(),
        "item": columns["item"][rows].tolist() if "item" in columns else empty,
        "category": columns["category"][rows].tolist() if "category" in columns else empty,
        "image": [str(shards.read_annotation(row)["image"]) for row in rows.tolist()],
        "sha256": shards.image_digests(rows),
        "row": rows.astype(np.int64),
    }


def _trained(task: Task, state: TrainingState, digest: str) -> dict[str, Any]:
    return {
        "task": task.name,
        "plan_id": state.plan_id,
        "config_digest": state.config_digest,
        "checkpoint": step_folder(state.step),
        "weights_sha256": digest,
    }


def _relative(path: Path, start: Path) -> str:
    """Path relative to the index, so that both can be moved together and no absolute path is stored."""
    return Path(os.path.relpath(path.resolve(), start.resolve())).as_posix()
