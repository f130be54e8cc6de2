"""The color feature: length, near and far colors, weighting by position, and weights of any kind."""

import cv2
import numpy as np
import pytest

from ftrain.data.color import CHROMA_CENTERS, COLOR_DIMS, LIGHTNESS_CENTERS, color_feature, unpadded_region
from ftrain.data.image import fit_matrix, warp_image

RED, DARKER_RED, BLUE, WHITE, GREY = (200, 30, 40), (180, 26, 36), (30, 40, 200), (255, 255, 255), (128, 128, 128)


def plain(color, size=(40, 30)):
    return np.full((*size, 3), color, np.uint8)


def similarity(first, second, **options):
    return float(color_feature(first, **options) @ color_feature(second, **options))


@pytest.mark.parametrize("color", [RED, BLUE, WHITE, GREY, (0, 0, 0), (0, 255, 0)])
def test_a_plain_image_has_the_colors_beside_its_own(color):
    feature = color_feature(plain(color))
    assert feature.shape == (COLOR_DIMS,)
    assert feature.dtype == np.float32
    assert (feature >= 0).all()
    assert np.linalg.norm(feature) == pytest.approx(1, abs=1e-6)
    lab = cv2.cvtColor(plain(color, (1, 1)).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0, 0]
    centers = np.stack(np.meshgrid(LIGHTNESS_CENTERS, CHROMA_CENTERS, CHROMA_CENTERS, indexing="ij"), axis=-1).reshape(
        -1, 3
    )
    mean = (feature.astype(float) ** 2) @ centers  # linear interpolation keeps the mean, inside of all centers
    bounds = np.array([[10, 90], [-64, 64], [-64, 64]], float)
    np.testing.assert_allclose(mean, np.clip(lab, *bounds.T), atol=1e-3)


def test_the_dot_product_is_the_bhattacharyya_coefficient():
    half = plain(RED)
    half[:, 15:] = BLUE
    weight = np.ones((40, 30))
    red, blue, both = (color_feature(image, weight) for image in (plain(RED), plain(BLUE), half))
    assert red @ blue == pytest.approx(0, abs=1e-6)
    assert both @ red == pytest.approx(np.sqrt(0.5), abs=1e-3)
    shares = both.astype(float) ** 2
    assert shares.sum() == pytest.approx(1, abs=1e-6)


def test_near_colors_are_near():
    assert similarity(plain(RED), plain(DARKER_RED)) > 0.9
    assert similarity(plain(RED), plain(GREY)) < 0.3
    steps = [similarity(plain((120, 60, 60)), plain((120 + step, 60, 60))) for step in range(0, 60, 4)]
    assert np.all(np.diff(steps) < 1e-6)  # no jump across a border between bins
    assert min(np.diff(steps)) > -0.15


def test_place_weighs_but_does_not_order():
    """An earlier system compared its ten strongest cells by position: a moved collar was another color."""
    left, right = plain(RED), plain(RED)
    left[10:20, 8:14] = right[10:20, 16:22] = WHITE
    even = np.ones((8, 6))
    assert similarity(left, right, weight=even) == pytest.approx(1, abs=1e-4)
    inside = np.zeros((40, 30))
    inside[10:20, 8:14] = 1
    assert color_feature(left, inside) @ color_feature(plain(WHITE)) > 0.99


def test_without_weight_the_middle_counts_most():
    middle, edge = plain(WHITE), plain(WHITE)
    middle[15:25, 10:20], edge[:10, :10] = RED, RED
    assert color_feature(middle) @ color_feature(plain(RED)) > 2 * (color_feature(edge) @ color_feature(plain(RED)))


@pytest.mark.parametrize("weight", [np.zeros((3, 3)), np.full((2, 2), -1.0), np.full((2, 2), np.nan)])
def test_a_weight_without_any_place_is_no_weight(weight):
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    np.testing.assert_array_equal(color_feature(image, weight), color_feature(image))


def test_size_does_not_matter():
    image = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8), (500, 600))
    small = cv2.resize(image, (100, 120), interpolation=cv2.INTER_AREA)
    assert similarity(image, small) > 0.995
    assert color_feature(np.zeros((1, 900, 3), np.uint8)).shape == (COLOR_DIMS,)


@pytest.mark.parametrize(
    ("width", "height", "box"),
    [(30, 90, None), (400, 90, None), (64, 64, None), (7, 500, None), (1, 900, None), (300, 200, (-40, 20, 350, 190))],
)
def test_padding_does_not_vote(width, height, box):
    """Gray padding was 11% of the votes on average, and 28% on narrow images."""
    matrix = fit_matrix(width, height, 64, region=box).astype(np.float32)
    view, region = warp_image(plain(RED, (height, width)), matrix, 64), unpadded_region(matrix, width, height, 64)
    left, top, right, bottom = region
    if width > 7:  # what is less than a pixel wide in the view is blended with the padding
        assert (view[top:bottom, left:right] == RED).all()
        assert color_feature(view, np.ones((2, 2)), region) @ color_feature(plain(RED)) == pytest.approx(1, abs=1e-5)
    outside = np.ones((64, 64), bool)
    outside[top:bottom, left:right] = False
    assert not (view[outside] == RED).all(axis=1).any()  # no pixel of the image is lost


def test_a_weight_is_cut_like_the_image():
    image = plain(GREY, (64, 64))
    image[:32, 16:48], image[32:, 16:48] = RED, BLUE
    upper = np.array([[1.0, 1.0], [0.0, 0.0]])
    found = color_feature(image, upper, (16, 0, 48, 64))
    assert found @ color_feature(plain(RED)) > 2 * (found @ color_feature(plain(BLUE)))
