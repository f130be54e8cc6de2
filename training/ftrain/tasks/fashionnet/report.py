"""Report of the fashionnet task: metrics with image-blind baselines, slices, tables, plots, a contact sheet."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fschemas.publish import publish_bytes
from ftrain.data.csv_text import csv_bytes, csv_table
from ftrain.data.types import EvaluatedSplit, Results
from ftrain.metrics.attributes import group_labels
from ftrain.metrics.classification import class_ranks, dominance, predictions
from ftrain.metrics.normalized_error import UNITS, PointErrors, own_unit
from ftrain.metrics.slices import slices
from ftrain.plots.figures import plot_bars
from ftrain.plots.legend import side_entries
from ftrain.plots.overlay import side_color
from ftrain.plots.sheet import MARKS, MARKS_ENTRY, ORDER_ENTRY, Tile, mistaken, sheet
from ftrain.reports import label_report
from ftrain.reports.landmark_report import landmark_labels, landmark_metrics, pose_name
from ftrain.reports.text_table import aligned
from ftrain.tasks.fashionnet.answer import named_attributes
from ftrain.tasks.fashionnet.labels import FashionNetLabels
from ftrain.tasks.fashionnet.metrics import (
    attribute_metrics,
    commonest_visibility,
    label_metrics,
    query_and_gallery,
    retrieval,
    visibility_metrics,
)
from ftrain.tasks.fashionnet.task import FashionNet

_SHEET_IMAGES = 20
_FAR = 0.2  # NE at and above which an image's landmarks have maximum badness
_LABELS = {
    "visibility_accuracy": "visibility accuracy",
    "top_1": "category top-1",
    "top_3": "category top-3",
    "top_5": "category top-5",
    "macro_f1": "category macro-F1",
    "attributes_top_1": "attribute top-1, mean",
    "attributes_recall_3_micro": "attribute recall@3",
    "attributes_recall_5_micro": "attribute recall@5",
    "hit_1": "item hit@1",
    "hit_20": "item hit@20",
    "map": "item mAP",
}
_BASELINES = {"mean_pose": "mean pose", "majority": "majority", "untrained": "untrained"}


@dataclass(frozen=True)
class _Scores:
    """Scores of N images as shares; None if the split lacks the labels or the network the head."""

    errors: PointErrors
    category: np.ndarray | None  # 1 right, 0 wrong, NaN unknown
    attributes: np.ndarray | None  # share of the image's attributes found, NaN unknown
    items: np.ndarray | None  # rank of the first match, -1 without one


def report(task: FashionNet, evaluated: EvaluatedSplit, out: Path) -> dict[str, Any]:
    """Return the metrics of a split; write `plots/`, `images.csv` (worst first) and `predictions.png` into `out`."""
    learned = task.labels
    results, shards = evaluated.results, evaluated.shards
    splits = shards.columns["split"][results["row"]]
    numbers, errors, subtitle = landmark_metrics(learned.landmarks, evaluated, out, knows_box=task.config.crop == "box")
    numbers["model"] |= visibility_metrics(results["visibility_scores"].argmax(axis=2), results["visibility"])
    numbers["model"] |= label_metrics(learned, results)
    numbers["majority"] = {}
    annotations = [shards.read_annotation(int(row)) for row in evaluated.training_rows]
    if annotations:
        seen = commonest_visibility(
            np.array([annotation["landmark_visibility"] for annotation in annotations], np.int8)
        )
        always = np.broadcast_to(seen, results["visibility"].shape)
        numbers["majority"] |= visibility_metrics(always, results["visibility"])
    category = _report_category(learned, evaluated, numbers, out, subtitle)
    attributes = _report_attributes(learned, evaluated, annotations, numbers, out, subtitle)
    items = _report_items(evaluated, splits, numbers)
    scores = _Scores(errors, category, attributes, items)
    numbers["slices"] = _slices(evaluated, scores, numbers.get("slices", {}))
    badness = _badness(scores)
    publish_bytes(out / "images.csv", _images(learned, evaluated, scores, badness))
    chosen = label_report.spread(badness, _SHEET_IMAGES)
    publish_bytes(out / "predictions.png", prediction_sheet(learned, evaluated, errors, chosen, subtitle))
    return {name: value for name, value in numbers.items() if value != {}}


def summary(metrics: dict[str, Any]) -> Iterator[str]:
    """Yield model and baselines side by side, and the types of attributes."""
    baselines = [name for name in _BASELINES if name in metrics]
    names = {**_BASELINES, "mean_pose": pose_name(metrics)}
    rows = [["metric, with 95% interval", "model", *(names[name] for name in baselines)]]
    for name, label in {**landmark_labels(metrics), **_LABELS}.items():
        if name in metrics["model"]:
            below = (_percent(metrics[baseline], name, plain=True) for baseline in baselines)
            rows.append([label, _percent(metrics["model"], name), *below])
    if types := metrics.get("types"):
        kind = "group" if "attributes_top_1" in metrics["model"] else "type"
        title = f"{metrics.get('types_figure', 'attributes')} of each {kind}"
        rows.append([title, "model", *("majority" if baseline == "majority" else "" for baseline in baselines)])
        for name, part in types.items():
            below = (_percent(part, "baseline") if baseline == "majority" else "" for baseline in baselines)
            rows.append([f"  {name.replace('_', ' ')}", _percent(part, "value"), *below])
    yield from aligned(rows)
    if metrics.get("ratio_to_mean_pose_high", 0) >= 1:
        yield "WARNING: the landmarks are not clearly better than those of a model that ignores the image"


def _report_category(
    learned: FashionNetLabels, evaluated: EvaluatedSplit, numbers: dict[str, Any], out: Path, subtitle: str
) -> np.ndarray | None:
    results = evaluated.results
    if "top_1" not in numbers["model"]:
        return None
    scores, labels = results["category_scores"], results["category"]
    found = label_report.report_classification(evaluated, out, "category", scores, labels, learned.categories, subtitle)
    numbers["majority"] |= found.get("majority", {})
    if not numbers["collapse"]["collapsed"]:
        numbers["collapse"] = found["collapse"]
    return np.where(labels >= 0, class_ranks(scores, labels) == 0, np.nan)


def _report_attributes(
    learned: FashionNetLabels,
    evaluated: EvaluatedSplit,
    annotations: list[dict[str, Any]],
    numbers: dict[str, Any],
    out: Path,
    subtitle: str,
) -> np.ndarray | None:
    results = evaluated.results
    if "attribute_scores" not in results or not (results["attributes"] == 1).any():
        return None
    scores, targets = results["attribute_scores"], results["attributes"]
    metric = "top_1" if learned.exclusive else "recall_5_micro" if len(learned.attributes) > 5 else "recall_3_micro"
    parts = attribute_metrics(learned, scores, targets)
    if annotations:
        counts = label_report.positive_counts(annotations, len(learned.attributes))
        majority = label_report.ranking_baseline(counts, len(scores))
        baselines = attribute_metrics(learned, majority, targets)
        overall = baselines["mean" if learned.exclusive else "all"]
        numbers["majority"] |= {f"attributes_{name}": value for name, value in overall.items()}
    else:
        baselines = {}
    bars = {
        kind: _bar(part, baselines.get(kind), metric)
        for kind, part in parts.items()
        if np.isfinite(part.get(metric, np.nan))
    }
    numbers["attributes"] = {kind: {k: v for k, v in part.items() if np.isfinite(v)} for kind, part in parts.items()}
    numbers["types_figure"] = metric.removesuffix("_micro").replace("recall_", "recall@").replace("_", " ")
    numbers["types"] = {kind: bar for kind, bar in bars.items() if kind not in ("mean", "all")}
    publish_bytes(out / "plots/attributes.csv", csv_table("type", ("value", "baseline", "count"), bars))
    title = "Attribute accuracy per group" if learned.exclusive else "Attributes found among the first five, per type"
    publish_bytes(out / "plots/attributes.png", plot_bars(bars, title, subtitle, baseline_name="majority"))
    if learned.exclusive:
        _guard_groups(learned, results, numbers)
    return _attribute_scores(learned, results)


def _guard_groups(learned: FashionNetLabels, results: Results, numbers: dict[str, Any]) -> None:
    """Without categories, report a collapse if one class dominates in every group of attributes."""
    found: list[dict[str, Any]] = []
    for members in learned.types.values():
        columns = list(members)
        labels = group_labels(results["attributes"][:, columns] == 1)
        predicted = predictions(results["attribute_scores"][:, columns], labels)
        found.append(dominance(predicted, labels, [learned.attributes[column] for column in columns]))
    if (
        found
        and "top_1" not in numbers["model"]
        and not numbers["collapse"]["collapsed"]
        and all(f["collapsed"] for f in found)
    ):
        numbers["collapse"] = max(found, key=lambda one: one["share"])


def _attribute_scores(learned: FashionNetLabels, results: Results) -> np.ndarray:
    """Return the accuracy over groups, or R-precision of the positives, per image; NaN if nothing is known."""
    scores, targets = results["attribute_scores"], results["attributes"]
    if learned.exclusive:
        labels = np.stack([group_labels(targets[:, list(members)] == 1) for members in learned.types.values()], axis=1)
        ranks = np.stack(
            [class_ranks(scores[:, list(m)], labels[:, number]) for number, m in enumerate(learned.types.values())],
            axis=1,
        )
        counts, hits = (labels >= 0).sum(axis=1), ((labels >= 0) & (ranks == 0)).sum(axis=1)
    else:
        counts = (targets == 1).sum(axis=1)
        order = np.argsort(np.argsort(-np.where(targets >= 0, scores, -np.inf), axis=1, kind="stable"), axis=1)
        hits = ((targets == 1) & (order < counts[:, None])).sum(axis=1)
    return np.where(counts > 0, hits / np.maximum(counts, 1), np.nan)


def _report_items(evaluated: EvaluatedSplit, splits: np.ndarray, numbers: dict[str, Any]) -> np.ndarray | None:
    results = evaluated.results
    if "embedding" not in results or not (results["item"] >= 0).any():
        return None
    found = retrieval(results, splits)
    numbers["model"] |= {name: value for name, value in found.summary().items() if np.isfinite(value)}
    if evaluated.untrained is not None:
        below = retrieval(evaluated.untrained, splits).summary()
        numbers["untrained"] = {name: value for name, value in below.items() if np.isfinite(value)}
    ranks = np.full(len(splits), -1)
    ranks[query_and_gallery(splits, len(splits))[0]] = found.first
    return ranks


def _slices(evaluated: EvaluatedSplit, scores: _Scores, of_landmarks: dict[str, Any]) -> dict[str, Any]:
    """Return the slices of each metric; those of landmarks are NE."""
    properties = label_report.properties(label_report.notes_of(evaluated))
    parts: dict[str, Any] = {"ne": of_landmarks}
    right = None if scores.items is None else np.where(scores.items >= 0, scores.items == 0, np.nan)
    for name, values in (("category", scores.category), ("attributes", scores.attributes), ("hit_1", right)):
        if values is not None:
            parts[name] = slices(np.nan_to_num(values), np.isfinite(values), properties)
    return {name: part for name, part in parts.items() if part}


def _badness(scores: _Scores) -> np.ndarray:
    """Return the badness N: 0 if everything is right, 1 if everything is wrong."""
    counts = scores.errors.counted.sum(axis=1)
    of_points = np.where(counts > 0, scores.errors.distances.sum(axis=1) / np.maximum(counts, 1), np.nan)
    parts = [np.minimum(of_points / _FAR, 1.0)]
    parts += [1 - values for values in (scores.category, scores.attributes) if values is not None]
    if scores.items is not None:
        parts.append(np.where(scores.items >= 0, scores.items > 0, np.nan))
    known = np.isfinite(np.stack(parts))
    return np.where(known, np.stack(parts), 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)


def _images(learned: FashionNetLabels, evaluated: EvaluatedSplit, scores: _Scores, badness: np.ndarray) -> bytes:
    results, keys = evaluated.results, evaluated.shards.columns["key"]
    counts = scores.errors.counted.sum(axis=1)
    rows: list[list[object]] = []
    for number in np.argsort(-badness, kind="stable"):
        error = float(scores.errors.distances[number].sum() / counts[number]) if counts[number] else ""
        row: list[object] = [str(keys[results["row"][number]]), float(badness[number]), error]
        if scores.category is not None:
            target = int(results["category"][number])
            row += [learned.categories[target] if target >= 0 else ""]
            row += [learned.categories[int(results["category_scores"][number].argmax())]]
        if scores.attributes is not None:
            row.append("" if np.isnan(scores.attributes[number]) else float(scores.attributes[number]))
        if scores.items is not None:
            row.append(int(scores.items[number]) if scores.items[number] >= 0 else "")
        rows.append(row)
    header = ["key", "badness", "ne"]
    header += ["category", "answer"] if scores.category is not None else []
    header += ["attributes"] if scores.attributes is not None else []
    header += ["first_right"] if scores.items is not None else []
    return csv_bytes(header, rows)


def _bar(part: dict[str, float], baseline: dict[str, float] | None, metric: str) -> dict[str, float]:
    bar = {"value": part[metric], "count": part.get("positives", part.get("count", 0.0))}
    return bar if baseline is None else {**bar, "baseline": baseline[metric]}


def _percent(part: dict[str, Any], name: str, *, plain: bool = False) -> str:
    if name not in part:
        return ""
    text = f"{100 * part[name]:.2f}%"
    interval = not plain and f"{name}_low" in part
    return f"{text} ({100 * part[f'{name}_low']:.1f} to {100 * part[f'{name}_high']:.1f})" if interval else text


def prediction_sheet(
    learned: FashionNetLabels, evaluated: EvaluatedSplit, errors: PointErrors, chosen: Sequence[int], subtitle: str
) -> bytes:
    """Return a PNG of the chosen images with predicted landmarks, and predicted and true category and attributes."""
    tiles = [_tile(learned, evaluated, errors, number) for number in chosen]
    legend = [*side_entries(learned.landmarks), *([MARKS_ENTRY] if learned.attributes else []), ORDER_ENTRY]
    meaning = {"good": "green frame: category correct", "bad": "red frame: wrong"}
    return sheet(tiles, "Landmarks, category and attributes", subtitle, meaning=meaning, legend=legend)


def _tile(learned: FashionNetLabels, evaluated: EvaluatedSplit, errors: PointErrors, number: int) -> Tile:
    results = evaluated.results
    pixels, _ = label_report.image_of(evaluated, number)
    present = results["visibility_scores"][number].argmax(axis=1) < 2
    count = int(errors.counted[number].sum())
    lines, good = [], None
    if learned.categories:
        target, predicted = int(results["category"][number]), int(results["category_scores"][number].argmax())
        good = None if target < 0 else target == predicted
        lines.append(mistaken(learned.categories[predicted], learned.categories[target] if good is False else None))
    lines.append(
        f"landmarks: NE {100 * errors.distances[number].sum() / count:.1f}% of {UNITS[own_unit(learned.landmarks)]}"
        if count
        else "no visible landmark"
    )
    if learned.attributes:
        targets = results["attributes"][number]
        named = [one["name"] for one in named_attributes(learned, results, number)]
        marks = [MARKS[int(targets[list(learned.attributes).index(name)])] for name in named]
        words = [f"{mark} {name.rpartition('/')[2]}" for mark, name in zip(marks, named, strict=True)]
        lines += [", ".join(words[start : start + 2]) for start in range(0, len(words), 2)]
    colors = [side_color(learned.landmarks, point) for point in np.flatnonzero(present).tolist()]
    return Tile(pixels, lines, good, points=results["points"][number][present], point_colors=colors)
