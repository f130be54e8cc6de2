"""Plots for classification tasks: confusion matrices, and bar charts of a metric with its interval and baseline."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from ftrain.plots.plots import STYLE, TEXT_COLOR, draw_bars, draw_head, shortened, to_png

_NUMBERED = 20  # classes; with more, the cells are too small for numbers


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
