"""Detector for tasks that are trained on garment boxes (`model.crop=box`): `--detector RUN`.

A network that sees only the garment sees more of its details, but images from elsewhere have no boxes. A `category` run
that was trained on boxes predicts them.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from fschemas.failures import UsageError
from ftrain.inference.trained_task import load_task, predict_batch
from ftrain.tasks.task import Task, task_function

Box = Sequence[float]  # x1, y1, x2, y2: centers of the corner pixels, inclusive


class Detector:
    """Predicts boxes with the run `finder` for the run of `task`; one image at a time, thread-safe.

    Raises `UsageError` if `task` takes full images, and if `finder` predicts no boxes or needs boxes itself.
    """

    def __init__(self, finder: Path, task: Task, device: torch.device) -> None:
        if not uses_boxes(task):
            raise UsageError(
                f"the {task.name} run uses whole images; omit --detector, or choose a run trained with model.crop=box"
            )
        self.device = device
        self.task = load_task(finder, "best", None, device)
        if uses_boxes(self.task):
            raise UsageError(f"{finder}: needs boxes itself; choose a run trained on whole images")
        if "box" not in self._answer(np.full((64, 64, 3), 128, np.uint8)):
            raise UsageError(f"{finder}: predicts no boxes; choose a category run trained on a shard set with boxes")

    def __call__(self, image: np.ndarray) -> Box:
        """Return the garment box of an image (H, W, 3), uint8, in pixels."""
        return self._answer(image)["box"]

    def _answer(self, image: np.ndarray) -> dict[str, Box]:
        results = predict_batch(self.task, [self.task.encode_image(image)], self.device)
        return task_function(self.task, "describe")(self.task, results, 0)


def uses_boxes(task: Task) -> bool:
    """Whether the input of a task is cropped to the garment box."""
    return "box" in task.config.groups_to_view()
