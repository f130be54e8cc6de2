"""Report of the category task: metrics and baselines, per class, group and type, slices, and the worst images."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fschemas.failures import UsageError
from fschemas.publish import publish_bytes
from ftrain.data.csv_text import csv_bytes, csv_table
from ftrain.data.types import EvaluatedSplit, Results
from ftrain.metrics.attributes import attribute_recall, group_accuracy, group_majority
from ftrain.metrics.classification import dominance, predictions
from ftrain.metrics.slices import slices
from ftrain.plots.figures import plot_bars
from ftrain.plots.sheet import MARKS_ENTRY, ORDER_ENTRY, sheet
from ftrain.reports import label_report
from ftrain.reports.text_table import aligned
from ftrain.tasks.category.labels import CategoryLabels
from ftrain.tasks.category.metrics import label_metrics, metrics_by_target
from ftrain.tasks.category.per_image import hits, images, tile
from ftrain.tasks.category.task import Category

_NAMES = {
    "category_top_1": "category top-1",
    "category_top_3": "category top-3",
    "category_top_5": "category top-5",
    "category_macro_f1": "category macro-F1",
    "type_top_1": "clothes type accuracy",
    "groups_top_1": "attribute groups, mean top-1",
    "attribute_recall_3_micro": "attribute recall@3 (micro)",
    "attribute_recall_5_micro": "attribute recall@5 (micro)",
    "attribute_recall_3_macro": "attribute recall@3 (macro)",
    "box_iou": "box mean IoU",
    "box_iou_50": "boxes with IoU > 0.5",
}
_SHEET = 20


@dataclass(frozen=True)
class _Baselines:
    """Statistics of the training annotations."""

    categories: np.ndarray  # M class ids, -1 unknown
    attribute_counts: np.ndarray  # A: number of images in which each is positive
    mean_box: np.ndarray | None  # 4 as shares of the image

    @property
    def empty(self) -> bool:
        """Whether there was no training image."""
        return len(self.categories) == 0


def report(task: Category, evaluated: EvaluatedSplit, out: Path) -> dict[str, Any]:
    """Return the metrics of a split; write `plots/`, `images.csv` (worst first) and `predictions.png` into `out`.

    Raises `UsageError` if no image of the split has a label that the run learned.
    """
    learned, results, annotations = task.labels, evaluated.results, label_report.notes_of(evaluated)
    model = label_metrics(learned, results)
    if math.isnan(model["score"]):
        source = f"{evaluated.shards.location}: the split {evaluated.split!r}"
        raise UsageError(f"{source} has no labels that the run learned; choose another --split")
    baselines = _learn_baselines(learned, evaluated)
    numbers: dict[str, Any] = {"model": model, **_baseline_metrics(learned, evaluated, baselines)}
    line = label_report.subtitle(evaluated, _headline(model))
    if "attributes" in results:
        name = "groups" if learned.exclusive else "attributes"
        title = "Accuracy in each group of attributes" if learned.exclusive else "Recall@3 of each type of attribute"
        numbers[name] = _parts(learned, results, baselines)
        _write_parts(out, name, numbers[name], title, line)
    if "category_top_1" in model:
        scores, labels = results["category_scores"], results["category"]
        found = label_report.Classified(scores, labels, baselines.categories, learned.categories)
        label_report.write_classification(out, "category", found, line)
    numbers["slices"] = slices(*hits(learned, results), label_report.properties(annotations))
    numbers["collapse"] = _collapse(learned, results)
    badness, header, rows = images(learned, evaluated)
    publish_bytes(out / "images.csv", csv_bytes(header, rows))
    chosen = label_report.spread(badness, _SHEET)
    tiles = [tile(learned, evaluated, number, float(badness[number])) for number in chosen]
    legend = [*([MARKS_ENTRY] if "attributes" in results and not learned.exclusive else []), ORDER_ENTRY]
    frames = ("category correct", "category wrong"), ("at most one label in five wrong", "more labels wrong")
    right, wrong = frames["category_top_1" not in model]
    meaning = {"good": f"green frame: {right}", "bad": f"red frame: {wrong}"}
    image = sheet(tiles, "Predicted and true labels", line, meaning=meaning, legend=legend)
    publish_bytes(out / "predictions.png", image)
    return numbers


def summary(metrics: dict[str, Any]) -> Iterator[str]:
    """Yield the results of `report` as text lines."""
    baseline = {**metrics.get("majority", {}), **metrics.get("mean_box", {})}
    yield from aligned([
        *label_report.metric_rows(metrics["model"], baseline, _NAMES, "majority"),
        *label_report.part_rows("top-1 of each group", metrics.get("groups", {}), "majority"),
        *label_report.part_rows("recall@3 of each type", metrics.get("attributes", {}), "majority"),
    ])  # fmt: skip


def _learn_baselines(learned: CategoryLabels, evaluated: EvaluatedSplit) -> _Baselines:
    rows, shards = evaluated.training_rows, evaluated.shards
    annotations = [shards.read_annotation(int(row)) for row in rows]
    categories = np.full(len(rows), -1)
    if learned.categories and "category" in shards.columns:
        categories = label_report.labels_of(shards, rows, "category", learned.categories)
    counts = label_report.positive_counts(annotations, len(learned.attributes))
    box = None
    if "true_box" in evaluated.results and annotations:
        sizes = np.array([[annotation["width"], annotation["height"]] * 2 for annotation in annotations], float)
        box = ((np.array([annotation["box"] for annotation in annotations]) + 0.5) / sizes).mean(axis=0)
    return _Baselines(categories, counts, box)


def _baseline_metrics(
    learned: CategoryLabels, evaluated: EvaluatedSplit, baselines: _Baselines
) -> dict[str, dict[str, Any]]:
    """Compute `majority` and `mean_box`: the same metrics for predictions that ignore the image."""
    if baselines.empty:
        return {}
    results, number = evaluated.results, len(evaluated.results["row"])
    blind: Results = {name: results[name] for name in ("category", "attributes") if name in results}
    if learned.categories:
        counts = np.bincount(baselines.categories[baselines.categories >= 0], minlength=len(learned.categories))
        blind["category_scores"] = _ranked_by_frequency(counts, number)
    if learned.attributes:
        blind["attribute_scores"] = _ranked_by_frequency(baselines.attribute_counts, number)
    found = {"majority": label_metrics(learned, blind)}
    if math.isnan(found["majority"]["score"]):
        del found["majority"]["score"]
    if baselines.mean_box is not None:
        mean = {"boxes": baselines.mean_box * np.tile(results["size"], 2) - 0.5, "true_box": results["true_box"]}
        found["mean_box"] = {f"box_{name}": value for name, value in metrics_by_target(learned, mean)["box"].items()}
    return found


def _ranked_by_frequency(counts: np.ndarray, num_rows: int) -> np.ndarray:
    """Return scores N, C: positive, so that sums over a type are proportional, and distinct even for equal counts."""
    shares = (counts + np.linspace(1e-6, 0, len(counts))) / max(1, counts.sum())
    return np.broadcast_to(shares, (num_rows, len(counts)))


def _parts(learned: CategoryLabels, results: Results, baselines: _Baselines) -> dict[str, dict[str, float]]:
    """Compute the accuracy of each exclusive group, or else the recall of each type of attribute."""
    scores, positive, known = results["attribute_scores"], results["attributes"] == 1, results["attributes"] >= 0
    counts, groups = baselines.attribute_counts, learned.groups
    below: dict[str, dict[str, float]] = {}
    if learned.exclusive:
        below = {} if baselines.empty else group_majority(counts, positive, known, groups)
        return _beside(group_accuracy(scores, positive, known, groups), below, "top_1")
    if not baselines.empty:
        ranked = label_report.ranking_baseline(counts, len(positive))
        below = attribute_recall(ranked, positive, known, types=groups)
    return _beside(attribute_recall(scores, positive, known, types=groups), below, "recall_3_micro")


def _beside(
    found: dict[str, dict[str, float]], below: dict[str, dict[str, float]], name: str
) -> dict[str, dict[str, float]]:
    """Return the groups or types that have a metric `name`, with it as `value` and its `baseline`."""
    parts: dict[str, dict[str, float]] = {}
    for key, part in found.items():
        known = label_report.finite(part)
        if name in known:
            ends = {end: part[f"{name}_{end}"] for end in ("low", "high") if f"{name}_{end}" in part}
            baseline = {"baseline": below[key][name]} if key in below else {}
            count = part.get("count", part.get("images", 0.0))
            parts[key] = {"value": part[name], **ends, **baseline, **known, "count": count}
    return parts


def _write_parts(out: Path, name: str, parts: dict[str, dict[str, float]], title: str, line: str) -> None:
    columns = dict.fromkeys(column for part in parts.values() for column in part)
    common = [column for column in columns if all(column in part for part in parts.values())]
    publish_bytes(out / f"plots/{name}.csv", csv_table(name.removesuffix("s"), common, parts))
    bars = {key: {n: part[n] for n in ("value", "baseline", "count") if n in part} for key, part in parts.items()}
    publish_bytes(out / f"plots/{name}.png", plot_bars(bars, title, line, baseline_name="majority"))


def _collapse(learned: CategoryLabels, results: Results) -> dict[str, Any]:
    """Check collapse of the categories or, without them, of the attribute group with the most one-sided predictions."""
    labels = results.get("category")
    if labels is not None and (labels >= 0).any():
        return dominance(predictions(results["category_scores"], labels), labels, learned.categories)
    found: list[dict[str, Any]] = []
    for name, members in (learned.groups if learned.exclusive else {"": list(range(len(learned.attributes)))}).items():
        positive = results["attributes"][:, members] == 1
        target = np.where(positive.any(axis=1), positive.argmax(axis=1), -1)
        names = [f"{name} {learned.attributes[index]}".strip() for index in members]
        found.append(dominance(results["attribute_scores"][:, members].argmax(axis=1), target, names))
    return max(found, key=lambda part: (bool(part["collapsed"]), float(part["share"]) - float(part["true_share"])))


def _headline(model: dict[str, Any]) -> str:
    names = ("category_top_1", "groups_top_1", "attribute_recall_5_micro", "score")
    name = next(name for name in names if name in model)
    interval = (
        f" ({100 * model[f'{name}_low']:.1f} to {100 * model[f'{name}_high']:.1f})" if f"{name}_low" in model else ""
    )
    return f"{_NAMES.get(name, name)} {label_report.percent(model[name])}{interval}"
