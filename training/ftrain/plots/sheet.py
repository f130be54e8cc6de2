"""Contact sheets: tiles of an image with a frame for right or wrong, boxes, landmarks and lines of text.

The task decides the content of a tile, this module the look of the sheet. Everything drawn in color (frames, boxes,
landmarks) has an entry in the legend (see `ftrain.plots.legend`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ftrain.plots.figures import STYLE, TEXT_COLOR, shortened, to_png
from ftrain.plots.legend import Entry, Head

GOOD_COLOR, BAD_COLOR, PREDICTED_COLOR, TRUE_COLOR = "#1f8a4c", "#d0342c", "#0f9fb8", "#f2b705"

# Inches: side of an image, height of a line, gap between tiles, margin.
_TILE, _LINE, _GAP, _SIDE = 2.2, 0.145, 0.1, 0.14

MARKS = {1: "✓", 0: "✗", -1: "?"}  # before a predicted attribute: true, false, unknown
MARKS_ENTRY = Entry("text", "", "✓ predicted and true   ✗ predicted but false   ? not known")
ORDER_ENTRY = Entry("text", "", "from the best to the worst")

Box = Sequence[float]


@dataclass(frozen=True)
class Tile:
    """One image of a sheet, uint8 H, W, 3 RGB, and the marks drawn on it, in its own pixel coordinates.

    `good` frames it green (True), red (False) or not at all (None: the query of a search, or no ground truth). The
    first of `lines` is bold. `boxes` are predictions and `true_boxes` ground truth (x1, y1, x2, y2: pixel centers of
    the corners); `points` is N, 2 with `point_colors` N (one default color if empty).
    """

    image: np.ndarray
    lines: Sequence[str] = ()
    good: bool | None = None
    boxes: Sequence[Box] = ()
    true_boxes: Sequence[Box] = ()
    points: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))
    point_colors: Sequence[str] = ()


_MEANING = {
    "good": "green frame: right", "bad": "red frame: wrong", "box": "predicted box", "true_box": "true box", "points": "predicted landmark",
}  # fmt: skip


def sheet(
    tiles: Sequence[Tile | None],
    title: str,
    subtitle: str = "",
    columns: int = 5,
    *,
    meaning: Mapping[str, str] | None = None,
    legend: Sequence[Entry] = (),
) -> bytes:
    """Render tiles as PNG in rows of `columns`; None leaves a cell empty. The same tiles give the same bytes.

    The legend explains the marks that occur: `meaning` overrides the default texts of good, bad, box, true_box and
    points, and `legend` adds entries.
    """
    num_rows = max(1, -(-len(tiles) // columns))
    num_lines = max([len(tile.lines) for tile in tiles if tile is not None], default=0)
    cell = _TILE + _LINE * num_lines + _GAP
    width = 2 * _SIDE + columns * (_TILE + _GAP) - _GAP
    entries = [*_entries(tiles, {**_MEANING, **(meaning or {})}), *legend]
    unexplained = drawn_colors(tiles) - {entry.color for entry in entries}
    assert not unexplained, f"the legend does not explain {unexplained}"
    top = Head(title, subtitle, entries, width, _SIDE)
    head = top.height
    height = head + num_rows * cell + _SIDE
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        top.draw(figure)
        for number, tile in enumerate(tiles):
            if tile is None:
                continue
            row, column = divmod(number, columns)
            left, top = _SIDE + column * (_TILE + _GAP), height - head - row * cell
            axes = figure.add_axes((left / width, (top - _TILE) / height, _TILE / width, _TILE / height))
            _draw_image(axes, tile)
            for index, line in enumerate(tile.lines):
                figure.text(
                    (left + 0.01) / width, (top - _TILE - 0.03 - _LINE * index) / height, shortened(line), size=7.4,
                    va="top", weight="bold" if index == 0 else "normal", color=TEXT_COLOR,
                )  # fmt: skip
        return to_png(figure, dpi=110)


def drawn_colors(tiles: Sequence[Tile | None]) -> set[str]:
    """Colors of the frames, boxes and landmarks that need a legend entry."""
    some = [tile for tile in tiles if tile is not None]
    colors = {GOOD_COLOR if tile.good else BAD_COLOR for tile in some if tile.good is not None}
    colors |= {PREDICTED_COLOR for tile in some if len(tile.boxes) or (len(tile.points) and not tile.point_colors)}
    colors |= {TRUE_COLOR for tile in some if len(tile.true_boxes)}
    return colors.union(*(tile.point_colors for tile in some))


def _entries(tiles: Sequence[Tile | None], meaning: Mapping[str, str]) -> list[Entry]:
    """Legend entries for the marks that occur in the tiles."""
    some = [tile for tile in tiles if tile is not None]
    has_points = any(len(tile.points) and not tile.point_colors for tile in some)
    looks = [
        (any(tile.good is True for tile in some), Entry("frame", GOOD_COLOR, meaning["good"])),
        (any(tile.good is False for tile in some), Entry("frame", BAD_COLOR, meaning["bad"])),
        (any(len(tile.boxes) for tile in some), Entry("box", PREDICTED_COLOR, meaning["box"])),
        (any(len(tile.true_boxes) for tile in some), Entry("dashed", TRUE_COLOR, meaning["true_box"])),
        (has_points, Entry("dot", PREDICTED_COLOR, meaning["points"])),
    ]
    return [entry for shown, entry in looks if shown]


def _draw_image(axes: Axes, tile: Tile) -> None:
    height, width = tile.image.shape[:2]
    axes.imshow(tile.image, interpolation="lanczos" if max(height, width) > 64 else "nearest")
    side = max(height, width) / 2  # a square cell, so that frames and text align
    axes.set_xlim((width - 1) / 2 - side, (width - 1) / 2 + side)
    axes.set_ylim((height - 1) / 2 + side, (height - 1) / 2 - side)
    axes.set_facecolor("#f3f4f5")
    axes.set_xticks([])
    axes.set_yticks([])
    color = {None: "#dfe2e4", True: GOOD_COLOR, False: BAD_COLOR}[tile.good]
    for spine in axes.spines.values():
        spine.set(visible=True, color=color, linewidth=0.8 if tile.good is None else 2.6)
    for boxes, line, paint in ((tile.true_boxes, (0, (3, 2)), TRUE_COLOR), (tile.boxes, "-", PREDICTED_COLOR)):
        for left, top, right, bottom in boxes:
            for shade, thickness in (("white", 2.2), (paint, 1.2)):
                size = right - left + 1, bottom - top + 1
                axes.add_patch(Rectangle((left - 0.5, top - 0.5), *size, fill=False, ec=shade, lw=thickness, ls=line))
    points = np.asarray(tile.points).reshape(-1, 2)
    colors = np.asarray(tile.point_colors or [PREDICTED_COLOR] * len(points), dtype=object)
    for color in dict.fromkeys(colors):
        axes.plot(*points[colors == color].T, "o", mfc=color, mec="white", ms=4.6, mew=0.8)


def mistaken(answer: str, truth: str | None) -> str:
    """Format a prediction, followed by the ground truth if it differs; None means that the truth is unknown."""
    return answer if truth is None or truth == answer else f"{answer} (true: {truth})"
