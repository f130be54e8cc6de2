"""Trainers and runs of the tiny task."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch
from tests.ftrain.tiny.task import Tiny, TinyConfig

from fschemas.shard_set import ShardSet
from ftrain.data.config import FitConfig, RunConfig
from ftrain.fit import checkpoint
from ftrain.fit.checkpoint_state import step_folder
from ftrain.fit.distributed import Processes
from ftrain.fit.loop import Trainer
from ftrain.fit.run_data import RunData, RunPool
from ftrain.fit.tracking import CsvTracker, Trackers
from ftrain.tasks.task import Task

DEFAULT_FIT: dict[str, Any] = {
    "epochs": 4, "batch_size": 8, "learning_rate": 0.01, "ema_decay": 0.9, "checkpoint_every_steps": 3, "log_every_steps": 1, "warmup_ratio": 0.1,
}  # fmt: skip
ALONE = Processes(0, 1, torch.device("cpu"))


def make_trainer(
    shards: Path | ShardSet, run: Path, processes: Processes = ALONE, *, workers: int = 0, limit_steps: int | None = None,
    model: dict[str, Any] | None = None, validation_split: str = "val", **fit: Any,
) -> Trainer:  # fmt: skip
    """A trainer of the tiny task; `fit` overrides `DEFAULT_FIT`."""
    opened = shards if isinstance(shards, ShardSet) else ShardSet.open(shards)
    settings = FitConfig(**{**DEFAULT_FIT, **fit})
    torch.manual_seed(settings.seed)
    task = Tiny(TinyConfig(**(model or {})), opened.metadata)
    model_values = task.config.model_dump(mode="json")
    config = RunConfig(task="tiny", model=model_values, fit=settings, validation_split=validation_split)
    tracker = Trackers(CsvTracker(run)) if processes.is_main else Trackers()
    run.mkdir(parents=True, exist_ok=True)
    data = RunData(task, config, opened, processes.rank, processes.world_size)
    return Trainer(config, data, RunPool(data, workers), run, processes, tracker, limit_steps=limit_steps)


def trainer_of(
    task: Task, config: RunConfig, shards: ShardSet, run: Path, limit_steps: int | None = None, processes: Processes = ALONE
) -> Trainer:  # fmt: skip
    """A trainer of any task, in this process and without files of a tracker."""
    data = RunData(task, config, shards, 0, 1)
    return Trainer(config, data, RunPool(data, 0), run, processes, Trackers(), limit_steps=limit_steps)


def saved(run: Path, step: int, file: str = "model") -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, with verified digests."""
    folder = run / "checkpoints" / step_folder(step)
    checkpoint.check(folder)
    return checkpoint.load_tensors(folder, file)


def rows_of(run: Path, series: str) -> list[dict[str, str]]:
    """The logged rows."""
    with open(run / f"{series}.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))
