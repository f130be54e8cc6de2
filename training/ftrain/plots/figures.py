"""Evaluation plots as PNG bytes. The same numbers give the same bytes (no dates or versions in the files)."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

MODEL_COLOR, BASELINE_COLOR, TEXT_COLOR, FAINT_COLOR = "#0f6d7c", "#b5533c", "#22262a", "#8a9299"

_NUMBERED = 20  # classes; with more, the cells of a confusion matrix are too small for numbers
_LETTER = 0.073  # inches: upper estimate of the width of a letter of a subtitle

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
    """Render a figure as PNG."""
    content = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(content, format="png", dpi=dpi, metadata={"Software": None})
    return content.getvalue()


def plot_detection_curve(rows: Sequence[Sequence[float]], subtitle: str, unit: str) -> bytes:
    """Plot the PCK curve as PNG; `rows` hold the threshold, the share of the model and, if any, of the mean pose.

    `unit` is what thresholds are shares of, such as "the image".
    """
    columns = np.array(rows).T
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        axes = figure.add_subplot()
        draw_head(figure, "Share of visible landmarks found within a distance", subtitle)
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
            look: Any = {"textcoords": "offset points", "va": "center", "weight": "bold"}
            axes.annotate(f"{name} {100 * shares[-1]:.1f}%", (20, end), xytext=(5, 0), color=color, **look)
        axes.set(xlim=(0, 20), ylim=(0, 101))
        axes.set(xlabel=f"distance in % of {unit}", ylabel="share of landmarks in %")
        axes.set_xticks(range(0, 21, 5))
        axes.grid(visible=True)
        return to_png(figure)


def plot_errors(
    garments: dict[str, dict[str, Any]], points: dict[str, dict[str, Any]], subtitle: str, unit: str
) -> bytes:
    """Plot NE per garment (with 95% interval) and per landmark next to the mean pose as PNG, largest errors on top.

    `unit` is what NE is a share of, such as "the image".
    """
    columns = {"ne": "value", "ne_low": "low", "ne_high": "high", "mean_pose": "baseline", "count": "count"}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 1.9 + 0.235 * (len(garments) + len(points))), layout="constrained")
        draw_head(figure, "Normalized error per garment and per landmark", subtitle)
        both = figure.subplots(2, 1, sharex=True, height_ratios=[len(garments) + 0.5, len(points) + 0.5])
        parts = [
            {name: {columns[key]: part[key] for key in columns if key in part} for name, part in group.items()}
            for group in (garments, points)
        ]
        ends = [draw_bars(axes, group, "mean pose", "points") for axes, group in zip(both, parts, strict=True)]
        both[1].set_xlabel(f"NE in % of {unit}")
        both[1].set_xlim(0, 1.14 * max(*ends, 0.1))  # shared limits, with room for the numbers after the bars
        figure.legend(*both[1].get_legend_handles_labels(), loc="upper right", ncols=2, handlelength=1.2)
        return to_png(figure)


def draw_bars(axes: Axes, parts: Mapping[str, Mapping[str, float]], baseline_name: str, count_name: str) -> float:
    """Draw one bar per part, the largest on top, and return the largest value drawn, in percent.

    Each part has `value` and optionally `low`, `high`, `baseline` and `count`; all but the count are shares.
    """
    names = sorted(parts, key=lambda name: float(parts[name]["value"]))
    values, rows = np.array([100 * parts[name]["value"] for name in names]), np.arange(len(names))
    axes.barh(rows, values, height=0.66, color=MODEL_COLOR, label="model")
    ends = values
    if all("low" in parts[name] for name in names):
        low, ends = (np.array([100 * parts[name][end] for name in names]) for end in ("low", "high"))
        spread = np.maximum(0, [values - low, ends - values])
        bar: dict[str, Any] = {"ecolor": TEXT_COLOR, "elinewidth": 1.1, "capsize": 2.5, "capthick": 1.1}
        axes.errorbar(values, rows, xerr=spread, fmt="none", **bar)
        ends = np.maximum(values, ends)
    baselines = {row: 100 * parts[name]["baseline"] for row, name in enumerate(names) if "baseline" in parts[name]}
    if baselines:
        axes.plot([*baselines.values()], [*baselines], "|", color=BASELINE_COLOR, ms=9, mew=2.2, label=baseline_name)
    beside: dict[str, Any] = {"textcoords": "offset points", "xytext": (4, -0.5), "va": "center"}
    margin: dict[str, Any] = {**beside, "xycoords": ("axes fraction", "data"), "size": 7.5, "color": FAINT_COLOR}
    for row, value, end, name in zip(rows, values, ends, names, strict=True):
        axes.annotate(f"{value:.1f}", (end, row), size=8, **beside)
        if "count" in parts[name]:
            axes.annotate(f"{parts[name]['count']:.0f}", (1, row), **margin)
    if any("count" in part for part in parts.values()):
        margin.update(xytext=(4, 0), va="bottom")
        axes.annotate(count_name, (1, len(names) - 0.45), **margin)
    axes.set_yticks(rows, [shortened(name.replace("_", " "), 30) for name in names])
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=True, axis="x")
    return float(max([*ends, *baselines.values()], default=0.0))


def shortened(text: str, letters: int = 36) -> str:
    """Truncate the text to `letters` characters with an ellipsis."""
    return text if len(text) <= letters else f"{text[: letters - 1].rstrip()}…"


def draw_head(figure: Figure, title: str, subtitle: str) -> None:
    """Draw the title and subtitle of a plot with constrained layout; the subtitle is wrapped to the figure."""
    lines = textwrap.wrap(subtitle, max(20, int(figure.get_figwidth() * 0.96 / _LETTER))) or [""]
    figure.suptitle(title + "\n" * len(lines), x=0.02, ha="left", size=12.5, weight="bold")
    top = 1 - 0.37 / figure.get_figheight()
    figure.text(0.02, top, "\n".join(lines), size=8.5, color=FAINT_COLOR, va="top")


def _apart(positions: Sequence[float], gap: float) -> list[float]:
    """Move label positions (in percent) apart, so that neighbors are at least `gap` apart."""
    order = np.argsort(positions)
    moved = list(positions)
    for lower, upper in pairwise(order):
        moved[upper] = max(moved[upper], moved[lower] + gap)
    overflow = max(0.0, max(moved) - 100)
    return [position - overflow if len(positions) > 1 else position for position in moved]


def plot_confusion(
    matrix: np.ndarray, names: Sequence[str], subtitle: str = "", title: str = "Ground truth and prediction"
) -> bytes:
    """Plot counts C, C (row: ground truth, column: prediction) as PNG, colored by the share of the row.

    Classes that do not occur are left out.
    """
    counts = np.asarray(matrix)
    kept = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    counts, labels = counts[np.ix_(kept, kept)], [shortened(names[index], 22) for index in kept.tolist()]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = max(3.6, 0.32 * len(kept) + 1.6)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(size + 0.4, size + 0.5), layout="constrained")
        draw_head(figure, title, subtitle)
        axes = figure.add_subplot()
        axes.imshow(shares, cmap="BuGn", vmin=0, vmax=1, aspect="equal")
        axes.set_xticks(range(len(kept)), labels, rotation=90, size=7.5)
        totals = [f"{label}  {total}" for label, total in zip(labels, counts.sum(axis=1), strict=True)]
        axes.set_yticks(range(len(kept)), totals, size=7.5)
        axes.set(xlabel="prediction, in % of the row", ylabel="ground truth, with its number of images")
        for spine in axes.spines.values():
            spine.set_visible(False)
        if len(kept) <= _NUMBERED:
            for row, column in zip(*np.nonzero(counts), strict=True):
                shade = "white" if shares[row, column] > 0.55 else TEXT_COLOR
                text = f"{100 * shares[row, column]:.0f}"
                axes.text(column, row, text, ha="center", va="center", size=7, color=shade)
        return to_png(figure)


def plot_bars(
    parts: Mapping[str, Mapping[str, float]],
    title: str,
    subtitle: str = "",
    unit: str = "share in %",
    baseline_name: str = "baseline",
) -> bytes:
    """Plot one bar per part as PNG (see `draw_bars`); `parts` is one property of the result of `metrics.slices`."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 1.25 + 0.24 * len(parts)), layout="constrained")
        draw_head(figure, title, subtitle)
        axes = figure.add_subplot()
        end = draw_bars(axes, parts, baseline_name, "count")
        if any("baseline" in part for part in parts.values()):
            figure.legend(loc="upper right", ncols=2, handlelength=1.2)
        axes.set_xlim(0, 1.14 * max(end, 0.1))
        axes.set_xlabel(unit)
        return to_png(figure)
