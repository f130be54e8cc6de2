"""The mean pose, a baseline for landmark models that ignores the image (but knows the box, if the model does)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fschemas.landmarks import LandmarkSet, Visibility
from ftrain.metrics.normalized_error import box_sides, garment_indices

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class MeanPose:
    """Mean position of every landmark per garment: `means` G, K, 2, as shares of width and height within [0, 1].

    Shares of the image, or of the bounding box if the pose was fitted to boxes.
    A landmark that a garment never has in training gets its mean over all garments; one that never occurs, the image
    center.
    """

    landmark_set: LandmarkSet
    means: FloatArray

    @classmethod
    def fit(
        cls,
        points: ArrayLike,
        visibility: ArrayLike,
        garments: Sequence[str] | ArrayLike,
        width: ArrayLike,
        height: ArrayLike,
        landmark_set: LandmarkSet,
        boxes: ArrayLike | None = None,
    ) -> Self:
        """Average the landmarks with coordinates (including occluded ones) of N training images.

        `points` N, K, 2 in pixels, `visibility` N, K, `garments` N names or indices, `width` and `height` N in pixels.
        With `boxes` N, 4, positions are relative to the boxes instead of the images, here and in `predict`.
        """
        corners, sizes = _frames(width, height, boxes)
        relative = (np.asarray(points, np.float64) - corners + 0.5) / sizes
        located = np.asarray(visibility) >= Visibility.OCCLUDED
        kinds = garment_indices(garments, landmark_set)
        num_garments, num_landmarks = len(landmark_set.garments), len(landmark_set)
        sums, counts = np.zeros((num_garments, num_landmarks, 2)), np.zeros((num_garments, num_landmarks, 1))
        np.add.at(sums, kinds, np.where(located[..., None], relative, 0.0))
        np.add.at(counts, kinds, located[..., None].astype(np.float64))
        overall = _ratio(sums.sum(axis=0), counts.sum(axis=0), np.full((num_landmarks, 2), 0.5))
        return cls(landmark_set, np.clip(_ratio(sums, counts, overall), 0.0, 1.0))

    def predict(
        self, garments: Sequence[str] | ArrayLike, width: ArrayLike, height: ArrayLike, boxes: ArrayLike | None = None
    ) -> FloatArray:
        """Predict landmarks N, K, 2 in pixels for N garments and image sizes, or boxes N, 4."""
        corners, sizes = _frames(width, height, boxes)
        return corners + self.means[garment_indices(garments, self.landmark_set)] * sizes - 0.5


def _frames(width: ArrayLike, height: ArrayLike, boxes: ArrayLike | None) -> tuple[FloatArray, FloatArray]:
    """Top left corner and size of the images or boxes, both N, 1, 2 in pixels."""
    sizes = np.stack((np.asarray(width, np.float64), np.asarray(height, np.float64)), axis=-1)
    corners = np.zeros_like(sizes)
    if boxes is not None:
        corners, sizes = np.asarray(boxes, np.float64)[:, :2], box_sides(boxes)
    return corners[:, None], sizes[:, None]


def _ratio(sums: FloatArray, counts: FloatArray, fallback: FloatArray) -> FloatArray:
    """Return sums / counts, or the fallback where the count is 0."""
    return np.where(counts > 0, sums / np.maximum(counts, 1.0), fallback)
