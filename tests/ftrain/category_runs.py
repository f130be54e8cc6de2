"""Run folders of the category task without training: initial weights, saved as by a trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fschemas.shard_set import ShardSet
from ftrain.data.config import RunConfig
from ftrain.fit import checkpoint
from ftrain.fit.checkpoint_state import TrainingState
from ftrain.fit.config import resolve
from ftrain.fit.run_folder import RunFolder
from ftrain.fit.splits import Splits
from ftrain.tasks.category.task import Category
from ftrain.tasks.task import build_task

TINY = {"backbone": "test_efficientnet", "input_size": 64}


def tiny_config(**model: Any) -> RunConfig:
    return resolve({"task": "category", "model": {**TINY, **model}, "fit": {}}, "the test")


def tiny_task(shards: ShardSet, seed: int = 0, **model: Any) -> Category:
    """A new task with the names of the training split."""
    torch.manual_seed(seed)
    task = build_task(tiny_config(**model), {**shards.metadata, "names": names_of(shards, **model)})
    assert isinstance(task, Category)
    return task.eval()


def names_of(shards: ShardSet, **model: Any) -> dict[str, list[str]]:
    config = tiny_config(**model)
    task = Category
    rows = Splits(task, config, shards).training()  # type: ignore[arg-type]
    return task.names_to_learn(task.Config(**config.model), shards.columns, rows)


def write_run(folder: Path, shards: ShardSet, task: Category | None = None, **model: Any) -> Path:
    """Write a run folder with one checkpoint, the best."""
    config = tiny_config(**model)
    run = RunFolder(folder)
    folder.mkdir(parents=True)
    run.start(config, shards, "auto", names_of(shards, **model))
    task = task or tiny_task(shards, **model)
    best = {"metric": "score", "value": 0.5, "step": 7}
    state = TrainingState(step=7, plan_id=shards.plan_id, config_digest=config.digest, best=best)
    checkpoint.save_checkpoint(run.checkpoints, state, {"model": task.state_dict()}, keep=1)
    checkpoint.mark_best(run.checkpoints, state)
    return folder
