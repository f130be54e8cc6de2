"""What one process of a run trains and validates on, and the pool of workers that prepares its batches."""

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Literal

import torch

from fschemas.shard_set import ShardSet
from ftrain.data.config import RunConfig, ViewConfig
from ftrain.data.device_view import canvas_side
from ftrain.data.joined_shards import open_sets
from ftrain.data.plan import TrainingPlan
from ftrain.data.split_lock import check_lock
from ftrain.data.stream import Batch, BatchPool, evaluation_stream, training_stream
from ftrain.fit.splits import Splits, names_to_learn, positions_of_rank, sampler_of
from ftrain.tasks.task import Task, build_task

Transforms = Literal["auto", "workers", "device"]


def renders_on_device(transforms: Transforms, device: str, task: Task) -> bool:
    """Whether the device renders the views: by default, if it is a GPU, which this does not initialize."""
    if transforms != "auto":
        return transforms == "device"
    has_gpu = device == "cuda" or (device == "auto" and torch.cuda.device_count() > 0)
    return has_gpu and isinstance(task.config, ViewConfig)


class RunPool(BatchPool):
    """One pool of data workers for the training and the validation batches of a run.

    Their views are rendered by the workers or, with `on_device`, by the device.
    """

    def __init__(self, data: "RunData", workers: int, *, on_device: bool = False) -> None:
        task, plan, positions = data.task, data.plan, data.positions.reshape(-1)
        canvas = canvas_side(data.shards, plan.rows, task.view_config().input_size) if on_device else None
        streams = [training_stream(data.shards, task.encoder, plan, positions, canvas)]
        if len(data.validation_rows):
            stream, self.validation_steps = evaluation_stream(
                data.shards, task.encoder, data.validation_rows, batch_size=plan.batch_size,
                rank=data.rank, world_size=data.world_size, canvas=canvas,
            )  # fmt: skip
            streams.append(stream)
        super().__init__(streams, workers)
        self.task = task
        self.transforms = "device" if on_device else "workers"

    def training(self, steps: range, device: torch.device) -> Generator[Batch]:
        """Yield the training batches of these steps on a device."""
        return self._prepared(self.batches(0, steps, device))

    def validation(self, device: torch.device) -> Generator[Batch]:
        """Yield the validation batches on a device."""
        return self._prepared(self.batches(1, self.validation_steps, device))

    def _prepared(self, batches: Generator[Batch]) -> Generator[Batch]:
        with closing(batches):
            for batch in batches:
                yield self.task.prepare(batch)


class RunData:
    """What one process of a run trains and validates on: rows, their order, and its share of each global batch.

    Raises `UsageError` for a sampler or a batch size that does not suit the data or the number of processes.
    """

    def __init__(self, task: Task, config: RunConfig, shards: ShardSet, rank: int, world_size: int) -> None:
        fit, splits = config.fit, Splits(task, config, shards)
        self.task, self.shards, self.rank, self.world_size = task, shards, rank, world_size
        self.holds_out = splits.holds_out
        self.validation_rows, self.training_rows = splits.validation(), splits.training()
        sampler, rows = sampler_of(task, fit, shards, self.training_rows)
        self.plan = TrainingPlan(rows, fit.batch_size, fit.seed, sampler)
        self.positions = positions_of_rank(fit, rank, world_size, sampler)


def open_run_data(
    config: RunConfig, sets: Sequence[str], rank: int, world_size: int
) -> tuple[RunData, dict[str, list[str]]]:
    """Open the shard sets of a run and build its task, with the initial weights of its seed.

    Also returns the names that the task learns from the training images (`names_to_learn`). Raises the errors of these
    steps, and those of `RunData`.
    """
    shards = open_sets(sets)
    for part in shards.parts:
        check_lock(config.split_lock, part)
    torch.manual_seed(config.fit.seed)
    names = names_to_learn(config, shards)
    task = build_task(config, {**shards.metadata, "names": names})
    return RunData(task, config, shards, rank, world_size), names
