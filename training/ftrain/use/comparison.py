"""A comparison of runs as a CSV table, and as a plot with one panel per metric and one line with interval per run."""

import json
import math
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fschemas.csv_text import csv_bytes
from ftrain.plots.plots import FAINT_COLOR, MODEL_COLOR, STYLE, TEXT_COLOR, draw_head, to_png
from ftrain.plots.sheet import shortened

_COLUMNS = 3


def table_csv(found: Mapping[str, Any]) -> bytes:
    """One row per differing parameter and per metric, followed by the ends of its interval; one column per run."""
    rows: list[list[object]] = []
    for key, values in found["configuration"].items():
        rows.append(
            ["configuration", key, *(value if isinstance(value, str) else json.dumps(value) for value in values)]
        )
    for name, parts in found["metrics"].items():
        for entry, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
            cells = ["" if part is None or entry not in part else float(part[entry]) for part in parts]
            if any(cell != "" for cell in cells):
                rows.append(["metric", f"{name}{suffix}", *cells])
    return csv_bytes(["block", "name", *(run["name"] for run in found["runs"])], rows)


def plot_comparison(found: Mapping[str, Any]) -> bytes:
    """Plot the metrics of a comparison as PNG, or an empty panel with a note if no run has any."""
    names, metrics = [run["name"] for run in found["runs"]], found["metrics"]
    columns = min(_COLUMNS, max(1, len(metrics)))
    rows = max(1, math.ceil(len(metrics) / columns))
    width, height = 2.6 * columns + 2.2, rows * (0.85 + 0.28 * len(names)) + 0.75
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        sources = sorted({run["source"] for run in found["runs"]})
        line = sources[0] if len(sources) == 1 else "each run on what it was evaluated on"
        draw_head(figure, "Runs compared", f"{line}; bars: 95% interval")
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for number, axes in enumerate(panels.flat):
            if number < len(metrics):
                name = list(metrics)[number]
                _panel(axes, name, metrics[name], names)
            else:
                axes.set_axis_off()
        if not metrics:
            figure.text(0.5, 0.4, "none of the runs was evaluated", ha="center", color=FAINT_COLOR)
        return to_png(figure)


def _panel(axes: Axes, name: str, parts: list[dict[str, float] | None], runs: list[str]) -> None:
    axes.set_title(name.replace("_", " "), size=9.5, loc="left")
    for row, part in enumerate(parts):
        if part is None:
            continue
        value, low, high = part["value"], part.get("low", part["value"]), part.get("high", part["value"])
        axes.plot([low, high], [row, row], color=MODEL_COLOR, lw=2.2, alpha=0.45, solid_capstyle="round")
        axes.plot(value, row, "o", color=MODEL_COLOR, ms=6)
        axes.annotate(
            f"{value:.3f}",
            (value, row),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
            size=7.5,
            color=TEXT_COLOR,
        )
    axes.set_yticks(range(len(runs)), [shortened(run, 26) for run in runs])
    axes.set_ylim(len(runs) - 0.5, -0.7)
    axes.margins(x=0.15)
    axes.locator_params(axis="x", nbins=4)
    axes.grid(visible=True, axis="x")
    axes.spines["left"].set_visible(False)
