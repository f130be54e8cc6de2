"""NE by hand, by a plain loop and on real challenge answers; intervals, curves, the baseline."""

import csv
import math
import os
from pathlib import Path

import numpy as np
import pytest

from fschemas.failures import NonFiniteError, UsageError
from fschemas.landmarks import DEEPFASHION_8, FASHIONAI_24, Visibility
from ftrain.metrics.bootstrap import ratio_interval
from ftrain.metrics.mean_pose import MeanPose
from ftrain.metrics.normalized_error import (
    area_under_curve,
    detection_curve,
    errors_by_unit,
    garment_indices,
    is_of_own_unit,
    mean_error,
    normalized_distances,
    overall,
    summarize,
    with_unit,
)

REAL = Path(os.environ.get("FASHIONKIT_REAL", Path(__file__).parents[4] / "shared" / "real"))


def random_set(landmark_set, num_images, seed=0):
    """Predictions, landmarks, visibility, garments, width, height of images, some without normalizer."""
    generator = np.random.default_rng(seed)
    names = list(landmark_set.garments)
    garments = [names[index] for index in generator.integers(0, len(names), num_images)]
    width, height = generator.integers(60, 512, (2, num_images))
    points = (generator.random((num_images, len(landmark_set), 2)) * np.stack((width, height), 1)[:, None]).astype("f4")
    visibility = generator.choice([0, 1, 2, 2, 2], (num_images, len(landmark_set)))
    for row, garment in enumerate(garments):
        mask = np.ones(len(landmark_set), bool)
        mask[list(landmark_set.valid_landmarks(garment))] = False
        visibility[row, mask] = Visibility.NOT_APPLICABLE
    points[visibility < Visibility.OCCLUDED] = 0
    predicted = (points + generator.normal(0, 9, points.shape)).astype("f4")
    return predicted, points, visibility, garments, width, height


def plain_errors(predicted, points, visibility, garments, width, height, landmark_set):
    """One image and landmark at a time: (errors as (garment, landmark, value), excluded images, excluded landmarks)."""
    errors, images, lost = [], 0, 0
    for row, garment in enumerate(garments):
        visible = [k for k in range(len(landmark_set)) if visibility[row][k] == 2]
        if landmark_set.normalizer_pairs:
            a, b = landmark_set.normalizer_pairs[garment]
            known = visibility[row][a] >= 1 and visibility[row][b] >= 1
            length = math.dist(points[row][a].tolist(), points[row][b].tolist()) if known else 0.0
            divisors = (length, length)
        else:
            divisors = (float(width[row]), float(height[row]))
        if 0.0 in divisors:
            images, lost = images + 1, lost + len(visible)
            continue
        for k in visible:
            dx, dy = (float(predicted[row][k][axis]) - float(points[row][k][axis]) for axis in (0, 1))
            errors.append((garment, landmark_set.names[k], math.hypot(dx / divisors[0], dy / divisors[1])))
    return errors, images, lost


def mean(values):
    return sum(values) / len(values)


def measure(landmark_set, images, **options):
    return summarize(normalized_distances(*images, landmark_set), landmark_set, **options)


def skirt(visibility=(2, 2, 2, 2), waist=100.0):
    """A skirt with a waistband of `waist` pixels; every landmark is predicted (3, 4) = 5 pixels off."""
    points = np.zeros((1, 24, 2), np.float32)
    points[0, 15:19] = [(50, 20), (50 + waist, 20), (40, 300), (160, 300)]
    seen = np.full((1, 24), -1)
    seen[0, 15:19] = visibility
    return points + np.float32([3, 4]), points, seen, ["skirt"], np.array([200]), np.array([400])


def test_by_hand_a_skirt_of_four_points_five_pixels_off():
    result = measure(FASHIONAI_24, skirt())
    assert result["ne"] == result["ne_garment/skirt"] == result["ne_point/hemline_left"] == pytest.approx(0.05)
    assert result["points"] == 4
    assert result["images"] == 1
    assert "ne_garment/blouse" not in result
    assert "ne_diluted" not in result


def test_only_visible_points_count_but_occluded_ends_normalize():
    images = skirt(visibility=(1, 1, 2, 0))
    images[0][0, 15] += 1000
    result = measure(FASHIONAI_24, images)
    assert result["ne"] == pytest.approx(0.05)
    assert result["points"] == 1
    assert result["excluded_images"] == 0


