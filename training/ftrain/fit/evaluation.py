"""Predictions for a whole split: every sample exactly once, on any number of processes, in index order."""

from collections import deque
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
    gathered, done = _Gathered(processes), 0
    with closing(batches):
        for batch in batches:
            predictions = predict(batch)
            gathered.add({**predictions, "row": batch["row"]})
            done = min(len(rows), done + len(batch["row"]) * processes.world_size)
            show(stage, done, len(rows))
            if after_batch is not None:
                after_batch()
    results = gathered.results()
    order = np.argsort(results["row"], kind="stable")
    order = order[np.count_nonzero(results["row"] < 0) :]
    results = {name: values[order] for name, values in results.items()}
    if not np.array_equal(results["row"], np.sort(rows)):
        raise IntegrityError(f"predicted {len(results['row'])} samples instead of {len(rows)}; report this as a bug")
    return results


class _Gathered:
    """Predictions of all ranks, batch by batch, on the host.

    Those of a GPU are read once the next batch is queued, so that it does not idle between batches.
    """

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.copying: deque[tuple[list[tuple[str, torch.Tensor]], torch.cuda.Event | None]] = deque()
        self.parts: dict[str, list[np.ndarray]] = {}

    def add(self, predictions: Batch) -> None:
        """Gather the predictions of a batch, tensors (B, …) by name."""
        copies = [
            (name, part.to("cpu", non_blocking=True))
            for name, tensor in predictions.items()
            for part in self.processes.gather(tensor.float() if tensor.dtype == torch.bfloat16 else tensor)
        ]
        copied = None
        if self.processes.device.type == "cuda":
            copied = torch.cuda.Event()
            copied.record()
        self.copying.append((copies, copied))
        self._read(leaving=0 if copied is None else 1)

    def results(self) -> Results:
        """Return the predictions of all batches."""
        self._read(leaving=0)
        return {name: np.concatenate(parts) for name, parts in self.parts.items()}

    def _read(self, leaving: int) -> None:
        while len(self.copying) > leaving:
            copies, copied = self.copying.popleft()
            if copied is not None:
                copied.synchronize()
            # Copied again: pinned memory is scarce, and a batch on the CPU will be overwritten.
            for name, part in copies:
                self.parts.setdefault(name, []).append(part.numpy().copy())
