"""Contact sheets for people: tiles of a picture with a frame for right or wrong, boxes, points and lines of text below.

What a tile says is its task's affair; how a sheet looks is decided here, after `drawing.contact_sheet`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ftrain.reports.plots import FAINT_COLOUR, STYLE, TEXT_COLOUR, to_png

GOOD_COLOUR, BAD_COLOUR, PREDICTED_COLOUR, TRUE_COLOUR = "#1f8a4c", "#d0342c", "#0f9fb8", "#f2b705"

_TILE, _LINE, _GAP, _SIDE = 2.2, 0.145, 0.1, 0.14  # inches: side of a picture, height of a line, between tiles, at the edges
_LETTERS = 36  # of a line at most, as many as stand below a picture of that width

Box = Sequence[float]


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet, uint8 H, W, 3 RGB, with what is drawn on it in its own pixels.

    `good` frames it green (True), red (False) or not at all (None: the query of a search, or no truth). The first of `lines` is
    bold. `boxes` are predicted, `true_boxes` true ones (x1, y1, x2, y2, pixel centres of the corners); `points` N, 2.
    """

    picture: np.ndarray
    lines: Sequence[str] = ()
    good: bool | None = None
    boxes: Sequence[Box] = ()
    true_boxes: Sequence[Box] = ()
    points: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))


def sheet(tiles: Sequence[Tile | None], title: str, subtitle: str = "", columns: int = 5) -> bytes:
    """PNG of tiles, row after row of `columns`; None leaves a place free. The same tiles give the same bytes."""
    num_rows = max(1, -(-len(tiles) // columns))
    num_lines = max([len(tile.lines) for tile in tiles if tile is not None], default=0)
    cell = _TILE + _LINE * num_lines + _GAP
    head = 0.62 + 0.17 * subtitle.count("\n")
    width, height = 2 * _SIDE + columns * (_TILE + _GAP) - _GAP, head + num_rows * cell + _SIDE
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        figure.text(_SIDE / width, 1 - 0.12 / height, title, size=13, weight="bold", va="top")
        figure.text(_SIDE / width, 1 - 0.38 / height, subtitle, size=8.5, color=FAINT_COLOUR, va="top")
        for number, tile in enumerate(tiles):
            if tile is None:
                continue
            row, column = divmod(number, columns)
            left, top = _SIDE + column * (_TILE + _GAP), height - head - row * cell
            axes = figure.add_axes((left / width, (top - _TILE) / height, _TILE / width, _TILE / height))
            _draw_picture(axes, tile)
            for place, line in enumerate(tile.lines):
                figure.text(
                    (left + 0.01) / width, (top - _TILE - 0.03 - _LINE * place) / height, shortened(line), size=7.4,
                    va="top", weight="bold" if place == 0 else "normal", color=TEXT_COLOUR,
                )  # fmt: skip
        return to_png(figure, dpi=110)


def shortened(text: str, letters: int = _LETTERS) -> str:
    """The text, or as much of it as fits, with an ellipsis."""
    return text if len(text) <= letters else f"{text[: letters - 1].rstrip()}…"


def _draw_picture(axes: Axes, tile: Tile) -> None:
    height, width = tile.picture.shape[:2]
    axes.imshow(tile.picture, interpolation="lanczos" if max(height, width) > 64 else "nearest")
    side = max(height, width) / 2  # a square cell, so that frames and text line up
    axes.set_xlim((width - 1) / 2 - side, (width - 1) / 2 + side)
    axes.set_ylim((height - 1) / 2 + side, (height - 1) / 2 - side)
    axes.set_facecolor("#f3f4f5")
    axes.set_xticks([])
    axes.set_yticks([])
    colour = {None: "#dfe2e4", True: GOOD_COLOUR, False: BAD_COLOUR}[tile.good]
    for spine in axes.spines.values():
        spine.set(visible=True, color=colour, linewidth=0.8 if tile.good is None else 2.6)
    for boxes, line, paint in ((tile.true_boxes, (0, (3, 2)), TRUE_COLOUR), (tile.boxes, "-", PREDICTED_COLOUR)):
        for left, top, right, bottom in boxes:
            for shade, thickness in (("white", 2.2), (paint, 1.2)):
                size = right - left + 1, bottom - top + 1
                axes.add_patch(Rectangle((left - 0.5, top - 0.5), *size, fill=False, ec=shade, lw=thickness, ls=line))
    if len(tile.points):
        axes.plot(*np.asarray(tile.points).T, "o", mfc=PREDICTED_COLOUR, mec="white", ms=4.2, mew=0.7)
