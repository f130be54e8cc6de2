"""Predictions for a whole split: every sample exactly once, on any number of processes, in index order."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import numpy as np
import torch

from fschemas.failures import IntegrityError
from fschemas.progress import show
from fschemas.shard_set import ShardSet
from ftrain.data.stream import Batch, BatchPool, Encoder, evaluation_stream
from ftrain.data.types import Results
from ftrain.fit.distributed import Processes
from ftrain.tasks.task import Task


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move the batch to a device; on the CPU, its memory is shared."""
    if device.type == "cpu":
        return batch
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


@torch.inference_mode()
def results_of_split(
    model: torch.nn.Module, shards: ShardSet, rows: np.ndarray, processes: Processes, batch_size: int, workers: int,
    after_batch: Callable[[], None] | None = None, encoder: Encoder | None = None,
    stage: str = "predicting", validating: bool = False, batches: Iterator[Batch] | None = None,
) -> Results:  # fmt: skip
    """Predict `rows` and gather the results on every rank: arrays (N, …) by name, sorted by `row` (N).

    `batch_size` counts all ranks. `encoder` replaces the encoder of the task. `after_batch` may raise, on all ranks
    alike, to stop. `stage` is the label of progress reports. `validating` calls `Task.validate` instead of
    `Task.predict`. `batches` are those of `rows`, if workers already prepare them. bfloat16, which numpy lacks, becomes
    float32. The model is left in evaluation mode. Raises `IntegrityError` unless each row was predicted exactly once.
    """
    task: Task = model  # type: ignore[assignment]
    task.eval()
    encoder, predict = encoder or task.encoder, task.validate if validating else task.predict
    per_rank = max(1, batch_size // processes.world_size)
    gathered: dict[str, list[np.ndarray]] = {}
    with ExitStack() as stack:
        if batches is None:
            stream, steps = evaluation_stream(
                shards, encoder, rows, batch_size=per_rank, rank=processes.rank, world_size=processes.world_size,
                workers=workers,
            )  # fmt: skip
            batches = stack.enter_context(BatchPool([stream], workers)).batches(0, steps)
        stack.enter_context(closing(batches))  # type: ignore[type-var]
        done = 0
        for batch in batches:
            predictions = predict(to_device(batch, processes.device))
            for name, tensor in {**predictions, "row": batch["row"].to(processes.device)}.items():
                for part in processes.gather(tensor.float() if tensor.dtype == torch.bfloat16 else tensor):
                    gathered.setdefault(name, []).append(part.cpu().numpy().copy())
            done = min(len(rows), done + per_rank * processes.world_size)
            show(stage, done, len(rows))
            if after_batch is not None:
                after_batch()
    results = {name: np.concatenate(parts) for name, parts in gathered.items()}
    order = np.argsort(results["row"], kind="stable")
    order = order[np.count_nonzero(results["row"] < 0) :]
    results = {name: values[order] for name, values in results.items()}
    if not np.array_equal(results["row"], np.sort(rows)):
        raise IntegrityError(
            f"{shards.location}: predicted {len(results['row'])} samples instead of {len(rows)}; report this as a bug"
        )
    return results
