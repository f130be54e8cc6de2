"""What is said of a photograph drawn on it: a box, and a panel of lines with a bar for each score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_WHITE, _INK, _BOX, _BAR, _FAINT = (255, 255, 255), (24, 26, 30), (15, 159, 184), (64, 190, 212), (176, 184, 190)
_MADE_FOR = 800  # pixels of the longer side that letters and lines are made for


@dataclass(frozen=True)
class Line:
    """A line of a panel: a name, what is said of it, and how sure it is (None: no bar). The first is set larger.

    A score that is a probability is written in percent; others, such as those of attributes learnt with balanced losses, are not.
    """

    text: str
    score: float | None = None
    name: str = ""
    probability: bool = True


def draw_labels(
    image: np.ndarray, lines: Sequence[Line], *, size: tuple[int, int], box: Sequence[float] | None = None
) -> np.ndarray:
    """`image`, uint8 RGB of any size, with the panel at its lower left and the box (pixels of `size`: width, height)."""
    canvas = np.ascontiguousarray(image).copy()
    height, width = canvas.shape[:2]
    unit = max(width, height) / _MADE_FOR
    if box is not None:
        factors = np.array([width / size[0], height / size[1]] * 2)
        edges = (np.asarray(box, float) + [-0.5, -0.5, 0.5, 0.5] + 0.5) * factors - 0.5
        first, last = (tuple(int(value) for value in edges[part].round()) for part in (slice(2), slice(2, 4)))
        for color, thickness in ((_WHITE, 6), (_BOX, 3)):
            cv2.rectangle(canvas, first, last, color, max(1, round(thickness * unit)), cv2.LINE_AA)
    return np.asarray(_panel(Image.fromarray(canvas), lines, unit)) if lines else canvas


def _panel(image: Image.Image, lines: Sequence[Line], unit: float) -> Image.Image:
    sizes = [20 * unit if number == 0 else 14.5 * unit for number in range(len(lines))]
    pad, step, bar = 10 * unit, 1.42, 70 * unit
    pen = ImageDraw.Draw(image)
    names = max(pen.textlength(line.name, _font(14.5 * unit)) for line in lines)
    names += 8 * unit if names else 0
    texts = max(
        pen.textlength(line.text, _font(s, bold=n == 0)) for n, (line, s) in enumerate(zip(lines, sizes, strict=True))
    )
    bars = bar + 50 * unit if any(line.score is not None for line in lines) else 0
    width = min(image.width, round(names + texts + bars + 3 * pad))
    height = min(image.height, round(sum(sizes) * step + 1.6 * pad))
    panel = Image.new("RGB", (width, height), _INK)
    corner = (0, image.height - height)
    panel = Image.blend(image.crop((*corner, width, image.height)), panel, 0.82)
    pen, top = ImageDraw.Draw(panel), 0.8 * pad
    for number, (line, letters) in enumerate(zip(lines, sizes, strict=True)):
        middle = top + letters * step / 2
        left = pad if number == 0 and not line.name else pad + names
        pen.text((pad, middle), line.name, _FAINT, _font(14.5 * unit), anchor="lm")
        pen.text((left, middle), line.text, _WHITE, _font(letters, bold=number == 0), anchor="lm")
        if line.score is not None:
            start = width - pad - bars + 2 * unit
            pen.rectangle((start, middle - 3 * unit, start + bar, middle + 3 * unit), (70, 76, 82))
            pen.rectangle((start, middle - 3 * unit, start + bar * min(1.0, line.score), middle + 3 * unit), _BAR)
            written = f"{100 * line.score:.0f} %" if line.probability else f"{line.score:.2f}"
            pen.text((width - pad, middle), written, _WHITE, _font(13 * unit), anchor="rm")
        top += letters * step
    image.paste(panel, corner)
    return image


def _font(size: float, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Matplotlib's own font: it is there wherever the plots are."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(f"{mpl.get_data_path()}/fonts/ttf/{name}", max(6.0, size))
