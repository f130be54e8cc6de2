"""Retrieval report: metrics with the untrained backbone and chance as baselines, slices, tables, sample rankings.

If a set has query and gallery images, every query is compared with the whole gallery, regardless of category (the
official in-shop protocol). Otherwise each image is compared with all other images of the split (leave-one-out). With
several splits (`test+train`), the images of the first are the queries and the images of all are the gallery.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fschemas.failures import UsageError
from fschemas.publish import publish_bytes
from fschemas.splits import GALLERY_SPLITS, QUERY_SPLITS
from fschemas.wording import count
from ftrain.data.csv_text import csv_bytes, csv_table
from ftrain.data.types import EvaluatedSplit, Results
from ftrain.metrics.bootstrap import ratio_interval
from ftrain.metrics.exact_search import ExactSearch, Features, Similarity
from ftrain.metrics.retrieval import RetrievalMetrics, evaluate_retrieval, random_precision
from ftrain.metrics.slices import slices
from ftrain.plots.figures import plot_bars
from ftrain.reports.label_report import labels_of, metric_rows, report_classification, spread, subtitle
from ftrain.reports.text_table import aligned
from ftrain.tasks.retrieval.plots import SHEET_QUERIES, SHEET_RANKS, plot_hits, ranking_sheet
from ftrain.tasks.retrieval.task import Retrieval

TOP = (1, 5, 10, 20, 50)
_COLOR_WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_SLICED = ("category", "pose", "color", "gender", "variation", "garment")  # index columns used for slices
_ALIKE, _COLLAPSED = 0.99, "nearly the same embedding"
_LABELS = {
    **{f"hit_{k}": f"hit@{k}" for k in TOP},
    **{f"recall_{k}": f"recall@{k}" for k in TOP[1:4]},
    "map": "mAP",
    "map_r": "mAP@R",
    "r_precision": "R-precision",
}
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class _Evaluation:
    """Indices of queries and gallery in the results, and the metrics of the model and its baseline."""

    evaluated: EvaluatedSplit
    labels: np.ndarray  # identity of every row of the set
    query: Rows
    gallery: Rows
    protocol: str
    model: RetrievalMetrics
    baseline: RetrievalMetrics | None

    @property
    def queries(self) -> Rows:
        """Rows of the set that are queries."""
        return self.evaluated.results["row"][self.query]


def report(task: Retrieval, evaluated: EvaluatedSplit, out: Path) -> dict[str, Any]:
    """Return the metrics of a split; write `plots/`, `images.csv` (worst first) and `predictions.png` into `out`.

    Raises `UsageError` if no query has a match in the gallery.
    """
    identity = task.config.identity  # item or category
    categories = task.categories if task.config.classify == "category" else ()  # classes of `class_scores`
    evaluation = _evaluation_of(identity, evaluated)
    compared = len(evaluation.gallery) - np.isin(
        evaluation.query, evaluation.gallery
    )  # images per query, without itself
    numbers: dict[str, Any] = {
        "protocol": evaluation.protocol,
        "identity": identity,
        "model": {**evaluation.model.summary(), **_intervals(evaluation, evaluation.model)},
        "chance": chance_metrics(evaluation.model.num_relevant, compared, TOP),
        "collapse": collapse(evaluated.results["embedding"], evaluation.labels[evaluated.results["row"]]),
    }
    if evaluation.baseline is not None:
        numbers["untrained"] = {**evaluation.baseline.summary(), **_intervals(evaluation, evaluation.baseline)}
        numbers["gain"] = _gain(evaluation, evaluation.baseline)
    by = {
        name: evaluated.shards.columns[name][evaluation.queries] for name in _SLICED if name in evaluated.shards.columns
    }
    numbers["slices"] = slices(evaluation.model.hits(1), evaluation.model.evaluated, by)
    if evaluated.split.startswith("val") and "color" in evaluated.results:
        numbers["color_weights"] = color_weights(
            evaluation.evaluated.results, evaluation.query, evaluation.gallery, evaluation.labels
        )
    line = subtitle(evaluated, f"hit@1 {100 * numbers['model']['hit_1']:.1f}%, {evaluation.protocol}")
    if categories and "class_scores" in evaluated.results and "category" in evaluated.shards.columns:
        scores = evaluated.results["class_scores"]
        labels = labels_of(evaluated.shards, evaluated.results["row"], "category", categories)
        if (labels >= 0).any():
            numbers["category"] = report_classification(evaluated, out, "category", scores, labels, categories, line)
    _write(evaluation, numbers, line, out)
    return numbers


def summary(metrics: dict[str, Any]) -> Iterator[str]:
    """Yield the results of `report` as text lines."""
    model, baseline, chance = metrics["model"], metrics.get("untrained", {}), metrics["chance"]
    left_out = int(model["queries_without_match"])
    yield (
        f"{count(int(model['queries']), 'query', 'queries')}, {count(int(model['gallery']), 'gallery image')}, {metrics['protocol']}"
        + (f"; left out without a match: {count(left_out, 'query', 'queries')}" if left_out else "")
    )
    rows = [
        *metric_rows(model, baseline, _LABELS, "untrained backbone", "search"),
        [f"chance: hit@1 {100 * chance['hit_1']:.1f}%, mAP {100 * chance['map']:.1f}%"],
    ]
    if "category" in metrics:
        named = {"top_1": "category accuracy", "macro_f1": "category macro-F1"}
        majority = metrics["category"].get("majority", {})
        rows += metric_rows(metrics["category"]["model"], majority, named, "majority", "category")
    yield from aligned(rows)
    if gain := metrics.get("gain"):
        low, high = 100 * gain["map_low"], 100 * gain["map_high"]
        yield f"mAP beyond the untrained backbone, on the same queries: {100 * gain['map']:+.1f} ({low:+.1f} to {high:+.1f}) points"
        if low <= 0:
            yield "WARNING: not clearly better than the untrained backbone"


def chance_metrics(num_relevant: ArrayLike, num_gallery: ArrayLike, top: Sequence[int]) -> dict[str, float]:
    """Return the expected `hit_<k>`, `recall_<k>` and `map` of a random ranking, averaged over queries with a match.

    `num_relevant` Nq and `num_gallery` Nq (or a scalar) count the matches and all images compared with each query.
    hit@k is hypergeometric, recall@k is k / gallery, and mAP is the mean of `random_precision`.
    """
    right = np.asarray(num_relevant, np.int64)
    among = np.broadcast_to(np.asarray(num_gallery, np.int64), right.shape)
    right, among = right[right > 0], among[right > 0]
    if not len(right):
        return {}
    metrics: dict[str, float] = {}
    for k in top:
        steps = np.arange(k)[:, None]  # factors of the probability that the first k are all wrong
        wrong = np.clip((among - right - steps) / np.maximum(among - steps, 1), 0, 1).prod(axis=0)
        metrics[f"hit_{k}"] = float(1 - wrong.mean())
        metrics[f"recall_{k}"] = float(np.minimum(k / among, 1).mean())
    metrics["map"] = float(random_precision(right, among).mean())
    return metrics


def collapse(embedding: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Check whether all embeddings N, D are nearly equal, in the format of `metrics.classification.dominance`.

    `share` of the images have a cosine above .99 with the mean embedding; `true_share` have the most frequent of the
    `labels` N. The embedding has collapsed if the mean cosine of all pairs, `mean_cosine`, is above .99 although the
    labels differ.
    """
    unit = embedding.astype(np.float64)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    total, number = unit.sum(axis=0), len(unit)
    mean_cosine = float((total @ total - number) / max(number * (number - 1), 1))
    share = float(np.mean(unit @ (total / max(float(np.linalg.norm(total)), 1e-12)) > _ALIKE))
    true_share = float(np.unique(labels, return_counts=True)[1].max() / number)
    collapsed = bool(mean_cosine > _ALIKE and true_share < 1)
    sentence = (
        f"{share:.0%} of the images have nearly the same embedding, though at most {true_share:.0%} show the same thing"
    )
    return {
        "answer": _COLLAPSED, "share": share, "true_share": true_share, "collapsed": collapsed, "mean_cosine": mean_cosine,
        "sentence": sentence,
    }  # fmt: skip


