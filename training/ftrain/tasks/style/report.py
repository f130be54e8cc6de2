"""Report of the style task for styles; see `attribute_report` for attributes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fschemas.failures import UsageError
from fschemas.publish import publish_bytes
from fschemas.wording import count
from ftrain.data.csv_text import csv_bytes
from ftrain.data.types import EvaluatedSplit
from ftrain.metrics.classification import per_class, predictions
from ftrain.metrics.slices import slices
from ftrain.plots.legend import Entry
from ftrain.plots.sheet import Tile, mistaken, sheet
from ftrain.reports.label_report import (
    Classified,
    classification,
    finite,
    metric_rows,
    notes_of,
    percent,
    properties,
    spread,
    subtitle,
    write_classification,
)
from ftrain.reports.text_table import aligned
from ftrain.tasks.style.attribute_report import ATTENTION_NOTE, attended_image
from ftrain.tasks.style.attribute_report import report as report_attributes
from ftrain.tasks.style.attribute_search import chance_metrics, entries, search_metrics
from ftrain.tasks.style.labels import StyleLabels, main_styles
from ftrain.tasks.style.metrics import TOP
from ftrain.tasks.style.task import Style

_CLASSIFIED = {
    "top_1": "top-1", "top_3": "top-3", "macro_f1": "macro-F1", "balanced_accuracy": "balanced accuracy",
    "calibration_error": "calibration error",
}  # fmt: skip
_SEARCHED = {"map": "mAP of the search", "map_of_attributes": "mAP, mean of attributes"}
_BINS = 15
_ROWS, _COLUMNS = 4, 5


def report(task: Style, evaluated: EvaluatedSplit, out: Path) -> dict[str, Any]:
    """Return the metrics of a split; write `plots/`, `images.csv` (worst first) and `predictions.png` into `out`."""
    labels = task.labels
    if labels.classes is None:
        return report_attributes(labels, evaluated, out)
    numbers = _numbers(labels, evaluated)
    title = subtitle(
        evaluated, f"top-1 {percent(numbers['model']['top_1'])}, macro-F1 {percent(numbers['model']['macro_f1'])}"
    )
    write_classification(out, "style", classified(labels, evaluated), title)
    header = ("key", "style", "answer", "score", "score_of_truth")
    publish_bytes(out / "images.csv", csv_bytes(header, _image_rows(labels, evaluated)))
    publish_bytes(out / "predictions.png", _sheet(labels, evaluated, title))
    return numbers


def summary(metrics: dict[str, Any]) -> Iterator[str]:
    """Yield the results of `report` as text lines."""
    model, majority = metrics["model"], metrics.get("majority", {})
    searched = metrics.get("untrained") or metrics["chance"]
    below = "untrained" if metrics.get("untrained") else "random order"
    rows = [
        *metric_rows(model, majority, _CLASSIFIED, "majority", "classification"),
        *metric_rows(model, searched, _SEARCHED, below, "search"),
    ]
    if attributes := metrics.get("attributes"):
        rows.append(["each attribute", "mAP", "random order", "accuracy"])
        for attribute, part in attributes.items():
            named = percent(part["top_1"]) if "top_1" in part else ""
            rows.append([f"  {attribute.replace('_', ' ')}", percent(part["map"]), percent(part["chance"]), named])
    yield from aligned(rows)
    classes = metrics.get("classes", {})
    if len(classes) > 1:
        hardest = sorted(classes, key=lambda name: classes[name]["f1"])[:3]
        yield "hardest styles: " + ", ".join(f"{name} (F1 {100 * classes[name]['f1']:.0f}%)" for name in hardest)
    if "macro_f1_low" in model and model["macro_f1_low"] <= majority.get("macro_f1", -1):
        yield "WARNING: not clearly better than always predicting the most frequent style"


def calibration_error(scores: np.ndarray, target: np.ndarray) -> float:
    """Expected calibration error with 15 bins weighted by images, scores N, C, target N (Guo et al., ICML 2017)."""
    known = target >= 0
    best, right = scores[known].max(axis=1), scores[known].argmax(axis=1) == target[known]
    bins = np.minimum((best * _BINS).astype(int), _BINS - 1)
    gaps = np.bincount(bins, weights=best.astype(np.float64) - right, minlength=_BINS)
    return float(np.abs(gaps).sum() / max(1, known.sum()))


def _numbers(labels: StyleLabels, evaluated: EvaluatedSplit) -> dict[str, Any]:
    styles = classified(labels, evaluated)
    results, target, scores, names = evaluated.results, styles.labels, styles.scores, styles.names
    if not (target >= 0).any():
        raise UsageError(
            f"{evaluated.shards.location}: no image of the split {evaluated.split!r} has a style; choose another --split"
        )
    found = entries(labels, results)
    searched = {name: value for name, value in search_metrics(labels, results, found).items() if "/" not in name}
    numbers = classification(styles, TOP)
    numbers["model"] = finite(searched | numbers["model"] | {"calibration_error": calibration_error(scores, target)})
    numbers["chance"] = chance_metrics(labels, found)
    annotations = notes_of(evaluated)
    groups = main_styles()
    cuts = properties(annotations) | {"main_style": [groups.get(annotation["style"], "") for annotation in annotations]}
    cuts["form"] = [
        "upright" if annotation["height"] > annotation["width"] else "square or wide" for annotation in annotations
    ]
    if all("garments" in annotation for annotation in annotations):
        cuts["garments"] = [count(len(annotation["garments"]), "garment") for annotation in annotations]
    numbers["classes"] = per_class(scores, target, names)
    numbers["slices"] = slices(predictions(scores, target) == target, target >= 0, cuts)
    return numbers


def classified(labels: StyleLabels, evaluated: EvaluatedSplit) -> Classified:
    """Return the styles; training images have the data set's style names rather than the predicted ones."""
    assert labels.classes is not None
    styles = evaluated.shards.columns["style"][evaluated.training_rows]
    training = np.array([labels.classes.get(str(style), -1) for style in styles], np.int64)
    return Classified(evaluated.results["scores"], evaluated.results["values"][:, 0], training, labels.values[0])


