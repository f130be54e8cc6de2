"""Charts: bars are boxes of HTML, so that their text stays readable on a telephone; histograms and clouds are SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fprep.report.html import Markup, breakable, details, element, join, percent
from fschemas.wording import count

WIDTH, HEIGHT = 420, 240  # of an SVG chart, in its own units; they are CSS pixels on a wide screen
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 10, 40  # margins around the plot
NUM_BARS_SHOWN = 30
NUM_BARS_HIDDEN = 400


@dataclass(frozen=True)
class Bar:
    """One line of a bar chart: `parts` are lengths by CSS class, `text` stands behind the bar; `label` may be empty."""

    label: str
    parts: Sequence[tuple[str, float, str]]  # class, length, what it is
    text: str

    @property
    def length(self) -> float:
        """All parts together."""
        return sum(part[1] for part in self.parts)


def bars(rows: Sequence[Bar], *, whole: float | None = None, shown: int = NUM_BARS_SHOWN) -> Markup:
    """Horizontal bars, stacked of their parts; `whole` is the length of a full track (default: the longest bar).

    The first `shown` stand open, some hundred more can be unfolded, the rest is counted.
    """
    longest = whole or max((bar.length for bar in rows), default=0) or 1
    lines = [_bar(bar, longest) for bar in rows[: shown + NUM_BARS_HIDDEN]]
    chart = element("div", *lines[:shown], class_="bars")
    if len(lines) <= shown:
        return chart
    beyond = len(rows) - len(lines)
    note = element("p", f"and {count(beyond)} more", class_="faint") if beyond else None
    return join(
        [chart, details(f"{count(len(rows) - shown)} more", element("div", *lines[shown:], class_="bars"), note)]
    )


def _bar(bar: Bar, longest: float) -> Markup:
    pieces = [
        element("i", class_=kind, style=f"width:{100 * length / longest:.3f}%", title=f"{bar.label or 'not stated'}, {what}")
        for kind, length, what in bar.parts if length
    ]  # fmt: skip
    label = element("span", breakable(bar.label)) if bar.label else element("em", "not stated")
    return element(
        "div", element("div", label, class_="label"), element("div", *pieces, class_="track"),
        element("div", bar.text, class_="value"), class_="bar",
    )  # fmt: skip


def legend(entries: Sequence[tuple[str, object]]) -> Markup:
    """What the colors mean: CSS class and name."""
    items = [element("span", element("i", class_=f"swatch {kind}"), name) for kind, name in entries]
    return element("p", *items, class_="legend")


def panel(title: object, body: Markup, note: str = "", *, wide: bool = False) -> Markup:
    """A chart with its title and a line that says how to read it."""
    caption = element("p", note, class_="faint") if note else None
    return element("div", element("h3", title), caption, body, class_="panel wide" if wide else "panel")


def _ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers between `low` and `high`."""
    rough = (high - low) / max(1, most - 1) or 1.0
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    return [float(tick) for tick in np.arange(np.ceil(low / step) * step, high + step / 1e6, step)]


def _number(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:g}"


def _frame(
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    names: tuple[str, str],
    ticks: Sequence[tuple[float, str]] = (),
) -> Markup:
    """Grid lines, numbers and names of both axes; `ticks` are places on the x axis with what stands there."""
    parts: list[Markup] = []
    for tick in _ticks(*y_range, most=5):
        y = HEIGHT - _BOTTOM - (tick - y_range[0]) / (y_range[1] - y_range[0]) * (HEIGHT - _TOP - _BOTTOM)
        parts.append(element("path", d=f"M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}", class_="grid"))
        parts.append(element("text", _number(tick), x=_LEFT - 6, y=round(y + 4, 1), text_anchor="end"))
    for tick, label in ticks or [(tick, _number(tick)) for tick in _ticks(*x_range)]:
        x = _LEFT + (tick - x_range[0]) / (x_range[1] - x_range[0]) * (WIDTH - _LEFT - _RIGHT)
        parts.append(element("text", label, x=round(x, 1), y=HEIGHT - _BOTTOM + 16, text_anchor="middle"))
    parts.append(element("text", names[0], x=WIDTH - _RIGHT, y=HEIGHT - 6, text_anchor="end", class_="axis"))
    parts.append(element("text", names[1], x=_LEFT, y=HEIGHT - 6, class_="axis"))
    return join(parts)


