"""Normalized error (NE) of landmarks, the metric of the FashionAI challenge and of the DeepFashion landmark tables.

NE = sum over visible landmarks of distance / normalizer, divided by the number of these landmarks, over the whole set
(micro average, not a mean of image means). The normalizer is the ground-truth distance between the two landmarks of the
garment's normalizer pair (armpits or waistband ends). A landmark set without pairs divides x by the image width and y
by the image height. Two other units are the same for every set: `image`, these sides of the image, and `box`, those of
the annotated bounding box, per axis. Published DeepFashion figures are in units of the box, as the mean of the
landmarks' means (`ne_box_mean_of_points`; Liu et al., ECCV 2016, and its successors); they are larger than errors in
units of the image by the ratio of image to box, so that the two must not be compared.

An image without normalizer (an end of the pair has no coordinates, or both ends coincide) is excluded and counted; in
FashionAI's test a, 53 of 9,996 images lack an end. Public implementations divide by 1e6, 256 or 100 instead, each with
a different result.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fschemas.failures import NonFiniteError
from fschemas.landmarks import LandmarkSet, Visibility
from ftrain.data.types import Results
from ftrain.metrics.bootstrap import ratio_interval

Value = TypeVar("Value")
PCK_PERCENTS = (5, 10, 20)
UNITS = {"reference": "the reference length", "image": "the image", "box": "the box"}  # and how tables call them


@dataclass(frozen=True)
class PointErrors:
    """Normalized distances of N images, from which all landmark metrics are computed.

    `distances` N, K are float64, and 0 where `counted` N, K is false; `garments` N index
    `tuple(landmark_set.garments)`; `excluded` N marks images without normalizer, `excluded_points` N counts their
    visible landmarks.
    """

    distances: NDArray[np.float64]
    counted: NDArray[np.bool_]
    garments: NDArray[np.int64]
    excluded: NDArray[np.bool_]
    excluded_points: NDArray[np.int64]


def garment_indices(garments: Sequence[str] | ArrayLike, landmark_set: LandmarkSet) -> NDArray[np.int64]:
    """Convert garments N (names or indices) to indices N into `tuple(landmark_set.garments)`.

    Raises `UsageError` for an unknown garment.
    """
    names = list(landmark_set.garments)
    values = np.asarray(garments)
    if values.dtype.kind == "U":
        for name in set(values.tolist()) - set(names):
            landmark_set.valid_landmarks(name)  # raises
        return np.array([names.index(name) for name in values.tolist()], dtype=np.int64)
    indices = values.astype(np.int64)
    for index in set(indices.tolist()) - set(range(len(names))):
        landmark_set.valid_landmarks(str(index))  # raises
    return indices


def normalizers(
    points: NDArray[np.floating],
    visibility: NDArray[np.integer],
    garments: NDArray[np.int64],
    width: NDArray[np.number],
    height: NDArray[np.number],
    landmark_set: LandmarkSet,
) -> NDArray[np.float64]:
    """Divisors of dx and dy for each image: N, 2 in pixels; 0 for an image without normalizer.

    `points` N, K, 2 and `visibility` N, K are the ground truth, `garments` N indices.
    """
    if not landmark_set.normalizer_pairs:
        return np.stack((np.asarray(width, np.float64), np.asarray(height, np.float64)), axis=-1)
    pairs = np.array([landmark_set.normalizer_pairs[name] for name in landmark_set.garments])[garments]
    image = np.arange(len(points))
    first, second = (points[image, pairs[:, end]].astype(np.float64) for end in (0, 1))
    located = (visibility[image[:, None], pairs] >= Visibility.OCCLUDED).all(axis=1)
    distance = np.where(located, np.hypot(*(first - second).T), 0.0)
    return np.repeat(distance[:, None], 2, axis=1)


def normalized_distances(
    predicted: ArrayLike,
    points: ArrayLike,
    visibility: ArrayLike,
    garments: Sequence[str] | ArrayLike,
    width: ArrayLike,
    height: ArrayLike,
    landmark_set: LandmarkSet,
    sides: ArrayLike | None = None,
) -> PointErrors:
    """Normalized distance of every visible landmark of N images.

    `predicted` and `points` are N, K, 2 in pixels of the original image, `visibility` N, K, `garments` N names or
    indices, `width` and `height` N in pixels. `sides` N, 2 in pixels divide x and y instead of the normalizers of the
    set. Raises `NonFiniteError` if a counted prediction is not finite.
    """
    guess, truth, seen = np.asarray(predicted, np.float64), np.asarray(points, np.float64), np.asarray(visibility)
    kinds = garment_indices(garments, landmark_set)
    shape = (len(kinds), len(landmark_set), 2)
    assert guess.shape == truth.shape == shape, (guess.shape, truth.shape, shape)
    assert seen.shape == shape[:2], (seen.shape, shape)
    if sides is None:
        divisors = normalizers(truth, seen, kinds, np.asarray(width), np.asarray(height), landmark_set)
    else:
        divisors = np.asarray(sides, np.float64)
    excluded = np.any(~(divisors > 0), axis=1)
    visible = np.equal(seen, Visibility.VISIBLE)
    counted = visible & ~excluded[:, None]
    difference = np.where(counted[..., None], guess - truth, 0.0)
    distances = np.hypot(*np.moveaxis(difference / np.where(excluded[:, None], 1.0, divisors)[:, None, :], -1, 0))
    if not np.isfinite(distances).all():
        image, index = np.argwhere(~np.isfinite(distances))[0]
        name = f"image {image} of the batch, {landmark_set.names[index]}"
        raise NonFiniteError(f"{name}: predicted at {guess[image, index].tolist()}; check the weights for NaN")
    lost = np.where(excluded, visible.sum(axis=1), 0).astype(np.int64)
    return PointErrors(distances, counted, kinds, excluded, lost)


def own_unit(landmark_set: LandmarkSet) -> str:
    """Key of `UNITS` for the metrics of a landmark set that do not name their unit, such as "ne" and "pck_5"."""
    return "reference" if landmark_set.normalizer_pairs else "image"


def is_of_own_unit(name: str) -> bool:
    """Whether a metric called `name` is in the unit of its landmark set, so that two sets cannot be compared by it."""
    parts = name.split("_")
    return parts[0] in ("ne", "pck") and parts[1:2] not in (["image"], ["box"])


def errors_by_unit(predicted: ArrayLike, results: Results, landmark_set: LandmarkSet) -> dict[str, PointErrors]:
    """Errors of `predicted` N, K, 2 in the set's own unit, under "", and in units of the image and of the box.

    `results` holds the ground truth: `target`, `visibility`, `garment`, `size`, and the `box` if it is annotated.
    """
    size = results["size"]
    truth = (results["target"], results["visibility"], results["garment"], size[:, 0], size[:, 1], landmark_set)
    sides = {"image": size, **({"box": box_sides(results["box"])} if "box" in results else {})}
    return {"": normalized_distances(predicted, *truth)} | {
        unit: normalized_distances(predicted, *truth, of_unit) for unit, of_unit in sides.items()
    }


def box_sides(boxes: ArrayLike) -> NDArray[np.float64]:
    """Width and height of boxes N, 4 (x1, y1, x2, y2: centers of the corner pixels): N, 2 in pixels."""
    corners = np.asarray(boxes, np.float64)
    return corners[:, 2:] - corners[:, :2] + 1


def with_unit(metrics: Mapping[str, Value], unit: str) -> dict[str, Value]:
    """Name the unit in the names of metrics: "pck_5" becomes "pck_box_5"; without a unit, they stay as they are."""
    return {
        "_".join(filter(None, [*name.split("_")[:1], unit, *name.split("_")[1:]])): metrics[name] for name in metrics
    }


def mean_error(errors: PointErrors, among: NDArray[np.bool_] | None = None) -> float:
    """NE over the counted landmarks (within `among` N, K, if given); NaN if there are none.

    The sum is exact, so the order of the images does not matter.
    """
    counted = errors.counted if among is None else errors.counted & among
    num_landmarks = int(counted.sum())
    return math.fsum(errors.distances[counted].tolist()) / num_landmarks if num_landmarks else math.nan


def overall(errors: PointErrors, num_resamples: int = 1000, seed: int = 0) -> dict[str, float]:
    """Compute the metrics of a set in one unit, as shares (0.0477 is "4.77%"); NaN if no landmark is counted.

    "ne" with "ne_low" and "ne_high" (95% bootstrap interval over `num_resamples` resamples of images; 0: none),
    "ne_mean_of_points" (mean of the landmarks' means, as in the DeepFashion tables), "pck_5", "pck_10", "pck_20" (share
    of the landmarks within 5% …) and "pck_auc" (area under the PCK curve up to 0.2).
    """
    result = {"ne": mean_error(errors)}
    if num_resamples:
        sums = np.array([math.fsum(row) for row in errors.distances.tolist()])
        low, high = ratio_interval(sums, errors.counted.sum(axis=1), num_resamples=num_resamples, seed=seed)
        result |= {"ne_low": low, "ne_high": high}
    means = landmark_means(errors).values()
    result["ne_mean_of_points"] = math.fsum(means) / len(means) if means else math.nan
    distances = errors.distances[errors.counted]
    for percent in PCK_PERCENTS:
        result[f"pck_{percent}"] = float(np.mean(distances <= percent / 100)) if len(distances) else math.nan
    result["pck_auc"] = area_under_curve(*detection_curve(errors.distances, errors.counted))
    return result


def landmark_means(errors: PointErrors) -> dict[int, float]:
    """NE of each landmark, by index, where any is counted."""
    columns = zip(errors.distances.T, errors.counted.T, strict=True)
    return {
        index: math.fsum(distances[counted].tolist()) / int(counted.sum())
        for index, (distances, counted) in enumerate(columns)
        if counted.any()
    }


def diluted_error(errors: PointErrors) -> float:
    """NE in which invisible landmarks count as predicted without error, for comparison with the tables of mmfashion."""
    num_slots = int((~errors.excluded).sum()) * errors.counted.shape[1]
    return math.fsum(errors.distances.ravel().tolist()) / num_slots if num_slots else math.nan


def summarize(
    errors: PointErrors, landmark_set: LandmarkSet, num_resamples: int = 1000, seed: int = 0
) -> dict[str, float]:
    """Compute all metrics of a set in its own unit; NaN if no landmark is counted.

    Those of `overall`, "ne_garment/<garment>" and "ne_point/<landmark>" where any landmark is counted, "images",
    "points", "excluded_images" and "excluded_points"; for a landmark set without pairs also
    "ne_diluted". No result depends on batching or on the order of images.
    """
    result = overall(errors, num_resamples, seed)
    if not landmark_set.normalizer_pairs:
        result["ne_diluted"] = diluted_error(errors)
    for index, garment in enumerate(landmark_set.garments):
        among = np.broadcast_to((errors.garments == index)[:, None], errors.counted.shape)
        if (errors.counted & among).any():
            result[f"ne_garment/{garment}"] = mean_error(errors, among)
    points = {f"ne_point/{landmark_set.names[index]}": value for index, value in landmark_means(errors).items()}
    return result | points | {
        "images": float(len(errors.excluded)),
        "points": float(errors.counted.sum()),
        "excluded_images": float(errors.excluded.sum()),
        "excluded_points": float(errors.excluded_points.sum()),
    }  # fmt: skip


def detection_curve(
    distances: ArrayLike, counted: ArrayLike, limit: float = 0.2, num_thresholds: int = 101
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return thresholds T from 0 to `limit` and, for each, the share of counted keypoints within that distance.

    `distances` and `counted` are N, K as in `PointErrors`. Shares are NaN if no keypoint is counted.
    """
    thresholds = np.linspace(0.0, limit, num_thresholds)
    chosen = np.sort(np.asarray(distances, np.float64)[np.asarray(counted, bool)])
    if not len(chosen):
        return thresholds, np.full(num_thresholds, math.nan)
    return thresholds, np.searchsorted(chosen, thresholds, side="right") / len(chosen)


def area_under_curve(thresholds: ArrayLike, shares: ArrayLike) -> float:
    """Trapezoidal area under the curve, divided by the range of the thresholds: 1 for a perfect model. Both are T."""
    x = np.asarray(thresholds, np.float64)
    return float(np.trapezoid(np.asarray(shares, np.float64), x) / (x[-1] - x[0]))