@pytest.mark.parametrize(
    ("images", "lost"), [(skirt((0, 2, 2, 2)), 3), (skirt((0, 0, 2, 1)), 1), (skirt(waist=0.0), 4)]
)
def test_an_image_without_normalizer_is_excluded_and_counted(images, lost):
    both = [
        np.concatenate((a, b)) if isinstance(a, np.ndarray) else a + b for a, b in zip(skirt(), images, strict=True)
    ]
    result = measure(FASHIONAI_24, both)
    assert result["ne"] == pytest.approx(0.05)
    assert result["points"] == 4
    assert result["images"] == 2
    assert result["excluded_images"] == 1
    assert result["excluded_points"] == lost


def test_the_mean_is_over_points_not_over_images():
    few, many = skirt((2, 1, 1, 1)), skirt()
    few[0][0, 15] += np.float32([6, 8])  # 15 pixels off in all
    both = [np.concatenate((a, b)) if isinstance(a, np.ndarray) else a + b for a, b in zip(few, many, strict=True)]
    result = measure(FASHIONAI_24, both)
    assert result["ne"] == pytest.approx((0.15 + 4 * 0.05) / 5)
    assert result["ne_mean_of_points"] == pytest.approx((0.10 + 3 * 0.05) / 4)


def test_by_hand_deepfashion_divides_by_the_image_and_dilutes_apart():
    points = np.zeros((1, 8, 2), np.float32)
    points[0, 4:8] = [(20, 10), (80, 10), (20, 190), (80, 190)]
    seen = np.array([[-1, -1, -1, -1, 2, 2, 1, 0]])
    predicted = points + np.float32([3, 8])  # 3 / 100 and 8 / 200: hypotenuse 0.05
    result = measure(DEEPFASHION_8, (predicted, points, seen, ["lower"], np.array([100]), np.array([200])))
    assert result["ne"] == pytest.approx(0.05)
    assert result["ne_diluted"] == pytest.approx(2 * 0.05 / 8)
    assert result["points"] == 2


def test_by_hand_an_error_is_larger_in_units_of_the_box_than_of_the_image():
    points = np.zeros((1, 8, 2), np.float32)
    points[0, 4:6] = [(20, 40), (50, 40)]
    results = {
        "target": points, "visibility": np.array([[-1, -1, -1, -1, 2, 2, 0, 0]]), "garment": np.array([1]),
        "size": np.array([[100, 200]]), "box": np.array([[10.0, 20.0, 59.0, 119.0]]),
    }  # fmt: skip
    predicted = points + np.float32([3, 8])  # of the image 3% and 4%, of the box of 50 x 100 pixels 6% and 8%
    predicted[0, 5] = points[0, 5]
    errors = errors_by_unit(predicted, results, DEEPFASHION_8)
    assert {unit: mean_error(of_unit) for unit, of_unit in errors.items()} == pytest.approx(
        {"": 0.05 / 2, "image": 0.05 / 2, "box": 0.1 / 2}
    )
    del results["box"]
    assert errors_by_unit(predicted, results, DEEPFASHION_8).keys() == {"", "image"}


def test_the_mean_of_points_in_the_box_is_that_of_the_published_protocol():
    """Landmarks as shares of the cropped box, a mean per landmark over the images, then over the landmarks."""
    predicted, points, visibility, garments, width, height = random_set(DEEPFASHION_8, 40)
    generator = np.random.default_rng(5)
    corners = np.sort(generator.random((40, 2, 2)), axis=1) * np.stack((width, height), 1)[:, None]
    corners[:, 1] += 5
    crop = corners[:, 1] - corners[:, 0] + 1
    shares = [(where - corners[:, :1]) / crop[:, None] for where in (predicted, points)]
    distances = np.sqrt(((shares[0] - shares[1]) ** 2).sum(axis=2))
    expected = np.mean([distances[visibility[:, k] == 2, k].mean() for k in range(8)])
    results = {
        "target": points, "visibility": visibility, "garment": garment_indices(garments, DEEPFASHION_8),
        "size": np.stack((width, height), 1), "box": corners.reshape(-1, 4),
    }  # fmt: skip
    found = overall(errors_by_unit(predicted, results, DEEPFASHION_8)["box"], num_resamples=0)
    assert found["ne_mean_of_points"] == pytest.approx(expected, rel=1e-6)
    assert found["pck_20"] == pytest.approx((distances[visibility == 2] <= 0.2).mean())


