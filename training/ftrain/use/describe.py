"""`ftrain describe IMAGE RUN...`: predictions of several models for one image, as one JSON file and one image."""

import json
import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
import torch
from PIL import Image, ImageDraw

from fschemas.failures import UsageError
from fschemas.folders import claim_output
from fschemas.preflight import check_image_file
from fschemas.publish import exclusive, publish_bytes, publish_json
from fschemas.walk import readable
from ftrain.data.user_images import ImageError, quiet_decoder, read_image
from ftrain.fit.distributed import one_process
from ftrain.fit.run_folder import RunFolder
from ftrain.inference.detector import Box, Detector, finds_garment, uses_boxes
from ftrain.inference.trained_task import predict_batch, task_to_device
from ftrain.plots.overlay import INK, WHITE, label_font
from ftrain.tasks.task import Task, task_function
from ftrain.use.predict import canvas_of

DESCRIPTION_FILE, IMAGE_FILE = "description.json", "description.jpg"
_TILE_HEIGHT, _TITLE_HEIGHT, _GAP = 720, 52, 12  # pixels
_COLUMNS = 3
_FAINT = (110, 116, 124)


@dataclass(frozen=True)
class _Tile:
    title: str
    subtitle: str
    image: np.ndarray | None  # the overlay of the task, if any
    lines: list[str]  # the prediction as text


def describe_image(
    photo: Path,
    runs: Sequence[Path],
    out: Path | None = None,
    *,
    category: str | None = None,
    detector: Path | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Predict one image with the best checkpoint of every run; with `out`, publish the JSON and the image there.

    `category` is passed to the models that accept one; `detector` is a run that predicts the bounding box, for models
    trained on boxes. Raises `UsageError` without runs, for an image that cannot be read, for a run that cannot predict
    single images, and for a category or detector that no model can use.
    """
    if not runs:
        raise UsageError("no run to describe the image with; pass one or more")
    out = None if out is None else claim_output(Path(out), "description")
    predictions: list[dict[str, Any]] = []
    tiles: list[_Tile] = []
    with one_process(device) as target, quiet_decoder():
        image = _read(photo)
        canvas = canvas_of(image)
        uses_category: list[bool] = []
        found: Box | None = None  # by the detector, for all runs
        for run in runs:
            task, _, state = RunFolder(run).load()
            uses_category.append(_uses_category(task, category))
            if detector is not None and found is None and uses_boxes(task):
                found = Detector(detector, task, target)(image)
            box = found
            if detector is None and finds_garment(task):
                box = Detector(None, task, target)(image, category)
            prediction = _predict(task, image, category if uses_category[-1] else None, target, box)
            name = readable(run.resolve().name)
            run_note = {"run": readable(run), "task": task.name, "checkpoint_step": state.step}
            predictions.append({**run_note, "answer": prediction})
            drawn = task_function(task, "draw")(task, canvas, prediction)
            is_drawn = drawn.shape != canvas.shape or not np.array_equal(drawn, canvas)
            subtitle = "; ".join([f"{name}, step {state.step}", *(_legend(prediction) if is_drawn else [])])
            tiles.append(_Tile(task.name, subtitle, drawn if is_drawn else None, prediction_lines(prediction)))
    if detector is not None and found is None:
        raise UsageError("all of the runs use whole images; omit --detector")
    if category is not None and not any(uses_category):
        raise UsageError(f"none of the runs has the garment {category!r}; omit --garment")
    height, width = image.shape[:2]
    description = {"image": readable(photo), "width": width, "height": height, "answers": predictions}
    if out is not None:
        with exclusive(out):
            publish_bytes(out / IMAGE_FILE, simplejpeg.encode_jpeg(_tiled(canvas, tiles), quality=90, colorspace="RGB"))
            publish_json(out / DESCRIPTION_FILE, description)
    return description


def description_lines(description: dict[str, Any]) -> Iterator[str]:
    """Format a description as text."""
    for one in description["answers"]:
        yield f"{one['task']} ({one['run']}, step {one['checkpoint_step']})"
        yield from (f"  {line}" for line in prediction_lines(one["answer"]))


def prediction_lines(prediction: dict[str, Any]) -> list[str]:
    """Format a prediction as text, one line per value: scores rounded, long lists of numbers only counted."""
    return [f"{name.replace('_', ' ')}: {_as_text(value)}" for name, value in prediction.items()]


def _legend(prediction: dict[str, Any]) -> list[str]:
    """Meaning of the highlights and frames in a task's overlay."""
    if "attention" in prediction:
        return ["bright: where it looked", *(["frame: the part it saw enlarged"] if "box" in prediction else [])]
    return ["frame: the garment"] if "box" in prediction else []


def _as_text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict) and "name" in value:
        rest = {name: part for name, part in value.items() if name != "name"}
        return f"{value['name']} ({_as_text(rest)})".replace("_", " ")
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_as_text(part)}" for name, part in value.items()) or "none"
    if isinstance(value, list):
        if value and all(isinstance(part, list) for part in value):
            return f"{len(value)} x {len(value[0])} numbers"
        if len(value) > 8 and all(isinstance(part, int | float) for part in value):
            return f"{len(value)} numbers"
        return "; ".join(_as_text(part) for part in value) or "none"
    return "none" if value in (None, "") else str(value)


