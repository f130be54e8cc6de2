"""Views: boxes and landmarks move with the image, and the view of a box is the view of the cropped image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import simplejpeg
from tests.shard_sets import label_sample

from fschemas.landmarks import DEEPFASHION_8
from ftrain.data.config import ViewConfig
from ftrain.data.image import transform_points
from ftrain.data.stream import RawSample
from ftrain.data.view import encoded_image, landmarks_in_view, names_as_ids, view_matrix, view_of_sample

STILL = {"rotation": 0.0, "scale": (1.0, 1.0), "translate": 0.0, "color_jitter": 0.0}


def raw(number: int = 0) -> RawSample:
    sample = label_sample(number, "train", DEEPFASHION_8, items=8)
    return RawSample(number, sample.image, sample.annotation)


def test_a_box_fills_the_square_and_keeps_its_aspect() -> None:
    config = ViewConfig(input_size=64, crop="box", box_margin=0.0)
    matrix, flipped = view_matrix(config, 200, 100, [20, 10, 59, 29], None)  # 40 x 20 pixels
    corners = transform_points(np.array([[19.5, 9.5], [59.5, 29.5]]), matrix)
    np.testing.assert_allclose(corners, [[-0.5, 15.5], [63.5, 47.5]])
    assert not flipped


def test_a_margin_is_a_share_of_the_longer_side() -> None:
    wide, _ = view_matrix(ViewConfig(input_size=64, crop="box", box_margin=0.5), 200, 100, [20, 10, 59, 29], None)
    expected, _ = view_matrix(
        ViewConfig(input_size=64, crop="box", box_margin=0.0), 200, 100, [0.5, -9.5, 78.5, 48.5], None
    )
    np.testing.assert_allclose(wide, expected)


def test_the_view_of_a_box_is_the_view_of_the_cut_out() -> None:
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    whole = encoded_image(ViewConfig(input_size=64, box_margin=0.0, crop="box"), image, [30, 20, 93, 83])
    cut = encoded_image(ViewConfig(input_size=64), image[20:84, 30:94])
    np.testing.assert_array_equal(whole["image"], cut["image"])


@pytest.mark.parametrize("crop", ["image", "box"])
def test_mirrored_points_carry_the_names_of_their_partners(crop: str) -> None:
    sample, generator = raw(2), np.random.default_rng(0)  # a full-body garment: all eight landmarks
    plain = view_of_sample(ViewConfig(**STILL, crop=crop), sample, None)
    flipped = view_of_sample(ViewConfig(**STILL, crop=crop, flip=1.0), sample, generator)
    before = landmarks_in_view(sample.annotation, DEEPFASHION_8, plain)
    after = landmarks_in_view(sample.annotation, DEEPFASHION_8, flipped)
    partners = list(DEEPFASHION_8.flip_index)
    assert flipped.flipped
    assert not plain.flipped
    np.testing.assert_allclose(after["keypoints"][:, 0], 127 - before["keypoints"][partners, 0], atol=1e-3)
    np.testing.assert_allclose(after["keypoints"][:, 1], before["keypoints"][partners, 1], atol=1e-3)
    assert after["keypoint_visibility"].tolist() == before["keypoint_visibility"][partners].tolist()
    assert after["target"].tolist() == before["target"].tolist()
    back = transform_points(before["keypoints"].astype(float), cv2.invertAffineTransform(plain.matrix.astype(float)))
    np.testing.assert_allclose(back, before["target"], atol=1e-3)


def test_what_is_random_is_a_function_of_the_generator() -> None:
    config = ViewConfig(random_erase=1.0)
    first, again, other = (view_of_sample(config, raw(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.image, again.image)
    assert (first.image != other.image).any()


def test_erasing_greys_one_rectangle() -> None:
    plain = view_of_sample(ViewConfig(**STILL, flip=0.0), raw(), None).image
    erased = view_of_sample(ViewConfig(**STILL, flip=0.0, random_erase=1.0), raw(), np.random.default_rng(3)).image
    changed = (plain != erased).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    inside = erased[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert (inside == 128).all()
    assert 0.01 < inside.shape[0] * inside.shape[1] / plain.shape[0] ** 2 < 0.25


def test_no_label_is_no_class() -> None:
    dataset = {"vocabularies": {"category": {"values": ["Blouse", "Dress"]}}}
    assert names_as_ids(dataset, "category") == {"": -1, "Blouse": 0, "Dress": 1}


def test_an_image_is_decoded_as_its_jpeg() -> None:
    sample = raw()
    image = simplejpeg.decode_jpeg(sample.image, "RGB", fastupsample=True)
    same = encoded_image(ViewConfig(), image)["image"]
    np.testing.assert_array_equal(view_of_sample(ViewConfig(), sample, None).image, same)
