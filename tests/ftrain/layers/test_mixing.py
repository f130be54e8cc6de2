"""mixup and CutMix: what is mixed, in which shares, and when."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fschemas.failures import UsageError
from ftrain.layers.attribute_loss import binary_loss, class_loss, exclusive_loss, group_masks
from ftrain.layers.mixing import MixedPairs, Mixing, mixed_loss


def levels(number: int = 6, side: int = 16) -> torch.Tensor:
    """Images of one level each: 0, 40, 80, ..."""
    return (torch.arange(number) * 40).to(torch.uint8)[:, None, None, None].expand(number, side, side, 3)


def draws(mixing: Mixing, images: torch.Tensor, number: int) -> list[tuple[torch.Tensor, MixedPairs]]:
    found = list[tuple[torch.Tensor, MixedPairs]]()
    for seed in range(number):
        torch.manual_seed(seed)
        mixed, pairs = mixing(images)
        assert pairs is not None
        found.append((mixed, pairs))
    return found


def test_mixup_adds_images_in_the_share_of_their_losses() -> None:
    images = levels()
    for mixed, pairs in draws(Mixing(0.4, 0.0), images, 5):
        expected = pairs.share * images.float() + (1 - pairs.share) * images[pairs.partner].float()
        torch.testing.assert_close(mixed, expected)


def test_an_image_without_a_partner_is_refused() -> None:
    """Micro-batches of one image were trained as if neither had been asked for."""
    with pytest.raises(UsageError, match=r"raise fit\.batch_size"):
        Mixing(0.4, 0.0)(levels(1))
    assert Mixing(0.4, 0.0).eval()(levels(1))[1] is None


def test_cutmix_pastes_one_rectangle_whose_area_is_the_share() -> None:
    images = levels()
    for mixed, pairs in draws(Mixing(0.0, 1.0), images, 20):
        own = (mixed == images)[..., 0]
        assert torch.equal(mixed[~own], images[pairs.partner].float()[~own])
        changed = ~own[pairs.partner != torch.arange(6)]
        if not len(changed) or not changed.any():
            continue
        assert all(torch.equal(one, changed[0]) for one in changed)
        rows, columns = changed[0].any(1).sum(), changed[0].any(0).sum()
        assert changed[0].sum() == rows * columns
        torch.testing.assert_close(1 - pairs.share, rows * columns / 256)


def test_shares_have_the_published_distribution() -> None:
    """Beta(alpha, alpha) has the mean 1/2 and the variance 1 / (8 alpha + 4); the area of CutMix is clipped by the border."""
    images = levels(2, 8)
    for alpha in (0.2, 1.0):
        shares = np.array([float(pairs.share) for _, pairs in draws(Mixing(alpha, 0.0), images, 600)])
        assert abs(shares.mean() - 0.5) < 0.05
        assert abs(shares.var() - 1 / (8 * alpha + 4)) < 0.02
    shares = np.array([float(pairs.share) for _, pairs in draws(Mixing(0.0, 1.0), images, 600)])
    assert 0.6 < shares.mean() < 0.75


def test_both_take_turns() -> None:
    images = levels()
    even = [bool((mixed[:, :1, :1] == mixed).all()) for mixed, _ in draws(Mixing(1.0, 1.0), images, 100)]
    assert 25 < sum(even) < 75


def test_nothing_is_mixed_or_drawn_in_evaluation_or_by_default() -> None:
    images = levels()
    for mixing in (Mixing(1.0, 1.0).eval(), Mixing(0.0, 0.0)):
        torch.manual_seed(0)
        first = torch.rand(1)
        torch.manual_seed(0)
        same, pairs = mixing(images)
        assert same is images
        assert pairs is None
        assert torch.equal(torch.rand(1), first)


def test_the_mixture_is_a_function_of_the_seed() -> None:
    first, again = (draws(Mixing(0.2, 1.0), levels(), 3) for _ in range(2))
    for (one, of_one), (other, of_other) in zip(first, again, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(of_one.share, of_other.share)
    assert not torch.equal(first[0][0], first[1][0])


@pytest.mark.slow
def test_mixing_compiles_whole() -> None:
    torch._dynamo.reset()
    mixing, images = Mixing(0.2, 1.0), levels()
    compiled = torch.compile(mixing, backend="eager", fullgraph=True)
    for (one, _), (other, _) in zip(draws(mixing, images, 3), draws(compiled, images, 3), strict=True):
        torch.testing.assert_close(one, other)


def test_the_loss_of_a_mixture_is_the_cross_entropy_of_soft_targets() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 5), torch.tensor([0, 3, 4, 1])
    pairs = MixedPairs(torch.tensor([1, 0, 3, 2]), torch.tensor(0.3))
    one_hot = torch.eye(5)[labels]
    soft = 0.3 * one_hot + 0.7 * one_hot[pairs.partner]
    found = mixed_loss(lambda own: class_loss(logits, own), labels, pairs)
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(logits, soft))


@pytest.mark.parametrize("exclusive", [False, True])
def test_attributes_are_soft_targets_and_unknown_ones_stay_unknown(exclusive: bool) -> None:
    torch.manual_seed(1)
    logits = torch.randn(2, 4, requires_grad=True)
    pairs = MixedPairs(torch.tensor([1, 0]), torch.tensor(0.25))
    targets = torch.tensor([[1, 0, -1, -1], [0, 1, -1, -1]])
    if exclusive:
        loss = mixed_loss(lambda own: exclusive_loss(logits, own, group_masks(((0, 1), (2, 3)), 4)), targets, pairs)
        soft = torch.tensor([[0.25, 0.75], [0.75, 0.25]])
        expected = torch.nn.functional.cross_entropy(logits[:, :2], soft)
    else:
        loss = mixed_loss(lambda own: binary_loss(logits, own, balanced=False), targets, pairs)
        soft = torch.tensor([[0.25, 0.75], [0.75, 0.25]])
        expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, :2], soft)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad[:, 2:].any()
