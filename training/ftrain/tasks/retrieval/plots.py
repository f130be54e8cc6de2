"""Retrieval plots: rankings with framed hits, and hit@k with baselines."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from fschemas.shard_set import ShardSet
from ftrain.data.image import decode_exactly
from ftrain.plots.figures import BASELINE_COLOR, FAINT_COLOR, MODEL_COLOR, STYLE, draw_head, to_png
from ftrain.plots.legend import Entry
from ftrain.plots.sheet import Tile, sheet

SHEET_QUERIES, SHEET_RANKS = 10, 5
FOUND = {"good": "green frame: the same one", "bad": "red frame: another one"}


def ranking_sheet(
    shards: ShardSet,
    queries: np.ndarray,
    ranked: np.ndarray,
    labels: np.ndarray,
    subtitle: str,
    captions: Sequence[str],
) -> bytes:
    """Return a PNG with one row per query: its image and the top results, hits framed green, others red.

    `queries` Q and `ranked` Q, k are rows of the set (-1: empty tile), `labels` N is the identity of every row,
    `captions` Q are those of the queries.
    """
    tiles: list[Tile | None] = []
    for query, found, caption in zip(queries.tolist(), ranked.tolist(), captions, strict=True):
        tiles.append(Tile(_image(shards, query), ("query", str(labels[query]), caption)))
        for rank, row in enumerate(found, 1):
            if row < 0:
                tiles.append(None)
                continue
            right = bool(labels[row] == labels[query])
            tiles.append(Tile(_image(shards, row), (f"{rank}: {'hit' if right else 'other'}", str(labels[row])), right))
    legend = [Entry("text", "", "a row for each query, from the best to the worst; AP: its average precision")]
    return sheet(tiles, "What is found first", subtitle, columns=1 + ranked.shape[1], meaning=FOUND, legend=legend)


def plot_hits(curves: Mapping[str, Mapping[int, float]], subtitle: str) -> bytes:
    """Return a PNG of hit@k over k, with one curve per entry of `curves`: the model first, then its baselines."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.6, 4.4), layout="constrained")
        draw_head(figure, "Share of queries with a hit among the first k", subtitle)
        axes = figure.add_subplot()
        looks = ((MODEL_COLOR, "-", 2.2), (BASELINE_COLOR, (0, (5, 2)), 1.6), (FAINT_COLOR, (0, (1, 1.5)), 1.6))
        for (name, shares), (color, line, width) in zip(curves.items(), looks, strict=False):
            ranks = sorted(shares)
            values = [100 * shares[k] for k in ranks]
            axes.plot(range(len(ranks)), values, color=color, ls=line, lw=width, marker="o", ms=3.5, label=name)
            axes.annotate(
                f"{values[0]:.1f}", (0, values[0]), xytext=(-6, 0), textcoords="offset points", ha="right", va="center", size=8,
                color=color, weight="bold",
            )  # fmt: skip
        ranks = sorted(next(iter(curves.values())))
        axes.set_xticks(range(len(ranks)), [str(k) for k in ranks])
        axes.set(ylim=(0, 102), xlim=(-0.45, len(ranks) - 0.8), xlabel="k", ylabel="queries in %")
        axes.grid(visible=True, axis="y")
        axes.legend(loc="lower right")
        return to_png(figure)


def _image(shards: ShardSet, row: int) -> np.ndarray:
    return decode_exactly(shards.read(row)[0])
