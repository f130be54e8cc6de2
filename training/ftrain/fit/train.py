"""`ftrain <task> SHARDS --run DIR`: one training run from a shard set to a run folder."""

import sys
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import cv2

from fschemas.folders import claim_output
from fschemas.publish import publish_json
from fschemas.wording import count
from ftrain.data.config import RunConfig
from ftrain.data.plan import Mixture
from ftrain.fit.checkpoint_state import step_folder
from ftrain.fit.config import load_config
from ftrain.fit.distributed import Processes, processes, rank_and_world_size, workers_or_default
from ftrain.fit.init_from import init_from
from ftrain.fit.loop import Trainer
from ftrain.fit.numerics import set_numerics
from ftrain.fit.preflight import check_data, check_network
from ftrain.fit.run_data import RunPool, Transforms, open_run_data, renders_on_device
from ftrain.fit.run_folder import RunFolder, flat
from ftrain.fit.trackers import MlflowTracker, TensorboardTracker, check_trackers, default_trackers
from ftrain.fit.tracking import CsvTracker, DvcliveTracker, Tracker, Trackers
from ftrain.tasks.task import Task


@dataclass(frozen=True)
class TrainOptions:
    """Command-line options besides the configuration: paths, device and logging. They do not affect what is learned."""

    shards: str | tuple[str, ...]  # one shard set, or several to train on together
    run: Path
    params: Path | None = None
    profile: str | None = None
    overrides: tuple[str, ...] = ()
    resume: Literal["auto", "never", "required"] = "auto"
    init_from: Path | None = None
    workers: int | None = None  # None: `workers_or_default`
    threads: int | None = None
    device: str = "auto"
    limit_steps: int | None = None
    trackers: tuple[str, ...] = field(default_factory=default_trackers)
    command: tuple[str, ...] = ()  # the command line, for the receipt
    section: str | None = None  # section of `params`; the task's name if None
    transforms: Transforms = "auto"  # where views are rendered
    deterministic: bool = False


def train(task_name: str, options: TrainOptions) -> dict[str, Any]:
    """Train and return the best validation metric; everything else is in the run folder."""
    check_trackers(options.trackers)
    options = replace(options, run=claim_output(Path(options.run), "run"))
    config = load_config(task_name, options.params, options.profile, options.overrides, options.section)
    cv2.setNumThreads(0)
    set_numerics(tf32=config.fit.tf32, deterministic=options.deterministic)
    sets = [options.shards] if isinstance(options.shards, str) else options.shards
    data, names = open_run_data(config, sets, *rank_and_world_size())
    task, shards = data.task, data.shards
    notes = check_data(config, data)
    workers = workers_or_default(options.workers, options.device)
    on_device = renders_on_device(options.transforms, options.device, task)
    with RunPool(data, workers, on_device=on_device) as pool, ExitStack() as stack:
        pool.start()  # before the process group and CUDA, which do not survive a fork
        group = stack.enter_context(processes(options.device, workers, options.threads))
        group.require_same("shard set", shards.plan_id)
        group.require_same("configuration", config.digest)
        group.require_same("--limit-steps", str(options.limit_steps or 0))
        run = RunFolder(options.run)

        def hold() -> None:
            stack.enter_context(run.hold())

        group.on_main(hold)
        check_network(config, data, group.device)
        if options.init_from is not None:  # before changing the folder, which may be the source
            notes.append(init_from(task, options.init_from))
        group.wait()

        def start() -> None:
            print(run.start(config, shards, options.resume, names), file=sys.stderr)
            for note in notes:
                print(note, file=sys.stderr)

        group.on_main(start)
        tracker = _tracker(config, options, group)
        trainer = Trainer(config, data, pool, options.run, group, tracker, limit_steps=options.limit_steps)
        if group.is_main:
            _describe(trainer, task, group)
        state = trainer.train()
        if group.is_main:
            run.write_receipt(state, options.command)
            metrics = {"validation": state.best, "step": state.step, "steps": trainer.num_steps}
            publish_json(options.run / "metrics.json", metrics)
    return {"run": str(options.run), "step": state.step, "best": state.best}


def _tracker(config: RunConfig, options: TrainOptions, group: Processes) -> Trackers:
    if not group.is_main:
        return Trackers()
    chosen: list[Tracker] = [CsvTracker(options.run)]
    for name in dict.fromkeys(options.trackers):
        if name == "dvclive":
            chosen.append(DvcliveTracker(options.run))
        elif name == "tensorboard":
            chosen.append(TensorboardTracker(options.run))
        elif name == "mlflow":
            chosen.append(MlflowTracker(options.run, flat(config.model_dump(mode="json"))))
    return Trackers(*chosen)


def _describe(trainer: Trainer, task: Task, group: Processes) -> None:
    if isinstance(trainer.plan.sampler, Mixture) and len(trainer.data.shards.parts) > 1:
        mixture = trainer.plan.sampler
        parts = zip(mixture.shares, mixture.members, trainer.data.shards.parts, strict=True)
        text = ", ".join(f"{share:.0%} of {part.location} ({len(rows)})" for share, rows, part in parts)
        print(f"each batch (training images): {text}", file=sys.stderr)
    num_parameters = sum(parameter.numel() for parameter in task.parameters())
    print(
        f"{task.name}: {num_parameters / 1e6:.2f} M parameters, {count(len(trainer.plan.rows), 'training sample')}, "
        f"{count(trainer.num_steps, 'step')} of {trainer.fit.batch_size} on {group.world_size} x {group.device.type}, "
        f"seed {trainer.fit.seed}, checkpoints in {step_folder(0).removesuffix('00000000')}* of {trainer.checkpoints}",
        file=sys.stderr,
    )
