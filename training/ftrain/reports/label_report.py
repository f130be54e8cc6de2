"""Shared parts of classification reports: baselines, slices, tables and plots."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fschemas.landmarks import Visibility
from fschemas.publish import publish_bytes
from fschemas.shard_set import ShardSet
from fschemas.wording import count
from ftrain.data.csv_text import csv_bytes, csv_table
from ftrain.data.image import decode_exactly
from ftrain.data.types import EvaluatedSplit
from ftrain.layers.attribute_loss import attribute_targets
from ftrain.metrics.bootstrap import ratio_interval
from ftrain.metrics.classification import (
    classification_metrics,
    confusion,
    dominance,
    frequency_scores,
    majority_metrics,
    per_class,
    predictions,
)
from ftrain.plots.figures import plot_bars, plot_confusion

_PROPERTIES = ("category", "garment", "variation", "pose", "gender", "style")  # annotation fields that define slices
_BOX_SIZES = ("small box", "medium box", "large box")  # up to 15%, up to 40%, and more of the image
_HIDDEN = ("all visible", "one hidden", "several hidden")


def notes_of(evaluated: EvaluatedSplit) -> list[dict[str, Any]]:
    """Return the annotations of the evaluated images, in order."""
    return [evaluated.shards.read_annotation(int(row)) for row in evaluated.results["row"]]


def labels_of(shards: ShardSet, rows: np.ndarray, column: str, names: Sequence[str]) -> np.ndarray:
    """Return class indices N of `rows` N of the index, -1 for unknown. Only the index is read."""
    ids = {name: number for number, name in enumerate(names)}
    return np.array([ids.get(str(value), -1) for value in shards.columns[column][rows]], np.int64)


def properties(annotations: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the properties that slice a set: annotation texts, size of the bounding box, and landmark visibility.

    Each maps a name to one string per image; "" is unknown.
    """
    texts = {name: [str(annotation.get(name, "")) for annotation in annotations] for name in _PROPERTIES}
    cuts = {name: values for name, values in texts.items() if any(values)}
    if any("box" in annotation for annotation in annotations):
        sides = ((annotation, *annotation["box"]) for annotation in annotations)
        shares = [
            (x2 - x1 + 1) * (y2 - y1 + 1) / (annotation["width"] * annotation["height"])
            for annotation, x1, y1, x2, y2 in sides
        ]
        cuts["box"] = [_BOX_SIZES[index] for index in np.digitize(shares, (0.15, 0.4))]
    if any("landmark_visibility" in annotation for annotation in annotations):
        seen = np.array([annotation["landmark_visibility"] for annotation in annotations])
        applicable = seen != Visibility.NOT_APPLICABLE.value
        hidden = np.minimum((applicable & (seen != Visibility.VISIBLE.value)).sum(axis=1), 2)
        cuts["landmarks"] = np.where(applicable.any(axis=1), np.array(_HIDDEN)[hidden], "").tolist()
    return cuts


@dataclass(frozen=True)
class Classified:
    """Predictions of one kind of label: `scores` N, C, `labels` N, `training_labels` M (below 0: unknown), `names` C."""

    scores: np.ndarray
    labels: np.ndarray
    training_labels: np.ndarray
    names: Sequence[str]


def classification(found: Classified, top: Sequence[int] = (1, 3, 5)) -> dict[str, dict[str, Any]]:
    """Return `model`, `majority` (if there are training labels) and `collapse`."""
    scores, labels, names = found.scores, found.labels, found.names
    numbers: dict[str, dict[str, Any]] = {"model": classification_metrics(scores, labels, top=top)}
    if (found.training_labels >= 0).any():
        numbers["majority"] = majority_metrics(found.training_labels, labels, len(names), top=top)
    numbers["collapse"] = dominance(predictions(scores, labels), labels, names)
    return numbers


def report_classification(
    evaluated: EvaluatedSplit,
    out: Path,
    name: str,
    scores: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    subtitle: str,
) -> dict[str, dict[str, Any]]:
    """Return `classification` and write `write_classification`; column `name` has the labels of the training rows."""
    found = Classified(scores, labels, labels_of(evaluated.shards, evaluated.training_rows, name, names), names)
    write_classification(out, name, found, subtitle)
    return classification(found)


