"""Predicted points on images: overlays for `ftrain predict`, and the contact sheet of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from fschemas.landmarks import LandmarkSet, Visibility
from fschemas.palette import SIDE_COLORS, rgb, side_of
from ftrain.data.image import decode_exactly
from ftrain.data.types import EvaluatedSplit
from ftrain.metrics.normalised_error import PointErrors
from ftrain.plots.legend import Entry, Head
from ftrain.plots.plots import STYLE, to_png
from ftrain.plots.sheet import mistaken

WHITE, INK = (255, 255, 255), (24, 26, 30)
_ERROR = "#e0245e"
_RIM = "#22262a"
_SHEET_IMAGES, _LEAST_COLUMNS = 20, 4
_SHIFT = 4  # binary places of OpenCV's drawing coordinates

Color = tuple[int, int, int]


def side_color(landmarks: LandmarkSet, point: int) -> str:
    """One color for each side of the garment and one for what has no partner, as on the pages of fprep: a swap of sides shows."""
    return SIDE_COLORS[side_of(landmarks.points[point], landmarks.partners[point], point)]


def side_entries(landmarks: LandmarkSet) -> list[Entry]:
    """The legend of predicted landmarks."""
    shown = {side_of(name, landmarks.partners[point], point) for point, name in enumerate(landmarks.points)}
    return [Entry("dot", color, f"predicted, {side}") for side, color in SIDE_COLORS.items() if side in shown]


def draw_answer(pixels: np.ndarray, answer: dict[str, Any], landmarks: LandmarkSet) -> np.ndarray:
    """The points of an answer with their names and lines on an image that stands for its `width` and `height`.

    `pixels` is uint8 RGB of any size; the drawing is as large on small images as on big ones.
    """
    canvas = np.ascontiguousarray(pixels).copy()
    height, width = canvas.shape[:2]
    factor = np.array([width / answer["width"], height / answer["height"]])
    places = {
        landmarks.points.index(point["name"]): (np.array([point["x"], point["y"]]) + 0.5) * factor - 0.5
        for point in answer["points"]
    }
    unit = max(width, height) / 800  # line widths and letters are made for 800 pixels
    for first, second in landmarks.skeleton:
        if first in places and second in places:
            same = side_color(landmarks, first) == side_color(landmarks, second)
            color = side_color(landmarks, first) if same else SIDE_COLORS["middle"]
            _line(canvas, places[first], places[second], INK, 4.5 * unit)
            _line(canvas, places[first], places[second], rgb(color), 2.6 * unit)
    for point, place in places.items():
        _dot(canvas, place, 8.5 * unit, INK)
        _dot(canvas, place, 7.5 * unit, WHITE)
        _dot(canvas, place, 5.5 * unit, rgb(side_color(landmarks, point)))
    image = Image.fromarray(canvas)
    _name_points(image, landmarks, places, unit)
    score = answer.get("garment_score")
    _caption(image, answer["garment"] + ("" if score is None else f"  {100 * score:.0f} %"), unit)
    return np.asarray(image)


def _name_points(image: Image.Image, landmarks: LandmarkSet, places: dict[int, np.ndarray], unit: float) -> None:
    """A label beside each point, where it covers neither another label nor a point, as far as there is room."""
    pen, font, gap, rim = ImageDraw.Draw(image), label_font(14.5 * unit), 10 * unit, max(1, round(1.8 * unit))
    taken = [np.array([*(place - 7 * unit), *(place + 7 * unit)]) for place in places.values()]
    middle = np.mean(list(places.values()) or [[0, 0]], axis=0)
    for point, place in places.items():
        text = landmarks.points[point].replace("_", " ")
        width, height = pen.textlength(text, font), 15.5 * unit
        right, left = np.array([gap + width / 2, 0]), np.array([-gap - width / 2, 0])
        below, above = np.array([0, gap + height / 2]), np.array([0, -gap - height / 2])
        sides = [right, left] if place[0] >= middle[0] else [left, right]
        ends = [below, above] if place[1] >= middle[1] else [above, below]
        slants = [side + end * 0.8 for side in sides for end in ends]
        half = np.array([width / 2 + rim, height / 2])
        room = np.maximum(half, image.size - half)
        centers = [np.clip(place + shift, half, room) for shift in (*sides, *ends, *slants)]
        boxes = [np.concatenate([center - half, center + half]) for center in centers]
        best = int(np.argmin([_overlap(box, taken) for box in boxes]))
        taken.append(boxes[best])
        pen.text(tuple(centers[best]), text, INK, font, anchor="mm", stroke_width=rim, stroke_fill=WHITE)


def _overlap(box: np.ndarray, others: Sequence[np.ndarray]) -> float:
    """Covered area in pixels."""
    corners = np.stack(others)
    sides = np.minimum(box[2:], corners[:, 2:]) - np.maximum(box[:2], corners[:, :2])
    return float(np.prod(np.maximum(sides, 0), axis=1).sum())


def _line(canvas: np.ndarray, start: np.ndarray, end: np.ndarray, color: Color, width: float) -> None:
    cv2.line(canvas, _fixed(start), _fixed(end), color, max(1, round(width)), cv2.LINE_AA, _SHIFT)


def _dot(canvas: np.ndarray, place: np.ndarray, radius: float, color: Color) -> None:
    cv2.circle(canvas, _fixed(place), round(max(1.0, radius) * (1 << _SHIFT)), color, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _fixed(place: np.ndarray) -> tuple[int, int]:
    return round(float(place[0]) * (1 << _SHIFT)), round(float(place[1]) * (1 << _SHIFT))


def _caption(image: Image.Image, text: str, unit: float) -> None:
    pen, font, pad = ImageDraw.Draw(image), label_font(20 * unit, bold=True), 9 * unit
    pen.rectangle((0, 0, pen.textlength(text, font) + 2 * pad, 20 * unit + 2 * pad), INK)
    pen.text((pad, 10 * unit + pad), text, WHITE, font, anchor="lm")


def label_font(size: float, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Matplotlib's own font: OpenCV's letters differ from version to version."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(f"{mpl.get_data_path()}/fonts/ttf/{name}", max(6.0, size))


def contact_sheet(landmarks: LandmarkSet, evaluated: EvaluatedSplit, errors: PointErrors, subtitle: str) -> bytes:
    """PNG of about twenty images with predicted and true points: of every garment the best, the worst and steps between."""
    chosen = _chosen(landmarks, errors)
    num_columns = max(_LEAST_COLUMNS, *(len(tiles) for tiles in chosen)) if len(chosen) > 2 else 5
    rows = [tiles[start : start + num_columns] for tiles in chosen for start in range(0, len(tiles), num_columns)]
    width, height = 2.35 * num_columns, 2.62 * len(rows)
    legend = [
        *side_entries(landmarks),
        Entry("ring", _ERROR, "true landmark, with a line to the predicted one"),
        Entry("text", "", "white lines: outline through the predicted landmarks"),
        Entry("text", "", "NE: error of the image; from the best to the worst of each garment"),
    ]
    top = Head("Predicted and true landmarks", subtitle, legend, width, 0.12)
    head = top.height
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height + head))
        top.draw(figure)
        grid = figure.add_gridspec(
            len(rows), num_columns, left=0.04 / width, right=1 - 0.04 / width, bottom=0.04 / (height + head),
            top=height / (height + head) - 0.22 / (height + head), wspace=0.03, hspace=0.12,
        )  # fmt: skip
        for row, tiles in enumerate(rows):
            for column, number in enumerate(tiles):
                _tile(figure.add_subplot(grid[row, column]), landmarks, evaluated, errors, number)
        return to_png(figure, dpi=130)


def _chosen(landmarks: LandmarkSet, errors: PointErrors) -> list[list[int]]:
    """Per garment the numbers of images, from the best to the worst in equal steps."""
    counts = errors.counted.sum(axis=1)
    means = errors.distances.sum(axis=1) / np.maximum(counts, 1)
    present = [index for index in range(len(landmarks.garments)) if (counts[errors.garments == index] > 0).any()]
    share = -(-_SHEET_IMAGES // max(1, len(present)))
    chosen: list[list[int]] = []
    for index in present:
        members = np.flatnonzero((errors.garments == index) & (counts > 0))
        members = members[np.argsort(means[members], kind="stable")]
        steps = np.unique(np.linspace(0, len(members) - 1, min(share, len(members))).round().astype(int))
        chosen.append(members[steps].tolist())
    return chosen


def _tile(axes: Axes, landmarks: LandmarkSet, evaluated: EvaluatedSplit, errors: PointErrors, number: int) -> None:
    results = evaluated.results
    image, note = evaluated.shards.read(int(results["row"][number]))
    pixels = decode_exactly(image)
    garment = str(note["garment"])
    truth, guess = results["truth"][number], results["points"][number]
    seen = results["visibility"][number] >= Visibility.OCCLUDED
    axes.imshow(pixels, interpolation="lanczos")
    axes.set_xlim(-0.5, pixels.shape[1] - 0.5)
    axes.set_ylim(pixels.shape[0] - 0.5, -0.5)
    valid = [
        point for point in landmarks.valid_points(garment) if seen[point]
    ]  # without truth there is nothing to compare
    edges = np.array([edge for edge in landmarks.skeleton if edge[0] in valid and edge[1] in valid], int).reshape(-1, 2)
    for color, width in (("white", 1.9), ("#3d454d", 0.8)):
        axes.plot(*_broken_line(guess[edges]), color=color, lw=width, solid_capstyle="round")
    axes.plot(*_broken_line(np.stack([truth[valid], guess[valid]], axis=1)), color=_ERROR, lw=1.3)
    for color, width in (("white", 2.4), (_ERROR, 1.1)):
        axes.plot(*truth[valid].T, "o", mfc="none", mec=color, ms=7.0, mew=width)
    for color in SIDE_COLORS.values():
        same = [point for point in valid if side_color(landmarks, point) == color]
        axes.plot(*guess[same].T, "o", mfc=color, mec=_RIM, ms=4.8, mew=0.8)
    count = errors.counted[number].sum()
    error = 100 * errors.distances[number].sum() / count
    named = list(landmarks.garments)[int(results["garment_scores"][number].argmax())]
    axes.set_title(f"{mistaken(named, garment)}  NE {error:.1f} %", size=8, pad=3, loc="left")
    axes.axis("off")


def _broken_line(segments: np.ndarray) -> np.ndarray:
    """Segments N, 2, 2 as one line, x and y, that NaN interrupts."""
    gaps = np.full((len(segments), 1, 2), np.nan)
    return np.concatenate([segments, gaps], axis=1).reshape(-1, 2).T
