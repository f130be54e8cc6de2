"""Attribute losses: ignored entries, weights, and independence of images."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ftrain.layers.attribute_loss import (
    asymmetric_loss,
    attribute_targets,
    binary_loss,
    class_loss,
    exclusive_loss,
    exclusive_probabilities,
    group_masks,
    logit_adjustment,
)

GROUPS = group_masks(((0, 1, 2), (3, 4)), 5)


def test_targets_tell_absent_from_unknown():
    note = {"attributes_positive": [0, 4], "attributes_unknown": [2], "attributes_maybe": [3]}
    assert attribute_targets(note, 6).tolist() == [1, 0, -1, -1, 1, 0]
    assert attribute_targets({"attributes_positive": [], "attributes_unknown": []}, 2).tolist() == [0, 0]


def test_positives_weigh_as_much_as_all_negatives():
    """With 2 positives among 10 ids, a positive weighs as much as 4 negatives."""
    targets = torch.tensor([[1, 1, 0, 0, 0, 0, 0, 0, 0, 0]])
    logits = torch.zeros(1, 10, requires_grad=True)
    loss = binary_loss(logits, targets)
    assert loss.item() == pytest.approx(math.log(2))
    loss.backward()
    up, down = logits.grad[0, 0].item(), logits.grad[0, 5].item()
    assert up < 0 < down
    assert -up == pytest.approx(4 * down)
    assert logits.grad.sum().item() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_a_given_rate_weighs_positives_by_the_share_of_negatives(rate):
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(4, 6, generator=generator), torch.randint(0, 2, (4, 6), generator=generator)
    weights = torch.where(targets == 1, 1 - rate, rate)
    expected = F.binary_cross_entropy_with_logits(logits, targets.float(), weight=weights) / (2 * rate * (1 - rate))
    torch.testing.assert_close(binary_loss(logits, targets, positive_rate=rate), expected)


def test_without_balance_it_is_the_plain_mean_over_known_ids():
    logits, targets = torch.tensor([[0.3, -2.0, 1.0]]), torch.tensor([[1, 0, -1]])
    expected = F.binary_cross_entropy_with_logits(logits[:, :2], targets[:, :2].float())
    torch.testing.assert_close(binary_loss(logits, targets, balanced=False), expected)


@pytest.mark.parametrize("weight", [0.0, 1.0, 1.7])
def test_the_adjusted_loss_is_that_of_the_paper(weight):
    """-log of prior^w e^f of the class over the sum of that of all classes; w = 1 is the balanced softmax."""
    counts = np.array([900, 90, 9, 1])
    logits, labels = torch.randn(5, 4, generator=torch.Generator().manual_seed(2)), torch.tensor([0, 1, 2, 3, -1])
    prior = torch.tensor(counts / counts.sum()).float() ** weight
    odds = prior * logits.exp()
    expected = -(odds[range(4), range(4)] / odds[:4].sum(dim=1)).log().sum() / 5
    torch.testing.assert_close(class_loss(logits, labels, adjustment=logit_adjustment(counts, weight)), expected)
    if weight == 0:
        assert torch.equal(
            class_loss(logits, labels, 0.1), class_loss(logits, labels, 0.1, logit_adjustment(counts, 0))
        )


def test_smoothed_and_adjusted_scores_that_know_nothing_prefer_no_class():
    """Equal scores are the best that a classifier without an image can give; uniform smoothing would prefer rare ones."""
    counts = np.array([70, 20, 9, 1])
    labels = torch.arange(4).repeat_interleave(torch.from_numpy(counts))
    logits = torch.zeros(1, 4, requires_grad=True)
    class_loss(logits.expand(100, 4), labels, 0.1, logit_adjustment(counts, 1)).backward()
    torch.testing.assert_close(logits.grad, torch.zeros(1, 4), atol=1e-7, rtol=0)


def test_a_class_without_images_has_a_finite_adjustment():
    assert torch.isfinite(logit_adjustment(np.array([3, 0]), 1.0)).all()
    assert torch.isfinite(logit_adjustment(np.zeros(2), 1.0)).all()


def test_the_asymmetric_loss_is_that_of_the_paper():
    generator = torch.Generator().manual_seed(3)
    logits, targets = torch.randn(6, 5, generator=generator) * 4, torch.randint(-1, 2, (6, 5), generator=generator)
    expected = 0.0
    for scores, row in zip(logits.sigmoid().tolist(), targets.tolist(), strict=True):
        for p, target in zip(scores, row, strict=True):
            shifted = max(p - 0.05, 0)
            expected -= {1: math.log(p), 0: shifted**4 * math.log(1 - shifted), -1: 0.0}[target] / 6
    assert asymmetric_loss(logits, targets).item() == pytest.approx(expected, rel=1e-5)


def test_extreme_scores_have_a_finite_asymmetric_loss():
    logits = torch.tensor([[-200.0, 200.0, -200.0, 200.0]], requires_grad=True)
    loss = asymmetric_loss(logits, torch.tensor([[1, 1, 0, 0]]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0, 2] == 0  # a negative below the shift costs nothing


@pytest.mark.parametrize("options", [{}, {"balanced": False}, {"positive_rate": 0.2}])
def test_unknown_ids_teach_nothing(options):
    targets = torch.tensor([[1, -1, 0, -1], [-1, -1, -1, -1]])
    logits = torch.randn(2, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    binary_loss(logits, targets, **options).backward()
    assert (logits.grad[targets == -1] == 0).all()
    assert (logits.grad[targets != -1] != 0).all()


def test_groups_cost_what_cross_entropy_says_and_unknown_ones_nothing():
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(2)).requires_grad_()
    targets = torch.tensor([[0, 1, 0, 1, 0], [1, 0, 0, -1, -1], [-1, -1, -1, -1, -1]])
    first = F.cross_entropy(logits[:2, :3], torch.tensor([1, 0]), reduction="none")
    second = F.cross_entropy(logits[:1, 3:], torch.tensor([0]))
    expected = ((first[0] + second) / 2 + first[1]) / 3
    loss = exclusive_loss(logits, targets, GROUPS)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert (logits.grad[2] == 0).all()
    assert (logits.grad[1, 3:] == 0).all()


def test_an_id_that_may_be_true_is_neither_wanted_nor_punished():
    logits = torch.tensor([[2.0, 1.0, 5.0]], requires_grad=True)
    loss = exclusive_loss(logits, torch.tensor([[1, 0, -1]]), group_masks(((0, 1, 2),), 3))
    torch.testing.assert_close(loss, F.cross_entropy(logits[:, :2], torch.tensor([0])))
    loss.backward()
    assert logits.grad[0, 2] == 0


def test_smoothing_is_that_of_torch():
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(3))
    labels = torch.tensor([0, 1, 2, 2, 1, 0])
    expected = F.cross_entropy(logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(
        exclusive_loss(logits, F.one_hot(labels, 3), group_masks(((0, 1, 2),), 3), 0.1), expected
    )
    torch.testing.assert_close(class_loss(logits, labels, 0.1), expected)


def test_shares_sum_to_one_in_each_group_and_keep_their_columns():
    logits = torch.randn(4, 7, generator=torch.Generator().manual_seed(4))
    groups = ((5, 0, 2), (6, 1))
    shares = exclusive_probabilities(logits, group_masks(groups, 7))
    for members in groups:
        torch.testing.assert_close(shares[:, list(members)], logits[:, list(members)].softmax(dim=1))
    torch.testing.assert_close(shares[:, [3, 4]], logits[:, [3, 4]].sigmoid())
    assert torch.equal(exclusive_probabilities(logits, group_masks((), 7)), logits.sigmoid())


def test_losses_are_means_over_rows_whatever_is_known_of_the_others():
    generator = torch.Generator().manual_seed(5)
    logits, targets = torch.randn(6, 5, generator=generator), torch.randint(-1, 2, (6, 5), generator=generator)
    labels = torch.tensor([1, -1, -1, -1, 0, 4])
    for loss in (
        lambda rows: binary_loss(logits[rows], targets[rows]),
        lambda rows: binary_loss(logits[rows], targets[rows], positive_rate=0.1),
        lambda rows: asymmetric_loss(logits[rows], targets[rows]),
        lambda rows: exclusive_loss(logits[rows], targets[rows], GROUPS),
        lambda rows: class_loss(logits[rows], labels[rows]),
    ):
        alone = torch.stack([loss(slice(row, row + 1)) for row in range(6)])
        torch.testing.assert_close(alone.mean(), loss(slice(0, 6)))
        assert np.isfinite(loss(slice(1, 2)).item())
