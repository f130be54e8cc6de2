"""Overlays of predictions on images, without matplotlib, whose import takes longer than a prediction."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fschemas.landmarks import LandmarkSet
from fschemas.palette import SIDE_COLORS, rgb, side_of

WHITE, INK = (255, 255, 255), (24, 26, 30)
_SHIFT = 4  # fractional bits of OpenCV's drawing coordinates

Color = tuple[int, int, int]


def side_color(landmarks: LandmarkSet, point: int) -> str:
    """Color of a landmark by side of the garment, as in fprep's reports.

    Landmarks without counterpart have a third color. Predictions with swapped sides are thus easy to see.
    """
    return SIDE_COLORS[side_of(landmarks.names[point], landmarks.flip_index[point], point)]


def draw_landmarks(pixels: np.ndarray, answer: dict[str, Any], landmarks: LandmarkSet) -> np.ndarray:
    """Draw the `points` of a prediction with names, skeleton and garment; its coordinates refer to `width` x `height`.

    `pixels` is the image at any size, uint8 RGB H, W, 3. Line widths and letters scale with the image.
    """
    canvas = np.ascontiguousarray(pixels).copy()
    height, width = canvas.shape[:2]
    factor = np.array([width / answer["width"], height / answer["height"]])
    positions = {
        landmarks.names.index(point["name"]): (np.array([point["x"], point["y"]]) + 0.5) * factor - 0.5
        for point in answer["points"]
    }
    unit = max(width, height) / 800  # line widths and letters are designed for 800 pixels
    for first, second in landmarks.skeleton:
        if first in positions and second in positions:
            same = side_color(landmarks, first) == side_color(landmarks, second)
            color = side_color(landmarks, first) if same else SIDE_COLORS["middle"]
            _line(canvas, positions[first], positions[second], INK, 4.5 * unit)
            _line(canvas, positions[first], positions[second], rgb(color), 2.6 * unit)
    for point, position in positions.items():
        _dot(canvas, position, 8.5 * unit, INK)
        _dot(canvas, position, 7.5 * unit, WHITE)
        _dot(canvas, position, 5.5 * unit, rgb(side_color(landmarks, point)))
    image = Image.fromarray(canvas)
    _name_points(image, landmarks, positions, unit)
    score = answer.get("garment_score")
    caption(image, answer["garment"] + ("" if score is None else f"  {100 * score:.0f}%"), unit)
    return np.asarray(image)


def _name_points(image: Image.Image, landmarks: LandmarkSet, positions: dict[int, np.ndarray], unit: float) -> None:
    """Label each landmark, avoiding other labels and landmarks as far as there is room."""
    pen, font, gap, rim = ImageDraw.Draw(image), label_font(14.5 * unit), 10 * unit, max(1, round(1.8 * unit))
    taken = [np.array([*(position - 7 * unit), *(position + 7 * unit)]) for position in positions.values()]
    middle = np.mean(list(positions.values()) or [[0, 0]], axis=0)
    for point, position in positions.items():
        text = landmarks.names[point].replace("_", " ")
        width, height = pen.textlength(text, font), 15.5 * unit
        right, left = np.array([gap + width / 2, 0]), np.array([-gap - width / 2, 0])
        below, above = np.array([0, gap + height / 2]), np.array([0, -gap - height / 2])
        sides = [right, left] if position[0] >= middle[0] else [left, right]
        ends = [below, above] if position[1] >= middle[1] else [above, below]
        slants = [side + end * 0.8 for side in sides for end in ends]
        half = np.array([width / 2 + rim, height / 2])
        room = np.maximum(half, image.size - half)
        centers = [np.clip(position + shift, half, room) for shift in (*sides, *ends, *slants)]
        boxes = [np.concatenate([center - half, center + half]) for center in centers]
        best = int(np.argmin([_overlap(box, taken) for box in boxes]))
        taken.append(boxes[best])
        pen.text(tuple(centers[best]), text, INK, font, anchor="mm", stroke_width=rim, stroke_fill=WHITE)


def _overlap(box: np.ndarray, others: Sequence[np.ndarray]) -> float:
    """Total area of the overlap of `box` with the others, in square pixels."""
    corners = np.stack(others)
    sides = np.minimum(box[2:], corners[:, 2:]) - np.maximum(box[:2], corners[:, :2])
    return float(np.prod(np.maximum(sides, 0), axis=1).sum())


def _line(canvas: np.ndarray, start: np.ndarray, end: np.ndarray, color: Color, width: float) -> None:
    cv2.line(canvas, _fixed(start), _fixed(end), color, max(1, round(width)), cv2.LINE_AA, _SHIFT)


def _dot(canvas: np.ndarray, position: np.ndarray, radius: float, color: Color) -> None:
    size = round(max(1.0, radius) * (1 << _SHIFT))
    cv2.circle(canvas, _fixed(position), size, color, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _fixed(position: np.ndarray) -> tuple[int, int]:
    return round(float(position[0]) * (1 << _SHIFT)), round(float(position[1]) * (1 << _SHIFT))


def caption(image: Image.Image, text: str, unit: float) -> None:
    """Draw a line of text in the upper left corner; `unit` scales letters and lines (1 for images of 800 pixels)."""
    pen, font, pad = ImageDraw.Draw(image), label_font(20 * unit, bold=True), 9 * unit
    pen.rectangle((0, 0, pen.textlength(text, font) + 2 * pad, 20 * unit + 2 * pad), INK)
    pen.text((pad, 10 * unit + pad), text, WHITE, font, anchor="lm")


def captioned(image: np.ndarray, text: str) -> np.ndarray:
    """Return the image (uint8 RGB) with a line of text in the upper left corner."""
    canvas = Image.fromarray(np.ascontiguousarray(image))
    caption(canvas, text, max(canvas.size) / 800)
    return np.asarray(canvas)


def label_font(size: float, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Load the font that ships with matplotlib; OpenCV's letters differ between versions."""
    folder = Path(str(find_spec("matplotlib").origin)).with_name("mpl-data") / "fonts/ttf"  # type: ignore[union-attr]
    return ImageFont.truetype(folder / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"), max(6.0, size))
