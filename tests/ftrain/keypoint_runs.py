"""Run folders of the keypoint task without training: initial or hand-set weights, saved as by a trainer."""

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
from ftrain.tasks.task import Task, build_task

TINY = {"backbone": "test_efficientnet", "channels": 16, "input_size": 64}


def tiny_config(**model: Any) -> RunConfig:
    return resolve({"task": "keypoints", "model": {**TINY, **model}, "fit": {}}, "the test")


def tiny_task(dataset: dict[str, Any], seed: int = 0, **model: Any) -> Task:
    """A new task with final convolutions away from zero, so that its heat maps have peaks."""
    torch.manual_seed(seed)
    task = build_task(tiny_config(**model), dataset)
    for module in task.modules():
        if isinstance(module, torch.nn.Conv2d) and module.bias is not None:
            torch.nn.init.normal_(module.weight, std=0.05)
    return task.eval()


def write_run(folder: Path, shards: ShardSet, task: Task | None = None, step: int = 7, **model: Any) -> Path:
    """Write a run folder with one checkpoint, the best."""
    config = tiny_config(**model)
    run = RunFolder(folder)
    folder.mkdir(parents=True)
    run.start(config, shards, "auto")
    task = task or tiny_task(shards.metadata, **model)
    best = {"metric": "ne", "value": 0.5, "step": step}
    state = TrainingState(step=step, plan_id=shards.plan_id, config_digest=config.digest, best=best)
    checkpoint.save_checkpoint(run.checkpoints, state, {"model": task.state_dict()}, keep=1)
    checkpoint.mark_best(run.checkpoints, state)
    return folder
