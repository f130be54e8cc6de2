"""A trained task at work: loaded from its run onto a device, and asked for a batch of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ftrain.run_folder import RunFolder
from ftrain.stream import Batch
from ftrain.task import Results, Task

Arrays = dict[str, np.ndarray]


def load_task(run: Path, checkpoint: str, tta: bool | None, device: torch.device) -> Task:
    """The trained task of a run, ready on the device, with turned views as asked for."""
    task, _, _ = RunFolder(Path(run)).load(checkpoint)
    task.use_turned_views(tta)
    task.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return task


@torch.inference_mode()
def predict_batch(task: Task, inputs: list[Arrays], device: torch.device) -> Results:
    """Predictions of encoded pictures, as arrays with the first dimension len(inputs); {} for none."""
    if not inputs:
        return {}
    return {name: tensor.cpu().numpy() for name, tensor in task.predict(as_batch(inputs, device)).items()}


def as_batch(inputs: Sequence[Arrays], device: torch.device) -> Batch:
    """Encoded pictures as the batch that `predict` takes."""
    return {name: torch.from_numpy(np.stack([one[name] for one in inputs])).to(device) for name in inputs[0]}
