"""Landmark pooling, soft-argmax and networks split in two."""

import numpy as np
import pytest
import torch

from fschemas.failures import UsageError
from fschemas.landmarks import Visibility
from ftrain.data.config import BackboneConfig
from ftrain.layers.backbone import Backbone
from ftrain.layers.cut_backbone import cut_after
from ftrain.tasks.fashionnet.landmark_pooling import gates, pool_landmarks, visibility_classes
from ftrain.tasks.fashionnet.soft_argmax import map_loss, soft_argmax

STRIDE, CELLS = 8, 12


def ramp(num_images):
    """Features B, 2, 12, 12 with their own position: x and y of each cell's center in pixels, plus 1000 per image."""
    centers = torch.arange(CELLS) * STRIDE + (STRIDE - 1) / 2
    x, y = centers.expand(CELLS, CELLS), centers[:, None].expand(CELLS, CELLS)
    return torch.stack([torch.stack([x, y]) + 1000 * number for number in range(num_images)])


def test_each_image_is_pooled_from_its_own_features_around_its_own_points():
    points = torch.tensor([[[30.0, 40.0], [50.5, 33.25]], [[44.0, 60.0], [38.0, 30.0]], [[60.0, 60.0], [31.0, 57.0]]])
    pooled = pool_landmarks(ramp(3), points, torch.ones(3, 2), stride=STRIDE, window=24, size=2)
    assert pooled.shape == (3, 2, 2, 2, 2)
    expected = points + 1000 * torch.arange(3)[:, None, None]
    torch.testing.assert_close(pooled.mean(dim=(3, 4)), expected, rtol=0, atol=1e-3)  # the center, not a corner
    left_right = pooled[:, :, 0, :, 1] - pooled[:, :, 0, :, 0]
    torch.testing.assert_close(left_right, torch.full_like(left_right, 12.0), rtol=0, atol=1e-3)


def test_the_windows_are_those_of_roi_align():
    from torchvision.ops import roi_align

    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 5, 9, 12, generator=generator)
    points = torch.rand(3, 8, 2, generator=generator) * 130 - 17  # some outside the image
    images = torch.arange(3.0).repeat_interleave(8)[:, None]
    for window, size in ((20.0, 2), (33.0, 3), (7.0, 1), (200.0, 2)):
        centers = points.flatten(0, 1) + 0.5
        regions = torch.cat([images, centers - window / 2, centers + window / 2], dim=1)
        expected = roi_align(features, regions, size, spatial_scale=1 / STRIDE, sampling_ratio=2, aligned=True)
        found = pool_landmarks(features, points, torch.ones(3, 8), stride=STRIDE, window=window, size=size)
        torch.testing.assert_close(found.flatten(0, 1), expected, rtol=1e-4, atol=1e-5)


def test_a_closed_gate_shuts_out_one_landmark_of_one_image():
    gate = torch.tensor([[1.0, 0.0], [0.25, 1.0]])
    points = torch.full((2, 2, 2), 44.0)
    pooled = pool_landmarks(ramp(2), points, gate, stride=STRIDE, window=16, size=1)[..., 0, 0]
    plain = torch.tensor([44.0, 1044.0])
    torch.testing.assert_close(pooled, (gate * plain[:, None])[..., None].expand(2, 2, 2), rtol=0, atol=1e-3)


def test_what_lies_outside_of_the_image_is_empty():
    pooled = pool_landmarks(
        torch.ones(1, 1, 4, 4), torch.tensor([[[-60.0, 5.0]]]), torch.ones(1, 1), stride=8, window=16, size=2
    )
    assert (pooled == 0).all()


def test_gates_open_for_visible_landmarks_and_learn_nothing():
    logits = torch.tensor([[[3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 3.0]]], requires_grad=True)
    assert gates(logits, "hard").tolist() == [[1, 0, 0]]
    assert gates(logits, "none").tolist() == [[1, 1, 1]]
    soft, total = gates(logits, "soft"), float(np.exp(3) + 2)
    assert soft[0].tolist() == pytest.approx([np.exp(3) / total, 1 / total, 1 / total])
    assert not soft.requires_grad


