"""Attribute metrics: recall@k by hand and by a plain loop, two bugs of an earlier system, groups, average precision."""

import math

import numpy as np
import pytest

from fschemas.failures import NonFiniteError
from ftrain.metrics.attributes import attribute_recall, group_accuracy, group_majority, positive_positions

TYPES = {"texture": [0, 1, 2, 3, 4, 5], "fabric": [6, 7, 8, 9], "shape": [10, 11, 12, 13, 14]}
EVERYTHING_KNOWN = np.ones((1, 15), bool)


def random_set(num_rows=60, num_attributes=15, seed=0):
    generator = np.random.default_rng(seed)
    scores = generator.normal(-4, 2, (num_rows, num_attributes)).round(1)  # many ties, mostly below -1
    positive = generator.random((num_rows, num_attributes)) < 0.2
    known = generator.random((num_rows, num_attributes)) < 0.85
    return scores, positive, known


def plain_recall(scores, positive, known, ids, k):
    """(micro, macro, strict), one image at a time, ranking negatives first among ties."""
    hits, positives, macro, strict = 0, 0, [], []
    for row in range(len(scores)):
        ranked = sorted((a for a in ids if known[row][a]), key=lambda a: (-scores[row][a], positive[row][a]))
        right = sum(positive[row][a] for a in ranked)
        if right:
            found = sum(positive[row][a] for a in ranked[:k])
            hits, positives = hits + found, positives + right
            macro.append(found / min(k, right))
            strict.append(found / right)
    return hits / positives, sum(macro) / len(macro), sum(strict) / len(strict)


def marks(*rows, num_attributes=15):
    positive = np.zeros((len(rows), num_attributes), bool)
    for row, ids in enumerate(rows):
        positive[row, list(ids)] = True
    return positive


def test_the_three_recalls_by_hand():
    scores = np.array([[9, 8, 7, 6, 5, 4], [9, 8, 7, 6, 5, 4], [9, 8, 7, 6, 5, 4]], np.float32)
    positive = marks([0, 1, 3, 4], [5], [], num_attributes=6)
    found = attribute_recall(scores, positive, np.ones_like(positive), top=(3,))["all"]
    assert found["recall_3_micro"] == pytest.approx(2 / 5)
    assert found["recall_3_macro"] == pytest.approx((2 / 3 + 0) / 2)
    assert found["recall_3_strict"] == pytest.approx((2 / 4 + 0) / 2)
    assert (found["positives"], found["images"], found["attributes"]) == (5, 2, 6)
    assert found["recall_3_micro_low"] <= 0.4 <= found["recall_3_micro_high"]


@pytest.mark.parametrize("seed", range(4))
def test_recall_agrees_with_a_plain_loop(seed):
    scores, positive, known = random_set(seed=seed)
    found = attribute_recall(scores, positive, known, types=TYPES)
    for name, ids in {"all": range(15), **TYPES}.items():
        for k in (3, 5):
            keys = [f"recall_{k}_{kind}" for kind in ("micro", "macro", "strict")]
            if k >= len(ids):  # all ids of a type are among its first k
                assert not found[name].keys() & set(keys)
            else:
                expected = plain_recall(scores, positive, known, list(ids), k)
                assert [found[name][key] for key in keys] == pytest.approx(expected)


def test_a_type_is_ranked_within_itself():
    """An earlier system used its mask as integer indices, and so ranked all attributes.

    None of the first k is a fabric here.
    """
    scores = np.array([[20 + a if a not in TYPES["fabric"] else a for a in range(15)]], np.float32)
    positive = marks([9])
    found = attribute_recall(scores, positive, EVERYTHING_KNOWN, types=TYPES, top=(1, 3))
    assert found["fabric"]["recall_1_micro"] == found["fabric"]["recall_3_macro"] == 1.0
    assert found["all"]["recall_3_micro"] == 0.0

    # The earlier bug: the boolean "not this type", taken as the numbers 0 and 1, overwrites only columns 0 and 1.
    not_fabric = np.ones(15, np.int64)
    not_fabric[TYPES["fabric"]] = 0
    slip = scores.copy()
    slip[:, not_fabric] = -1
    assert not positive[0, np.argsort(-slip[0])[:3]].any()


def test_logits_far_below_zero_still_rank():
    """An earlier system filled the other types with -1, but logits of rare attributes are lower."""
    scores = np.full((1, 15), -9.0, np.float32)
    scores[0, 7] = -5
    found = attribute_recall(scores, marks([7]), EVERYTHING_KNOWN, types=TYPES, top=(1,))
    assert found["fabric"]["recall_1_micro"] == 1.0


def test_unknown_attributes_neither_count_nor_compete():
    scores = np.array([[5, 4, 3, 2, 1]], np.float32)
    positive, known = marks([0, 3], num_attributes=5), np.array([[False, False, True, True, True]])
    found = attribute_recall(scores, positive, known, top=(1, 2))["all"]
    assert found["positives"] == 1
    assert (found["recall_1_micro"], found["recall_2_micro"]) == (0.0, 1.0)
    assert attribute_recall(scores, positive, known | True, top=(1, 2))["all"]["recall_2_micro"] == 0.5


