"""Report of attribute retrieval: mAP as in the ASEN papers, and the accuracy of the heads."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fschemas.failures import UsageError
from fschemas.publish import publish_bytes
from ftrain.data.csv_text import csv_bytes, csv_table
from ftrain.data.types import EvaluatedSplit
from ftrain.metrics.attributes import group_accuracy, group_majority
from ftrain.metrics.classification import dominance
from ftrain.metrics.retrieval import Entries
from ftrain.plots.figures import plot_bars
from ftrain.plots.legend import Entry
from ftrain.plots.sheet import Tile, sheet
from ftrain.reports.label_report import finite, image_of, percent, subtitle
from ftrain.tasks.style.answer import glow
from ftrain.tasks.style.attribute_search import chance_metrics, entries, nearest, search_metrics
from ftrain.tasks.style.labels import StyleLabels

_NEIGHBORS = 5
_ROWS = 8
_MAX_QUERIES = 2000  # per attribute, for the table of images and the collapse check; mAP uses all


ATTENTION_NOTE = "bright: high attention, dark: low attention"


def attended_image(evaluated: EvaluatedSplit, number: int, attribute: int) -> np.ndarray:
    """Return image `number` of the results with the attention of an attribute, uint8 H, W, 3."""
    results, (image, _) = evaluated.results, image_of(evaluated, number)
    height, width = image.shape[:2]
    factor = np.array([width, height, width, height]) / np.tile(results["size"][number], 2)
    grid = results["attention"][number, attribute].astype(np.float32)
    stretched = (grid - grid.min()) / max(float(grid.max() - grid.min()), 1e-9)
    return glow(image, stretched, results["region"][number] * factor)


@dataclass(frozen=True)
class _Evaluation:
    """Entries of a split, and per attribute its queries (entries Q) and their nearest candidates (entries Q, K)."""

    labels: StyleLabels
    evaluated: EvaluatedSplit
    found: Entries
    searches: dict[int, tuple[np.ndarray, np.ndarray]]


def report(labels: StyleLabels, evaluated: EvaluatedSplit, out: Path) -> dict[str, Any]:
    """Return the metrics of a split; write `plots/`, `images.csv` (worst first) and `predictions.png` into `out`."""
    results, found = evaluated.results, entries(labels, evaluated.results)
    if not (found.is_query.any() and found.is_gallery.any()):
        raise UsageError(
            f"{evaluated.shards.location}: no image of the split {evaluated.split!r} has a value; choose another --split"
        )
    metrics, chance = search_metrics(labels, results, found), chance_metrics(labels, found)
    numbers: dict[str, Any] = {
        "model": {name: value for name, value in metrics.items() if "/" not in name},
        "chance": {name: value for name, value in chance.items() if "/" not in name},
    }
    untrained = search_metrics(labels, evaluated.untrained, found) if evaluated.untrained is not None else {}
    if untrained:
        numbers["untrained"] = {name: value for name, value in untrained.items() if "/" not in name}
    numbers["attributes"] = {
        name: {"map": metrics[f"map/{name}"], "chance": chance[f"map/{name}"]}
        | ({"untrained": untrained[f"map/{name}"]} if untrained else {})
        | {"queries": int(((found.attributes == number) & found.is_query).sum())}
        for number, name in enumerate(labels.attributes) if f"map/{name}" in metrics
    }  # fmt: skip
    if "scores" in results:
        _add_named(labels, evaluated, numbers)
    numbers_of = np.unique(found.attributes)
    searches = {number: nearest(results, found, number, _MAX_QUERIES, _NEIGHBORS) for number in numbers_of}
    evaluation = _Evaluation(labels, evaluated, found, searches)
    numbers["collapse"] = _collapse(evaluation)
    _write(evaluation, numbers, out)
    return numbers


def _add_named(labels: StyleLabels, evaluated: EvaluatedSplit, numbers: dict[str, Any]) -> None:
    """Add metrics of the heads for images with exactly one value of an attribute, and the majority baseline."""
    groups = dict(zip(labels.attributes, labels.ids, strict=True))
    positive = evaluated.results["positive"].astype(bool)
    scores = np.zeros((len(positive), labels.num_ids), np.float32)  # in the order of the vocabulary, not by attribute
    scores[:, [number for ids in labels.ids for number in ids]] = evaluated.results["scores"]
    known = np.ones_like(positive)
    named = group_accuracy(scores, positive, known, groups)
    chosen = ("top_1", "macro_f1")
    numbers["model"] |= finite({key: named["mean"][key] for key in chosen})
    for name, part in numbers["attributes"].items():
        part.update(finite({key: named[name][key] for key in chosen}))
    if len(evaluated.training_rows):
        annotations = (evaluated.shards.read_annotation(int(row)) for row in evaluated.training_rows)
        counts = np.sum([labels.positive(annotation) for annotation in annotations], axis=0, dtype=np.int64)
        baseline = group_majority(counts, positive, known, groups)
        numbers["majority"] = finite({key: baseline["mean"][key] for key in chosen})
        for name, part in numbers["attributes"].items():
            part.update(finite({"majority": baseline[name]["top_1"]}))


def _collapse(evaluation: _Evaluation) -> dict[str, Any]:
    """Return the dominance of the attribute with the most one-sided nearest neighbors, as a constant embedding has."""
    worst: dict[str, Any] = {"answer": "", "share": 0.0, "true_share": 0.0, "collapsed": False}
    for number, (queries, neighbors) in evaluation.searches.items():
        if not neighbors.size:
            continue
        names = [f"{evaluation.labels.attributes[number]}/{value}" for value in evaluation.labels.values[number]]
        one = dominance(evaluation.found.values[neighbors[:, 0]], evaluation.found.values[queries], names)
        worst = max(worst, one, key=lambda part: (part["collapsed"], part["share"]))
    return worst


def _write(evaluation: _Evaluation, numbers: dict[str, Any], out: Path) -> None:
    title = subtitle(evaluation.evaluated, f"mAP {percent(numbers['model']['map'])}")
    parts = numbers["attributes"]
    columns = ("map", "chance", "untrained", "top_1", "majority", "macro_f1", "queries")
    publish_bytes(out / "plots/attributes.csv", csv_table("attribute", columns, parts))
    renamed = {"map": "value", "chance": "baseline", "queries": "count"}
    bars = {name: {renamed[key]: part[key] for key in renamed} for name, part in parts.items()}
    chart = plot_bars(bars, "mAP of each attribute", title, "mAP in %", "random order")
    publish_bytes(out / "plots/attributes.png", chart)
    header = ("key", "attribute", "value", "nearest", "nearest_value", f"right_of_{_NEIGHBORS}")
    publish_bytes(out / "images.csv", csv_bytes(header, _image_rows(evaluation)))
    publish_bytes(out / "predictions.png", _sheet(evaluation, title))


def _image_rows(evaluation: _Evaluation) -> list[tuple[object, ...]]:
    """Return one row per query (at most 2,000 per attribute) with the share of neighbors that match, lowest first."""
    found, keys = evaluation.found, evaluation.evaluated.shards.columns["key"][evaluation.evaluated.results["row"]]
    rows: list[tuple[object, ...]] = []
    for number, (queries, neighbors) in evaluation.searches.items():
        name, values = evaluation.labels.attributes[number], evaluation.labels.values[number]
        for query, near in zip(queries.tolist(), neighbors.tolist(), strict=True):
            value = found.values[query]
            right = float(np.mean(found.values[near] == value)) if near else 0.0
            first = (str(keys[found.images[near[0]]]), values[found.values[near[0]]]) if near else ("", "")
            rows.append((str(keys[found.images[query]]), name, values[value], *first, right))
    return sorted(rows, key=lambda row: (row[-1], row[1], row[0]))


def _sheet(evaluation: _Evaluation, title: str) -> bytes:
    """Return a sheet with one query per attribute and its nearest images, each with the attention of the attribute."""
    found = evaluation.found
    tiles: list[Tile | None] = []
    largest = sorted(evaluation.searches, key=lambda number: -len(evaluation.searches[number][0]))[:_ROWS]
    for number in sorted(largest):
        queries, neighbors = evaluation.searches[number]
        if not neighbors.size:
            continue
        middle = len(queries) // 2
        query, values = int(queries[middle]), evaluation.labels.values[number]
        row: list[Tile | None] = []
        for entry in (query, *neighbors[middle].tolist()):
            right = None if entry == query else bool(found.values[entry] == found.values[query])
            head = [evaluation.labels.attributes[number].replace("_", " ")] if entry == query else []
            image = attended_image(evaluation.evaluated, int(found.images[entry]), number)
            row.append(Tile(image, [*head, values[found.values[entry]]], right))
        tiles += [*row, *[None] * (_NEIGHBORS + 1 - len(row))]
    meaning = {"good": "green frame: the same value", "bad": "red frame: another value"}
    legend = [Entry("text", "", ATTENTION_NOTE), Entry("text", "", "first of a row: the query")]
    name = "Images and their nearest under an attribute"
    return sheet(tiles, name, title, _NEIGHBORS + 1, meaning=meaning, legend=legend)
