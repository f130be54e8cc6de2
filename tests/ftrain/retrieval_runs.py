"""Minimal retrieval tasks and trainers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.ftrain.tiny_task import trainer_of as trainer_of_task

from fschemas.shard_set import ShardSet
from ftrain.data.config import FitConfig, RunConfig
from ftrain.data.stream import RawSample
from ftrain.fit.checkpoint import save_checkpoint
from ftrain.fit.checkpoint_state import TrainingState
from ftrain.fit.config import resolve
from ftrain.fit.loop import Trainer
from ftrain.fit.run_folder import RunFolder
from ftrain.tasks.retrieval.task import Retrieval
from ftrain.tasks.task import build_task

TINY: dict[str, Any] = {"backbone": "test_efficientnet", "input_size": 32, "embedding_dim": 16}


def config_of(**model: Any) -> RunConfig:
    return resolve({"task": "retrieval", "model": {**TINY, **model}, "fit": {}}, "the test")


def task_of(shards: ShardSet, **model: Any) -> Retrieval:
    torch.manual_seed(0)
    items = sorted(set(shards.columns["item"].tolist()))
    task = build_task(config_of(**model), {**shards.metadata, "names": {"item": items}})
    assert isinstance(task, Retrieval)
    return task


def batch_of(task: Retrieval, shards: ShardSet, rows: list[int]) -> dict[str, torch.Tensor]:
    encoded = [task.encoder(RawSample(row, *shards.read(row)), None) for row in rows]
    return {name: torch.from_numpy(np.stack([one[name] for one in encoded])) for name in encoded[0]}


def trainer_of(
    shards: ShardSet, run: Path, model: dict[str, Any] | None = None, limit_steps: int | None = None, **fit: Any
) -> Trainer:
    settings = {
        "batch_size": 8,
        "epochs": 2,
        "log_every_steps": 1,
        "sampler": "identities",
        "samples_per_identity": 2,
        **fit,
    }
    task = task_of(shards, **(model or {}))
    config = RunConfig(
        task="retrieval", model=task.config.model_dump(mode="json"), fit=FitConfig(**settings), hold_out=0.4
    )
    run.mkdir(exist_ok=True)
    return trainer_of_task(task, config, shards, run, limit_steps)


def write_run(folder: Path, shards: ShardSet, **model: Any) -> Path:
    """Write a run folder with one checkpoint, with initial weights."""
    task = task_of(shards, **model)
    config, run = config_of(**model), RunFolder(folder)
    folder.mkdir(parents=True)
    run.start(config, shards, "auto", {"item": sorted(set(shards.columns["item"].tolist()))})
    state = TrainingState(step=5, plan_id=shards.plan_id, config_digest=config.digest)
    save_checkpoint(run.checkpoints, state, {"model": task.state_dict()}, keep=1)
    return folder
