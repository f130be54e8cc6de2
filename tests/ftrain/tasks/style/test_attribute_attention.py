"""Attribute-specific attention and the square crop that it selects; the angular margin."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ftrain.tasks.style.attention import AttributeAttention, attended_boxes, crops
from ftrain.tasks.style.losses import ArcFace
from ftrain.tasks.style.network import StyleNeck


def block(width=12, attribute_width=5, common=6, embedding=8):
    torch.manual_seed(0)
    return AttributeAttention(width, attribute_width, common, embedding)


def test_it_is_the_attention_of_the_paper():
    """Compared with the equations for one image and one attribute."""
    layer, features, attributes = block(), torch.randn(3, 12, 4, 5), torch.randn(2, 5)
    embedding, maps = layer(features, attributes)
    assert embedding.shape == (3, 2, 8)
    assert maps.shape == (3, 2, 4, 5)
    image, attribute = 1, 1
    keys = torch.tanh(layer.features_to_common(features[image : image + 1]))[0]
    query = torch.tanh(layer.attribute_to_common(attributes[attribute]))
    weights = ((keys * query[:, None, None]).sum(dim=0) / math.sqrt(6)).flatten().softmax(dim=0).view(4, 5)
    torch.testing.assert_close(maps[image, attribute], weights)
    pooled = (features[image] * weights).sum(dim=(1, 2))
    asked = F.relu(layer.attribute_to_gate(attributes[attribute]))
    gate = torch.sigmoid(layer.excite(F.relu(layer.squeeze(torch.cat([pooled, asked])))))
    torch.testing.assert_close(embedding[image, attribute], layer.project(pooled * gate))


def test_each_image_may_have_its_own_attribute():
    layer, features, attributes = block(), torch.randn(3, 12, 4, 4), torch.randn(2, 5)
    both, maps = layer(features, attributes)
    asked = torch.tensor([1, 0, 1])
    one, own_maps = layer(features, attributes[asked][:, None])
    torch.testing.assert_close(one[:, 0], both[torch.arange(3), asked])
    torch.testing.assert_close(own_maps[:, 0], maps[torch.arange(3), asked])


def spots(*cells, size=8):
    """A map with bright cells (row, column, brightness) on a dark background."""
    values = torch.zeros(1, size, size)
    for row, column, brightness in cells:
        values[0, row, column] = brightness
    return values


def test_the_box_holds_the_brightest_region_and_no_stray_cell():
    region = [(2, 2, 1.0), (2, 3, 0.9), (3, 2, 0.8), (3, 3, 0.9)]
    alone = attended_boxes(spots(*region), 0.5, 0.0)
    with_stray = attended_boxes(spots(*region, (7, 7, 0.7)), 0.5, 0.0)
    torch.testing.assert_close(with_stray, alone)
    left, top, right, bottom = alone[0].tolist()
    # Bright cells 2 and 3 of 8, interpolated bilinearly: half the value is a quarter to half a cell from their centers.
    assert (left, top) == (pytest.approx(2 / 8, abs=1 / 16), pytest.approx(2 / 8, abs=1 / 16))
    assert (right, bottom) == (pytest.approx(4 / 8, abs=1 / 16), pytest.approx(4 / 8, abs=1 / 16))


def test_a_long_region_hangs_together_and_becomes_a_square_inside():
    row = [(7, column, 1.0) for column in range(8)]
    left, top, right, bottom = attended_boxes(spots(*row), 0.2, 0.0)[0].tolist()
    assert (left, top, right, bottom) == (0.0, 0.0, 1.0, 1.0)
    left, top, right, bottom = attended_boxes(spots(*row[:4]), 0.2, 0.0)[0].tolist()
    assert right - left == pytest.approx(bottom - top)
    assert left == 0.0
    assert bottom == 1.0
    assert 0.45 < right < 0.65


@pytest.mark.parametrize("value", [0.0, 1 / 64, 3.0])
def test_a_flat_map_gives_the_whole_image_not_nan(value):
    assert attended_boxes(torch.full((2, 8, 8), value), 0.1, 0.2).tolist() == [[0.0, 0.0, 1.0, 1.0]] * 2


@pytest.mark.parametrize("threshold", [0.1, 0.4, 0.7])
def test_boxes_turn_with_the_map_are_never_empty_and_stay_inside(threshold):
    maps = (
        torch.randn(50, 7, 7, generator=torch.Generator().manual_seed(1))
        .flatten(1)
        .mul(3)
        .softmax(dim=1)
        .view(50, 7, 7)
    )
    boxes = attended_boxes(maps, threshold, 0.15)
    sides = boxes[:, 2:] - boxes[:, :2]
    assert (sides >= 0.15 - 1e-6).all()
    torch.testing.assert_close(sides[:, 0], sides[:, 1])
    assert (boxes >= 0).all()
    assert (boxes <= 1 + 1e-6).all()
    flipped = attended_boxes(maps.flip(2), threshold, 0.15)
    torch.testing.assert_close(flipped[:, [2, 0]], 1 - boxes[:, [0, 2]], atol=1e-5, rtol=0)
    peak = maps.flatten(1).argmax(dim=1)
    x, y = (peak % 7 + 0.5) / 7, (peak // 7 + 0.5) / 7
    assert ((boxes[:, 0] <= x) & (x <= boxes[:, 2]) & (boxes[:, 1] <= y) & (y <= boxes[:, 3])).all()


def test_a_crop_shows_its_part_of_the_image():
    """On a ramp, every pixel of a crop has the value of its position, by pixel centers."""
    size = 64
    ramp = torch.arange(size, dtype=torch.float32).expand(size, size)
    image = torch.stack([ramp, ramp.T, torch.zeros(size, size)], dim=2)[None].to(torch.uint8)
    box = torch.tensor([[0.25, 0.125, 0.75, 0.625]])
    cut = crops(image, box, 16)
    assert cut.shape == (1, 16, 16, 3)
    centers = (torch.arange(16) + 0.5) / 16
    torch.testing.assert_close(cut[0, 3, :, 0], (0.25 + 0.5 * centers) * size - 0.5, atol=1e-4, rtol=0)
    torch.testing.assert_close(cut[0, :, 3, 1], (0.125 + 0.5 * centers) * size - 0.5, atol=1e-4, rtol=0)


def test_no_gradient_flows_into_the_choice_of_the_square():
    maps = torch.rand(2, 4, 4, requires_grad=True)
    images = torch.rand(2, 32, 32, 3, requires_grad=True)
    crops(images, attended_boxes(maps, 0.3, 0.25), 16).sum().backward()
    assert maps.grad is None
    assert images.grad.abs().sum() > 0


def test_the_margin_widens_the_angle_of_the_true_class_alone():
    head = ArcFace(2, 3, scale=10.0, margin=0.5)
    with torch.no_grad():
        head.directions.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]]))
    angle = 0.4
    embedding = 7 * torch.tensor([[math.cos(angle), math.sin(angle)]])
    plain = head(embedding)[0]
    torch.testing.assert_close(plain, 10 * torch.tensor([math.cos(angle), math.sin(angle), -math.cos(angle)]))
    widened = head.with_margin(embedding, torch.tensor([[True, False, False]]))[0]
    torch.testing.assert_close(widened[0], torch.tensor(10 * math.cos(angle + 0.5)))
    torch.testing.assert_close(widened[1:], plain[1:])


def test_the_margin_never_makes_a_wider_angle_better():
    head = ArcFace(2, 1, scale=1.0, margin=0.5)
    with torch.no_grad():
        head.directions.copy_(torch.tensor([[1.0, 0.0]]))
    angles = torch.linspace(0, math.pi, 200)
    points = torch.stack([angles.cos(), angles.sin()], dim=1).requires_grad_()
    logits = head.with_margin(points, torch.ones(200, 1, dtype=torch.bool))[:, 0]
    assert (logits.diff() < 1e-3).all()  # ArcFace itself has a downward step at (pi - m)
    logits.sum().backward()
    assert torch.isfinite(points.grad).all()


def test_the_neck_is_no_linear_map():
    """Four linear layers without activation, as in the K-Fashion classifier, are a single one."""
    torch.manual_seed(0)
    neck = StyleNeck(6, 8, 0.5).eval()
    one, other = (torch.randn(1, 8), torch.randn(1, 6, 2, 2)), (torch.randn(1, 8), torch.randn(1, 6, 2, 2))
    middle = neck((one[0] + other[0]) / 2, (one[1] + other[1]) / 2)
    assert (middle - (neck(*one) + neck(*other)) / 2).abs().max() > 1e-3
    assert np.isfinite(middle.detach().numpy()).all()
