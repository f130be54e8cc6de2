"""Predictions for a whole split: every sample exactly once, on any number of processes, in index order."""

from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any

import numpy as np
import torch

from fschemas.failures import IntegrityError
from fschemas.progress import show
from fschemas.shard_set import ShardSet
from ftrain.data.stream import Batch, BatchPool, Encoder, evaluation_stream
from ftrain.data.types import Results
from ftrain.fit.distributed import Processes
from ftrain.tasks.task import Task


def results_of_split(
    task: Task,
    shards: ShardSet,
    rows: np.ndarray,
    processes: Processes,
    batch_size: int,
    workers: int,
    encoder: Encoder | None = None,
    **options: Any,
) -> Results:
    """Predict `rows` in batches of `batch_size` over all ranks, prepared by own workers; see `predict_batches`.

    `encoder` replaces the encoder of the task.
    """
    stream, steps = evaluation_stream(
        shards, encoder or task.encoder, rows, batch_size=batch_size, rank=processes.rank,
        world_size=processes.world_size,
    )  # fmt: skip
    with BatchPool([stream], workers) as pool:
        return predict_batches(task, pool.batches(0, steps, processes.device), rows, processes, **options)


@torch.inference_mode()
def predict_batches(
    task: Task,
    batches: Generator[Batch],
    rows: np.ndarray,
    processes: Processes,
    *,
    stage: str = "predicting",
    validating: bool = False,
    after_batch: Callable[[], None] | None = None,
) -> Results:
    """Predict the batches of this rank and gather the results on every rank: arrays (N, …) by name, sorted by `row` (N).

    The batches of all ranks must hold each of the `rows` once. `stage` is the label of progress reports. `validating`
    calls `Task.validate` instead of `Task.predict`. `after_batch` may raise, on all ranks alike, to stop. bfloat16, which
    numpy lacks, becomes float32. The task is left in evaluation mode. Raises `IntegrityError` unless each row was
    predicted exactly once.
    """
    task.eval()
    predict = task.validate if validating else task.predict
    gathered: dict[str, list[np.ndarray]] = {}
    done = 0
    with closing(batches):
        for batch in batches:
            predictions = predict(batch)
            for name, tensor in {**predictions, "row": batch["row"]}.items():
                for part in processes.gather(tensor.float() if tensor.dtype == torch.bfloat16 else tensor):
                    gathered.setdefault(name, []).append(part.cpu().numpy().copy())
            done = min(len(rows), done + len(batch["row"]) * processes.world_size)
            show(stage, done, len(rows))
            if after_batch is not None:
                after_batch()
    results = {name: np.concatenate(parts) for name, parts in gathered.items()}
    order = np.argsort(results["row"], kind="stable")
    order = order[np.count_nonzero(results["row"] < 0) :]
    results = {name: values[order] for name, values in results.items()}
    if not np.array_equal(results["row"], np.sort(rows)):
        raise IntegrityError(f"predicted {len(results['row'])} samples instead of {len(rows)}; report this as a bug")
    return results
