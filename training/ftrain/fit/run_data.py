"""What one process of a run trains and validates on, and the pool of workers that prepares its batches."""

from collections.abc import Generator

import torch

from fschemas.shard_set import ShardSet
from ftrain.data.config import RunConfig
from ftrain.data.plan import TrainingPlan
from ftrain.data.stream import Batch, BatchPool, evaluation_stream, training_stream
from ftrain.fit.splits import Splits, positions_of_rank, sampler_of
from ftrain.tasks.task import Task


class RunPool(BatchPool):
    """One pool of data workers for the training and the validation batches of a run."""

    def __init__(self, data: "RunData", workers: int) -> None:
        task, plan, positions = data.task, data.plan, data.positions.reshape(-1)
        streams = [training_stream(data.shards, task.encoder, plan, positions)]
        if len(data.validation_rows):
            stream, self.validation_steps = evaluation_stream(
                data.shards, task.encoder, data.validation_rows, batch_size=plan.batch_size,
                rank=data.rank, world_size=data.world_size,
            )  # fmt: skip
            streams.append(stream)
        super().__init__(streams, workers)

    def training(self, steps: range, device: torch.device) -> Generator[Batch]:
        """Yield the training batches of these steps on a device."""
        return self.batches(0, steps, device)

    def validation(self, device: torch.device) -> Generator[Batch]:
        """Yield the validation batches on a device."""
        return self.batches(1, self.validation_steps, device)


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
