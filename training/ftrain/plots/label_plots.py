"""Plots for tasks that answer with labels: confusion matrices, and bars of a figure with its interval and its baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from ftrain.plots.plots import BASELINE_COLOR, FAINT_COLOR, MODEL_COLOR, STYLE, TEXT_COLOR, draw_head, to_png
from ftrain.plots.sheet import shortened

_NUMBERED = 20  # classes: beyond that, cells are too small for numbers


def plot_confusion(
    matrix: np.ndarray, names: Sequence[str], subtitle: str = "", title: str = "True and answered"
) -> bytes:
    """PNG of counts C, C (row: truth, column: answer), colored by the share of the row; classes that nobody has are left out."""
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
        axes.set_yticks(
            range(len(kept)),
            [f"{label}  {total}" for label, total in zip(labels, counts.sum(axis=1), strict=True)],
            size=7.5,
        )
        axes.set(xlabel="answer, in % of its truth", ylabel="truth, with its number of images")
        for spine in axes.spines.values():
            spine.set_visible(False)
        if len(kept) <= _NUMBERED:
            for row, column in zip(*np.nonzero(counts), strict=True):
                shade = "white" if shares[row, column] > 0.55 else TEXT_COLOR
                axes.text(
                    column, row, f"{100 * shares[row, column]:.0f}", ha="center", va="center", size=7, color=shade
                )
        return to_png(figure)


def plot_bars(
    parts: Mapping[str, Mapping[str, float]],
    title: str,
    subtitle: str = "",
    unit: str = "share in %",
    baseline_name: str = "baseline",
) -> bytes:
    """PNG of a bar per part, the largest on top: `value`, and where they are `low`, `high`, `baseline`, `count`; all but it shares.

    `parts` are as `metrics.slices` gives them for one property.
    """
    names = sorted(parts, key=lambda name: float(parts[name]["value"]))
    values, places = np.array([100 * parts[name]["value"] for name in names]), np.arange(len(names))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 1.25 + 0.24 * len(names)), layout="constrained")
        draw_head(figure, title, subtitle)
        axes = figure.add_subplot()
        axes.barh(places, values, height=0.66, color=MODEL_COLOR, label="model")
        ends = values.copy()
        if all("low" in parts[name] for name in names):
            low, high = (np.array([100 * parts[name][end] for name in names]) for end in ("low", "high"))
            spread = np.maximum(0, [values - low, high - values])
            axes.errorbar(
                values, places, xerr=spread, fmt="none", ecolor=TEXT_COLOR, elinewidth=1.1, capsize=2.5, capthick=1.1
            )
            ends = np.maximum(values, high)
        with_baseline = [number for number, name in enumerate(names) if "baseline" in parts[name]]
        if with_baseline:
            baselines = [100 * parts[names[number]]["baseline"] for number in with_baseline]
            axes.plot(baselines, with_baseline, "|", color=BASELINE_COLOR, ms=9, mew=2.2, label=baseline_name)
            figure.legend(loc="upper right", ncols=2, handlelength=1.2)
        note: dict[str, Any] = {"textcoords": "offset points", "va": "center"}
        for place, value, end, name in zip(places, values, ends, names, strict=True):
            axes.annotate(f"{value:.1f}", (end, place), xytext=(4, -0.5), size=8, **note)
            if "count" in parts[name]:
                text = f"{parts[name]['count']:.0f}"
                side = ("axes fraction", "data")
                axes.annotate(text, (1, place), xycoords=side, xytext=(4, -0.5), size=7.5, color=FAINT_COLOR, **note)
        if any("count" in part for part in parts.values()):
            axes.annotate(
                "count",
                (1, len(names) - 0.45),
                xycoords=("axes fraction", "data"),
                xytext=(4, 0),
                size=7.5,
                color=FAINT_COLOR,
                textcoords="offset points",
                va="bottom",
            )
        axes.set_yticks(places, [shortened(name.replace("_", " "), 30) for name in names])
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_xlim(0, 1.14 * max([*ends, *(100 * parts[name].get("baseline", 0.0) for name in names), 0.1]))
        axes.set_xlabel(unit)
        axes.spines["left"].set_visible(False)
        axes.grid(visible=True, axis="x")
        return to_png(figure)
