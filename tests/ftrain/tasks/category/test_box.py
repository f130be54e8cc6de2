"""A predicted box is always valid, its pooled features equal those of ROIAlign, and gradients are correct."""

import pytest
import torch

from ftrain.tasks.category.box import BoxHead, BoxMaps, box_loss, pool_box


def heads(scale):
    torch.manual_seed(0)
    flat, maps = BoxHead(8, 4), BoxMaps((6, 8), 8)
    for head in (flat, maps):
        for parameter in head.parameters():
            parameter.data = scale * torch.randn(parameter.shape)
    return flat, maps


@pytest.mark.parametrize("scale", [0.1, 3.0, 100.0])
def test_boxes_are_ordered_and_inside_whatever_the_weights(scale):
    flat, maps = heads(scale)
    coarse, fine = torch.randn(16, 8, 4, 4), torch.randn(16, 6, 8, 8)
    for boxes in (flat(coarse), maps((fine, coarse))):
        assert boxes.dtype == torch.float32
        assert (boxes >= 0).all()
        assert (boxes <= 1 + 1e-6).all()
        assert (boxes[:, :2] <= boxes[:, 2:]).all()


def test_before_learning_the_box_is_most_of_the_image():
    torch.manual_seed(0)
    for boxes in (
        BoxHead(8, 4)(torch.randn(2, 8, 4, 4)),
        BoxMaps((6, 8), 8)((torch.randn(2, 6, 8, 8), torch.randn(2, 8, 4, 4))),
    ):
        sides = boxes[:, 2:] - boxes[:, :2]
        assert (sides > 0.6).all()
        assert (sides < 0.9).all()


@pytest.mark.parametrize("size", [1, 3, 7])
def test_pooling_is_roi_align_of_each_image_s_own_box(size):
    """Not the first image's box, as in an earlier system, and not whole cells."""
    from torchvision.ops import roi_align

    torch.manual_seed(1)
    features = torch.randn(5, 4, 10, 7)
    boxes = torch.sort(torch.rand(5, 2, 2), dim=1).values.flatten(1)
    boxes[0] = torch.tensor([0.31, 0.22, 0.313, 0.9])  # thinner than a cell
    scaled = boxes * torch.tensor([7, 10, 7, 10])
    regions = torch.cat([torch.arange(5)[:, None], scaled], dim=1)
    expected = roi_align(features, regions, size, sampling_ratio=2, aligned=True)
    torch.testing.assert_close(pool_box(features, boxes, size), expected, rtol=1e-4, atol=1e-5)


def test_gradients_reach_features_and_box_and_are_true():
    torch.manual_seed(2)
    features = torch.randn(2, 3, 6, 6, requires_grad=True)
    boxes = torch.tensor([[0.13, 0.21, 0.77, 0.84], [0.4, 0.3, 0.9, 0.6]], requires_grad=True)
    weights = torch.randn(2, 3, 3, 3)
    (pool_box(features, boxes, 3) * weights).sum().backward()
    assert features.grad.abs().sum() > 0
    for row in range(2):
        for edge in range(4):
            ends = [boxes.detach().clone(), boxes.detach().clone()]
            for end, step in zip(ends, (-1e-3, 1e-3), strict=True):
                end[row, edge] += step
            low, high = ((pool_box(features, end, 3) * weights).sum().item() for end in ends)
            assert boxes.grad[row, edge].item() == pytest.approx((high - low) / 2e-3, rel=0.03, abs=0.02)


def test_the_loss_is_l1_and_generalised_iou_over_known_boxes():
    from torchvision.ops import box_iou

    truth = torch.tensor([[0.1, 0.1, 0.5, 0.5], [0.0, 0.0, 1.0, 1.0]])
    boxes = torch.tensor([[0.3, 0.1, 0.7, 0.5], [0.5, 0.5, 0.6, 0.6]], requires_grad=True)
    iou = box_iou(boxes[:1], truth[:1])[0, 0]
    hull = 0.6 * 0.4
    union = 0.32 - 0.08
    expected = 0.1 + 1 - (iou - (hull - union) / hull)
    loss = box_loss(boxes, truth, torch.tensor([True, False]))
    torch.testing.assert_close(loss, expected / 2, rtol=1e-4, atol=1e-5)
    loss.backward()
    assert (boxes.grad[1] == 0).all()
    assert box_loss(truth, truth, torch.tensor([True, True])).item() == pytest.approx(0, abs=1e-5)


def test_generalised_iou_is_that_of_torchvision():
    """Of boxes that overlap, touch, contain each other or lie apart, and its gradient."""
    from torchvision.ops import generalized_box_iou_loss

    first = torch.rand(200, 2, generator=torch.Generator().manual_seed(2))
    sides = torch.rand(200, 2, generator=torch.Generator().manual_seed(3)) * 0.5
    boxes = torch.cat([first, first + sides], dim=1).requires_grad_()
    truth = boxes.detach().roll(1, 0)
    expected = (boxes - truth).abs().mean(dim=1) + generalized_box_iou_loss(boxes, truth)
    (gradient,) = torch.autograd.grad(expected.mean(), boxes)
    loss = box_loss(boxes, truth, torch.ones(200, dtype=torch.bool))
    torch.testing.assert_close(loss, expected.mean())
    torch.testing.assert_close(torch.autograd.grad(loss, boxes)[0], gradient)
