"""A second run that finds the garment for one that looks at its box alone (`model.crop=box`): `--detector RUN`.

Detect, then look closer: a network that is shown the garment alone sees more of its details. Photographs from elsewhere have no
box, so a run of `category` that learned boxes says where the garment is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from fschemas.failures import UsageError
from ftrain.fit.trained_task import load_task, predict_batch
from ftrain.tasks.task import Task, part

Box = Sequence[float]  # x1, y1, x2, y2: centers of the corner pixels, inclusive


class BoxFinder:
    """The run `finder` at work for the run of `task`; one image at a time, from any thread.

    Raises `UsageError` where `task` looks at whole images, and where `finder` finds no boxes or needs some itself.
    """

    def __init__(self, finder: Path, task: Task, device: torch.device) -> None:
        if not looks_at_boxes(task):
            raise UsageError(
                f"the run of {task.name} looks at whole images; --detector is for one that was trained with model.crop=box"
            )
        self.device = device
        self.task = load_task(finder, "best", None, device)
        if looks_at_boxes(self.task):
            raise UsageError(f"{finder}: looks at boxes itself; name a run that was trained on whole images")
        if "box" not in self._answer(np.full((64, 64, 3), 128, np.uint8)):
            raise UsageError(f"{finder}: finds no boxes; name a run of category that was trained on a set with boxes")

    def __call__(self, image: np.ndarray) -> Box:
        """The box of the garment on an image, uint8 H, W, 3, in its pixels."""
        return self._answer(image)["box"]

    def _answer(self, image: np.ndarray) -> dict[str, Box]:
        results = predict_batch(self.task, [self.task.encode_image(image)], self.device)
        return part(self.task, "answer")(self.task, results, 0)


def looks_at_boxes(task: Task) -> bool:
    """Whether a task is shown the garment alone."""
    return "box" in task.config.groups_to_view()
