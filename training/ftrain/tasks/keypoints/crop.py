"""Crops from keypoints, for data without bounding boxes (`model.crop=keypoints`).

Training views show the extent of the annotated keypoints, shifted at random, or sometimes the whole image; therefore
the same network can find the garment in the whole image and then look at it closely. In FashionAI, crops gained HqWei .8
points of NE; HiKapok predicts twice, as here.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fschemas.landmarks import Visibility
from ftrain.tasks.keypoints.config import KeypointsConfig

_LEAST_EXTENT = 0.05  # of the longer side of the image; keypoints that span less say nothing about the garment
_LEAST_SCORE = 0.1  # peak of a keypoint that the network has found; the targets have peaks of 1


def training_crop(
    config: KeypointsConfig, annotation: Mapping[str, Any], generator: np.random.Generator | None
) -> list[float] | None:
    """Box (x1, y1, x2, y2 in pixels) around the annotated keypoints; None is the whole image.

    Each side moves by up to `crop_jitter` of the longer side; without a generator, none does.
    """
    points = np.stack([annotation["landmark_x"], annotation["landmark_y"]], axis=-1)
    known = np.asarray(annotation["landmark_visibility"]) >= Visibility.OCCLUDED
    box = _extent(points[known], annotation["width"], annotation["height"])
    if generator is None or box is None:
        return None if box is None else box.tolist()
    jitter = generator.uniform(-config.crop_jitter, config.crop_jitter, 4) * (box[2:] - box[:2]).max()
    return None if generator.random() < config.whole_image_ratio else (box + jitter).tolist()


def found_crop(points: np.ndarray, scores: np.ndarray, width: float, height: float) -> list[float]:
    """Box around the predicted keypoints K, 2 with scores K of one garment; the whole image if too few are found."""
    box = _extent(points[scores >= _LEAST_SCORE], width, height)
    return [0.0, 0.0, width - 1.0, height - 1.0] if box is None else box.tolist()


def _extent(points: np.ndarray, width: float, height: float) -> np.ndarray | None:
    """Smallest box (4) that contains the points N, 2, or None if it is too small in an image of this size."""
    if len(points) == 0:
        return None
    box = np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float64)
    return box if (box[2:] - box[:2]).max() >= _LEAST_EXTENT * max(width, height) else None