def color_weights(results: Results, query: Rows, gallery: Rows, labels: np.ndarray) -> list[dict[str, float]]:
    """Compute hit@1 and mAP for several weights of color similarity relative to embedding similarity, to choose one."""
    found: list[dict[str, float]] = []
    for weight in _COLOR_WEIGHTS:
        both = np.concatenate(
            [results["embedding"], np.sqrt(weight) * results["color"]], axis=1
        )  # one dot product computes the weighted sum
        metrics = _evaluate(both, results["row"], query, gallery, labels).summary()
        found.append({"weight": weight, "hit_1": metrics["hit_1"], "map": metrics["map"]})
    return found


def _evaluation_of(identity: str, evaluated: EvaluatedSplit) -> _Evaluation:
    rows, columns = evaluated.results["row"], evaluated.shards.columns
    if identity not in columns:
        raise UsageError(
            f"{evaluated.shards.location}: has no {identity}, so nothing can be evaluated; choose a set with {identity}"
        )
    splits, plain = columns["split"][rows], columns["copy"][rows] == 0
    first = evaluated.split.split("+")[0]
    query, gallery, protocol = plain, plain, "leaving one out"
    if set(QUERY_SPLITS) & set(splits.tolist()):
        query, gallery = (plain & np.isin(splits, role) for role in (QUERY_SPLITS, GALLERY_SPLITS))
        protocol = "official query and gallery"
    elif first != evaluated.split:
        query, protocol = plain & (splits == first), f"query: {first}, gallery: {evaluated.split.replace('+', ' and ')}"
    indices, labels = (np.flatnonzero(query), np.flatnonzero(gallery)), columns[identity]
    model = _evaluate(evaluated.results["embedding"], rows, *indices, labels)
    if not model.evaluated.any():
        raise UsageError(
            f"{evaluated.shards.location}: no image of the split {evaluated.split!r} has another image of the same {identity}; "
            "choose another --split"
        )
    untrained = evaluated.untrained
    baseline = None if untrained is None else _evaluate(untrained["embedding"], rows, *indices, labels)
    return _Evaluation(evaluated, labels, *indices, protocol, model, baseline)


