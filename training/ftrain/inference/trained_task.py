"""Loading a trained task from its run and predicting batches of images."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from fschemas.cores import available_cores
from ftrain.data.stream import Batch
from ftrain.data.types import Results
from ftrain.data.user_images import quiet_decoder
from ftrain.fit.run_folder import RunFolder
from ftrain.tasks.task import Task

Arrays = dict[str, np.ndarray]
AnyTask = TypeVar("AnyTask", bound=Task)
Item = TypeVar("Item")
Loaded = TypeVar("Loaded")


def load_task(run: Path, checkpoint: str, tta: bool | None, device: torch.device) -> Task:
    """Load the trained task of a run onto the device, with test-time augmentation according to `set_tta`."""
    task, _, _ = RunFolder(Path(run)).load(checkpoint)
    task.set_tta(tta)
    return task_to_device(task, device)


def task_to_device(task: AnyTask, device: torch.device) -> AnyTask:
    """Move a task to a device, with its convolution weights in the memory format that is fastest there."""
    return task.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


@torch.inference_mode()
def predict_batch(task: Task, inputs: list[Arrays], device: torch.device) -> Results:
    """Predict encoded images: arrays with first dimension len(inputs); {} if there are no inputs."""
    if not inputs:
        return {}
    return {name: tensor.cpu().numpy() for name, tensor in task.predict(as_batch(inputs, device)).items()}


def as_batch(inputs: Sequence[Arrays], device: torch.device) -> Batch:
    """Collate encoded images to a batch for `predict`: tensors (B, …) by name."""
    return {name: torch.from_numpy(np.stack([one[name] for one in inputs])).to(device) for name in inputs[0]}


@contextmanager
def image_threads() -> Iterator[ThreadPoolExecutor]:
    """Threads that read images in parallel with the model, without the warnings of the image decoder."""
    with quiet_decoder(), ThreadPoolExecutor(max_workers=min(4, available_cores())) as pool:
        yield pool


def load_ahead(
    pool: ThreadPoolExecutor, load: Callable[[Item], Loaded], items: Sequence[Item], batch_size: int
) -> Iterator[list[Loaded]]:
    """Yield batches of loaded items in order, while a thread pool loads the next batch."""
    batches = [items[start : start + batch_size] for start in range(0, len(items), batch_size)]
    ahead = [pool.submit(load, item) for item in batches[0]] if batches else []
    for following in [*batches[1:], []]:
        current, ahead = ahead, [pool.submit(load, item) for item in following]
        yield [future.result() for future in current]
