"""FashionNet metrics: landmarks, visibility, category, attributes, retrieval; for validation and for the report."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fschemas.landmarks import Visibility
from fschemas.splits import QUERY_AND_GALLERY
from ftrain.data.types import Results
from ftrain.metrics.attributes import attribute_recall, group_accuracy
from ftrain.metrics.bootstrap import ratio_interval
from ftrain.metrics.classification import balanced_accuracy, classification_metrics
from ftrain.metrics.normalized_error import errors_by_unit, overall, summarize, with_unit
from ftrain.metrics.retrieval import RetrievalMetrics, evaluate_retrieval
from ftrain.tasks.fashionnet.labels import FashionNetLabels
from ftrain.tasks.fashionnet.task import FashionNet

IntArray = NDArray[np.int64]


def compute_metrics(task: FashionNet, results: Results) -> dict[str, Any]:
    """Compute all metrics of a split, and `quality`, the mean of the main metrics, which selects checkpoints.

    The main metrics are `pck_auc` (area under the share of landmarks within a distance, up to 0.2), `top_1` of the
    category, `attributes_top_1` or `attributes_recall_5_micro`, and `map` of each image among all others of the split.
    """
    learned = task.labels
    own, *others = errors_by_unit(results["points"], results, learned.landmarks).items()
    found: dict[str, Any] = dict(summarize(own[1], learned.landmarks, num_resamples=0))
    for unit, errors in others:
        found |= with_unit(overall(errors, num_resamples=0), unit)
    found |= visibility_metrics(results["visibility_scores"].argmax(axis=2), results["visibility"])
    found |= label_metrics(learned, results)
    if "embedding" in results and (results["item"] >= 0).any():
        found |= retrieval(results, None).summary()
    chosen = [found.get(name) for name in ("pck_auc", "top_1", "attributes_top_1", "attributes_recall_5_micro", "map")]
    shares = [float(value) for value in chosen if value is not None and np.isfinite(value)]
    return {**found, "quality": float(np.mean(shares)) if shares else float("nan")}


def label_metrics(learned: FashionNetLabels, results: Results) -> dict[str, float]:
    """Compute category metrics, and attribute metrics with the prefix `attributes_`, for known labels."""
    found: dict[str, float] = {}
    if "category_scores" in results and (results["category"] >= 0).any():
        found |= classification_metrics(results["category_scores"], results["category"])
    if "attribute_scores" in results and (results["attributes"] == 1).any():
        overall = attribute_metrics(learned, results["attribute_scores"], results["attributes"])
        metrics = overall["mean" if learned.exclusive else "all"]
        found |= {f"attributes_{name}": value for name, value in metrics.items()}
    return found


def attribute_metrics(
    learned: FashionNetLabels, scores: np.ndarray, targets: np.ndarray
) -> dict[str, dict[str, float]]:
    """Compute metrics per type of attribute: accuracy if exclusive, else recall.

    `scores` are N, A; `targets` N, A (1, 0, -1 unknown). The key "mean" or "all" holds the overall metrics.
    """
    positive, known = targets == 1, targets >= 0
    if learned.exclusive:
        return group_accuracy(scores, positive, known, learned.types)
    return attribute_recall(scores, positive, known, types=learned.types)


def visibility_metrics(predicted: np.ndarray, visibility: np.ndarray) -> dict[str, float]:
    """Return the accuracy, its interval, and the balanced accuracy of the visibility N, K of applicable landmarks."""
    target, evaluated = classes_of(visibility), applicable(visibility)
    if not evaluated.any():
        return {}
    right = ((predicted == target) & evaluated).sum(axis=1)
    low, high = ratio_interval(right, evaluated.sum(axis=1))
    pairs = np.stack([target[evaluated], predicted[evaluated]], axis=1)
    return {
        "visibility_accuracy": float(right.sum() / evaluated.sum()),
        "visibility_accuracy_low": low,
        "visibility_accuracy_high": high,
        "visibility_balanced_accuracy": balanced_accuracy(pairs),
    }


def commonest_visibility(visibility: np.ndarray) -> IntArray:
    """Return the most frequent visibility class of each landmark, K, in `visibility` N, K."""
    target, evaluated = classes_of(visibility), applicable(visibility)
    counts = np.stack([((target == index) & evaluated).sum(axis=0) for index in range(3)])
    return counts.argmax(axis=0)


def classes_of(visibility: np.ndarray) -> IntArray:
    """Like `landmark_pooling.visibility_classes`: 0 visible, 1 occluded, 2 absent or not applicable."""
    return Visibility.VISIBLE.value - np.maximum(visibility.astype(np.int64), Visibility.ABSENT.value)


def applicable(visibility: np.ndarray) -> NDArray[np.bool_]:
    """Return which landmarks the garment has."""
    return visibility != Visibility.NOT_APPLICABLE.value


def retrieval(results: Results, splits: np.ndarray | None) -> RetrievalMetrics:
    """Evaluate queries against the gallery if `splits` N has both; otherwise leave-one-out."""
    embedding, items, rows = results["embedding"], results["item"], results["row"]
    query, gallery = query_and_gallery(splits, len(rows))
    return evaluate_retrieval(
        embedding[query],
        embedding[gallery],
        items[query],
        items[gallery],
        query_rows=rows[query],
        gallery_rows=rows[gallery],
    )


def query_and_gallery(splits: np.ndarray | None, num_rows: int) -> tuple[IntArray, IntArray]:
    """Return the indices of the queries and of the gallery images."""
    query, gallery = QUERY_AND_GALLERY["test"]
    if splits is not None and {query, gallery} <= set(splits.tolist()):
        return np.flatnonzero(splits == query), np.flatnonzero(splits == gallery)
    return np.arange(num_rows), np.arange(num_rows)
