"""Encoder of the fashionnet task: samples to network inputs and labels."""

from dataclasses import dataclass

import numpy as np

from fschemas.landmarks import LandmarkSet
from ftrain.data.stream import RawSample
from ftrain.data.view import item_number, landmarks_in_view, view_of_sample
from ftrain.layers.attribute_loss import attribute_targets
from ftrain.tasks.fashionnet.config import FashionNetConfig


@dataclass(frozen=True)
class FashionNetEncoder:
    """Turn a sample into network input; one matrix transforms the image and its landmarks."""

    config: FashionNetConfig
    landmarks: LandmarkSet
    categories: dict[str, int]
    num_attributes: int
    has_items: bool

    def __call__(self, sample: RawSample, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        """Return the image, landmarks, ground truth and labels of a sample.

        `image` is uint8 S, S, 3; `keypoints` K, 2 are in input pixels and `target` K, 2 in source pixels, with
        `keypoint_visibility` K and `visibility` K; `matrix` 2, 3 maps source to input; `size` 2 is the source's width and
        height. Labels: `garment`, and if available `category`, `attributes` A and `item`, -1 if unknown.
        """
        note, view = sample.annotation, view_of_sample(self.config, sample, generator)
        labels: dict[str, np.ndarray] = {}
        if self.categories:
            labels["category"] = np.array(self.categories[note["category"]], np.int64)
        if self.num_attributes:
            labels["attributes"] = attribute_targets(note, self.num_attributes)
        if self.has_items:
            labels["item"] = np.array(item_number(note["item"]), np.int64)
        return {
            "image": view.image,
            "matrix": view.matrix,
            **vars(landmarks_in_view(note, self.landmarks, view)),
            "garment": np.array(tuple(self.landmarks.garments).index(note["garment"]), np.int64),
            "size": np.array([note["width"], note["height"]], np.float32),
            **labels,
        }
