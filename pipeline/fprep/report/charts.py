"""Charts: rows of bars drawn by templates, and histograms and scatter plots as SVG of matplotlib.

The SVG contains no colors: groups have CSS classes, and the style sheet of the page colors them in light and dark mode.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fprep.report.page import escape
from fschemas.wording import count

_WIDTH, _HEIGHT = 420, 240  # size of a chart in SVG units, which are CSS pixels on a wide screen
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 10, 40  # margins around the plot
_CLOUD, _REACH = 220, 0.58  # side of a point cloud in SVG units, and half of it in units of the points
_STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "fprep", "path.simplify": False}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
# Simplifies matplotlib's markup: classes and titles instead of ids, paths with one decimal, plain text.
_SLIM = tuple((re.compile(pattern, re.DOTALL), new) for pattern, new in (
    (r".*?(<g .*)</svg>\s*", r"\1"),
    (r"<defs>.*?</defs>", ""),
    (r'<text style="[^"]*?text-anchor: (\w+)[^"]*"', r'<text text-anchor="\1"'),
    (r' transform="rotate\([^"]*"| clip-path="[^"]*"', ""),
    (r' style="[^"]*?(stroke-width: [\d.]+)?(?:; stroke-linecap: \w+)?"', r' style="\1"'),
    (r' style=""', ""),
    (r'<g id="([\w ]+)\|([^"]*)">', r'<g class="\1"><title>\2</title>'),
    (r"<title></title>| id=\"[^\"]*\"", ""),
    (r"-?\d+\.\d\d+", lambda number: f"{float(number[0]):.1f}".removesuffix(".0")),
    (r"\s+", " "),
    (r"M ([\d.]+ [\d.]+) L \1 ", r"M\1h0"),
    (r" ?(?<=[\d\w]) ?([LCMz]) ?", r"\1"),
    (r"> <", "><"),
    *[(r"<g></g>|<g/>", "")] * 3,
))  # fmt: skip


@dataclass(frozen=True)
class Bar:
    """One line of a bar chart. `parts` are (CSS class, length, name); `text` follows the bar; `label` may be empty."""

    label: str
    parts: Sequence[tuple[str, int, str]]
    text: str


@dataclass(frozen=True)
class Panel:
    """A chart with title and explanatory `note`: an SVG, bars, or `parts` with their own bars.

    `whole` is the length of a full track (0: the longest bar). The first `shown` bars are visible, up to `most_hidden`
    more can be unfolded, and the rest is counted.
    """

    title: str
    rows: Sequence[Bar] = ()
    note: str = ""
    chart: Markup | None = None
    parts: Sequence[Panel] = ()
    whole: float = 0
    shown: int = 30
    most_hidden: int = 400
    wide: bool = False

    @property
    def longest(self) -> float:
        """The length of a full track, always positive."""
        return self.whole or max((sum(part[1] for part in bar.parts) for bar in self.rows), default=0) or 1


def bars_of(counts: Mapping[str, int], color: str) -> list[Bar]:
    """Return bars of one color, longest first."""
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return [Bar(name, [(color, number, "")], count(number)) for name, number in ordered]


def histogram(
    counts: Sequence[int], edges: Sequence[float], name: str, unit: str, ticks: Sequence[tuple[float, str]] = ()
) -> Markup:
    """Histogram of `counts` between `edges` (one more than counts).

    `name` labels the x axis, `unit` is what is counted, and `ticks` are axis positions and labels (default: round
    numbers).
    """
    figure, axes = _plot(name, unit, (edges[0], edges[-1]), (0, max(*counts, 1) * 1.05))
    for number, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        if number:
            title = f"column|{low:g} to {high:g}: {count(number)}"
            axes.bar(low, number, high - low, align="edge", gid=title)
    if ticks:
        axes.set_xticks(*zip(*ticks, strict=True))
    return _svg(figure, "chart", f"Histogram of {name}")


def scatter(points: Sequence[tuple[float, float, int]], names: tuple[str, str]) -> Markup:
    """Scatter plot of (x, y, count), with circle area growing with count. Both axes start at 0 and share one scale."""
    room = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    per_unit = max(max(point[axis] for point in points) * 1.08 / room[axis] for axis in (0, 1))
    reach = per_unit * room[0], per_unit * room[1]
    figure, axes = _plot(names[0], names[1], (0, reach[0]), (0, reach[1]))
    axes.plot((0, min(reach)), (0, min(reach)), lw=1, gid="diagonal|")
    most = max(point[2] for point in points)
    for x, y, number in sorted(points, key=lambda point: (-point[2], point)):
        width = round(3.2 + 18 * (number / most) ** 0.5, 1)
        _dots(axes, [(x, y)], width, f"dot|{x:g} × {y:g}: {count(number)}")
    return _svg(figure, "chart", f"{names[1]} against {names[0]}")


def cloud(
    specks: Iterable[tuple[str, Any]], medians: Iterable[tuple[str, Any, str]], edges: Iterable[tuple[Any, Any]]
) -> Markup:
    """Point cloud with x and y in -0.5 … 0.5, y down.

    `specks` are (side, points) of a landmark, `medians` are (side, point, title), and `edges` connect medians.
    """
    figure = Figure(figsize=(_CLOUD / 72, _CLOUD / 72), dpi=72)
    figure.patch.set_visible(False)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-_REACH, _REACH), ylim=(_REACH, -_REACH))
    axes.axis("off")
    for side, points in specks:
        _dots(axes, points, 3.2, f"speck {side}|")
    for start, end in edges:
        axes.plot(*zip(start, end, strict=True), gid="limb|")
    for side, point, title in medians:
        axes.add_patch(Circle(point, 9 * _REACH / _CLOUD, zorder=3, gid=f"median {side}|{title}"))
    return _svg(figure, "cloud", "landmarks of a garment")


def _plot(x_name: str, y_name: str, x_range: tuple[float, float], y_range: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH / 72, _HEIGHT / 72), dpi=72)
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    axes = figure.add_axes((_LEFT / _WIDTH, _BOTTOM / _HEIGHT, width / _WIDTH, height / _HEIGHT))
    axes.set(xlim=x_range, ylim=y_range)
    axes.set_frame_on(False)
    axes.set_axisbelow(True)
    figure.patch.set_visible(False)
    axes.tick_params(length=0, pad=5)
    axes.grid(axis="y", gid="grid|")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=(1, 2, 2.5, 5, 10), integer=axis is axes.yaxis))
        axis.set_major_formatter(FuncFormatter(_number))
    figure.text(1 - _RIGHT / _WIDTH, 6 / _HEIGHT, x_name, ha="right", gid="axis|")
    figure.text(_LEFT / _WIDTH, 6 / _HEIGHT, f"{y_name} ↑", gid="axis|")
    return figure, axes


def _number(value: float, _: int) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"


def _dots(axes: Axes, points: Sequence[Any], width: float, gid: str) -> None:
    """Draw dots as zero-length lines, which take a tenth of the SVG size of circles."""
    x, y = np.array([(point, point, (np.nan, np.nan)) for point in points]).reshape(-1, 2).T
    axes.plot(x, y, lw=width, gid=gid)


def _svg(figure: Figure, kind: str, name: str) -> Markup:
    content = io.StringIO()
    with mpl.rc_context(_STYLE):
        FigureCanvasSVG(figure).print_svg(content, metadata=_NO_METADATA)
    body = content.getvalue()
    for pattern, new in _SLIM:
        body = pattern.sub(new, body)
    width, height = (round(72 * side) for side in figure.get_size_inches())
    head = f'<svg viewBox="0 0 {width} {height}" class="{kind}" role="img" aria-label="{escape(name)}">'
    return Markup(f"{head}{body}</svg>")  # noqa: S704 - matplotlib escapes its text
