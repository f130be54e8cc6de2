"""Checks before the first step: data without anything to learn or measure, networks that cannot take the batch.

Nothing is written, and the task is left unchanged, so a refused command has no effects.
"""

import traceback
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from fschemas.failures import EnvironmentProblem, UsageError
from fschemas.shard_set import ShardSet
from fschemas.wording import count
from ftrain.data.config import FitConfig, RunConfig
from ftrain.data.plan import Mixture, Sampler, TrainingPlan, anchors_with_positive, shuffled
from ftrain.data.stream import Batch, encode_row, usable_annotations
from ftrain.data.types import Rows
from ftrain.fit.optimization import autocast, check_stages, enter_stage, weigh
from ftrain.fit.run_data import RunData
from ftrain.layers import cut_backbone
from ftrain.tasks.task import Task

# Code of timm networks, and the stages of one that was cut, which may be modules of torch.
_NETWORKS = str(Path(find_spec("timm").origin).parent), cut_backbone.__file__  # type: ignore[union-attr,arg-type]
_SEARCHED = 8  # batches, for positives
_REHEARSED = 2  # images: any failure of a larger batch also occurs with two


def check_data(config: RunConfig, data: RunData) -> list[str]:
    """Return notes on what a run will not learn, one sentence each.

    Raises `UsageError` for data that nothing can be learned from or evaluated on.
    """
    task, shards, plan = data.task, data.shards, data.plan
    with _named(shards.location, ""), usable_annotations(shards):
        notes = task.check_training(Rows(shards, plan.rows))
        notes += [
            *_order_of_auto(config.fit, shards, plan.sampler, plan.rows),
            *_lonely_anchors(task, config.fit, plan, shards),
        ]
    if np.isin(data.validation_rows, data.training_rows).any():
        raise UsageError(
            f"validation_split={config.validation_split} has images of train_split={config.train_split}, so it cannot select a "
            "checkpoint; choose another split, or validation_split=holdout"
        )
    if len(data.validation_rows):
        split = config.validation_split
        other = "increase hold_out" if data.holds_out else f"use another shard set for the split {split!r}"
        first, *others = shards.parts
        if others:
            other = "list the shard set to validate on first"
        remedy = f"; {other}, or train with --set validation_split=none"
        with _named(f"{first.location}: validation cannot be measured", remedy), usable_annotations(shards):
            task.check_validation(Rows(shards, data.validation_rows))
    return notes


def check_network(config: RunConfig, data: RunData, device: torch.device) -> None:
    """Raise `UsageError` for stages that do not suit the network and for a network that cannot process its batches.

    Raises `EnvironmentProblem` if torch.compile does not work. Moves the task to `device`.
    """
    task, fit, size = data.task, config.fit, data.positions.shape[1]
    check_stages(task, fit.stages)
    task.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    batch = example_batch(task, data.shards, int(data.plan.rows[0]), size if fit.compile else min(size, _REHEARSED))
    rehearse(task, fit, {name: tensor.to(device) for name, tensor in batch.items()})


def _order_of_auto(fit: FitConfig, shards: ShardSet, sampler: Sampler, rows: np.ndarray) -> list[str]:
    """Say what `fit.sampler=auto` chose for a single set; of several, each chooses for itself."""
    if fit.sampler != "auto" or len(shards.parts) > 1:
        return []
    if sampler is shuffled:
        return ["fit.sampler=auto: no item has two training images, so the order is shuffled"]
    number = len(sampler.members[0]) if isinstance(sampler, Mixture) else len(rows)
    return [
        f"fit.sampler=auto: {number} of {count(len(rows), 'training image')} in groups of {fit.samples_per_identity} per item"
    ]


