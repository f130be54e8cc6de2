"""Report of attribute retrieval: mAP as in the ASEN papers, and the accuracy of the heads."""

from pathlib import Path
from typing import Any

import numpy as np

from fschemas.csv_text import csv_bytes, csv_table
from fschemas.failures import UsageError
from fschemas.publish import publish_bytes
from ftrain.data.types import EvaluatedSplit, Results
from ftrain.metrics.attributes import group_accuracy, group_majority
from ftrain.metrics.classification import dominance
from ftrain.plots.label_plots import plot_bars
from ftrain.plots.legend import Entry
from ftrain.plots.sheet import Tile, sheet
from ftrain.reports.label_report import finite, percent, subtitle
from ftrain.tasks.style.attended import ATTENTION_NOTE, attended_image
from ftrain.tasks.style.attribute_search import Entries, chance_metrics, entries, nearest, search_metrics
from ftrain.tasks.style.labels import StyleLabels

_NEIGHBORS = 5
_ROWS = 8
_MOST_QUERIES = 2000  # per attribute, for the table of images and the collapse check; mAP uses all


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
    searches = {
        number: nearest(results, found, number, _MOST_QUERIES, _NEIGHBORS) for number in np.unique(found.attributes)
    }
    numbers["collapse"] = _collapse(labels, found, searches)
    _write(labels, evaluated, numbers, found, searches, out)
    return numbers


def _add_named(labels: StyleLabels, evaluated: EvaluatedSplit, numbers: dict[str, Any]) -> None:
    """Add metrics of the heads for images with exactly one value of an attribute, and the majority baseline."""
    groups = dict(zip(labels.attributes, labels.ids, strict=True))
    positive, scores = evaluated.results["positive"].astype(bool), _by_id(labels, evaluated.results)
    known = np.ones_like(positive)
    named = group_accuracy(scores, positive, known, groups)
    numbers["model"] |= finite({"top_1": named["mean"]["top_1"], "macro_f1": named["mean"]["macro_f1"]})
    for name, part in numbers["attributes"].items():
        part.update(finite({"top_1": named[name]["top_1"], "macro_f1": named[name]["macro_f1"]}))
    if len(evaluated.training_rows):
        notes = (evaluated.shards.read_annotation(int(row)) for row in evaluated.training_rows)
        counts = np.sum([labels.positive(note) for note in notes], axis=0, dtype=np.int64)
        baseline = group_majority(counts, positive, known, groups)
        numbers["majority"] = finite({"top_1": baseline["mean"]["top_1"], "macro_f1": baseline["mean"]["macro_f1"]})
        for name, part in numbers["attributes"].items():
            part.update(finite({"majority": baseline[name]["top_1"]}))


def _by_id(labels: StyleLabels, results: Results) -> np.ndarray:
    """Return scores N, V in the order of the vocabulary; the input is ordered by attribute."""
    scores = np.zeros((len(results["scores"]), labels.num_ids), np.float32)
    scores[:, [number for ids in labels.ids for number in ids]] = results["scores"]
    return scores


def _collapse(
    labels: StyleLabels, found: Entries, searches: dict[int, tuple[np.ndarray, np.ndarray]]
) -> dict[str, Any]:
    """Return the dominance of the attribute with the most one-sided nearest neighbors, as a constant embedding has."""
    worst: dict[str, Any] = {"answer": "", "share": 0.0, "true_share": 0.0, "collapsed": False}
    for number, (queries, neighbors) in searches.items():
        if not neighbors.size:
            continue
        names = [f"{labels.attributes[number]}/{value}" for value in labels.values[number]]
        one = dominance(found.values[neighbors[:, 0]], found.values[queries], names)
        if (one["collapsed"], one["share"]) > (worst["collapsed"], worst["share"]):
            worst = one
    return worst


def _write(
    labels: StyleLabels, evaluated: EvaluatedSplit, numbers: dict[str, Any], found: Entries,
    searches: dict[int, tuple[np.ndarray, np.ndarray]], out: Path,
) -> None:  # fmt: skip
    title = subtitle(evaluated, f"mAP {percent(numbers['model']['map'])}")
    parts = numbers["attributes"]
    columns = ("map", "chance", "untrained", "top_1", "majority", "macro_f1", "queries")
    publish_bytes(out / "plots/attributes.csv", csv_table("attribute", columns, parts))
    bars = {
        name: {"value": part["map"], "baseline": part["chance"], "count": part["queries"]}
        for name, part in parts.items()
    }
    publish_bytes(
        out / "plots/attributes.png", plot_bars(bars, "mAP of each attribute", title, "mAP in %", "random order")
    )
    header = ("key", "attribute", "value", "nearest", "nearest_value", f"right_of_{_NEIGHBORS}")
    publish_bytes(out / "images.csv", csv_bytes(header, _image_rows(labels, evaluated, found, searches)))
    publish_bytes(out / "predictions.png", _sheet(labels, evaluated, found, searches, title))


def _image_rows(
    labels: StyleLabels, evaluated: EvaluatedSplit, found: Entries, searches: dict[int, tuple[np.ndarray, np.ndarray]]
) -> list[tuple[object, ...]]:  # fmt: skip
    """Return one row per query (at most 2,000 per attribute) with the share of neighbors that match, lowest first."""
    keys = evaluated.shards.columns["key"][evaluated.results["row"]]
    rows: list[tuple[object, ...]] = []
    for number, (queries, neighbors) in searches.items():
        values = labels.values[number]
        for query, near in zip(queries.tolist(), neighbors.tolist(), strict=True):
            value = found.values[query]
            right = float(np.mean(found.values[near] == value)) if near else 0.0
            first = (str(keys[found.images[near[0]]]), values[found.values[near[0]]]) if near else ("", "")
            rows.append((str(keys[found.images[query]]), labels.attributes[number], values[value], *first, right))
    return sorted(rows, key=lambda row: (row[-1], row[1], row[0]))


def _sheet(
    labels: StyleLabels,
    evaluated: EvaluatedSplit,
    found: Entries,
    searches: dict[int, tuple[np.ndarray, np.ndarray]],
    title: str,
) -> bytes:
    """Return a sheet with one query per attribute and its nearest images, each with the attention of the attribute."""
    tiles: list[Tile | None] = []
    largest = sorted(searches, key=lambda number: -len(searches[number][0]))[:_ROWS]
    for number in sorted(largest):
        queries, neighbors = searches[number]
        if not neighbors.size:
            continue
        middle = len(queries) // 2
        query, values = int(queries[middle]), labels.values[number]
        row: list[Tile | None] = []
        for entry in (query, *neighbors[middle].tolist()):
            right = None if entry == query else bool(found.values[entry] == found.values[query])
            head = [labels.attributes[number].replace("_", " ")] if entry == query else []
            image = attended_image(evaluated, int(found.images[entry]), number)
            row.append(Tile(image, [*head, values[found.values[entry]]], right))
        tiles += [*row, *[None] * (_NEIGHBORS + 1 - len(row))]
    meaning = {"good": "green frame: the same value", "bad": "red frame: another value"}
    legend = [Entry("text", "", ATTENTION_NOTE), Entry("text", "", "first of a row: the query")]
    return sheet(
        tiles, "Images and their nearest under an attribute", title, _NEIGHBORS + 1, meaning=meaning, legend=legend
    )