def test_a_network_with_constant_output_recalls_nothing():
    positive = marks([1], [2, 3])
    rows, columns, positions = positive_positions(np.zeros((2, 15)), positive, np.ones_like(positive))
    assert (rows.tolist(), columns.tolist(), positions.tolist()) == ([0, 1, 1], [1, 2, 3], [14, 13, 14])
    assert attribute_recall(np.zeros((2, 15)), positive, np.ones_like(positive))["all"]["recall_5_micro"] == 0.0


def test_without_positives_nothing_is_claimed():
    found = attribute_recall(np.zeros((2, 15)), np.zeros((2, 15)), np.ones((2, 15)), types=TYPES)
    assert all(math.isnan(value) for part in found.values() for key, value in part.items() if key.startswith("recall"))
    assert found["texture"]["positives"] == found["all"]["images"] == 0
    empty = np.zeros((0, 15))
    assert attribute_recall(empty, empty, empty)["all"]["images"] == 0


def test_a_score_that_is_no_number_is_an_error():
    scores = np.zeros((2, 15))
    scores[1, 4] = np.nan
    with pytest.raises(NonFiniteError, match="row 1, attribute 4"):
        attribute_recall(scores, np.zeros((2, 15)), np.ones((2, 15)))


GROUPS = {"sleeve": [0, 1, 2], "neck": [3, 4], "length": [5, 6]}


def test_groups_by_hand():
    scores = np.array([[1, 2, 3, 9, 0, 0, 0], [5, 2, 3, 1, 1, 0, 0], [0, 1, 0, 7, 8, 0, 0]], np.float32)
    positive = marks([2, 3], [1, 4], [1], num_attributes=7)
    known = np.ones_like(positive)
    known[:, 5:] = False
    found = group_accuracy(scores, positive, known, GROUPS)
    assert found["sleeve"]["top_1"] == pytest.approx(2 / 3)
    assert found["neck"]["top_1"] == pytest.approx(1 / 2)  # ties do not count as correct; the third image has no label
    assert found["neck"]["count"] == 2
    assert found["length"]["count"] == 0
    assert math.isnan(found["length"]["top_1"])
    assert found["mean"]["top_1"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found["mean"]["count"] == 3
    assert found["mean"]["top_1_low"] <= found["mean"]["top_1"] <= found["mean"]["top_1_high"]


def test_two_positives_or_an_unknown_one_are_not_evaluated():
    scores = np.tile([3.0, 2, 1, 0, 0, 0, 0], (3, 1))
    positive = marks([0, 1], [0], [0], num_attributes=7)
    known = np.ones_like(positive)
    known[1] = False
    assert group_accuracy(scores, positive, known, GROUPS)["sleeve"]["count"] == 1


@pytest.mark.parametrize("seed", range(3))
def test_groups_agree_with_scikit_learn(seed):
    from sklearn.metrics import balanced_accuracy_score, f1_score

    generator = np.random.default_rng(seed)
    labels = np.stack([generator.integers(0, len(ids), 200) for ids in GROUPS.values()], axis=1)
    positive = np.zeros((200, 7), bool)
    for column, ids in enumerate(GROUPS.values()):
        positive[np.arange(200), np.array(ids)[labels[:, column]]] = True
    scores = generator.normal(size=(200, 7)) + positive
    found = group_accuracy(scores, positive, np.ones_like(positive), GROUPS)
    for column, (name, ids) in enumerate(GROUPS.items()):
        predicted = scores[:, ids].argmax(1)
        assert found[name]["top_1"] == pytest.approx(np.mean(predicted == labels[:, column]))
        assert found[name]["macro_f1"] == pytest.approx(f1_score(labels[:, column], predicted, average="macro"))
        assert found[name]["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels[:, column], predicted))
    assert found["mean"]["macro_f1"] == pytest.approx(np.mean([found[name]["macro_f1"] for name in GROUPS]))


def test_the_interval_of_the_mean_resamples_images():
    """Compared with resampling images one by one; each is evaluated in two of three groups, wrong in both or none."""
    generator = np.random.default_rng(2)
    right = generator.random(150) < 0.6
    positive = np.zeros((150, 7), bool)
    positive[:, [0, 3]] = True
    scores = np.where(right[:, None], positive, ~positive).astype(float)
    scores[:, 2] = -1
    found = group_accuracy(scores, positive, np.ones_like(positive), GROUPS)["mean"]
    draws = generator.integers(0, 150, (4000, 150))
    expected = np.quantile(right[draws].mean(axis=1), [0.025, 0.975])
    assert (found["top_1_low"], found["top_1_high"]) == pytest.approx(expected, abs=0.015)


def test_the_baseline_of_groups_is_the_commonest_value_of_training():
    training = marks([0, 3], [1, 3], [1, 4], num_attributes=7)
    positive = marks([1, 4], [0, 3], [1, 3], [1, 3], num_attributes=7)
    known = np.ones_like(positive)
    found = group_majority(training, positive, known, GROUPS)
    assert (found["sleeve"]["top_1"], found["neck"]["top_1"], found["mean"]["top_1"]) == (0.75, 0.75, 0.75)
    assert found["neck"]["balanced_accuracy"] == 0.5
    np.testing.assert_equal(group_majority(training.sum(0), positive, known, GROUPS), found)
