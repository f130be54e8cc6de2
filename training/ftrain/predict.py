"""`ftrain predict RUN PICTURES`: a JSON line and an overlay for each picture; pictures are read and drawn beside the model."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import simplejpeg
import torch

from fschemas.failures import RejectedError, UsageError
from fschemas.publish import exclusive, publish_bytes, remove_leftovers
from ftrain.distributed import processes
from ftrain.pictures import FoundPicture, PictureError, find_pictures, quiet_decoder, read_picture, readable
from ftrain.run_folder import RunFolder
from ftrain.task import Results, Task

PREDICTIONS_FILE = "predictions.jsonl"
OVERLAY_FOLDER = "overlays"
_OVERLAY_SIDES = (800, 1600)  # pixels: smaller pictures are enlarged for the drawing, larger ones shrunk

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class _Picture:
    """A picture on its way: what the model needs, and a copy of a size fit for drawing."""

    found: FoundPicture
    inputs: Arrays
    canvas: np.ndarray


def predict_images(
    run: Path,
    images: Sequence[Path],
    out: Path,
    *,
    garment: str | None = None,
    checkpoint: str = "best",
    tta: bool | None = None,
    device: str = "auto",
    limit: int | None = None,
    batch_size: int = 16,
) -> list[dict[str, Any]]:
    """Predict files and folders of pictures; publish `predictions.jsonl` and `overlays/` in `out` and return the answers.

    `garment` says what all pictures show; without it the model names it. A picture that cannot be read has the answer
    {"image", "error"}: see `refuse_broken`. Overlays of an earlier call on `out` that the new one does not have are
    removed. Raises `UsageError` for a missing path, no pictures at all, or a garment that the run does not know.
    """
    pictures = find_pictures(images, skip=out)[:limit]
    with one_process(device) as place, quiet_decoder():
        task = load_task(run, checkpoint, tta, place)
        task.check_category(garment)
        with exclusive(out), ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
            remove_leftovers(out)
            answers: list[dict[str, Any]] = []
            for loaded in load_ahead(pool, lambda found: _load(task, found), pictures, batch_size):
                sound = [picture for picture in loaded if isinstance(picture, _Picture)]
                results = predict_batch(task, [picture.inputs for picture in sound], place)
                said = iter([task.answer(results, number, garment) for number in range(len(sound))])
                drawn: list[tuple[_Picture, dict[str, Any]]] = []
                for picture in loaded:
                    if isinstance(picture, _Picture):
                        overlay = f"{OVERLAY_FOLDER}/{picture.found.name}.jpg"
                        answers.append({"image": readable(picture.found.path), **next(said), "overlay": overlay})
                        drawn.append((picture, answers[-1]))
                    else:
                        answers.append(picture)
                list(pool.map(lambda item: _draw(task, out, *item), drawn))
            _publish(out, answers)
    return answers


def refuse_broken(answers: list[dict[str, Any]], out: Path) -> None:
    """Raise `RejectedError` (exit code 3) when there are pictures that could not be read."""
    broken = [answer for answer in answers if "error" in answer]
    if broken:
        raise RejectedError(
            f"{broken[0]['image']}: {broken[0]['error']}; {len(broken)} of {len(answers)} pictures cannot be used, "
            f"the answers for the others stand in {out}/{PREDICTIONS_FILE}"
        )


@contextmanager
def one_process(device: str) -> Iterator[torch.device]:
    """The device of a command that does not share its work among processes."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("this command runs in one process; start it without torchrun")
    cv2.setNumThreads(0)
    with processes(device) as group:
        yield group.device


def load_task(run: Path, checkpoint: str, tta: bool | None, device: torch.device) -> Task:
    """The trained task of a run, ready on the device, with turned views as asked for."""
    task, _, _ = RunFolder(Path(run)).load(checkpoint)
    task.use_turned_views(tta)
    task.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return task


def load_ahead(
    pool: ThreadPoolExecutor, load: Callable[[Item], Loaded], items: Sequence[Item], batch_size: int
) -> Iterator[list[Loaded]]:
    """Yield batches of loaded items in order, while the next batch is being loaded by the pool."""
    batches = [items[start : start + batch_size] for start in range(0, len(items), batch_size)]
    ahead = [pool.submit(load, item) for item in batches[0]] if batches else []
    for following in [*batches[1:], []]:
        current, ahead = ahead, [pool.submit(load, item) for item in following]
        yield [future.result() for future in current]


@torch.inference_mode()
def predict_batch(task: Task, inputs: list[Arrays], device: torch.device) -> Results:
    """Predictions of encoded pictures, as arrays with the first dimension len(inputs); {} for none."""
    if not inputs:
        return {}
    batch = {name: torch.from_numpy(np.stack([one[name] for one in inputs])).to(device) for name in inputs[0]}
    return {name: tensor.cpu().numpy() for name, tensor in task.predict(batch).items()}


def _load(task: Task, found: FoundPicture) -> _Picture | dict[str, Any]:
    try:
        picture = read_picture(found.path)
    except PictureError as error:
        return {"image": readable(found.path), "error": str(error)}
    height, width = picture.shape[:2]
    low, high = _OVERLAY_SIDES
    factor = float(np.clip(1.0, low / max(width, height), high / max(width, height)))
    canvas = picture
    if factor != 1.0:
        size = max(1, round(width * factor)), max(1, round(height * factor))
        canvas = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    return _Picture(found, task.encode_picture(picture), canvas)


def _draw(task: Task, out: Path, picture: _Picture, answer: dict[str, Any]) -> None:
    drawn = task.draw(picture.canvas, answer)
    publish_bytes(out / answer["overlay"], simplejpeg.encode_jpeg(np.ascontiguousarray(drawn), quality=90, colorspace="RGB"))


def _publish(out: Path, answers: list[dict[str, Any]]) -> None:
    before = _overlays_of(out / PREDICTIONS_FILE)
    lines = "".join(json.dumps(answer, ensure_ascii=False, allow_nan=False) + "\n" for answer in answers)
    publish_bytes(out / PREDICTIONS_FILE, lines.encode())
    folder = (out / OVERLAY_FOLDER).resolve()
    for overlay in before - {str(answer.get("overlay")) for answer in answers}:
        stale = (out / overlay).resolve()
        if stale.is_relative_to(folder):
            stale.unlink(missing_ok=True)


def _overlays_of(predictions: Path) -> set[str]:
    """The overlays that an earlier call wrote; none where there is no readable account of them."""
    try:
        lines = predictions.read_text(encoding="utf-8").splitlines()
        return {str(answer["overlay"]) for answer in map(json.loads, lines) if "overlay" in answer}
    except (OSError, ValueError, TypeError):
        return set()
