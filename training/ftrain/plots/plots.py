"""Plots of an evaluation as PNG bytes: the same numbers give the same bytes (no dates, no versions in the files)."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

MODEL_COLOR, BASELINE_COLOR, TEXT_COLOR, FAINT_COLOR = "#0f6d7c", "#b5533c", "#22262a", "#8a9299"

_LETTER = 0.073  # inches: width of a letter of a subtitle, on the safe side

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": TEXT_COLOR,
    "axes.labelcolor": TEXT_COLOR,
    "axes.edgecolor": "#c9ced2",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#e6e9eb",
    "grid.linewidth": 0.8,
    "xtick.color": "#5c646b",
    "ytick.color": "#5c646b",
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "figure.facecolor": "white",
}


def to_png(figure: Figure, dpi: int = 150) -> bytes:
    """The bytes of a figure."""
    content = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(content, format="png", dpi=dpi, metadata={"Software": None})
    return content.getvalue()


def plot_detection_curve(rows: Sequence[Sequence[float]], subtitle: str) -> bytes:
    """PCK: rows of threshold, share of the model and, where there is one, of the mean pose."""
    columns = np.array(rows).T
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        axes = figure.add_subplot()
        draw_head(figure, "Share of visible points found within a distance", subtitle)
        curves = [("model", MODEL_COLOR, columns[1])]
        if len(columns) > 2:
            curves.append(("mean pose", BASELINE_COLOR, columns[2]))
        for name, color, shares in curves:
            is_baseline = name == "mean pose"
            width, line = (1.6, (0, (5, 2))) if is_baseline else (2.2, "-")
            axes.plot(100 * columns[0], 100 * shares, color=color, lw=width, ls=line)
            axes.fill_between(100 * columns[0], 100 * shares, color=color, alpha=0.05, lw=0)
        ends = _apart([100 * shares[-1] for _, _, shares in curves], gap=5.5)
        for (name, color, shares), end in zip(curves, ends, strict=True):
            text = f"{name} {100 * shares[-1]:.1f} %"
            axes.annotate(
                text, (20, end), xytext=(5, 0), textcoords="offset points", color=color, va="center", weight="bold"
            )
        axes.set(xlim=(0, 20), ylim=(0, 101), xlabel="distance in % of the normaliser", ylabel="share of points in %")
        axes.set_xticks(range(0, 21, 5))
        axes.grid(visible=True)
        return to_png(figure)


def plot_errors(garments: dict[str, dict[str, Any]], points: dict[str, dict[str, Any]], subtitle: str) -> bytes:
    """NE per garment with its 95 % interval and per point, the largest on top, beside the mean pose."""
    with mpl.rc_context(STYLE):
        num_bars = len(garments) + len(points)
        figure = Figure(figsize=(7.2, 1.9 + 0.235 * num_bars), layout="constrained")
        draw_head(figure, "Normalised error per garment and per point", subtitle)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[len(garments) + 0.5, len(points) + 0.5])
        _bars(upper, garments, interval=True)
        _bars(lower, points, interval=False)
        lower.set_xlabel("NE in %")
        ends = [
            part.get(name, 0.0)
            for part in (*garments.values(), *points.values())
            for name in ("ne", "ne_high", "mean_pose")
        ]
        lower.set_xlim(0, 100 * 1.14 * max([*ends, 1e-3]))  # of both, with room for the numbers behind the bars
        handles, names = lower.get_legend_handles_labels()
        figure.legend(handles, names, loc="upper right", ncols=2, handlelength=1.2)
        return to_png(figure)


def _bars(axes: Axes, parts: dict[str, dict[str, Any]], *, interval: bool) -> None:
    names = sorted(parts, key=lambda name: float(parts[name]["ne"]))
    values = np.array([100 * parts[name]["ne"] for name in names])
    places = np.arange(len(names))
    axes.barh(places, values, height=0.66, color=MODEL_COLOR, label="model")
    edges = values
    if interval:
        low, high = (np.array([100 * parts[name][end] for name in names]) for end in ("ne_low", "ne_high"))
        spread = np.maximum(0, [values - low, high - values])
        axes.errorbar(
            values, places, xerr=spread, fmt="none", ecolor=TEXT_COLOR, elinewidth=1.1, capsize=2.5, capthick=1.1
        )
        edges = high
    has_baseline = all("mean_pose" in parts[name] for name in names)
    if has_baseline:
        baseline = [100 * parts[name]["mean_pose"] for name in names]
        axes.plot(baseline, places, "|", color=BASELINE_COLOR, ms=9, mew=2.2, label="mean pose")
    for place, value, edge, name in zip(places, values, edges, names, strict=True):
        text = f"{value:.1f}"
        axes.annotate(text, (edge, place), xytext=(4, -0.5), textcoords="offset points", va="center", size=8)
        count = f"{parts[name]['count']}"
        axes.annotate(
            count, (1, place), xycoords=("axes fraction", "data"), xytext=(4, -0.5), textcoords="offset points", va="center",
            size=7.5, color=FAINT_COLOR,
        )  # fmt: skip
    axes.annotate(
        "points", (1, len(names) - 0.45), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points",
        va="bottom", size=7.5, color=FAINT_COLOR,
    )  # fmt: skip
    axes.set_yticks(places, [name.replace("_", " ") for name in names])
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=True, axis="x")


def draw_head(figure: Figure, title: str, subtitle: str) -> None:
    """Title and subtitle of a plot with a constrained layout, the subtitle wrapped to the width of the figure."""
    lines = textwrap.wrap(subtitle, max(20, int(figure.get_figwidth() * 0.96 / _LETTER))) or [""]
    figure.suptitle(title + "\n" * len(lines), x=0.02, ha="left", size=12.5, weight="bold")
    place = 1 - 0.37 / figure.get_figheight()
    figure.text(0.02, place, "\n".join(lines), size=8.5, color=FAINT_COLOR, va="top")


def _apart(places: Sequence[float], gap: float) -> list[float]:
    """Places of labels moved so that neighbours are at least `gap` apart."""
    order = np.argsort(places)
    moved = list(places)
    for lower, upper in pairwise(order):
        moved[upper] = max(moved[upper], moved[lower] + gap)
    overflow = max(0.0, max(moved) - 100)
    return [place - overflow if len(places) > 1 else place for place in moved]
