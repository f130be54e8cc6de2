"""`ftrain predict RUN PICTURES`: a JSON line and an overlay for each picture, or each sample of a shard set.

Pictures are read and drawn beside the model.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
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
from fschemas.walk import readable
from fschemas.wording import count
from ftrain.data.image import decode
from ftrain.data.remote import open_shards
from ftrain.data.user_images import PictureError, find_pictures, quiet_decoder, read_picture
from ftrain.fit.answer_file import publish_answers
from ftrain.fit.box_finder import Box, BoxFinder, looks_at_boxes
from ftrain.fit.distributed import one_process
from ftrain.fit.run_folder import RunFolder
from ftrain.fit.splits import Splits
from ftrain.fit.trained_task import Arrays, load_ahead, load_task, predict_batch
from ftrain.tasks.task import Task

PREDICTIONS_FILE = "predictions.jsonl"
OVERLAY_FOLDER = "overlays"
SEEN = "seen"  # in answers of a run that looks at boxes: the box that it was shown, null for the whole picture
_OVERLAY_SIDES = (800, 1600)  # pixels: smaller pictures are enlarged for the drawing, larger ones shrunk


@dataclass(frozen=True)
class PredictOptions:
    """How pictures are predicted.

    `garment` says what all of them show; without it the model names it. `boxes` is a run that finds the garment for a model that
    looks at it alone; without it samples have their own box, and of loose pictures the whole is looked at.
    """

    garment: str | None = None
    checkpoint: str = "best"
    tta: bool | None = None
    device: str = "auto"
    limit: int | None = None
    batch_size: int = 16
    overlays: bool = True
    boxes: Path | None = None


@dataclass(frozen=True)
class Shown:
    """A picture to predict: the name of its overlay, how its answer begins, how to get it, uint8 H, W, 3, with its own box."""

    name: str
    note: dict[str, Any]
    read: Callable[[], tuple[np.ndarray, Box | None]]


@dataclass(frozen=True)
class _Picture:
    """A picture on its way: what the model needs, and a copy of a size fit for drawing."""

    shown: Shown
    inputs: Arrays
    canvas: np.ndarray


def predict_images(run: Path, images: Sequence[Path], out: Path, options: PredictOptions | None = None) -> list[dict[str, Any]]:
    """Predict files and folders of pictures; publish `predictions.jsonl` and `overlays/` in `out` and return the answers.

    A picture that cannot be read has the answer {"image", "error"}: see `refuse_broken`. Overlays of an earlier call on `out`
    that the new one does not have are removed. Raises `UsageError` for a missing path, no pictures at all, or a garment that
    the run does not know.
    """
    out = claim_output(Path(out), "predictions")
    found = find_pictures(images, skip=out)
    shown = [Shown(one.name, {"image": readable(one.path)}, partial(_read_file, one.path)) for one in found]
    return _predict(run, out, options or PredictOptions(), lambda _: shown)


def predict_samples(
    run: Path, place: str, out: Path, *, split: str = "test", options: PredictOptions | None = None
) -> list[dict[str, Any]]:
    """As `predict_images` for a split of a shard set (or several, joined by `+`): those samples that an evaluation judges.

    Answers begin with their `key`. All samples of the split where the set has no annotations of the kind that the task learns
    from. Raises `UsageError` for a split without samples.
    """
    out = claim_output(Path(out), "predictions")
    shards, lock = open_shards(place), threading.Lock()

    def read(row: int) -> tuple[np.ndarray, Box | None]:
        with lock:  # a shard set has one set of open files
            jpeg, annotation = shards.read(row)
        try:
            return decode(jpeg)[0], annotation.get("box")
        except ValueError as error:
            raise PictureError(f"cannot be decoded ({error})") from None

    def choose(task: Task) -> list[Shown]:
        labelled = all(group in shards.metadata["column_groups"] for group in task.needs)
        config = RunFolder(Path(run)).config()
        splits = Splits(task, config, shards)
        rows = np.concatenate([splits.judged(name) if labelled else shards.rows(name) for name in split.split("+")])
        keys = [str(key) for key in shards.columns["key"][rows]]
        return [Shown(key, {"key": key}, partial(read, int(row))) for key, row in zip(keys, rows, strict=True)]

    return _predict(run, out, options or PredictOptions(), choose)


def _predict(run: Path, out: Path, options: PredictOptions, choose: Callable[[Task], list[Shown]]) -> list[dict[str, Any]]:
    with one_process(options.device) as place, quiet_decoder():
        task = load_task(run, options.checkpoint, options.tta, place)
        task.check_category(options.garment)
        pictures = choose(task)[: options.limit]
        find = None if options.boxes is None else BoxFinder(options.boxes, task, place)
        with exclusive(out), ThreadPoolExecutor(max_workers=min(4, available_cores())) as pool:
            answers: list[dict[str, Any]] = []
            for loaded in load_ahead(pool, lambda shown: _load(task, shown, find), pictures, options.batch_size):
                sound = [picture for picture in loaded if isinstance(picture, _Picture)]
                results = predict_batch(task, [picture.inputs for picture in sound], place)
                said = iter([task.answer(results, number, options.garment) for number in range(len(sound))])
                drawn: list[tuple[_Picture, dict[str, Any]]] = []
                for picture in loaded:
                    if isinstance(picture, _Picture):
                        overlay = {"overlay": _overlay(picture.shown.name)} if options.overlays else {}
                        answers.append({**picture.shown.note, **next(said), **overlay})
                        drawn.append((picture, answers[-1]))
                    else:
                        answers.append(picture)
                if options.overlays:
                    list(pool.map(lambda item: _draw(task, out, *item), drawn))
                show("predicting", len(answers), len(pictures))
            publish_answers(out / PREDICTIONS_FILE, answers, OVERLAY_FOLDER, "overlay")
    return answers


def refuse_broken(answers: list[dict[str, Any]], out: Path) -> None:
    """Raise `RejectedError` (exit code 3) when there are pictures that could not be read."""
    broken = [answer for answer in answers if "error" in answer]
    if broken:
        raise RejectedError(
            f"{broken[0].get('image') or broken[0]['key']}: {broken[0]['error']}; {len(broken)} of {count(len(answers), 'image')} cannot be used, "
            f"the answers for the others stand in {out}/{PREDICTIONS_FILE}"
        )


def _read_file(path: Path) -> tuple[np.ndarray, None]:
    return read_picture(path), None


def _load(task: Task, shown: Shown, find: BoxFinder | None) -> _Picture | dict[str, Any]:
    try:
        picture, box = shown.read()
    except PictureError as error:
        return {**shown.note, "error": str(error)}
    if not looks_at_boxes(task):
        return _Picture(shown, task.encode_picture(picture), canvas_of(picture))
    if find is not None:
        box = find(picture)
    shown = replace(shown, note={**shown.note, SEEN: None if box is None else [round(float(edge), 2) for edge in box]})
    return _Picture(shown, task.encode_picture(picture, box), canvas_of(picture))


def canvas_of(picture: np.ndarray) -> np.ndarray:
    """A picture, uint8 H, W, 3, in a size fit for drawing on it."""
    height, width = picture.shape[:2]
    low, high = _OVERLAY_SIDES
    factor = float(np.clip(1.0, low / max(width, height), high / max(width, height)))
    if factor == 1.0:
        return picture
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)


def _overlay(name: str) -> str:
    return output_path(Path(OVERLAY_FOLDER), name, ".jpg").as_posix()


def _draw(task: Task, out: Path, picture: _Picture, answer: dict[str, Any]) -> None:
    drawn = task.draw(picture.canvas, answer)
    publish_bytes(out / answer["overlay"], simplejpeg.encode_jpeg(np.ascontiguousarray(drawn), quality=90, colorspace="RGB"))
