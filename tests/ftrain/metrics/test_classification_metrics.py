"""Classification metrics: by hand, compared with scikit-learn, ties, unknown labels, baselines, collapse check."""

import math

import numpy as np
import pytest

from fschemas.failures import NonFiniteError
from ftrain.metrics.bootstrap import pattern_interval, ratio_interval
from ftrain.metrics.classification import (
    class_ranks,
    classification_metrics,
    confusion,
    dominance,
    majority_metrics,
    per_class,
    predictions,
)


def random_set(num_rows=300, num_classes=7, seed=0):
    """Scores and labels; class 5 never occurs, class 6 is rare, a tenth of the labels is unknown."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(num_classes, num_rows, p=[0.4, 0.2, 0.2, 0.1, 0.08, 0, 0.02])
    scores = generator.normal(0, 1, (num_rows, num_classes)).astype("f4")
    scores[np.arange(num_rows), labels] += 1
    labels[generator.random(num_rows) < 0.1] = -1
    return scores, labels


def test_ranks_count_ties_against_the_model_and_leave_out_unknown_labels():
    scores = [[3, 2, 1], [2, 2, 1], [0, 0, 0], [1, 5, 9], [-np.inf, 0, -np.inf]]
    assert class_ranks(scores, [0, 0, 2, -1, 0]).tolist() == [0, 1, 2, -1, 2]


def test_answers_of_ties_are_wrong():
    scores = [[3, 2, 1], [2, 2, 1], [0, 0, 0], [1, 5, 9], [-np.inf, -np.inf, -np.inf]]
    predicted = predictions(scores, [0, 0, 0, -1, 0])
    assert predicted.tolist() == [0, 1, 1, 2, 1]


def test_metrics_by_hand():
    # labels a a a b b, predictions a a b b c: F1 of a 2*2/(2+3) = 0.8, of b 2*1/(2+2) = 0.5; class c never occurs.
    labels = np.array([0, 0, 0, 1, 1, -1])
    scores = np.eye(3)[[0, 0, 1, 1, 2, 0]] * 2 + np.array([0, 0.5, 0.1])
    metrics = classification_metrics(scores, labels, top=(1, 2, 3))
    assert metrics["top_1"] == pytest.approx(3 / 5)
    assert metrics["top_2"] == pytest.approx(4 / 5)  # the third image's a is last of three, the fifth's b second
    assert "top_3" not in metrics  # three of three classes: always 1
    assert metrics["macro_f1"] == pytest.approx((0.8 + 0.5) / 2)
    assert metrics["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert metrics["count"] == 5
    assert metrics["top_1_low"] <= metrics["top_1"] <= metrics["top_1_high"]


@pytest.mark.parametrize("seed", range(5))
def test_metrics_agree_with_scikit_learn(seed):
    from sklearn import metrics as sklearn_metrics

    scores, labels = random_set(seed=seed)
    known = labels >= 0
    truth, predicted = labels[known], scores[known].argmax(1)
    metrics = classification_metrics(scores, labels)
    for k in (1, 3, 5):
        expected = sklearn_metrics.top_k_accuracy_score(truth, scores[known], k=k, labels=range(7))
        assert metrics[f"top_{k}"] == pytest.approx(expected)
    occurring = np.unique(truth)
    assert metrics["macro_f1"] == pytest.approx(
        sklearn_metrics.f1_score(truth, predicted, average="macro", labels=occurring, zero_division=0)
    )
    recalls = sklearn_metrics.recall_score(truth, predicted, average=None, labels=occurring)
    assert metrics["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    np.testing.assert_array_equal(
        confusion(predictions(scores, labels), labels, 7),
        sklearn_metrics.confusion_matrix(truth, predicted, labels=range(7)),
    )


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_balanced_accuracy_agrees_with_scikit_learn():
    from sklearn import metrics as sklearn_metrics

    scores, labels = random_set(seed=9)
    known = labels >= 0
    expected = sklearn_metrics.balanced_accuracy_score(labels[known], scores[known].argmax(1))
    assert classification_metrics(scores, labels)["balanced_accuracy"] == pytest.approx(expected)


def test_per_class_agrees_with_scikit_learn():
    from sklearn import metrics as sklearn_metrics

    scores, labels = random_set()
    names = list("abcdefg")
    known = labels >= 0
    occurring = np.unique(labels[known])
    expected = sklearn_metrics.precision_recall_fscore_support(
        labels[known], scores[known].argmax(1), labels=occurring, zero_division=0
    )
    result = per_class(scores, labels, names)
    assert list(result) == [names[index] for index in occurring]
    columns = [[part[key] for part in result.values()] for key in ("precision", "recall", "f1", "count")]
    np.testing.assert_allclose(columns, np.stack(expected))
    assert np.mean(columns[2]) == pytest.approx(classification_metrics(scores, labels)["macro_f1"])


def test_the_baseline_answers_in_the_order_of_training():
    training = [2] * 5 + [0] * 3 + [1] * 3 + [-1] * 9  # order 2, 0, 1, 3
    metrics = majority_metrics(training, [2, 2, 0, 1, 3, -1], 4, top=(1, 2, 3))
    assert [metrics[f"top_{k}"] for k in (1, 2, 3)] == pytest.approx([2 / 5, 3 / 5, 4 / 5])
    assert metrics["macro_f1"] == pytest.approx((2 * 2 / (5 + 2)) / 4)
    assert metrics["balanced_accuracy"] == pytest.approx(1 / 4)


def test_the_baseline_of_the_style_split_is_its_majority():
    """K-Fashion's three classes: always predicting the second has accuracy 77.2% and balanced accuracy 1/3."""
    labels = np.repeat([0, 1, 2], [14_834, 72_007, 6_376])
    metrics = majority_metrics(labels, labels, 3)
    assert metrics["top_1"] == pytest.approx(0.772, abs=5e-4)
    assert metrics["balanced_accuracy"] == pytest.approx(1 / 3)
    assert metrics["macro_f1"] < 0.3


