"""Metrics of the category task: category and type, attributes, boxes."""

import math
from typing import Any

import numpy as np

from ftrain.data.types import Results
from ftrain.metrics.attributes import attribute_recall, group_accuracy
from ftrain.metrics.bootstrap import ratio_interval
from ftrain.metrics.classification import classification_metrics
from ftrain.tasks.category.labels import CategoryLabels
from ftrain.tasks.category.task import Category


def compute_metrics(task: Category, results: Results) -> dict[str, Any]:
    """Compute metrics of all labels, and `score`, which selects checkpoints."""
    return label_metrics(task.labels, results)


def label_metrics(learned: CategoryLabels, results: Results) -> dict[str, Any]:
    """Compute flat metrics of all labels, and `score`: the mean of category top-1 and the main attribute metric."""
    found: dict[str, Any] = {}
    for kind, part in metrics_by_target(learned, results).items():
        found |= {
            f"{kind}_{name}": value
            for name, value in part.items()
            if not (isinstance(value, float) and math.isnan(value))
        }
    chosen = [found[name] for name in ("category_top_1", "groups_top_1") if name in found]
    if "groups_top_1" not in found:
        recalls = ("attribute_recall_5_micro", "attribute_recall_3_micro")
        chosen += [found[name] for name in recalls if name in found][:1]
    if not chosen and "box_iou" in found:
        chosen = [found["box_iou"]]
    return {"score": float(np.mean(chosen)) if chosen else math.nan, **found}


def metrics_by_target(learned: CategoryLabels, results: Results) -> dict[str, dict[str, Any]]:
    """Compute metrics per kind of label, for predictions or for a baseline with the same arrays."""
    parts: dict[str, dict[str, Any]] = {}
    labels = results.get("category")
    if labels is not None and (labels >= 0).any() and "category_scores" in results:
        scores = results["category_scores"]
        parts["category"] = classification_metrics(scores, labels)
        if learned.types:
            parts["type"] = _type_metrics(learned, scores, labels)
    targets = results.get("attributes")
    if targets is not None and (targets == 1).any() and "attribute_scores" in results:
        scores, positive, known = results["attribute_scores"], targets == 1, targets >= 0
        if learned.exclusive:
            parts["groups"] = group_accuracy(scores, positive, known, learned.groups)["mean"]
        else:
            parts["attribute"] = attribute_recall(scores, positive, known)["all"]
    if "true_box" in results and "boxes" in results:
        overlap = box_overlap(results["boxes"], results["true_box"])
        low, high = ratio_interval(overlap, np.ones(len(overlap)))
        parts["box"] = {
            "iou": float(overlap.mean()),
            "iou_low": low,
            "iou_high": high,
            "iou_50": float((overlap > 0.5).mean()),
        }
    return parts


def _type_metrics(learned: CategoryLabels, scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy of the type of clothes: upper, lower or full."""
    members = list(learned.types.values())
    owner = np.full(len(learned.categories), -1)
    for number, ids in enumerate(members):
        owner[ids] = number
    target = np.where(labels >= 0, owner[labels], -1)
    summed = np.stack([scores[:, ids].sum(axis=1) for ids in members], axis=1)
    found = classification_metrics(summed, target, top=(1,))
    return {name: found[name] for name in ("top_1", "top_1_low", "top_1_high")}


def box_overlap(boxes: np.ndarray, target: np.ndarray) -> np.ndarray:
    """IoU N of boxes N, 4 (x1, y1, x2, y2: centers of the corner pixels, both of which belong to the box)."""
    first, last = np.maximum(boxes[:, :2], target[:, :2]), np.minimum(boxes[:, 2:], target[:, 2:])
    shared = np.prod(np.maximum(last - first + 1, 0), axis=1)
    areas = [np.prod(box[:, 2:] - box[:, :2] + 1, axis=1) for box in (boxes, target)]
    return shared / (areas[0] + areas[1] - shared)