def histogram(
    counts: Sequence[int], edges: Sequence[float], name: str, unit: str, ticks: Sequence[tuple[float, str]] = ()
) -> Markup:
    """Columns of `counts` between `edges` (one more than counts) over the axis `name`; `unit` is what is counted.

    `ticks` are places on the axis and what stands there; without them, round numbers.
    """
    highest = max(*counts, 1) * 1.05
    x_range = (float(edges[0]), float(edges[-1]))
    scale = (WIDTH - _LEFT - _RIGHT) / (x_range[1] - x_range[0])
    columns: list[Markup] = []
    for number, (low, high) in zip(counts, pairwise(edges), strict=True):
        if number:
            x, y = _LEFT + (low - x_range[0]) * scale, number / highest * (HEIGHT - _TOP - _BOTTOM)
            what = element("title", f"{low:g} to {high:g}: {count(number)}")
            width = max(1.0, (high - low) * scale - 1)
            place = {
                "x": round(x, 2),
                "y": round(HEIGHT - _BOTTOM - y, 2),
                "width": round(width, 2),
                "height": round(y, 2),
            }
            columns.append(element("rect", what, class_="column", **place))
    frame = _frame(x_range, (0.0, highest), (name, f"{unit} ↑"), ticks)
    return _svg(join([frame, *columns]), f"Histogram of {name}")


def scatter(points: Sequence[tuple[float, float, int]], names: tuple[str, str]) -> Markup:
    """Circles at (x, y), their area growing with the count; both axes begin at 0 and have one scale."""
    reach_x, reach_y = max(point[0] for point in points) * 1.08, max(point[1] for point in points) * 1.08
    room_x, room_y = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    per_unit = max(reach_x / room_x, reach_y / room_y)
    x_range, y_range = (0.0, per_unit * room_x), (0.0, per_unit * room_y)
    most = max(point[2] for point in points)
    circles = [
        element(
            "circle", element("title", f"{x:g} × {y:g}: {count(number)}"), cx=round(_LEFT + x / per_unit, 1),
            cy=round(HEIGHT - _BOTTOM - y / per_unit, 1), r=round(1.6 + 9 * (number / most) ** 0.5, 1), class_="dot",
        )
        for x, y, number in sorted(points, key=lambda point: (-point[2], point))
    ]  # fmt: skip
    side = min(x_range[1], y_range[1])
    square = f"M{_LEFT} {HEIGHT - _BOTTOM}L{_LEFT + side / per_unit:.1f} {HEIGHT - _BOTTOM - side / per_unit:.1f}"
    frame = _frame(x_range, y_range, (names[0], f"{names[1]} ↑"))
    return _svg(join([frame, element("path", d=square, class_="diagonal"), *circles]), f"{names[1]} against {names[0]}")


def _svg(content: Markup, name: str) -> Markup:
    return element("svg", content, viewBox=f"0 0 {WIDTH} {HEIGHT}", class_="chart", role="img", aria_label=name)


def shares(parts: Sequence[tuple[str, int, str]]) -> Markup:
    """One bar of the whole width, of parts (CSS class, number, name), with its legend."""
    total = sum(number for _, number, _ in parts) or 1
    pieces = [
        element("i", class_=kind, style=f"width:{100 * number / total:.3f}%", title=f"{name} {count(number)}")
        for kind, number, name in parts if number
    ]  # fmt: skip
    entries = [
        (kind, join([element("b", count(number)), f" {name}", element("small", f" {percent(number, total)}")]))
        for kind, number, name in parts if number
    ]  # fmt: skip
    return join([element("div", *pieces, class_="track thick"), legend(entries)])
