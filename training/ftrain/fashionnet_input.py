"""What the fashionnet task is given: its configuration, and samples as its network sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from fschemas.landmarks import LandmarkSet
from ftrain.layers.attribute_loss import attribute_targets
from ftrain.layers.fashionnet import NetworkConfig
from ftrain.layers.metric_learning import Mining
from ftrain.stream import RawSample
from ftrain.view import item_number, landmarks_in_view, view_of_sample

Head = Literal["category", "attributes", "embedding"]


class FashionNetConfig(NetworkConfig):
    """Network, picture, augmentation and losses. Defaults are the tiny profile; weights of losses stand in `fit.stages`."""

    without: tuple[Head, ...] = ()  # heads to leave out; each other one is there where the shard set has its labels
    embedding: int = Field(128, ge=2, le=65_536)
    auxiliary: bool = False  # the pose branch names the category as well
    distance: Literal["absolute", "squared"] = "absolute"  # what a landmark costs; squared as published
    map_loss: float = Field(0.2, ge=0)  # of maps beside their mean places
    margin: float = Field(0.2, gt=0)  # of triplets, in cosine
    mining: Mining = "batch_hard"
    smoothing: float = Field(0.0, ge=0, lt=1)  # of categories and exclusive attributes
    flip_test: bool = False  # predictions are means over a picture and its mirror image; so is `--tta`
    least_score: float = Field(0.1, ge=0, le=1)  # below it nothing is said to be recognized


@dataclass(frozen=True)
class FashionNetEncoder:
    """Sample to network input: one matrix moves the picture and its landmarks."""

    config: FashionNetConfig
    landmarks: LandmarkSet
    categories: dict[str, int]
    num_attributes: int
    has_items: bool

    def __call__(self, sample: RawSample, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        """`image` S, S, 3 uint8; `points` K, 2 in its pixels; `truth` K, 2 in pixels of the source; labels, -1 for unknown ones."""
        note, view = sample.annotation, view_of_sample(self.config, sample, generator)
        seen = landmarks_in_view(note, self.landmarks, view)
        labels: dict[str, np.ndarray] = {}
        if self.categories:
            labels["category"] = np.array(self.categories[note["category"]], np.int64)
        if self.num_attributes:
            labels["attributes"] = attribute_targets(note, self.num_attributes)
        if self.has_items:
            labels["item"] = np.array(item_number(note["item"]), np.int64)
        return {
            "image": view.image,
            "points": seen.points,
            "point_visibility": seen.point_visibility,
            "matrix": view.matrix,
            "truth": seen.truth,
            "visibility": seen.visibility,
            "garment": np.array(tuple(self.landmarks.garments).index(note["garment"]), np.int64),
            "size": np.array([note["width"], note["height"]], np.float32),
            **labels,
        }
