"""Head of a sheet: title, subtitle, and a legend wrapped to the width of the sheet so that nothing is cut off."""

import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from fschemas.landmarks import LandmarkSet
from fschemas.palette import SIDE_COLORS, side_of
from ftrain.plots.figures import FAINT_COLOR, TEXT_COLOR

_TITLE, _TEXT = 13.0, 8.5  # font sizes in points
_ROW = 0.2  # inches: height of a line of the legend or of the subtitle
_MARK, _BETWEEN = 0.22, 0.2  # inches: width of a mark, and gap between entries
_EM = 0.62 / 72  # inches per point of font size: upper estimate of the width of a letter


@dataclass(frozen=True)
class Entry:
    """One legend entry: kind of mark (`text` has none), color, and meaning."""

    kind: Literal["frame", "box", "dashed", "dot", "ring", "text"]
    color: str
    label: str


class Head:
    """Text above the images of a sheet, `width` inches wide with a margin of `left` inches.

    `height` in inches is known before drawing.
    """

    def __init__(self, title: str, subtitle: str, entries: Sequence[Entry], width: float, left: float) -> None:
        room = width - 2 * left
        self.left, self.width = left, width
        self.title = _wrapped(title, room, _TITLE * 1.1)
        self.subtitle = [line for part in subtitle.splitlines() for line in _wrapped(part, room, _TEXT)]
        self.rows = _rows(list(entries), room)
        self._text_top = 0.16 + 0.24 * len(self.title)
        self._legend_top = self._text_top + 0.17 * len(self.subtitle) + 0.05
        self.height = self._legend_top + _ROW * len(self.rows) + (0.08 if self.rows else 0.02)

    def draw(self, figure: Figure) -> None:
        """Draw the head at the top of a figure of that width."""
        height, left = figure.get_figheight(), self.left / self.width
        figure.text(left, 1 - 0.12 / height, "\n".join(self.title), size=_TITLE, weight="bold", va="top")
        subtitle = "\n".join(self.subtitle)
        figure.text(left, 1 - self._text_top / height, subtitle, size=_TEXT, color=FAINT_COLOR, va="top")
        for number, row in enumerate(self.rows):
            middle = height - self._legend_top - _ROW * (number + 0.5)
            x = self.left
            for entry in row:
                mark = _MARK if entry.kind != "text" else 0.0
                _draw_mark(figure, entry, x, middle, self.width, height)
                where = (x + mark) / self.width, middle / height
                figure.text(*where, entry.label, size=_TEXT, color=TEXT_COLOR, va="center_baseline")
                x += _width(entry)


def _draw_mark(figure: Figure, entry: Entry, left: float, middle: float, width: float, height: float) -> None:
    if entry.kind in ("dot", "ring"):
        face = entry.color if entry.kind == "dot" else "none"
        edge = "white" if entry.kind == "dot" else entry.color
        center = [(left + 0.08) / width], [middle / height]
        if entry.kind == "dot":  # a rim makes bright colors visible on white
            figure.add_artist(Line2D(*center, marker="o", ms=7.4, mfc="#8a9299", mec="none", ls=""))
        figure.add_artist(Line2D(*center, marker="o", ms=6, mfc=face, mec=edge, mew=1.1, ls=""))
    elif entry.kind != "text":
        thickness, line = {"frame": (2.4, "-"), "box": (1.4, "-"), "dashed": (1.4, (0, (3, 2)))}[entry.kind]
        corner, size = ((left + 0.01) / width, (middle - 0.06) / height), (0.15 / width, 0.12 / height)
        look: Any = {"ec": entry.color, "lw": thickness, "ls": line, "transform": figure.transFigure}
        figure.add_artist(Rectangle(corner, *size, fill=False, **look))


def _rows(entries: Sequence[Entry], room: float) -> list[list[Entry]]:
    """Arrange the entries in lines of at most `room` inches; an entry that is too long for one line is wrapped."""
    rows: list[list[Entry]] = []
    free = 0.0
    for entry in entries:
        parts = _wrapped(entry.label, room - _MARK, _TEXT)
        for number, label in enumerate(parts):
            piece = Entry(entry.kind if number == 0 else "text", entry.color, label)
            if not rows or _width(piece) - _BETWEEN > free:
                rows.append([])
                free = room
            rows[-1].append(piece)
            free -= _width(piece)
    return rows


def _width(entry: Entry) -> float:
    return (_MARK if entry.kind != "text" else 0.0) + letters(entry.label) * _TEXT * _EM + _BETWEEN


def letters(text: str) -> int:
    """Width of the text in narrow letters; Korean, Chinese and Japanese ones count twice."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _wrapped(text: str, room: float, size: float) -> list[str]:
    return textwrap.wrap(text, max(12, int(room / (size * _EM)))) or [""]


def side_entries(landmarks: LandmarkSet) -> list[Entry]:
    """Legend entries for predicted landmarks."""
    shown = {side_of(name, landmarks.flip_index[point], point) for point, name in enumerate(landmarks.names)}
    return [Entry("dot", color, f"predicted, {side}") for side, color in SIDE_COLORS.items() if side in shown]
