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


CROPPED = ViewConfig(**STILL, flip=0.0, crop_area=(0.2, 0.7), crop_aspect=(0.5, 2.0))


def cropped_region(
    config: ViewConfig, width: int, height: int, seed: int, box: list[float] | None = None
) -> np.ndarray:
    """Edges x1, y1, x2, y2 in the source of what fills the input, measured from its upper left corner."""
    matrix, _ = view_matrix(config, width, height, box, np.random.default_rng(seed))
    edges = np.array([[-0.5, -0.5], [config.input_size - 0.5, config.input_size - 0.5]])
    return (transform_points(edges, cv2.invertAffineTransform(matrix)) + 0.5).ravel()


def test_a_random_crop_has_an_area_and_aspect_of_the_range_and_lies_inside() -> None:
    regions = np.array([cropped_region(CROPPED, 300, 400, seed) for seed in range(300)])
    width, height = regions[:, 2] - regions[:, 0], regions[:, 3] - regions[:, 1]
    area, aspect = width * height / (300 * 400), width / height
    assert 0.2 < area.min() < 0.22
    assert 0.6 < area.max() < 0.7 + 1e-9
    assert 0.5 - 1e-9 < aspect.min() < 0.55
    assert 1.7 < aspect.max() < 2 + 1e-9
    assert regions[:, :2].min() > -1e-6
    assert regions[:, 2].max() < 300 + 1e-6
    assert regions[:, 3].max() < 400 + 1e-6
    assert abs(np.median(regions[:, 0] + width / 2) - 150) < 10


def test_a_random_crop_of_a_box_lies_in_the_box() -> None:
    config = CROPPED.model_copy(update={"crop": "box", "box_margin": 0.0})
    regions = np.array([cropped_region(config, 300, 400, seed, [100, 50, 199, 249]) for seed in range(50)])
    assert regions.min(axis=0)[:2].tolist() >= [100 - 1e-6, 50 - 1e-6]
    assert (regions.max(axis=0)[2:] <= [200 + 1e-6, 250 + 1e-6]).all()


def test_an_image_without_a_fitting_crop_gives_its_center() -> None:
    config = CROPPED.model_copy(update={"crop_area": (0.9, 1.0)})
    np.testing.assert_allclose(cropped_region(config, 1000, 100, 0), [400, 0, 600, 100], atol=1e-6)
    np.testing.assert_allclose(cropped_region(config, 100, 1000, 0), [0, 400, 100, 600], atol=1e-6)


def test_landmarks_follow_a_random_crop() -> None:
    """A landmark sees the color of the source pixel it stands for, however the crop is stretched, rotated and flipped."""
    config = ViewConfig(crop_area=(0.6, 0.9), crop_aspect=(0.6, 1.6), color_jitter=0.0, flip=0.5)
    sample = raw(2)
    ramp = np.stack(np.meshgrid(np.arange(200), np.arange(200)), axis=-1)
    image = np.dstack([ramp, np.full((200, 200), 7)]).astype(np.uint8)
    size = {"width": 200, "height": 200}
    points = {name: np.linspace(40, 160, 8) for name in ("landmark_x", "landmark_y")}
    jpeg = simplejpeg.encode_jpeg(image, quality=100, colorsubsampling="444")
    sample = RawSample(0, jpeg, {**sample.annotation, **size, **points})
    flips = set[bool]()
    for seed in range(8):
        view = view_of_sample(config, sample, np.random.default_rng(seed))
        flips.add(view.flipped)
        found = landmarks_in_view(sample.annotation, DEEPFASHION_8, view)["keypoints"].round().astype(int)
        order = list(DEEPFASHION_8.flip_index) if view.flipped else slice(None)
        for (x, y), expected in zip(found, points["landmark_x"][order], strict=True):
            if 2 <= x < 126 and 2 <= y < 126:
                assert np.abs(view.image[y, x, :2] - expected).max() < 5
    assert flips == {False, True}


def test_new_augmentations_change_nothing_unless_they_are_chosen() -> None:
    """The sequence of draws of a configuration is part of its results."""
    generator = np.random.default_rng(5)
    view_of_sample(ViewConfig(color_magnitude=0.9, crop_aspect=(0.5, 2.0), random_erase=0.0), raw(), generator)
    other = np.random.default_rng(5)
    other.random(8)  # angle, zoom, two shifts, flip, three color factors
    assert generator.random() == other.random()


def test_color_operations_are_a_function_of_the_generator_and_move_nothing() -> None:
    config = ViewConfig(**STILL, flip=0.0, color_operations=2)
    views = [view_of_sample(config, raw(), np.random.default_rng(seed)) for seed in (1, 1, 2, 3)]
    np.testing.assert_array_equal(views[0].image, views[1].image)
    assert len({view.image.tobytes() for view in views}) > 1
    for view in views:
        np.testing.assert_array_equal(view.matrix, view_of_sample(ViewConfig(**STILL), raw(), None).matrix)


@pytest.mark.parametrize("given", [{"crop_area": (0.5, 1.2)}, {"crop_area": (0.0, 1.0)}, {"crop_aspect": (2.0, 1.0)}])
def test_impossible_crops_are_refused(given: dict[str, tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="must be a range"):
        ViewConfig(**given)
