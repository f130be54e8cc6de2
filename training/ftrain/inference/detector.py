"""Where the garment is, for tasks whose input is cropped to it (`model.crop`): the first of two passes.

A network that sees only the garment sees more of its details, but images from elsewhere have no boxes. A run that
predicts them on whole images finds the garment (`--detector RUN`): a `category` run that was trained on boxes, or a
`keypoints` run. A run with `model.crop=keypoints` finds the garment itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from fschemas.failures import UsageError
from fschemas.shard_set import ShardSet
from ftrain.data.image import decode
from ftrain.data.stream import Encoder, RawSample
from ftrain.data.types import Results
from ftrain.data.view import SEEN
from ftrain.inference.trained_task import load_task, predict_batch
from ftrain.tasks.task import Task, task_function

Box = Sequence[float]  # x1, y1, x2, y2: centers of the corner pixels, inclusive


class Detector:
    """Predicts boxes for the run of `task` with the run `finder`, or with the task itself if it is None; thread-safe.

    Raises `UsageError` if `task` takes full images, and if `finder` predicts no boxes or needs boxes itself.
    """

    def __init__(self, finder: Path | None, task: Task, device: torch.device) -> None:
        if not uses_boxes(task):
            raise UsageError(
                f"the {task.name} run uses whole images; omit --detector, or choose a run trained with model.crop=box"
            )
        self.device, self.is_own = device, finder is None
        self.task = task if finder is None else load_task(finder, "best", None, device)
        if uses_boxes(self.task) and not finds_garment(self.task):
            raise UsageError(f"{finder}: needs boxes itself; choose a run trained on whole images")
        if "box" not in self._describe(self._predict(np.full((64, 64, 3), 128, np.uint8)), 0):
            raise UsageError(f"{finder}: predicts no boxes; choose a category run trained on a shard set with boxes")

    def __call__(self, image: np.ndarray, category: str | None = None) -> Box:
        """Return the garment box of an image (H, W, 3), uint8, in pixels; of a garment of this category, if known."""
        return self._describe(self._predict(image), 0, category)["box"]

    def boxes_of_split(self, shards: ShardSet, results: Results) -> list[Box]:
        """Return the boxes that the task found: `results` are its predictions for the `WholeImages` of a split.

        A task that finds the garment itself is told which garment is annotated, as the FashionAI challenge does.
        """
        rows = results["row"]
        garments = shards.columns["garment"][rows] if self.is_own else [None] * len(rows)
        return [self._describe(results, number, garment)["box"] for number, garment in enumerate(garments)]

    def _predict(self, image: np.ndarray) -> Results:
        return predict_batch(self.task, [self.task.encode_image(image)], self.device)

    def _describe(self, results: Results, index: int, category: str | None = None) -> dict[str, Box]:
        known = () if category is None or not self.is_own else (str(category),)
        return task_function(self.task, "describe")(self.task, results, index, *known)


@dataclass(frozen=True)
class WholeImages:
    """Encodes a sample by its whole image, whatever its annotation."""

    task: Task

    def __call__(self, sample: RawSample, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        """Return `Task.encode_image` of the sample; never random."""
        del generator
        return self.task.encode_image(decode(sample.image))


@dataclass(frozen=True)
class CroppedEncoder:
    """An encoder that is shown found boxes, one per row, instead of the annotated ones; annotations stay as they are.

    `boxes` N, 4 may be shared memory, which is filled after the workers were forked.
    """

    encoder: Encoder
    boxes: np.ndarray

    def __call__(self, sample: RawSample, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        """Encode the sample with its box under `SEEN`."""
        annotation = {**sample.annotation, SEEN: self.boxes[sample.row]}
        return self.encoder(replace(sample, annotation=annotation), generator)


def detector_for(task: Task, finder: Path | None, device: torch.device) -> Detector | None:
    """Return the detector of the run `finder`, or of a task that finds the garment itself; otherwise None."""
    return Detector(finder, task, device) if finder is not None or finds_garment(task) else None


def finds_garment(task: Task) -> bool:
    """Whether a task is trained on crops and whole images alike, and predicts where the garment is."""
    return getattr(task.config, "crop", None) == "keypoints"


def uses_boxes(task: Task) -> bool:
    """Whether the input of a task is cropped to the garment."""
    return finds_garment(task) or "box" in task.config.groups_to_view()