def test_a_metric_names_its_unit_after_its_kind():
    found = with_unit({"ne": 1, "ne_low": 2, "pck_5": 3, "ne_mean_of_points": 4}, "box")
    assert found == {"ne_box": 1, "ne_box_low": 2, "pck_box_5": 3, "ne_box_mean_of_points": 4}
    assert not any(is_of_own_unit(name) for name in found)
    assert all(is_of_own_unit(name) for name in with_unit({"ne": 1, "ne_low": 2, "pck_auc": 3}, ""))


@pytest.mark.parametrize("landmark_set", [FASHIONAI_24, DEEPFASHION_8], ids=lambda value: value.name)
def test_agrees_with_a_plain_loop(landmark_set):
    images = random_set(landmark_set, 300)
    errors, excluded_images, excluded_points = plain_errors(*images, landmark_set)
    result = measure(landmark_set, images)
    assert (excluded_images > 0) == bool(landmark_set.normalizer_pairs)
    assert result["excluded_images"] == excluded_images
    assert result["excluded_points"] == excluded_points
    assert result["points"] == len(errors)
    assert result["ne"] == pytest.approx(mean([value for _, _, value in errors]), rel=1e-9)
    for garment in landmark_set.garments:
        expected = mean([value for kind, _, value in errors if kind == garment])
        assert result[f"ne_garment/{garment}"] == pytest.approx(expected, rel=1e-9)
    for point in landmark_set.names:
        expected = mean([value for _, name, value in errors if name == point])
        assert result[f"ne_point/{point}"] == pytest.approx(expected, rel=1e-9)


def test_garments_may_be_names_or_indices_and_an_unknown_one_is_a_sentence():
    images = random_set(FASHIONAI_24, 20)
    indices = np.array([list(FASHIONAI_24.garments).index(name) for name in images[3]])
    by_index = (*images[:3], indices, *images[4:])
    assert measure(FASHIONAI_24, by_index) == measure(FASHIONAI_24, images)
    for unknown in (["hat"] * 20, np.full(20, 5), np.full(20, -1)):
        with pytest.raises(UsageError, match="has no garment"):
            measure(FASHIONAI_24, (*images[:3], unknown, *images[4:]))


def test_a_prediction_that_is_not_finite_stops_where_it_counts_only():
    images = skirt((1, 2, 2, 2))
    images[0][0, 15] = np.nan  # occluded
    images[0][0, 0] = np.nan  # not a landmark of a skirt
    assert measure(FASHIONAI_24, images)["points"] == 3
    images[0][0, 17, 1] = np.inf
    with pytest.raises(NonFiniteError, match="image 0 of the batch, hemline_left"):
        measure(FASHIONAI_24, images)


def part(images, rows):
    return [[value[row] for row in rows] if isinstance(value, list) else value[rows] for value in images]


def test_the_order_of_images_does_not_change_a_digit():
    images = random_set(FASHIONAI_24, 101)
    order = np.random.default_rng(1).permutation(101).tolist()
    assert measure(FASHIONAI_24, part(images, order)) == measure(FASHIONAI_24, images)


def test_an_empty_set_has_no_number():
    result = measure(FASHIONAI_24, part(skirt(), []))
    assert math.isnan(result["ne"])
    assert result["images"] == result["points"] == 0


def test_the_interval_is_that_of_a_plain_bootstrap_and_covers_the_mean():
    generator = np.random.default_rng(0)
    counts = generator.integers(1, 15, 400)
    sums = generator.gamma(2.0, 0.02, 400) * counts
    low, high = ratio_interval(sums, counts, seed=0)
    ratios = []
    for _ in range(2000):
        drawn = generator.choice(400, 400)
        ratios.append(sums[drawn].sum() / counts[drawn].sum())
    assert low < sums.sum() / counts.sum() < high
    assert (low, high) == pytest.approx(np.percentile(ratios, [2.5, 97.5]), rel=0.02)
    order = generator.permutation(400)
    assert ratio_interval(sums[order], counts[order], seed=0) == (low, high)
    assert ratio_interval(sums, counts, seed=1) != (low, high)


def test_the_interval_does_not_depend_on_how_many_resamples_fit_at_once(monkeypatch):
    sums, counts = np.arange(1.0, 31.0), np.arange(2, 32)
    expected = ratio_interval(sums, counts)
    monkeypatch.setattr("ftrain.metrics.bootstrap._DRAWS_AT_ONCE", 100)
    assert ratio_interval(sums, counts) == expected


