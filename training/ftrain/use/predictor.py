"""A trained run that predicts images, shared by `ftrain predict` and the Python API (`ftrain.load`)."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fschemas.failures import UsageError
from fschemas.preflight import check_checkpoint, check_run
from fschemas.walk import readable
from ftrain.data.user_images import ImageError, find_images, read_image, upright_rgb
from ftrain.data.view import SEEN
from ftrain.fit.distributed import find_device
from ftrain.inference.detector import Box, detector_for, uses_boxes
from ftrain.inference.trained_task import Arrays, image_threads, load_ahead, load_task, predict_batch
from ftrain.tasks.task import Task, task_function

Prediction = dict[str, Any]
ImageLike = str | Path | Image.Image | np.ndarray


@dataclass(frozen=True)
class ImageSource:
    """An image to predict: name of its overlay, first keys of its prediction, and a function that reads it and its box.

    The image is uint8 H, W, 3; the box is None if it has none.
    """

    name: str
    record: Prediction
    read: Callable[[], tuple[np.ndarray, Box | None]]


class Predictor:
    """A trained run on a device. Create one with `ftrain.load`."""

    def __init__(
        self, run: Path, checkpoint: str, tta: bool | None, device: torch.device, detector: Path | None = None
    ) -> None:
        self.device = device
        self.task: Task = load_task(run, checkpoint, tta, device)
        """The trained `torch.nn.Module`; `task.encoder` converts samples of a shard set to its inputs."""
        self._detector = detector_for(self.task, detector, device)

    def predict(
        self, images: ImageLike | Sequence[ImageLike], *, category: str | None = None, batch_size: int = 16
    ) -> list[Prediction]:
        """Return one prediction (a dict, as in the lines of `ftrain predict`) per image, in order.

        An image is a path (a folder means all images in it), a Pillow image of any mode, or a uint8 array H, W, 3 (RGB)
        or H, W (gray); a uint8 array N, H, W, 3 is N images. `image` of a prediction is the path, or else the position
        among `images`. An image that cannot be read has `error` instead of a prediction. `category` is the garment in
        all images. Coordinates are pixel centers of the upright input image.

        Raises `UsageError` for a missing path, no images, an array of another shape or type, or a category unknown to
        the run.
        """
        task_function(self.task, "check_category")(self.task, category)
        is_one = isinstance(images, str | Path | Image.Image) or (isinstance(images, np.ndarray) and images.ndim < 4)
        given: Sequence[ImageLike] = [images] if is_one else list(images)  # type: ignore[arg-type]
        sources = [source for position, image in enumerate(given) for source in _sources(image, position)]
        with image_threads() as pool:
            batches = self.predict_batches(pool, sources, category, batch_size)
            return [prediction for batch in batches for _, prediction, _ in batch]

    def predict_batches(
        self, pool: ThreadPoolExecutor, images: Sequence[ImageSource], category: str | None, batch_size: int,
        keep: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> Iterator[list[tuple[ImageSource, Prediction, np.ndarray | None]]]:  # fmt: skip
        """Yield batches of images with their predictions; the pool reads images in parallel with the model.

        Each comes with the result of `keep` for its image, or None if the image could not be read.
        """
        describe, given = task_function(self.task, "describe"), () if category is None else (category,)
        for loaded in load_ahead(pool, partial(self._load, keep, category), images, batch_size):
            loaded_inputs = [inputs for _, _, inputs, _ in loaded if inputs is not None]
            results, numbers = predict_batch(self.task, loaded_inputs, self.device), iter(range(batch_size))
            yield [
                (
                    source,
                    record if inputs is None else {**record, **describe(self.task, results, next(numbers), *given)},
                    kept,
                )
                for source, record, inputs, kept in loaded
            ]

    def _load(
        self, keep: Callable[[np.ndarray], np.ndarray] | None, category: str | None, source: ImageSource
    ) -> tuple[ImageSource, Prediction, Arrays | None, np.ndarray | None]:
        """Return the first keys of an image's prediction, its model inputs, and the result of `keep`."""
        try:
            image, box = source.read()
        except ImageError as error:
            return source, {**source.record, "error": str(error)}, None, None
        kept = keep(image) if keep else None
        if not uses_boxes(self.task):
            return source, source.record, self.task.encode_image(image), kept
        if self._detector is not None:
            box = self._detector(image, category)
        box_used = None if box is None else [round(float(edge), 2) for edge in box]
        return source, {**source.record, SEEN: box_used}, self.task.encode_image(image, box), kept


def load(
    run: str | Path,
    *,
    checkpoint: str = "best",
    device: str = "auto",
    tta: bool | None = None,
    detector: str | Path | None = None,
) -> Predictor:
    """Load a run folder for prediction.

    `checkpoint` is best, latest or the name of one; `device` is auto, cpu or cuda. `tta` is test-time augmentation: all
    views of the task (True), the plain image only (False), or the setting of the run (None). `detector` is a run that
    predicts the bounding box, for a run with `model.crop`. Raises `UsageError` for a folder that is not a run,
    and `IntegrityError` for a damaged one.
    """
    check_run(Path(run))
    check_checkpoint(Path(run), checkpoint)
    detector = None if detector is None else Path(detector)
    check_run(detector)
    return Predictor(Path(run), checkpoint, tta, find_device(device), detector)


def image_file(path: Path, name: str = "") -> ImageSource:
    """Wrap an image file; `name` is the name of its overlay."""
    return ImageSource(name, {"image": readable(path)}, lambda: (read_image(path), None))


def _sources(image: ImageLike, position: int) -> list[ImageSource]:
    if isinstance(image, str | Path):
        return [image_file(found.path) for found in find_images([Path(image)])]
    if isinstance(image, Image.Image):
        pixels = upright_rgb(image)
    elif (
        isinstance(image, np.ndarray)
        and image.dtype == np.uint8
        and (image.ndim == 2 or image.shape[2:] == (3,))
        and image.size
    ):
        pixels = np.ascontiguousarray(image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2))
    else:
        what = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise UsageError(
            f"image {position} is {what}; pass a path, a Pillow image, or a uint8 array of shape (H, W, 3) or (H, W)"
        )
    return [ImageSource("", {"image": position}, lambda: (pixels, None))]