def _image_rows(labels: StyleLabels, evaluated: EvaluatedSplit) -> list[tuple[object, ...]]:
    results, names = evaluated.results, labels.values[0]
    target, scores = results["values"][:, 0], results["scores"]
    of_truth = scores[np.arange(len(target)), target]
    rows: list[tuple[object, ...]] = []
    for number in np.lexsort((results["row"], of_truth)):
        best = int(scores[number].argmax())
        key = str(evaluated.shards.columns["key"][results["row"][number]])
        rows.append((key, names[target[number]], names[best], float(scores[number, best]), float(of_truth[number])))
    return rows


def _sheet(labels: StyleLabels, evaluated: EvaluatedSplit, title: str) -> bytes:
    """Return a sheet with one row per frequent style, from the most confident hit to the most confident error."""
    results = evaluated.results
    target, scores = results["values"][:, 0], results["scores"]
    doubt = 1 - scores[np.arange(len(target)), target]
    tiles: list[Tile | None] = []
    for style in np.argsort(-np.bincount(target, minlength=len(labels.values[0])), kind="stable")[:_ROWS]:
        members = np.flatnonzero(target == style)
        row = (
            [_tile(labels, evaluated, int(members[index])) for index in spread(doubt[members], _COLUMNS)]
            if len(members)
            else []
        )
        tiles += [*row, *[None] * (_COLUMNS - len(row))] if row else []
    legend = [
        Entry("text", "", ATTENTION_NOTE),
        Entry("text", "", "a row for each of the commonest styles, from the best to the worst"),
    ]
    return sheet(tiles, "Predictions and attention", title, _COLUMNS, legend=legend)


def _tile(labels: StyleLabels, evaluated: EvaluatedSplit, number: int) -> Tile:
    results, names = evaluated.results, labels.values[0]
    scores, target = results["scores"][number], int(results["values"][number, 0])
    best = int(scores.argmax())
    lines = [mistaken(names[best], names[target]), f"{100 * scores[best]:.0f}%"]
    if best != target:
        lines[1] += f" (true: {100 * scores[target]:.0f}%)"
    return Tile(attended_image(evaluated, number, 0), lines=lines, good=best == target)
