"""Losses per keypoint and selection of the hardest: never an invalid one, never too many."""

import math

import pytest
import torch

from fschemas.landmarks import FASHIONAI_24
from ftrain.tasks.keypoints.losses import hard_keypoint_loss, hardest_points, mean_keypoint_loss, per_point_loss


def valid_points(*garments):
    valid = torch.zeros(len(garments), 24, dtype=torch.bool)
    for row, garment in enumerate(garments):
        valid[row, list(FASHIONAI_24.valid_landmarks(garment))] = True
    return valid


@pytest.mark.parametrize(
    ("garment", "num_chosen"), [("skirt", 2), ("trousers", 4), ("blouse", 7), ("outwear", 7), ("dress", 8)]
)
def test_each_garment_trains_half_of_its_own_points(garment, num_chosen):
    valid = valid_points(garment)
    losses = torch.rand(1, 24, generator=torch.Generator().manual_seed(0))
    losses[~valid] = 100.0  # a fixed top 8 of 24 would select an invalid keypoint with a large loss
    chosen = hardest_points(losses, valid)
    assert chosen.sum() == num_chosen
    assert not (chosen & ~valid).any()
    assert losses[chosen].min() >= losses[valid & ~chosen].max()


def test_a_skirt_costs_the_mean_of_its_two_hardest_points():
    losses = torch.zeros(1, 24)
    losses[0, 15:19] = torch.tensor([1.0, 4.0, 2.0, 3.0])
    assert hard_keypoint_loss(losses, valid_points("skirt")) == 3.5
    assert mean_keypoint_loss(losses, valid_points("skirt")) == 2.5


def test_the_last_point_of_trousers_is_alive():
    """Public code masks bottom_right_out, index 23, in every image."""
    losses = torch.zeros(1, 24, requires_grad=True)
    hard_keypoint_loss(losses + torch.eye(24)[23], valid_points("trousers")).backward()
    assert losses.grad[0, 23] == 0.25


@pytest.mark.parametrize("loss", [hard_keypoint_loss, mean_keypoint_loss])
def test_micro_batches_have_the_mean_loss_of_the_batch_if_some_samples_have_no_valid_points(loss):
    valid = torch.cat((valid_points("skirt", "trousers", "dress"), torch.zeros(1, 24, dtype=torch.bool)))
    losses = torch.rand(4, 24, generator=torch.Generator().manual_seed(0))
    parts = [loss(losses[part], valid[part]) for part in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(torch.stack(parts).mean(), loss(losses, valid))


def test_a_batch_without_valid_points_costs_nothing_and_has_a_zero_gradient():
    losses = torch.rand(2, 24, requires_grad=True)
    loss = hard_keypoint_loss(losses, torch.zeros(2, 24))
    loss.backward()
    assert loss == 0
    assert not losses.grad.any()


def test_agrees_with_a_plain_loop_over_random_batches():
    generator = torch.Generator().manual_seed(3)
    for share in (0.3, 0.5, 1.0):
        losses = torch.rand(40, 24, generator=generator)
        valid = torch.rand(40, 24, generator=generator) < torch.rand(40, 1, generator=generator)
        valid[0] = False
        means = []
        for row, mask in zip(losses.tolist(), valid.tolist(), strict=True):
            kept = sorted((value for value, use in zip(row, mask, strict=True) if use), reverse=True)
            count = math.ceil(round(share * len(kept), 9))
            means.append(sum(kept[:count]) / count if kept else 0.0)
        expected = torch.tensor(sum(means) / len(means))
        torch.testing.assert_close(hard_keypoint_loss(losses, valid, share), expected)
        if share == 1.0:
            torch.testing.assert_close(mean_keypoint_loss(losses, valid), expected)


def test_equal_losses_are_chosen_in_the_order_of_the_points():
    valid = valid_points("dress", "skirt")
    assert hardest_points(torch.ones(2, 24), valid).int().tolist()[1][15:19] == [1, 1, 0, 0]


def test_invalid_points_have_no_gradient_even_where_their_maps_are_not_finite():
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(2, 24, 6, 5, generator=generator)
    valid = valid_points("skirt", "trousers")
    maps[~valid] = torch.nan
    maps.requires_grad_()
    losses = per_point_loss(maps, torch.zeros(2, 24, 6, 5), valid)
    (hard_keypoint_loss(losses, valid) + mean_keypoint_loss(losses, valid)).backward()
    assert torch.isfinite(losses).all()
    assert not maps.grad[~valid].any()
    assert maps.grad[valid].flatten(1).any(dim=1).all()


def test_a_point_costs_its_weighted_mean_squared_error_in_float32():
    maps = torch.zeros(1, 2, 2, 2, dtype=torch.bfloat16)
    targets = torch.tensor([[[[1.0, 0.0], [0.0, 3.0]], [[2.0, 2.0], [2.0, 2.0]]]])
    losses = per_point_loss(maps, targets, torch.tensor([[1.0, 0.5]]))
    assert losses.dtype == torch.float32
    assert losses.tolist() == [[2.5, 2.0]]


def test_a_non_finite_loss_of_a_valid_point_is_not_hidden():
    losses = torch.zeros(1, 24)
    losses[0, 15] = torch.nan
    assert hard_keypoint_loss(losses, valid_points("skirt")).isnan()
