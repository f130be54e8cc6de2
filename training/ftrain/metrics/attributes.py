"""Multi-label attribute metrics: recall@k and accuracy within exclusive groups.

Three definitions of recall@k are in use, and all three are computed, each ranked within one attribute type: `micro` =
all hits / all positives of the set (as reproductions of the FashionNet table compute it), `macro` = mean over images of
hits / min(k, positives), `strict` = mean over images of hits / positives. An attribute that is unknown for an image is
neither a positive nor a competitor there; pass an all-true `known` to rank it too. Ties count against the model.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fschemas.failures import NonFiniteError
from ftrain.metrics.bootstrap import pattern_interval, ratio_interval
from ftrain.metrics.classification import balanced_accuracy, class_ranks, frequency_scores, macro_f1, predictions

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

_SCORES_AT_ONCE = 4_000_000


def attribute_recall(
    scores: ArrayLike,
    positive: ArrayLike,
    known: ArrayLike,
    *,
    types: Mapping[str, Sequence[int]] | None = None,
    top: Sequence[int] = (3, 5),
) -> dict[str, dict[str, float]]:
    """Compute recall@k of `scores` N, A over all attributes ("all") and within each of `types` (name: ids).

    `positive` and `known` are N, A bool; a positive that is not known does not count. A type ranks its own ids only.
    Each entry has `recall_<k>_micro`, `_macro` and `_strict` (for k below the number of ranked attributes; NaN without
    positives), `positives`, `images` (with at least one positive; macro and strict are means over them) and
    `attributes`. "all" also has the 95% interval over images, `recall_<k>_micro_low` and `_high`.
    """
    values, targets, seen = _checked(scores, positive, known)
    assert types is None or "all" not in types, "a type cannot be named 'all'"
    result: dict[str, dict[str, float]] = {}
    for name, ids in {"all": range(values.shape[1]), **(types or {})}.items():
        columns = np.array(ids, np.int64)
        rows, _, positions = positive_positions(values[:, columns], targets[:, columns], seen[:, columns])
        ranks = [k for k in sorted(top) if k < len(columns)]
        result[name] = _recalls(rows, positions, len(values), ranks, name == "all")
        result[name]["attributes"] = float(len(columns))
    return result


def positive_positions(scores: ArrayLike, positive: ArrayLike, known: ArrayLike) -> tuple[IntArray, IntArray, IntArray]:
    """Rank each known positive within its row: rows P, columns P and positions P (0 = first).

    `scores`, `positive` and `known` are N, A. Known negatives with the same score rank first.
    """
    values, targets, seen = _checked(scores, positive, known)
    rows, columns = np.nonzero(targets)
    positions = np.empty(len(rows), np.int64)
    step = max(1, _SCORES_AT_ONCE // max(1, values.shape[1]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        block, own = values[rows[part]], values[rows[part], columns[part]][:, None]
        other_positives, before = targets[rows[part]], np.arange(values.shape[1]) < columns[part, None]
        competitors = seen[rows[part]] & ~other_positives & (block >= own)
        ahead = other_positives & ((block > own) | ((block == own) & before))
        positions[part] = (competitors | ahead).sum(axis=1)
    return rows, columns, positions


def group_accuracy(
    scores: ArrayLike, positive: ArrayLike, known: ArrayLike, groups: Mapping[str, Sequence[int]]
) -> dict[str, dict[str, float]]:
    """Compute top-1 accuracy of `scores` N, A within exclusive groups (name: ids), per group and as "mean".

    An image is evaluated in a group if exactly one of its ids is positive and known; all ids of the group compete. Each
    group has `top_1`, `macro_f1`, `balanced_accuracy` (NaN without evaluated images) and `count` (evaluated images).
    "mean" averages the groups with evaluated images, and has `top_1_low` and `top_1_high` (95% interval over images)
    and `count` (images evaluated in at least one group).
    """
    values, targets, _ = _checked(scores, positive, known)
    assert "mean" not in groups, "a group cannot be named 'mean'"
    result: dict[str, dict[str, float]] = {}
    outcomes = np.zeros((len(values), len(groups)), np.int64)  # 0 not evaluated, 1 wrong, 2 correct
    for number, (name, ids) in enumerate(groups.items()):
        columns = np.array(ids, np.int64)
        labels = group_labels(targets[:, columns])
        ranks, predicted = class_ranks(values[:, columns], labels), predictions(values[:, columns], labels)
        evaluated = labels >= 0
        outcomes[:, number] = evaluated * 1 + (ranks == 0)
        pairs = np.stack((labels[evaluated], predicted[evaluated]), axis=1)
        result[name] = {
            "top_1": float(np.mean(ranks[evaluated] == 0)) if evaluated.any() else math.nan,
            "macro_f1": macro_f1(pairs),
            "balanced_accuracy": balanced_accuracy(pairs),
            "count": float(evaluated.sum()),
        }
    evaluated = [part for part in result.values() if part["count"]]
    mean = {key: _mean([part[key] for part in evaluated]) for key in ("top_1", "macro_f1", "balanced_accuracy")}
    anywhere = outcomes[outcomes.any(axis=1)]
    mean["top_1_low"], mean["top_1_high"] = pattern_interval(anywhere, _mean_of_groups)
    return {"mean": mean | {"count": float(len(anywhere))}, **result}


def group_majority(
    training_positive: ArrayLike, positive: ArrayLike, known: ArrayLike, groups: Mapping[str, Sequence[int]]
) -> dict[str, dict[str, float]]:
    """`group_accuracy` of the majority baseline: in each group, the id that is positive most often in training.

    `training_positive` is M, A bool (or its column sums, A); `positive` and `known` are N, A bool.
    """
    labels = np.asarray(training_positive)
    counts = labels if labels.ndim == 1 else labels.astype(bool).sum(axis=0)
    return group_accuracy(np.broadcast_to(frequency_scores(counts), np.shape(positive)), positive, known, groups)


def group_labels(positive: ArrayLike) -> IntArray:
    """Return the index of the only positive in each row of `positive` N, G: N; -1 unless exactly one is positive."""
    marked = np.asarray(positive).astype(bool)
    return np.where(marked.sum(axis=1) == 1, marked.argmax(axis=1), -1).astype(np.int64)


def _checked(
    scores: ArrayLike, positive: ArrayLike, known: ArrayLike
) -> tuple[NDArray[np.floating], BoolArray, BoolArray]:
    """Return scores, known positives and known as arrays N, A. Raises `NonFiniteError` for a NaN score."""
    values, targets, seen = np.asarray(scores), np.asarray(positive).astype(bool), np.asarray(known).astype(bool)
    assert values.ndim == 2, values.shape
    assert values.shape == targets.shape == seen.shape, (values.shape, targets.shape, seen.shape)
    if np.isnan(values).any():
        row, column = np.argwhere(np.isnan(values))[0]
        raise NonFiniteError(f"the score of row {row}, attribute {column} is NaN; check the weights for NaN")
    return values, targets & seen, seen


def _recalls(
    rows: IntArray, positions: IntArray, num_rows: int, top: Sequence[int], interval: bool
) -> dict[str, float]:
    """Compute the metrics of P positives at `positions` within their `rows`, both P."""
    positives = np.bincount(rows, minlength=num_rows)
    among = positives > 0
    metrics: dict[str, float] = {}
    for k in top:
        hits = np.bincount(rows[positions < k], minlength=num_rows)
        metrics[f"recall_{k}_micro"] = float(hits.sum() / positives.sum()) if among.any() else math.nan
        if interval:
            metrics[f"recall_{k}_micro_low"], metrics[f"recall_{k}_micro_high"] = ratio_interval(hits, positives)
        metrics[f"recall_{k}_macro"] = _mean((hits[among] / np.minimum(k, positives[among])).tolist())
        metrics[f"recall_{k}_strict"] = _mean((hits[among] / positives[among]).tolist())
    return metrics | {"positives": float(positives.sum()), "images": float(among.sum())}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if len(values) else math.nan


def _mean_of_groups(weights: FloatArray, outcomes: IntArray) -> FloatArray:
    """Mean accuracy R over the groups evaluated in each resample (`weights` R, M; `outcomes` M, G)."""
    evaluated, right = weights @ (outcomes > 0), weights @ (outcomes == 2)
    accuracy = np.where(evaluated > 0, right / np.maximum(evaluated, 1.0), 0.0)
    return accuracy.sum(axis=1) / np.maximum((evaluated > 0).sum(axis=1), 1)
