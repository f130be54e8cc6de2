"""Per-image results of the category task: hits, the table of the worst images, and the tiles of a contact sheet."""

from typing import Any

import numpy as np

from ftrain.data.types import EvaluatedSplit, Results
from ftrain.metrics.classification import class_ranks
from ftrain.plots.sheet import MARKS, Tile, mistaken
from ftrain.reports import label_report
from ftrain.tasks.category.labels import CategoryLabels
from ftrain.tasks.category.metrics import box_overlap


def hits(learned: CategoryLabels, results: Results) -> tuple[np.ndarray, np.ndarray]:
    """Return hits and counts, float N, for slices.

    They refer to the category if there is one, else to attribute groups or to the best attribute.
    """
    number = len(results["row"])
    labels = results.get("category")
    if labels is not None and (labels >= 0).any():
        return (class_ranks(results["category_scores"], labels) == 0).astype(float), (labels >= 0).astype(float)
    hits, counts = np.zeros(number), np.zeros(number)
    targets, scores = results["attributes"], results["attribute_scores"]
    for members in learned.groups.values() if learned.exclusive else [range(len(learned.attributes))]:
        own, columns = scores[:, list(members)], targets[:, list(members)]
        has = (columns == 1).any(axis=1)
        best = own.argmax(axis=1)
        hits += has & (columns[np.arange(number), best] == 1)
        counts += has
    return hits, counts


def images(
    learned: CategoryLabels, evaluated: EvaluatedSplit
) -> tuple[np.ndarray, list[str], list[tuple[object, ...]]]:
    """Return badness N (share of wrong labels, then uncertainty), and the header and rows of a table, worst first."""
    results, number = evaluated.results, len(evaluated.results["row"])
    wrong, total, unsure = np.zeros(number), np.zeros(number), np.zeros(number)
    header = ["key"]
    columns: list[list[Any]] = [evaluated.shards.columns["key"][results["row"]].tolist()]
    labels = results.get("category")
    if labels is not None and (labels >= 0).any():
        best = results["category_scores"].argmax(axis=1)
        header += ["category", "answer", "score"]
        columns += [
            [learned.categories[label] if label >= 0 else "" for label in labels],
            [learned.categories[index] for index in best],
            results["category_scores"].max(axis=1).astype(float).tolist(),
        ]  # fmt: skip
        wrong, total = wrong + ((best != labels) & (labels >= 0)), total + (labels >= 0)
        unsure = unsure - results["category_scores"][np.arange(number), np.maximum(labels, 0)]
    if "attributes" in results and (results["attributes"] == 1).any():
        right, counts = hits(learned, {name: values for name, values in results.items() if name != "category"})
        header += ["attributes_right", "attributes"]
        columns += [right.astype(int).tolist(), counts.astype(int).tolist()]
        wrong, total = wrong + counts - right, total + counts
        unsure = unsure - (results["attribute_scores"] * (results["attributes"] == 1)).sum(axis=1)
    if "true_box" in results:
        header.append("box_iou")
        columns.append(box_overlap(results["boxes"], results["true_box"]).astype(float).tolist())
    badness = np.where(total > 0, wrong / np.maximum(total, 1), -1.0) + 1e-6 * unsure
    table = list(zip(*columns, strict=True))
    return badness, header, [table[index] for index in np.argsort(-badness, kind="stable")]


def tile(learned: CategoryLabels, evaluated: EvaluatedSplit, number: int, badness: float) -> Tile:
    """Return an image with its box, the predicted category and attributes, and the ground truth where it differs."""
    results = evaluated.results
    image, annotation = label_report.image_of(evaluated, number)
    lines: list[str] = []
    good: bool | None = badness < 0.2
    labels = results.get("category")
    if labels is not None and (labels >= 0).any():  # the frame refers to the category; images without one have none
        good = None
    if labels is not None and "category_scores" in results and labels[number] >= 0:
        scores = results["category_scores"][number]
        best = int(scores.argmax())
        good = best == int(labels[number])
        lines.append(
            mistaken(
                f"{learned.categories[best]} {100 * scores[best]:.0f}%",
                None if best == labels[number] else learned.categories[labels[number]],
            )
        )
    if "attributes" in results:
        lines += _attribute_lines(learned, results, number)
    boxes = [results["boxes"][number].tolist()] if learned.has_boxes else []
    return Tile(image, lines[:7], good, boxes, [annotation["box"]] if learned.has_boxes else [])


def _attribute_lines(learned: CategoryLabels, results: Results, number: int) -> list[str]:
    scores, targets = results["attribute_scores"][number], results["attributes"][number]
    lines: list[str] = []
    if learned.exclusive:
        for name, members in learned.groups.items():
            true = [index for index in members if targets[index] == 1]
            best = max(members, key=lambda index: scores[index])
            if true:
                target = None if best in true else learned.attributes[true[0]]
                lines.append(f"{name}: {mistaken(learned.attributes[best], target)}")
        return lines
    best = np.argsort(-scores, kind="stable")[:5]
    marked = [f"{MARKS[int(targets[index])]} {learned.attributes[index]}" for index in best]
    missed = [learned.attributes[index] for index in np.flatnonzero(targets == 1) if index not in best]
    return [", ".join(marked[:2]), ", ".join(marked[2:]), f"missed: {', '.join(missed)}" if missed else "all found"]
