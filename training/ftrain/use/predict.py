"""`ftrain predict RUN IMAGES`: one JSON line and one overlay per image, or per sample of a shard set.

Images are read and overlays drawn in threads, in parallel with the model.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from fschemas.folders import claim_output
from fschemas.names import output_path
from fschemas.progress import show
from fschemas.publish import exclusive, publish_bytes
from ftrain.data.image import decode
from ftrain.data.remote import open_shards
from ftrain.data.user_images import ImageError, find_images
from ftrain.fit.distributed import one_process
from ftrain.fit.run_folder import RunFolder
from ftrain.fit.splits import Splits
from ftrain.inference.detector import Box
from ftrain.inference.prediction_file import publish_predictions
from ftrain.inference.trained_task import image_threads
from ftrain.tasks.task import Task, task_function
from ftrain.use.predictor import ImageSource, Prediction, Predictor, image_file

PREDICTIONS_FILE = "predictions.jsonl"
OVERLAY_FOLDER = "overlays"
_OVERLAY_SIDES = (800, 1600)  # pixels; smaller images are enlarged for the overlay, larger ones shrunk


@dataclass(frozen=True)
class PredictOptions:
    """Options of prediction.

    `garment` is the garment in all images; without it, the model classifies it. `detector` is a run that predicts the
    bounding box, for a model trained on boxes; without it, samples use their own box, and other images are used whole.
    """

    garment: str | None = None
    checkpoint: str = "best"
    tta: bool | None = None
    device: str = "auto"
    limit: int | None = None
    batch_size: int = 16
    overlays: bool = True
    detector: Path | None = None


def predict_images(
    run: Path, images: Sequence[Path], out: Path, options: PredictOptions | None = None
) -> list[Prediction]:
    """Predict files and folders of images; publish `predictions.jsonl` and `overlays/` in `out`.

    Returns the predictions. An unreadable image has the entry {"image", "error"}: see `refuse_unreadable`. Stale overlays
    of an earlier call are removed from `out`. Raises `UsageError` for a missing path, no images, or a garment unknown
    to the run.
    """
    out = claim_output(Path(out), "predictions")
    found = find_images(images, skip=out)
    sources = [image_file(image.path, image.name) for image in found]
    return _predict(run, out, options or PredictOptions(), lambda _: sources)


def predict_samples(
    run: Path, shards: str, out: Path, *, split: str = "test", options: PredictOptions | None = None
) -> list[Prediction]:
    """Like `predict_images`, for a split of a shard set (or several, joined by `+`): the samples of an evaluation.

    Each prediction begins with its `key`. If the set lacks the annotations that the task learns from, all samples of
    the split are predicted. Raises `UsageError` for a split without samples.
    """
    out = claim_output(Path(out), "predictions")
    opened, lock = open_shards(shards), threading.Lock()

    def read(row: int) -> tuple[np.ndarray, Box | None]:
        with lock:  # a shard set has one set of open files
            jpeg, annotation = opened.read(row)
        try:
            return decode(jpeg), annotation.get("box")
        except ValueError as error:
            raise ImageError(f"cannot be decoded ({error})") from None

    def choose(task: Task) -> list[ImageSource]:
        has_labels = all(group in opened.metadata["column_groups"] for group in task.needs)
        config = RunFolder(Path(run)).config()
        splits = Splits(task, config, opened)
        read_rows = splits.evaluated if has_labels else opened.rows
        rows = np.concatenate([read_rows(name) for name in split.split("+")])
        keys = [str(key) for key in opened.columns["key"][rows]]
        return [ImageSource(key, {"key": key}, partial(read, int(row))) for key, row in zip(keys, rows, strict=True)]

    return _predict(run, out, options or PredictOptions(), choose)


def _predict(
    run: Path, out: Path, options: PredictOptions, choose: Callable[[Task], list[ImageSource]]
) -> list[Prediction]:
    with one_process(options.device) as device, image_threads() as pool:
        predictor = Predictor(run, options.checkpoint, options.tta, device, options.detector)
        task_function(predictor.task, "check_category")(predictor.task, options.garment)
        images = choose(predictor.task)[: options.limit]
        keep = canvas_of if options.overlays else None
        with exclusive(out):
            predictions: list[Prediction] = []
            for batch in predictor.predict_batches(pool, images, options.garment, options.batch_size, keep):
                overlays: list[tuple[np.ndarray, Prediction]] = []
                for source, prediction, canvas in batch:
                    if canvas is not None:
                        prediction["overlay"] = output_path(Path(OVERLAY_FOLDER), source.name, ".jpg").as_posix()
                        overlays.append((canvas, prediction))
                    predictions.append(prediction)
                list(pool.map(lambda overlay: _draw(predictor.task, out, *overlay), overlays))
                show("predicting", len(predictions), len(images))
            publish_predictions(out / PREDICTIONS_FILE, predictions, OVERLAY_FOLDER, "overlay")
    return predictions


def canvas_of(image: np.ndarray) -> np.ndarray:
    """Resize an image, uint8 H, W, 3, for drawing on it."""
    height, width = image.shape[:2]
    low, high = _OVERLAY_SIDES
    factor = float(np.clip(1.0, low / max(width, height), high / max(width, height)))
    if factor == 1.0:
        return image
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)


def _draw(task: Task, out: Path, canvas: np.ndarray, prediction: Prediction) -> None:
    image = np.ascontiguousarray(task_function(task, "draw")(task, canvas, prediction))
    publish_bytes(out / prediction["overlay"], simplejpeg.encode_jpeg(image, quality=90, colorspace="RGB"))