def _read(photo: Path) -> np.ndarray:
    check_image_file(photo)
    try:
        return read_image(photo)
    except ImageError as error:
        raise UsageError(f"{readable(photo)}: {error}") from None


def _uses_category(task: Task, category: str | None) -> bool:
    check = task_function(task, "check_category")
    try:
        check(task, category)
    except UsageError:
        if category is None:
            raise
        check(task, None)
        return False
    return category is not None


def _predict(
    task: Task, image: np.ndarray, category: str | None, device: torch.device, box: Box | None
) -> dict[str, Any]:
    results = predict_batch(task_to_device(task, device), [task.encode_image(image, box)], device)
    prediction = task_function(task, "describe")(task, results, 0, *([category] if category else []))
    return json.loads(json.dumps(prediction, allow_nan=False))  # plain JSON values, whatever types the task returned


def _tiled(photo: np.ndarray, tiles: Sequence[_Tile]) -> np.ndarray:
    """Arrange one titled tile per model in rows of three: uint8 H, W, 3."""
    width = round(min(1.5, max(0.5, photo.shape[1] / photo.shape[0])) * _TILE_HEIGHT)
    columns = min(_COLUMNS, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    step_x, step_y = width + _GAP, _TILE_HEIGHT + _TITLE_HEIGHT + _GAP
    sheet = Image.new("RGB", (columns * step_x + _GAP, rows * step_y + _GAP), WHITE)
    pen = ImageDraw.Draw(sheet)
    for number, tile in enumerate(tiles):
        left, top = _GAP + number % columns * step_x, _GAP + number // columns * step_y
        for text, y, color, font in (
            (tile.title, 14, INK, label_font(22, bold=True)), (tile.subtitle, 37, _FAINT, label_font(15))
        ):  # fmt: skip
            pen.text((left, top + y), _truncated(pen, text, font, width), color, font, "lm")
        content = (
            _text_tile(photo, tile.lines, width) if tile.image is None else _fitted(tile.image, width, _TILE_HEIGHT)
        )
        sheet.paste(Image.fromarray(content), (left, top + _TITLE_HEIGHT))
    return np.asarray(sheet)


def _fitted(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Fit an image into width x height, centered on white: uint8 height, width, 3."""
    factor = min(width / image.shape[1], height / image.shape[0])
    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    smaller = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    content = np.full((height, width, 3), 255, np.uint8)
    content[top : top + size[1], left : left + size[0]] = smaller
    return content


def _text_tile(photo: np.ndarray, lines: Sequence[str], width: int) -> np.ndarray:
    """Render a tile for a task without overlay: the image, shrunk, above its prediction as text."""
    half = _TILE_HEIGHT // 2
    content = np.full((_TILE_HEIGHT, width, 3), 255, np.uint8)
    content[:half] = _fitted(photo, width, half)
    image = Image.fromarray(content)
    pen, font = ImageDraw.Draw(image), label_font(17)
    letters = max(10, int(width / pen.textlength("n", font)))
    wrapped = [part for line in lines for part in textwrap.wrap(line, letters, subsequent_indent="    ")]
    room = (_TILE_HEIGHT - half - 16) // 23
    if len(wrapped) > room:
        wrapped = [*wrapped[: room - 1], "…"]
    for number, line in enumerate(wrapped):
        pen.text((4, half + 16 + 23 * number), line, INK, font)
    return np.asarray(image)


def _truncated(pen: ImageDraw.ImageDraw, text: str, font: Any, width: int) -> str:
    """Truncate the text to `width` pixels."""
    if pen.textlength(text, font) <= width:
        return text
    while text and pen.textlength(f"{text}…", font) > width:
        text = text[:-1]
    return f"{text}…"
