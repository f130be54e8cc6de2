"""Single-label classification metrics: top-k accuracy, macro-F1, balanced accuracy, majority baseline, collapse check.

Rows with a negative label are unknown and ignored. Ties count against the model: a class that shares its score with
another one is not recognized, so a network with constant output scores 0, not the share of class 0.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fschemas.failures import NonFiniteError
from ftrain.metrics.bootstrap import pattern_interval, ratio_interval

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

_MIN_OTHERS = 5  # fewer images of other classes are too few to detect a collapse
_NEGLECT = 0.2  # collapsed: other classes are predicted less than a fifth as often as they occur
_SCORES_AT_ONCE = 8_000_000


def class_ranks(scores: ArrayLike, labels: ArrayLike) -> IntArray:
    """Rank of the true class `labels` N among `scores` N, C: N, the number of classes with a higher or equal score.

    0 is first; -1 if the label is negative. Raises `NonFiniteError` for a NaN score in a row with a label; infinities
    are allowed (a masked class has -inf).
    """
    values, targets = np.asarray(scores), np.asarray(labels).astype(np.int64)
    num_rows, num_classes = values.shape
    assert targets.shape == (num_rows,), (values.shape, targets.shape)
    assert targets.max(initial=-1) < num_classes, f"label {targets.max(initial=-1)} of {num_classes} classes"
    ranks = np.full(num_rows, -1, np.int64)
    step = max(1, _SCORES_AT_ONCE // max(1, num_classes))
    for start in range(0, num_rows, step):
        rows = start + np.flatnonzero(targets[start : start + step] >= 0)
        block = values[rows]
        if np.isnan(block).any():
            row = int(rows[np.isnan(block).any(axis=1)][0])
            raise NonFiniteError(f"scores of row {row} contain NaN; check the weights for NaN")
        own = block[np.arange(len(rows)), targets[rows]]
        ranks[rows] = (block >= own[:, None]).sum(axis=1) - 1
    return ranks


def predictions(scores: ArrayLike, labels: ArrayLike) -> IntArray:
    """Predicted class of each row of `scores` N, C: N, the argmax.

    Among ties, it is one that differs from the label in `labels` N.
    """
    values, targets = np.asarray(scores), np.asarray(labels).astype(np.int64)
    predicted = values.argmax(axis=1).astype(np.int64) if values.shape[1] else np.zeros(len(values), np.int64)
    tied = np.flatnonzero((predicted == targets) & (class_ranks(values, targets) > 0))
    others = values[tied] == values[tied].max(axis=1, keepdims=True, initial=-np.inf)
    others[np.arange(len(tied)), targets[tied]] = False
    predicted[tied] = others.argmax(axis=1)
    return predicted


def confusion(predicted: ArrayLike, labels: ArrayLike, num_classes: int) -> IntArray:
    """Confusion matrix C, C over rows with a label: rows are labels, columns are predictions."""
    predicted_ids, targets = np.asarray(predicted).astype(np.int64), np.asarray(labels).astype(np.int64)
    evaluated = targets >= 0
    pairs = targets[evaluated] * num_classes + predicted_ids[evaluated]
    assert predicted_ids[evaluated].min(initial=0) >= 0, "a predicted class below 0"
    assert max(predicted_ids[evaluated].max(initial=0), targets[evaluated].max(initial=0)) < num_classes, (
        f"{num_classes} classes"
    )
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)


def classification_metrics(scores: ArrayLike, labels: ArrayLike, *, top: Sequence[int] = (1, 3, 5)) -> dict[str, float]:
    """Compute the metrics of `scores` N, C against `labels` N, as shares.

    `top_<k>` (the true class is among the first k; k = 1 always, others only for k < C), `top_1_low` and `top_1_high`
    (95% interval over images), `macro_f1` with its interval and `balanced_accuracy` (means of F1 and recall over the
    classes that occur in `labels`; predictions of other classes count as errors), `count` (rows with a label). NaN if
    no row has a label.
    """
    values, targets = np.asarray(scores), np.asarray(labels).astype(np.int64)
    ranks, predicted = class_ranks(values, targets), predictions(values, targets)
    evaluated = targets >= 0
    num_evaluated, num_classes = int(evaluated.sum()), values.shape[1]
    metrics: dict[str, float] = {}
    for k in sorted({1, *top}):
        if k == 1 or k < num_classes:
            metrics[f"top_{k}"] = float(np.mean(ranks[evaluated] < k)) if num_evaluated else math.nan
        if k == 1:
            metrics["top_1_low"], metrics["top_1_high"] = ratio_interval(ranks[evaluated] == 0, np.ones(num_evaluated))
    pairs = np.stack((targets[evaluated], predicted[evaluated]), axis=1)
    metrics["macro_f1"] = macro_f1(pairs)
    metrics["macro_f1_low"], metrics["macro_f1_high"] = pattern_interval(pairs, _macro_f1)
    metrics["balanced_accuracy"] = balanced_accuracy(pairs)
    return metrics | {"count": float(num_evaluated)}


def macro_f1(pairs: ArrayLike) -> float:
    """Mean F1 over the classes that occur as labels; `pairs` is N, 2 (label, prediction). NaN without pairs."""
    values = np.asarray(pairs, np.int64).reshape(-1, 2)
    if not len(values):
        return math.nan
    kinds, counts = np.unique(values, axis=0, return_counts=True)
    return float(_macro_f1(counts[None].astype(np.float64), kinds)[0])


def balanced_accuracy(pairs: ArrayLike) -> float:
    """Mean recall over the classes that occur as labels; `pairs` is N, 2 (label, prediction). NaN without pairs."""
    targets, predicted = np.asarray(pairs, np.int64).reshape(-1, 2).T
    if not len(targets):
        return math.nan
    occurring = np.bincount(targets)
    hits = np.bincount(targets, weights=targets == predicted)
    return float(np.mean(hits[occurring > 0] / occurring[occurring > 0]))


def majority_metrics(
    training_labels: ArrayLike, labels: ArrayLike, num_classes: int, *, top: Sequence[int] = (1, 3, 5)
) -> dict[str, float]:
    """`classification_metrics` of the majority baseline: classes ranked by their frequency in training.

    Among equally frequent classes, the lower index ranks first.
    """
    known = np.asarray(training_labels).astype(np.int64)
    counts = np.bincount(known[known >= 0], minlength=num_classes)
    scores = frequency_scores(counts)
    return classification_metrics(np.broadcast_to(scores, (len(np.asarray(labels)), num_classes)), labels, top=top)


def frequency_scores(counts: ArrayLike) -> FloatArray:
    """Distinct scores C that rank classes by `counts` C; among equal counts, the lower index ranks first."""
    values = np.asarray(counts)
    scores = np.empty(len(values))
    scores[np.argsort(-values, kind="stable")] = -np.arange(len(values), dtype=np.float64)
    return scores


def per_class(scores: ArrayLike, labels: ArrayLike, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and count (rows) of every class that occurs in `labels` N, in the order of `names` C.

    `scores` is N, C. The precision of a class that is never predicted is 0.
    """
    matrix = confusion(predictions(scores, labels), labels, len(names))
    hits, num_predicted, occurring = np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
    return {
        names[index]: {
            "precision": float(hits[index] / max(num_predicted[index], 1)),
            "recall": float(hits[index] / occurring[index]),
            "f1": float(2 * hits[index] / (num_predicted[index] + occurring[index])),
            "count": float(occurring[index]),
        }
        for index in np.flatnonzero(occurring).tolist()
    }


