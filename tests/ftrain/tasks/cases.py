"""Every task in its smallest form; a new one is found by itself. Add a row to `CASES` if `Case` does not suit it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.shard_sets import write_label_set, write_shard_set

from fschemas.shard_set import ShardSet
from ftrain.data.config import RunConfig
from ftrain.data.stream import Batch, RawSample
from ftrain.fit.config import resolve
from ftrain.tasks import task_names
from ftrain.tasks.task import Task, build_task

COUNTS = {"train": 24, "val": 8}
LABELS = partial(write_label_set, counts=COUNTS)
FEW_ITEMS = partial(write_label_set, counts=COUNTS, items=4)  # each with two validation images
SQUARES = partial(write_shard_set, counts=COUNTS)
PAIRS = {"sampler": "identities", "samples_per_identity": 2}


@dataclass(frozen=True)
class Case:
    """A task in its smallest form. `learns` is the largest share of the initial loss left after overfitting one batch.

    `fit` overrides the defaults (a sampler, stages). `silent` lists prefixes of parameters without
    gradient in any single batch (give the reason in a comment).
    """

    task: str
    model: dict[str, Any]
    shards: Callable[[Path], Path] = LABELS
    fit: dict[str, Any] = field(default_factory=dict)
    learns: float = 0.3
    steps: int = 60
    rate: float = 5e-3
    silent: tuple[str, ...] = ()


_TINY = {"backbone": "test_efficientnet", "input_size": 64}

_STYLE = {
    **_TINY,
    "embedding_dim": 32,
    "attribute_dim": 16,
    "local_backbone": "test_efficientnet",
    "local_input_size": 32,
}

_AUGMENTED = {"mixup": 0.2, "cutmix": 1.0, "crop_area": [0.3, 1.0], "color_operations": 2}

CASES = {
    "keypoints": Case("keypoints", {**_TINY, "channels": 16}, SQUARES, steps=50, learns=0.4),
    "category": Case("category", _TINY),
    "category-typed": Case(
        "category", {**_TINY, "heads": "per_type", "hidden_dim": 32, "box_head": "linear", "roi_stride": 32, "label_smoothing": 0.1}, learns=0.6
    ),
    "category-global": Case("category", {**_TINY, "roi_cells": 0, "targets": ["category"]}, partial(LABELS, without=("box",)), learns=0.4),
    "category-mixed": Case("category", {**_TINY, **_AUGMENTED, "box_loss_weight": 0.0, "attribute_loss": "asymmetric"}, learns=0.6, silent=("network.box",)),
    "style": Case("style", {**_STYLE, "dropout": 0.0}),
    "style-linear": Case("style", {**_TINY, "embedding_dim": 32, "dropout": 0.0, "head": "linear", "triplet_loss_weight": 0.0, "category_loss_weight": 0.3}),
    "style-mixed": Case("style", {**_TINY, **_AUGMENTED, "embedding_dim": 32, "triplet_loss_weight": 0.0, "category_loss_weight": 0.3}, learns=0.6),
    "style-attributes": Case("style", {**_STYLE, "target": "attributes", "triplet_loss_weight": 1.0}),
    "style-patches": Case("style", {**_STYLE, "target": "attributes", "triplet_loss_weight": 1.0, "local_head": "patches", "contrast_loss_weight": 0.05}),
    "fashionnet": Case("fashionnet", {**_TINY, "auxiliary_category_loss": True}, FEW_ITEMS, learns=0.4, steps=40),
    "fashionnet-regression": Case("fashionnet", {**_TINY, "landmark_head": "regression", "targets": ["category", "attributes"], "visibility_gate": "hard", "landmark_loss": "squared"}),
    "retrieval": Case("retrieval", {**_TINY, "embedding_dim": 32}, FEW_ITEMS, PAIRS),
    "retrieval-necked": Case(
        "retrieval", {**_TINY, "embedding_dim": 32, "identity": "category", "bn_neck": True, "pooling": "gem", "mining": "all"}, LABELS, PAIRS,
    ),
    "retrieval-memory": Case(
        "retrieval", {**_TINY, "embedding_dim": 32, "nested_dims": [8], "cosine_scale": 16.0, "cosine_margin": 0.2, "subcenters": 2, "memory_size": 20}, FEW_ITEMS, PAIRS, learns=0.6,
    ),
}  # fmt: skip
CASES |= {name: Case(name, _TINY) for name in task_names() if name not in {case.task for case in CASES.values()}}


def config_of(case: Case, **fit: Any) -> RunConfig:
    settings = {"batch_size": 8, "epochs": 2, "checkpoint_every_steps": 1, "log_every_steps": 1, **case.fit, **fit}
    return resolve({"task": case.task, "model": case.model, "fit": settings}, "the test")


def fresh_task(case: Case, shards: ShardSet) -> Task:
    torch.manual_seed(0)
    return build_task(config_of(case), shards.metadata).train()


def batch_of(task: Task, shards: ShardSet, number: int = 8, generator: np.random.Generator | None = None) -> Batch:
    rows = [int(row) for row in shards.rows("train")[:number]]
    encoded = [{"row": np.int64(row), **task.encoder(RawSample(row, *shards.read(row)), generator)} for row in rows]
    return {name: torch.from_numpy(np.stack([one[name] for one in encoded])) for name in encoded[0]}