def _lonely_anchors(task: Task, fit: FitConfig, plan: TrainingPlan, shards: ShardSet) -> list[str]:
    """Say so if less than half of the images in the first batches have another one with the same label to compare."""
    counted = np.zeros(2, dtype=np.int64)
    for step in range(min(_SEARCHED, plan.steps_per_epoch)):
        labels = task.compared(Rows(shards, plan.batch(step)))
        if labels is None:
            return []
        counted += anchors_with_positive(labels)
    having, anchors = counted.tolist()
    everything = Rows(shards, plan.rows)
    if 2 * having >= anchors or not (having or anchors_with_positive(np.asarray(task.compared(everything)))[0]):
        return []  # without any pair, `check_training` says so
    remedy = "" if fit.sampler in ("auto", "identities") else "fit.sampler=identities, or "
    sentence = (
        f"only {having / anchors:.1%} of the anchors of the triplet loss have a positive in their batch, so it learns little "
        f"(fit.sampler={fit.sampler}, fit.batch_size={fit.batch_size}); use {remedy}a larger batch"
    )
    return [sentence]


def example_batch(task: Task, shards: ShardSet, row: int, size: int) -> Batch:
    """Batch of `size` copies of the same sample, without augmentation."""
    encoded = {"row": np.int64(row), **encode_row(shards, task.encoder, row, None)}
    return {name: torch.from_numpy(np.stack([array] * size)) for name, array in encoded.items()}


def rehearse(task: Task, fit: FitConfig, batch: Batch) -> None:
    """Run a batch through every stage, prediction and, if enabled, the compiled network, without training."""
    device = next(iter(batch.values())).device
    with _unchanged(task, device), autocast(device, fit.amp):
        for stage in fit.stages:
            task.train()
            enter_stage(task, stage)
            with torch.no_grad(), _refusals(task, batch, fit):
                losses = task(batch)
            weigh(losses, stage)
        with torch.no_grad(), _refusals(task, batch, fit):
            task.eval().predict(batch)
        if fit.compile:
            task.train()
            enter_stage(task, fit.stages[0])
            with _compiler_needed():
                torch.compile(task, dynamic=False)(batch)["loss"].backward()


@contextmanager
def _unchanged(task: Task, device: torch.device) -> Generator[None]:
    """Restore what a trial run changes: statistics, modes, trainable parameters, gradients and random states."""
    buffers = [buffer.clone() for buffer in task.buffers()]
    modes = [(module, module.training) for module in task.modules()]
    learning = [(parameter, parameter.requires_grad) for parameter in task.parameters()]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            for buffer, value in zip(task.buffers(), buffers, strict=True):
                buffer.copy_(value)
            for module, training in modes:
                module.training = training
            for parameter, requires_grad in learning:
                parameter.requires_grad_(requires_grad).grad = None


@contextmanager
def _named(source: str, remedy: str) -> Generator[None]:
    """Add the location and a remedy to the message of an error."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{source}: {error}{remedy}") from None


@contextmanager
def _refusals(task: Task, batch: Batch, fit: FitConfig) -> Generator[None]:
    """Convert errors of torch and timm about a batch that does not fit to `UsageError`."""
    try:
        yield
    except (ValueError, RuntimeError, AssertionError, TypeError) as error:
        if "more than 1 value per channel" in str(error):
            raise UsageError(
                f"fit.batch_size={fit.batch_size} in fit.micro_batches={fit.micro_batches} parts leaves batch normalization one value per "
                "channel; raise fit.batch_size, lower fit.micro_batches, or raise model.input_size"
            ) from error
        frames = traceback.extract_tb(error.__traceback__)
        if isinstance(error, torch.OutOfMemoryError) or not any(
            frame.filename.startswith(_NETWORKS) for frame in frames
        ):
            raise
        model = task.config.model_dump()
        reason = " ".join(str(error).split()) or type(error).__name__
        sizes = " x ".join(str(side) for side in batch["image"].shape[1:3])
        raise UsageError(
            f"the backbone {model.get('backbone')!r} cannot take images of {sizes} pixels ({reason}); choose another model.backbone or "
            "model.input_size"
        ) from error


@contextmanager
def _compiler_needed() -> Generator[None]:
    """Convert errors to compiler errors: the same batch has passed without compilation, so the compiler fails."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        raise EnvironmentProblem(
            f"torch.compile does not work here ({reason}); install a C++ compiler (g++), set CXX to one, or train without --compile "
            "(fit.compile=false)"
        ) from error
