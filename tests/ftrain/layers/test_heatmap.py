"""Pixel centers, targets, decoding near and far from the border, flipping."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fschemas.landmarks import DEEPFASHION_8, FASHIONAI_24
from ftrain.layers.heatmap import decode, flip_maps, gaussian_targets, pyramid_sigmas, to_cells, to_pixels

SIZE = (24, 32)  # h, w in cells: an image of 128 x 96 pixels at stride 4
STRIDE = 4


def targets_of(points, stride=STRIDE, size=SIZE, sigma=2.0, **options):
    points = torch.as_tensor(points, dtype=torch.float32).reshape(1, -1, 2)
    return gaussian_targets(points, torch.ones(points.shape[:2]), size, stride, sigma, **options)


def random_points(num_points, margin, size=SIZE, stride=STRIDE, seed=0):
    """Random points in pixel centers, at least `margin` pixels from the border."""
    extent = torch.tensor([size[1] * stride - 1.0, size[0] * stride - 1.0])
    share = torch.rand(num_points, 2, generator=torch.Generator().manual_seed(seed))
    return margin + share * (extent - 2 * margin)


@pytest.mark.parametrize(("stride", "center_of_cell_2"), [(1, 2.0), (2, 4.5), (4, 9.5), (8, 19.5)])
def test_a_cell_has_its_center_in_the_middle_of_its_pixels(stride, center_of_cell_2):
    pixels = torch.arange(2 * stride, 3 * stride).float()
    assert pixels.mean() == center_of_cell_2
    assert to_pixels(torch.tensor(2.0), stride) == center_of_cell_2
    assert to_cells(torch.tensor(center_of_cell_2), stride) == 2.0


def test_a_target_is_a_gaussian_round_its_point():
    maps = targets_of([[9.5, 21.5]])  # the center of cell (2, 5)
    assert maps[0, 0, 5, 2] == 1 == maps.max()
    row, column = np.mgrid[: SIZE[0], : SIZE[1]]
    expected = np.exp(-((column - 2) ** 2 + (row - 5) ** 2) / (2 * 2.0**2))
    np.testing.assert_allclose(maps[0, 0], expected, rtol=1e-5, atol=1e-6)


def test_a_target_agrees_with_a_image_pooled_from_full_size():
    """A bright spot, averaged over 4 x 4 pixels, has the centroid of its target at stride 4."""
    point = torch.tensor([[50.3, 37.9]])
    pooled = torch.nn.functional.avg_pool2d(targets_of(point, 1, (96, 128), sigma=8.0), 4)
    target = targets_of(point, sigma=2.0)
    for maps in (pooled, target):
        weights = maps[0, 0] / maps.sum()
        column = (weights.sum(0) * torch.arange(32)).sum()
        row = (weights.sum(1) * torch.arange(24)).sum()
        torch.testing.assert_close(to_pixels(torch.stack((column, row)), 4), point[0], rtol=0, atol=0.01)


def test_points_without_weight_have_empty_maps_whatever_their_coordinates():
    points = torch.tensor([[[torch.nan, 3.0], [8.0, 8.0], [8.0, 8.0]]])
    maps = gaussian_targets(points, torch.tensor([[0.0, 0.0, 0.5]]), SIZE, STRIDE, sigma=2.0)
    assert not maps[0, :2].any()
    assert maps[0, 2].max() > 0.9


def test_coarse_levels_are_broader():
    sigmas = pyramid_sigmas(2.0)
    assert sigmas[0] == 2.0
    assert list(sigmas) == sorted(sigmas)
    assert sigmas[-1] / sigmas[0] == pytest.approx(2.6 / 1.4)


@pytest.mark.parametrize("sigma", [1.0, 1.4, 2.0, 4.0])
@pytest.mark.parametrize("blur_sigma", [0.0, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("size", [SIZE, (8, 8)])
def test_round_trip_stays_below_half_a_pixel_up_to_the_border(sigma, blur_sigma, size):
    points = random_points(2000, margin=0.0, size=size)
    corners = torch.tensor([[0.0, 0.0], [size[1] * 4 - 1, 0], [0, size[0] * 4 - 1], [size[1] * 4 - 1, size[0] * 4 - 1]])
    points = torch.cat((points, corners))
    found, _ = decode(targets_of(points, size=size, sigma=sigma), STRIDE, blur_sigma)
    assert (found[0] - points).norm(dim=-1).max() < 0.5


@given(
    x=st.floats(0, 127, width=32), y=st.floats(0, 95, width=32), stride=st.sampled_from([2, 4, 8]),
    amplitude=st.sampled_from([0.3, 1.0, 255.0]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_round_trip_at_any_point_stride_and_amplitude(x, y, stride, amplitude):
    maps = amplitude * targets_of([[x, y]], stride, (96 // stride, 128 // stride), sigma=1.5)
    found, score = decode(maps, stride, blur_sigma=1.0)
    assert (found[0, 0] - torch.tensor([x, y])).norm() < 0.5 * stride / 4
    assert 0.85 * amplitude < score[0, 0] <= amplitude * 1.0001


def test_the_quarter_move_points_to_the_higher_neighbor():
    cells = torch.tensor([[10.3, 10.4], [10.3, 9.6], [9.6, 10.4], [10.0, 10.0]])
    found, _ = decode(targets_of(to_pixels(cells, 4)), 4, blur_sigma=1.0, offset="quarter")
    expected = torch.tensor([[10.25, 10.25], [10.25, 9.75], [9.75, 10.25], [10.0, 10.0]])
    torch.testing.assert_close(to_cells(found[0], 4), expected)


def test_quarter_and_parabola_each_halve_the_error_of_the_one_before():
    points = random_points(2000, margin=16)
    maps = targets_of(points)
    best = maps.flatten(2).argmax(2)[0]
    cell = to_pixels(torch.stack((best % 32, best // 32), -1), 4)
    assert torch.equal(decode(maps, 4, 1.0, "none")[0][0], cell)
    error = [(cell - points).abs().mean()]
    error += [(decode(maps, 4, 1.0, offset)[0][0] - points).abs().mean() for offset in ("quarter", "parabola")]
    assert error[0] == pytest.approx(1.0, abs=0.05)  # a quarter of a cell of four pixels
    assert error[1] == pytest.approx(0.5, abs=0.05)
    assert error[2] < 0.01


def test_a_second_peak_far_away_does_not_move_the_first():
    maps = targets_of([[60.2, 40.7]]) + 0.8 * targets_of([[20.0, 70.0]])
    for offset in ("parabola", "quarter"):
        alone, _ = decode(targets_of([[60.2, 40.7]]), 4, 1.0, offset)
        found, _ = decode(maps, 4, 1.0, offset)
        torch.testing.assert_close(found, alone, rtol=0, atol=0.01)


@pytest.mark.parametrize("point", [[60.0, 40.0], [3.0, 40.0], [126.0, 94.0]])
def test_the_blur_prefers_a_broad_peak_to_a_single_hot_cell(point):
    maps = 0.7 * targets_of([point])
    maps[0, 0, 0, 1] = 1.0
    assert (decode(maps, 4, 1.0)[0][0, 0] - torch.tensor(point)).norm() < 0.5
    assert (decode(maps, 4, 0.0)[0][0, 0] - torch.tensor([5.5, 1.5])).norm() < 2.0


def test_noise_moves_points_little():
    points = random_points(500, margin=0)
    noise = torch.randn(1, 500, *SIZE, generator=torch.Generator().manual_seed(1)) * 0.02
    error = (decode(targets_of(points) + noise, 4, 1.0)[0][0] - points).norm(dim=-1)
    assert error.mean() < 0.5
    assert error.max() < 4


@pytest.mark.parametrize("maps", [torch.zeros(1, 2, 8, 8), -torch.rand(1, 2, 8, 8), torch.full((1, 2, 8, 8), 0.5)])
@pytest.mark.parametrize("offset", ["parabola", "quarter"])
def test_maps_without_a_peak_decode_to_finite_points(maps, offset):
    points, scores = decode(maps, 4, 1.0, offset)
    assert ((points >= -0.5) & (points <= 31.5)).all()
    assert ((scores >= maps.min()) & (scores <= maps.max())).all()


def test_decoding_does_not_follow_autocast_into_bfloat16():
    maps = targets_of(random_points(200, margin=0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        points, scores = decode(maps, 4, 1.0)
    expected, _ = decode(maps, 4, 1.0)
    assert points.dtype == scores.dtype == torch.float32
    assert torch.equal(points, expected)


@pytest.mark.parametrize("landmark_set", [FASHIONAI_24, DEEPFASHION_8], ids=lambda value: value.name)
def test_flipped_maps_are_those_of_the_mirrored_points(landmark_set):
    points = random_points(len(landmark_set), margin=0)[None]
    weight = torch.ones(points.shape[:2])
    flipped = points[:, list(landmark_set.flip_index)].clone()
    flipped[..., 0] = SIZE[1] * STRIDE - 1 - flipped[..., 0]
    maps = gaussian_targets(flipped, weight, SIZE, STRIDE, 2.0)
    expected = gaussian_targets(points, weight, SIZE, STRIDE, 2.0)
    torch.testing.assert_close(flip_maps(maps, landmark_set.flip_index), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(flip_maps(flip_maps(maps, landmark_set.flip_index), torch.tensor(landmark_set.flip_index)), maps)