def _evaluate(embedding: np.ndarray, rows: Rows, query: Rows, gallery: Rows, labels: np.ndarray) -> RetrievalMetrics:
    return evaluate_retrieval(
        embedding[query], embedding[gallery], labels[rows[query]], labels[rows[gallery]],
        query_rows=rows[query], gallery_rows=rows[gallery], top=TOP,
    )  # fmt: skip


def _intervals(evaluation: _Evaluation, metrics: RetrievalMetrics) -> dict[str, float]:
    """Compute 95% intervals over items, since images of one item are found or missed together."""
    found: dict[str, float] = {}
    for name, values in _per_query(metrics).items():
        found[f"{name}_low"], found[f"{name}_high"] = _interval_over_items(evaluation, values)
    return found | {"items": float(len(np.unique(evaluation.labels[evaluation.queries][metrics.evaluated])))}


def _gain(evaluation: _Evaluation, baseline: RetrievalMetrics) -> dict[str, float]:
    """Compute paired differences to the baseline with intervals, which are narrower than those of either model."""
    found: dict[str, float] = {}
    below = _per_query(baseline)
    for name, values in _per_query(evaluation.model).items():
        difference = values - below[name]
        found[name] = float(difference[evaluation.model.evaluated].mean())
        found[f"{name}_low"], found[f"{name}_high"] = _interval_over_items(evaluation, difference)
    return found