def test_the_curve_counts_shares_up_to_and_including_the_threshold():
    distances = np.array([[0.0, 0.05, 9.0], [0.1, 0.3, 0.2]])
    counted = np.array([[True, True, False], [True, True, True]])
    thresholds, shares = detection_curve(distances, counted, limit=0.2, num_thresholds=5)
    assert thresholds == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    assert shares.tolist() == [0.2, 0.4, 0.6, 0.6, 0.8]
    assert area_under_curve(thresholds, shares) == pytest.approx((0.3 + 0.5 + 0.6 + 0.7) / 4)
    assert area_under_curve(*detection_curve(np.zeros((2, 3)), np.ones((2, 3)))) == pytest.approx(1.0)


def test_the_mean_pose_is_the_mean_place_in_the_image():
    points = np.zeros((2, 24, 2), np.float32)
    points[0, 15:17] = [(19.5, 39.5), (9.5, 9.5)]  # of 100 x 100: (0.2, 0.4), (0.1, 0.1)
    points[1, 15:17] = [(119.5, 159.5), (0, 0)]  # of 200 x 200: (0.6, 0.8), absent
    seen = np.full((2, 24), -1)
    seen[:, 15:17] = [(2, 1), (2, 0)]
    pose = MeanPose.fit(points, seen, ["skirt", "skirt"], [100, 200], [100, 200], FASHIONAI_24)
    skirt_index, trousers_index = 3, 4
    np.testing.assert_allclose(pose.means[skirt_index, 15:17], [(0.4, 0.6), (0.1, 0.1)], atol=1e-6)
    np.testing.assert_array_equal(pose.means[trousers_index, 15], pose.means[skirt_index, 15])  # unseen garment
    assert pose.means[trousers_index, 23].tolist() == [0.5, 0.5]  # unseen landmark
    found = pose.predict(["skirt"], [50], [20])
    np.testing.assert_allclose(found[0, 15], [0.4 * 50 - 0.5, 0.6 * 20 - 0.5], atol=1e-6)


def test_the_mean_pose_is_exact_where_all_images_look_alike():
    images = skirt()
    pose = MeanPose.fit(images[1], images[2], ["skirt"], [200], [400], FASHIONAI_24)
    for scale in (1, 2):
        truth = (images[1] + 0.5) * scale - 0.5
        width, height = np.array([200 * scale]), np.array([400 * scale])
        guess = pose.predict(["skirt"], width, height)
        errors = normalized_distances(guess, truth, images[2], ["skirt"], width, height, FASHIONAI_24)
        assert mean_error(errors) == pytest.approx(0, abs=1e-6)


def read_answers(path):
    """Landmarks, visibility and garments of a challenge file; its v 1, 0, -1 are visible, occluded, unknown."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    cells = np.array([[cell.split("_") if cell[0] != "-" else (0, 0, -1) for cell in row[2:]] for row in rows], float)
    visibility = np.select([cells[..., 2] == 1, cells[..., 2] == 0], [2, 1], 0)
    return cells[..., :2], visibility, [row[1] for row in rows]


def test_real_answers_of_the_challenge():
    path = REAL / "fashionai_keypoints" / "round1_test_a" / "fashionAI_key_points_test_a_answer_20180426.csv"
    if not path.exists():
        pytest.skip("the challenge's answers are not here")
    points, visibility, garments = read_answers(path)
    size = np.full(len(garments), 512)
    perfect = normalized_distances(points, points, visibility, garments, size, size, FASHIONAI_24)
    assert len(garments) == 9996
    assert mean_error(perfect) == 0
    pose = MeanPose.fit(points, visibility, garments, size, size, FASHIONAI_24)
    guess = pose.predict(garments, size, size)
    baseline = normalized_distances(guess, points, visibility, garments, size, size, FASHIONAI_24)
    errors, excluded_images, excluded_points = plain_errors(
        guess, points, visibility, garments, size, size, FASHIONAI_24
    )
    assert baseline.excluded.sum() == excluded_images == 19 + 34  # one end missing, both missing
    assert baseline.excluded_points.sum() == excluded_points
    assert mean_error(baseline) == pytest.approx(mean([value for _, _, value in errors]), rel=1e-9)
    assert 0.1 < mean_error(baseline) < 1.0