def test_a_missing_landmark_is_absent_not_visible():
    values = [Visibility.VISIBLE, Visibility.OCCLUDED, Visibility.ABSENT, Visibility.NOT_APPLICABLE]
    assert visibility_classes(torch.tensor([value.value for value in values], dtype=torch.int8)).tolist() == [
        0,
        1,
        2,
        2,
    ]


def test_points_teach_features_but_get_no_gradient():
    features, points = ramp(1).requires_grad_(), torch.full((1, 1, 2), 40.0, requires_grad=True)
    pool_landmarks(features, points, torch.ones(1, 1), stride=STRIDE, window=16, size=2).sum().backward()
    assert features.grad is not None
    assert features.grad.abs().sum() > 0
    assert points.grad is None


def test_soft_argmax_finds_a_peak_below_a_cell_and_the_middle_of_nothing():
    place = torch.tensor([[[21.3, 34.8]]])
    cells = torch.stack(torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="xy"), dim=-1) * 4 + 1.5
    maps = -((cells - place[:, :, None, None]).square().sum(dim=-1) / (2 * 5.0**2))
    torch.testing.assert_close(soft_argmax(maps, 4), place, rtol=0, atol=0.02)
    assert soft_argmax(torch.zeros(1, 1, 16, 16), 4).tolist() == [[[pytest.approx(31.5), pytest.approx(31.5)]]]


def test_the_loss_of_maps_is_least_for_the_target_and_0_where_nothing_counts():
    points, counted = torch.tensor([[[20.0, 30.0], [9.0, 9.0]]]), torch.tensor([[True, False]])
    cells = torch.stack(torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="xy"), dim=-1) * 4 + 1.5
    best = -((cells - points[:, :, None, None]).square().sum(dim=-1) / (2 * 16 * 1.2**2))
    losses = {shift: map_loss(best.roll(shift, dims=3), points, counted, 4, 1.2) for shift in (-2, -1, 0, 1, 2)}
    assert min(losses, key=lambda shift: float(losses[shift][0, 0])) == 0
    assert all(float(loss[0, 1]) == 0 for loss in losses.values())
    spread = float(map_loss(torch.zeros_like(best), points, counted, 4, 1.2)[0, 0])
    assert spread == pytest.approx(np.log(256), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "stride"),
    [("test_efficientnet", 16), ("test_resnet", 8), ("test_convnext", 16), ("mobilenetv3_small_050", 16)],
)
def test_trunk_and_deep_stages_are_the_network_that_was_cut(name, stride):
    import timm

    torch.manual_seed(0)
    backbone = Backbone(BackboneConfig(backbone=name), (stride,)).eval()
    whole = {place: value.clone() for place, value in backbone.features.state_dict().items()}
    deep = cut_after(backbone, name, stride).eval()
    reference = timm.create_model(name, features_only=True).eval()
    reference.load_state_dict(whole)
    image = torch.randint(0, 255, (2, 64, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        expected = reference(backbone.normalize(image))
        trunk = backbone(image)[-1]
        found = deep(trunk)
    strides = reference.feature_info.reduction()
    torch.testing.assert_close(trunk, expected[len(strides) - 1 - strides[::-1].index(stride)])
    torch.testing.assert_close(found, expected[-1])
    assert (deep.width, deep.stride) == (found.shape[1], 64 // found.shape[2])
    names = {place.replace(".", "_") for place in (*backbone.features.state_dict(), *deep.state_dict())}
    assert names == {place.replace(".", "_") for place in whole}  # a weight file of the network fills both


def test_a_network_that_is_no_chain_is_refused():
    with pytest.raises(
        UsageError, match=r"'hrnet_w18_small' cannot be cut after stride 16; choose a sequential network such as vgg16"
    ):
        cut_after(Backbone(BackboneConfig(backbone="hrnet_w18_small"), (16,)), "hrnet_w18_small", 16)
    with pytest.raises(UsageError, match="cannot be cut after stride 32"):
        cut_after(Backbone(BackboneConfig(backbone="test_resnet"), (32,)), "test_resnet", 32)