def dominance(predicted: ArrayLike, labels: ArrayLike, names: Sequence[str]) -> dict[str, str | float | bool]:
    """Check whether one class dominates the predictions: `answer`, its `share`, its `true_share`, `collapsed`.

    `predicted` and `labels` are N; rows without a label are ignored. `answer` is the class predicted most often,
    `share` and `true_share` its shares of the predictions and of the labels. The model has collapsed if all other
    classes together are predicted less than a fifth as often as they occur: 1 - share < 0.2 (1 - true_share). This
    catches a constant model both on a balanced set (share 1, true share 1/C) and on one with a 77% majority. A model
    that predicts that majority for 90% of the images is merely weak, and a set with fewer than 5 images of other
    classes is too small for a verdict.
    """
    predicted_ids, targets = np.asarray(predicted).astype(np.int64), np.asarray(labels).astype(np.int64)
    evaluated = targets >= 0
    num_evaluated = int(evaluated.sum())
    if not num_evaluated:
        return {"answer": "", "share": math.nan, "true_share": math.nan, "collapsed": False}
    num_predicted = np.bincount(predicted_ids[evaluated], minlength=len(names))
    top_class = int(num_predicted.argmax())
    num_true = int((targets[evaluated] == top_class).sum())
    others_predicted, others_true = num_evaluated - int(num_predicted[top_class]), num_evaluated - num_true
    collapsed = others_true >= _MIN_OTHERS and others_predicted < _NEGLECT * others_true
    share, true_share = float(num_predicted[top_class] / num_evaluated), num_true / num_evaluated
    return {"answer": names[top_class], "share": share, "true_share": true_share, "collapsed": collapsed}


def _macro_f1(weights: FloatArray, kinds: IntArray) -> FloatArray:
    """Mean F1 R over the classes with labels; `weights` R, M counts the pairs `kinds` M, 2 (label, prediction)."""
    num_classes = int(kinds.max()) + 1
    right = kinds[:, 0] == kinds[:, 1]
    occurring, num_predicted = (_sums_by_class(weights, kinds[:, side], num_classes) for side in (0, 1))
    hits = _sums_by_class(weights[:, right], kinds[right, 0], num_classes)
    f1 = 2 * hits / np.maximum(occurring + num_predicted, 1.0)
    return np.where(occurring > 0, f1, 0.0).sum(axis=1) / np.maximum((occurring > 0).sum(axis=1), 1)


def _sums_by_class(weights: FloatArray, classes: IntArray, num_classes: int) -> FloatArray:
    """Sum the columns of `weights` R, M by class (`classes` M): R, C."""
    sums = np.zeros((len(weights), num_classes))
    if len(classes):
        order = np.argsort(classes, kind="stable")
        present, starts = np.unique(classes[order], return_index=True)
        sums[:, present] = np.add.reduceat(weights[:, order], starts, axis=1)
    return sums
