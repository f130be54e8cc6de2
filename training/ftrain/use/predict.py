"""`ftrain predict RUN IMAGES`: one JSON line and one overlay per image, or per sample of a shard set.

Images are read and overlays drawn in threads, in parallel with the model.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg

from fschemas.cores import available_cores
from fschemas.failures import RejectedError
from fschemas.folders import claim_output
from fschemas.names import output_path
from fschemas.progress import show
from fschemas.publish import exclusive, publish_bytes
from fschemas.wording import count
from ftrain.data.image import decode
from ftrain.data.remote import open_shards
from ftrain.data.user_images import ImageError, find_images, quiet_decoder
from ftrain.fit.distributed import one_process
from ftrain.fit.run_folder import RunFolder
from ftrain.fit.splits import Splits
from ftrain.inference.detector import Box
from ftrain.inference.prediction_file import publish_predictions
from ftrain.tasks.task import Task, task_function
from ftrain.use.predictor import Predictor, Shown, shown_file

PREDICTIONS_FILE = "predictions.jsonl"
OVERLAY_FOLDER = "overlays"
_OVERLAY_SIDES = (800, 1600)  # pixels; smaller images are enlarged for the overlay, larger ones shrunk


@dataclass(frozen=True)
class PredictOptions:
    """Options of prediction.

    `garment` is the garment in all images; without it, the model classifies it. `boxes` is a run that predicts the
    bounding box, for a model trained on boxes; without it, samples use their own box, and other images are used whole.
    """

    garment: str | None = None
    checkpoint: str = "best"
    tta: bool | None = None
    device: str = "auto"
    limit: int | None = None
    batch_size: int = 16
    overlays: bool = True
    boxes: Path | None = None


def predict_images(
    run: Path, images: Sequence[Path], out: Path, options: PredictOptions | None = None
) -> list[dict[str, Any]]:
    """Predict files and folders of images; publish `predictions.jsonl` and `overlays/` in `out`.

    Returns the predictions. An unreadable image has the entry {"image", "error"}: see `refuse_broken`. Stale overlays
    of an earlier call are removed from `out`. Raises `UsageError` for a missing path, no images, or a garment unknown
    to the run.
    """
    out = claim_output(Path(out), "predictions")
    found = find_images(images, skip=out)
    shown = [shown_file(one.path, one.name) for one in found]
    return _predict(run, out, options or PredictOptions(), lambda _: shown)


def predict_samples(
    run: Path, place: str, out: Path, *, split: str = "test", options: PredictOptions | None = None
) -> list[dict[str, Any]]:
    """Like `predict_images`, for a split of a shard set (or several, joined by `+`): the samples of an evaluation.

    Each prediction begins with its `key`. If the set lacks the annotations that the task learns from, all samples of
    the split are predicted. Raises `UsageError` for a split without samples.
    """
    out = claim_output(Path(out), "predictions")
    shards, lock = open_shards(place), threading.Lock()

    def read(row: int) -> tuple[np.ndarray, Box | None]:
        with lock:  # a shard set has one set of open files
            jpeg, annotation = shards.read(row)
        try:
            return decode(jpeg)[0], annotation.get("box")
        except ValueError as error:
            raise ImageError(f"cannot be decoded ({error})") from None

    def choose(task: Task) -> list[Shown]:
        labelled = all(group in shards.metadata["column_groups"] for group in task.needs)
        config = RunFolder(Path(run)).config()
        splits = Splits(task, config, shards)
        rows = np.concatenate([splits.evaluated(name) if labelled else shards.rows(name) for name in split.split("+")])
        keys = [str(key) for key in shards.columns["key"][rows]]
        return [Shown(key, {"key": key}, partial(read, int(row))) for key, row in zip(keys, rows, strict=True)]

    return _predict(run, out, options or PredictOptions(), choose)


def _predict(
    run: Path, out: Path, options: PredictOptions, choose: Callable[[Task], list[Shown]]
) -> list[dict[str, Any]]:
    with one_process(options.device) as place, quiet_decoder():
        predictor = Predictor(run, options.checkpoint, options.tta, place, options.boxes)
        task_function(predictor.task, "check_category")(predictor.task, options.garment)
        images = choose(predictor.task)[: options.limit]
        with exclusive(out), ThreadPoolExecutor(max_workers=min(4, available_cores())) as pool:
            answers: list[dict[str, Any]] = []
            for predicted in predictor.answers(
                pool, images, options.garment, options.batch_size, canvas_of if options.overlays else None
            ):
                drawn: list[tuple[np.ndarray, dict[str, Any]]] = []
                for shown, answer, canvas in predicted:
                    if canvas is not None:
                        answer["overlay"] = _overlay(shown.name)
                        drawn.append((canvas, answer))
                    answers.append(answer)
                list(pool.map(lambda item: _draw(predictor.task, out, *item), drawn))
                show("predicting", len(answers), len(images))
            publish_predictions(out / PREDICTIONS_FILE, answers, OVERLAY_FOLDER, "overlay")
    return answers


def refuse_broken(answers: list[dict[str, Any]], out: Path) -> None:
    """Raise `RejectedError` (exit code 3) if any images could not be read."""
    broken = [answer for answer in answers if "error" in answer]
    if broken:
        raise RejectedError(
            f"{broken[0].get('image') or broken[0]['key']}: {broken[0]['error']}; {len(broken)} of {count(len(answers), 'image')} cannot be used, "
            f"the answers for the others stand in {out}/{PREDICTIONS_FILE}"
        )


def canvas_of(image: np.ndarray) -> np.ndarray:
    """Resize an image, uint8 H, W, 3, for drawing on it."""
    height, width = image.shape[:2]
    low, high = _OVERLAY_SIDES
    factor = float(np.clip(1.0, low / max(width, height), high / max(width, height)))
    if factor == 1.0:
        return image
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)


def _overlay(name: str) -> str:
    return output_path(Path(OVERLAY_FOLDER), name, ".jpg").as_posix()


def _draw(task: Task, out: Path, canvas: np.ndarray, answer: dict[str, Any]) -> None:
    drawn = task_function(task, "draw")(task, canvas, answer)
    publish_bytes(
        out / answer["overlay"], simplejpeg.encode_jpeg(np.ascontiguousarray(drawn), quality=90, colorspace="RGB")
    )