def write_classification(out: Path, name: str, found: Classified, subtitle: str) -> None:
    """Write `plots/<name>.csv` and `.png` (recall per class next to the majority baseline), and the confusion matrix."""
    labels, names = found.labels, list(found.names)
    predicted = predictions(found.scores, labels)
    matrix = confusion(predicted, labels, len(names))
    rows = [[names[index], *matrix[index].tolist()] for index in range(len(names))]
    publish_bytes(out / f"plots/{name}_confusion.csv", csv_bytes(["truth", *names], rows))
    image = plot_confusion(matrix, names, subtitle, f"{name}: ground truth and prediction")
    publish_bytes(out / f"plots/{name}_confusion.png", image)
    parts = per_class(found.scores, labels, names)
    counts = np.bincount(found.training_labels[found.training_labels >= 0], minlength=len(names))
    bars: dict[str, dict[str, float]] = {}
    for key, part in parts.items():
        index = names.index(key)
        low, high = ratio_interval(np.where(labels == index, predicted == index, 0.0), labels == index)
        bars[key] = {"value": part["recall"], "low": low, "high": high, "count": part["count"]}
        if counts.any():
            bars[key]["baseline"] = float(index == counts.argmax())
    publish_bytes(out / f"plots/{name}.csv", csv_table(name, ("precision", "recall", "f1", "count"), parts))
    image = plot_bars(bars, f"Recall of each {name}", subtitle, baseline_name="majority")
    publish_bytes(out / f"plots/{name}.png", image)


def ranking_baseline(training_counts: np.ndarray, num_rows: int) -> np.ndarray:
    """Scores num_rows, A of a baseline that ignores the image: attributes ranked by their frequency in training."""
    return np.broadcast_to(frequency_scores(training_counts), (num_rows, len(training_counts)))


def positive_counts(annotations: Sequence[Mapping[str, Any]], num_attributes: int) -> np.ndarray:
    """Count how often each attribute is positive in the annotations: A."""
    counts = np.zeros(num_attributes, np.int64)
    for annotation in annotations if num_attributes else ():
        counts += attribute_targets(annotation, num_attributes) == 1
    return counts


def subtitle(evaluated: EvaluatedSplit, metric: str) -> str:
    """Subtitle of a plot: the data set, the split and one metric."""
    metadata = evaluated.shards.metadata
    kind = ", synthetic garments" if metadata.get("synthetic") else ""
    return f"{metadata.get('dataset')}{kind}: {count(len(evaluated.results['row']), 'image')} of {evaluated.split}, {metric}"


def percent(value: float) -> str:
    """Format a share as a percentage."""
    return f"{100 * value:.1f}%"


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Drop values that are not finite, because JSON has no NaN."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def image_of(evaluated: EvaluatedSplit, number: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the decoded evaluated image with index `number`, uint8 H, W, 3, and its annotation."""
    image, annotation = evaluated.shards.read(int(evaluated.results["row"][number]))
    return decode_exactly(image), annotation


def spread(badness: np.ndarray, num_tiles: int) -> list[int]:
    """Choose evenly spaced images from the best to the worst for a sheet; ties keep their order. `badness` is N."""
    order = np.argsort(badness, kind="stable")
    return order[np.unique(np.linspace(0, len(order) - 1, min(num_tiles, len(order))).round().astype(int))].tolist()


def metric_rows(
    model: Mapping[str, Any],
    baseline: Mapping[str, Any],
    names: Mapping[str, str],
    baseline_name: str,
    title: str = "metric",
) -> Iterator[list[str]]:
    """Rows of a text table (see `text_table.aligned`): a heading, then metrics of the model and of the baseline.

    Metrics with `_low` and `_high` are shown with their interval.
    """
    shown = [name for name in names if isinstance(model.get(name), float) and np.isfinite(model[name])]
    if shown:
        yield [title, "model", baseline_name if baseline else ""]
    for name in shown:
        value = percent(model[name])
        if f"{name}_low" in model:
            value += f" ({100 * model[f'{name}_low']:.1f} to {100 * model[f'{name}_high']:.1f})"
        below = percent(baseline[name]) if isinstance(baseline.get(name), float) else ""
        yield [names[name], value, below]


def part_rows(title: str, parts: Mapping[str, Mapping[str, float]], baseline_name: str) -> Iterator[list[str]]:
    """Rows of a text table: a heading, then `value` and `baseline` per part."""
    if parts:
        yield [title, "model", baseline_name if any("baseline" in part for part in parts.values()) else ""]
    for name, part in parts.items():
        below = percent(part["baseline"]) if "baseline" in part else ""
        yield [f"  {name.replace('_', ' ')}", percent(part["value"]), below]
