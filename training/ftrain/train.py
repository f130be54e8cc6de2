"""`ftrain <task> SHARDS --run DIR`: one training run from a shard set to a run folder."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import torch

from fschemas.publish import publish_json, remove_leftovers
from fschemas.shard_set import ShardSet
from ftrain import checkpoint
from ftrain.config import RunConfig, build_task, load_config
from ftrain.distributed import Processes, processes
from ftrain.loop import Trainer, load_weights
from ftrain.remote import open_shards
from ftrain.run_folder import RunFolder
from ftrain.split_lock import check_lock
from ftrain.task import Task
from ftrain.tracking import CsvTracker, DvcliveTracker, Tracker, Trackers


@dataclass(frozen=True)
class TrainOptions:
    """What the command line says besides the configuration: where and on what, not what is learnt."""

    shards: str
    run: Path
    params: Path | None = None
    profile: str | None = None
    overrides: tuple[str, ...] = ()
    resume: Literal["auto", "never", "must"] = "auto"
    init_from: Path | None = None
    workers: int = 2
    threads: int | None = None
    device: str = "auto"
    limit_steps: int | None = None
    tracker: Literal["dvclive", "none"] = "dvclive"


def train(task_name: str, options: TrainOptions) -> dict[str, Any]:
    """Train and return the best validation figure; everything else stands in the run folder."""
    config = load_config(task_name, options.params, options.profile, list(options.overrides))
    if options.threads:
        torch.set_num_threads(options.threads)
    cv2.setNumThreads(0)
    shards = open_shards(options.shards)
    check_lock(config.lock, shards)
    with processes(options.device) as group:
        if not group.is_main:
            return _train(config, shards, options, group)
        with RunFolder(options.run).hold():
            return _train(config, shards, options, group)


def _train(config: RunConfig, shards: ShardSet, options: TrainOptions, group: Processes) -> dict[str, Any]:
    torch.manual_seed(config.fit.seed)
    task = build_task(config, shards.metadata)
    shards.require(task.needs)
    run = RunFolder(options.run)
    if group.is_main:
        remove_leftovers(options.run)
        print(run.start(config, shards, options.resume), file=sys.stderr)
    group.wait()
    if options.init_from is not None:
        _init_from(task, options.init_from)
    trainer = Trainer(
        task, config, shards, options.run, group, _tracker(options, group),
        workers=options.workers, limit_steps=options.limit_steps,
    )  # fmt: skip
    if group.is_main:
        _describe(trainer, task, group)
    state = trainer.train()
    if group.is_main:
        run.write_receipt(state, [task.name, *options.overrides])
        publish_json(options.run / "metrics.json", {"validation": state.best, "step": state.step, "steps": trainer.num_steps})
    return {"run": str(options.run), "step": state.step, "best": state.best}


def _tracker(options: TrainOptions, group: Processes) -> Trackers:
    if not group.is_main:
        return Trackers()
    chosen: list[Tracker] = [CsvTracker(options.run)]
    if options.tracker == "dvclive":
        chosen.append(DvcliveTracker(options.run))
    return Trackers(*chosen)


def _init_from(task: Task, source: Path) -> None:
    """Take the weights of another run, its best checkpoint's averaged ones where it has some."""
    other, _, _ = RunFolder(source).load()
    load_weights(task, other.state_dict(), source)


def _describe(trainer: Trainer, task: Task, group: Processes) -> None:
    num_parameters = sum(parameter.numel() for parameter in task.parameters())
    print(
        f"{task.name}: {num_parameters / 1e6:.2f} M parameters, {len(trainer.plan.rows)} training samples, "
        f"{trainer.num_steps} steps of {trainer.fit.batch_size} on {group.world_size} x {group.device.type}, "
        f"seed {trainer.fit.seed}, checkpoints in {checkpoint.step_folder(0).removesuffix('00000000')}* of {trainer.checkpoints}",
        file=sys.stderr,
    )