def _per_query(metrics: RetrievalMetrics) -> dict[str, np.ndarray]:
    return {"hit_1": metrics.hits(1).astype(np.float64), "map": metrics.average_precision}


def _interval_over_items(evaluation: _Evaluation, values: np.ndarray) -> tuple[float, float]:
    evaluated = evaluation.model.evaluated
    _, item = np.unique(evaluation.labels[evaluation.queries][evaluated], return_inverse=True)
    return ratio_interval(np.bincount(item, weights=values[evaluated]), np.bincount(item))


def _write(evaluation: _Evaluation, numbers: dict[str, Any], line: str, out: Path) -> None:
    parts = {"model": numbers["model"], "untrained backbone": numbers.get("untrained"), "chance": numbers["chance"]}
    curves = {name: {k: part[f"hit_{k}"] for k in TOP} for name, part in parts.items() if part is not None}
    header = ["k", *(name.replace(" ", "_") for name in curves), "recall"]
    table = [[k, *(curve[k] for curve in curves.values()), numbers["model"][f"recall_{k}"]] for k in TOP]
    publish_bytes(out / "plots/hits.csv", csv_bytes(header, table))
    publish_bytes(out / "plots/hits.png", plot_hits(curves, line))
    for name, slice_parts in numbers["slices"].items():
        publish_bytes(out / f"plots/by_{name}.csv", csv_table(name, ("value", "low", "high", "count"), slice_parts))
        publish_bytes(out / f"plots/by_{name}.png", plot_bars(slice_parts, f"hit@1 by {name}", line, "hit@1 in %"))
    ranked = _ranked(evaluation)
    precision = np.where(evaluation.model.evaluated, evaluation.model.average_precision, 2.0)
    order = np.lexsort((-evaluation.model.first, precision))  # worst first, queries without a match last
    rows = [_image_row(evaluation, ranked, index) for index in order.tolist()]
    publish_bytes(
        out / "images.csv", csv_bytes(("key", "label", "first_hit", "average_precision", "found", "found_label"), rows)
    )
    best_first = order[evaluation.model.evaluated[order]][::-1]
    shown = best_first[spread(np.arange(len(best_first)), SHEET_QUERIES)]
    captions = [f"AP {100 * evaluation.model.average_precision[index]:.0f}%" for index in shown.tolist()]
    sheet = ranking_sheet(
        evaluation.evaluated.shards, evaluation.queries[shown], ranked[shown], evaluation.labels, line, captions
    )
    publish_bytes(out / "predictions.png", sheet)


def _ranked(evaluation: _Evaluation) -> Rows:
    """Return the rows of the top 5 results of each query, excluding itself: Nq, 5; -1 if there are fewer."""
    rows, embedding = evaluation.evaluated.results["row"], evaluation.evaluated.results["embedding"].astype(np.float32)
    gallery, queries = Features(embedding[evaluation.gallery]), Features(embedding[evaluation.query])
    best = rows[evaluation.gallery][ExactSearch(gallery).search(queries, Similarity(), SHEET_RANKS + 1).rows]
    ranked = np.full((len(queries), SHEET_RANKS), -1, np.int64)
    for index, (row, found) in enumerate(zip(evaluation.queries, best, strict=True)):
        others = found[found != row][:SHEET_RANKS]
        ranked[index, : len(others)] = others
    return ranked


def _image_row(evaluation: _Evaluation, ranked: Rows, index: int) -> tuple[object, ...]:
    """Return key and label of a query, rank of the first hit, average precision, key and label of the top result."""
    keys, metrics = evaluation.evaluated.shards.columns["key"], evaluation.model
    row, found = int(evaluation.queries[index]), int(ranked[index, 0])
    known = bool(metrics.evaluated[index])
    first, precision = (int(metrics.first[index]) + 1, f"{metrics.average_precision[index]:.6f}") if known else ("", "")
    other = (str(keys[found]), str(evaluation.labels[found])) if found >= 0 else ("", "")
    return str(keys[row]), str(evaluation.labels[row]), first, precision, *other