@pytest.mark.parametrize("num_rows", [0, 4])
def test_without_labels_nothing_is_claimed(num_rows):
    metrics = classification_metrics(np.zeros((num_rows, 9)), np.full(num_rows, -1))
    assert metrics.pop("count") == 0
    assert metrics
    assert all(math.isnan(value) for value in metrics.values())
    assert per_class(np.zeros((num_rows, 2)), np.full(num_rows, -1), ["a", "b"]) == {}
    assert dominance(np.zeros(num_rows), np.full(num_rows, -1), ["a"])["collapsed"] is False


def test_one_class_is_always_right():
    assert classification_metrics(np.zeros((3, 1)), [0, 0, -1])["top_1"] == 1.0


def test_a_score_that_is_no_number_is_an_error_only_where_it_counts():
    scores = np.zeros((3, 2))
    scores[1, 0] = np.nan
    assert class_ranks(scores, [0, -1, 1]).tolist() == [1, -1, 1]
    with pytest.raises(NonFiniteError, match="row 1"):
        class_ranks(scores, [0, 1, 1])


def test_metrics_do_not_depend_on_the_order_of_images():
    scores, labels = random_set()
    order = np.random.default_rng(1).permutation(len(labels))
    assert classification_metrics(scores, labels) == classification_metrics(scores[order], labels[order])


def test_a_label_beyond_the_classes_is_refused():
    with pytest.raises(AssertionError, match="label 3 of 3"):
        class_ranks(np.zeros((1, 3)), [3])


def test_the_interval_of_patterns_is_the_interval_of_images():
    """Two ways to resample the same mean: images one by one, and counts of right and wrong from a multinomial."""
    hits = np.repeat([0, 1], [130, 70])
    expected = ratio_interval(hits, np.ones(200), num_resamples=4000)
    found = pattern_interval(
        hits[:, None], lambda weights, kinds: weights @ kinds[:, 0] / weights.sum(1), num_resamples=4000
    )
    assert found == pytest.approx(expected, abs=0.006)
    assert found == pytest.approx((0.35 - 1.96 * 0.0337, 0.35 + 1.96 * 0.0337), abs=0.01)


def test_the_interval_of_macro_f1_holds_what_resampling_images_gives():
    from sklearn import metrics as sklearn_metrics

    scores, labels = random_set(200)
    metrics = classification_metrics(scores, labels)
    truth, predicted = labels[labels >= 0], scores.argmax(1)[labels >= 0]
    generator = np.random.default_rng(5)
    draws = [generator.integers(0, len(truth), len(truth)) for _ in range(300)]
    values = [
        sklearn_metrics.f1_score(truth[d], predicted[d], average="macro", labels=np.unique(truth[d]), zero_division=0)
        for d in draws
    ]
    assert (metrics["macro_f1_low"], metrics["macro_f1_high"]) == pytest.approx(
        np.quantile(values, [0.025, 0.975]), abs=0.03
    )


BALANCED, UNEVEN = np.repeat(np.arange(10), 10), np.repeat([0, 1, 2], [7, 77, 16])


@pytest.mark.parametrize(
    ("predicted", "labels", "collapsed"),
    [
        (np.zeros(100), BALANCED, True),  # constant, balanced
        (np.ones(100), UNEVEN, True),  # constant at the majority: a top-1 of 77% hides it
        (np.zeros(100), UNEVEN, True),  # constant at a rare class
        (np.where(np.arange(100) % 20, 3, 5), BALANCED, True),  # 95% one class
        (BALANCED, BALANCED, False),
        (UNEVEN, UNEVEN, False),
        (np.where(np.arange(100) % 10, 1, UNEVEN), UNEVEN, True),  # 97% the majority
        (np.where(np.arange(100) < 90, 1, 2), UNEVEN, False),  # 90% the majority of 77%: weak, not collapsed
        (np.zeros(100), np.zeros(100), False),  # only one true class
        (np.zeros(100), np.repeat([0, 1], [97, 3]), False),  # three others: too few for a verdict
        (np.zeros(100), np.repeat([0, 1, -1], [50, 10, 40]), True),
        (np.arange(100) % 10, BALANCED, False),  # chance, but not one class
    ],
)
def test_the_guard_fires_when_one_answer_dominates(predicted, labels, collapsed):
    assert dominance(predicted, labels, [f"class {index}" for index in range(10)])["collapsed"] is collapsed


def test_the_guard_names_the_answer():
    found = dominance([1, 1, 1, 0, 2], [0, 1, 2, 0, -1], ["a", "b", "c"])
    assert found == {"answer": "b", "share": 0.75, "true_share": 0.25, "collapsed": False}
