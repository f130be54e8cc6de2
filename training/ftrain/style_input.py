"""What the style task is given: its configuration, and samples as its network sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from ftrain.layers.metric_learning import Mining
from ftrain.search_roles import role_of
from ftrain.stream import RawSample
from ftrain.style_labels import Labels, Styles
from ftrain.view import ViewConfig, view_of_sample


class StyleConfig(ViewConfig):
    """Network, picture and losses. Defaults are the tiny profile; the weights of the losses are those published."""

    target: Literal["style", "attributes"] = "style"
    styles: Styles = "fine"  # the classes: styles as they are, or the main styles of K-Fashion
    backbone: str = "resnet18"
    weights: str = "none"  # none | imagenet | path of a file
    local_backbone: str = ""  # network of the local branch; empty: there is none
    local_weights: str = "none"
    local_size: int = Field(64, ge=32, le=4096, multiple_of=16)  # pixels of the attended square
    detail: int = Field(2, ge=1, le=4)  # the square is cut out of a picture of so many times input_size
    threshold: float = Field(0.1, gt=0, le=0.7)  # of the attention map, stretched to 0 … 1
    local_share: float = Field(0.4, ge=0, le=1)  # of the local branch in the similarity of two pictures
    embedding: int = Field(256, ge=8, le=65_536, multiple_of=2)
    attribute_width: int = Field(128, ge=8, le=65_536)
    head: Literal["arcface", "linear", "none"] = "arcface"  # none: attributes only, by triplets alone, as published
    scale: float = Field(10.0, gt=0)  # ArcFace
    arc_margin: float = Field(0.5, ge=0, lt=1.57)  # ArcFace, radians
    dropout: float = Field(0.1, ge=0, lt=1)
    smoothing: float = Field(0.0, ge=0, lt=1)  # of the labels
    class_loss: float = Field(1.0, ge=0)
    triplet_loss: float = Field(0.1, ge=0)
    local_loss: float = Field(0.01, ge=0)
    align_loss: float = Field(0.01, ge=0)
    category_loss: float = Field(0.0, ge=0)  # of naming the garment as well, which says much about the style; 0: not learnt
    margin: float = Field(0.2, gt=0)  # of the triplets, in cosine
    mining: Mining = "batch_hard"
    flip_test: bool = True  # predictions are means over the picture and its mirror image
    least_certainty: float = Field(0.15, ge=0, lt=1)  # of the way from chance to 1: below it nothing counts as recognized


@dataclass(frozen=True)
class StyleEncoder:
    """Sample to network input."""

    config: StyleConfig
    labels: Labels
    categories: dict[str, int]  # class of each category, -1 of ""; empty where categories are not learnt

    def __call__(self, sample: RawSample, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        """`image` S, S, 3 uint8 of `input_size` (with a local branch `detail` times as large); `matrix` 2, 3 from the source.

        `values` A (one of each attribute, -1 unknown), `asked` the attribute that the local branch learns, `role` in a search,
        of attributes `positive` V uint8, all values that the picture has, and `category` where it is learnt.
        """
        note, view = sample.annotation, view_of_sample(prepared_view(self.config), sample, generator)
        values = self.labels.values_of(note, generator)
        known = np.flatnonzero(values >= 0)
        asked = 0 if not len(known) else known[0] if generator is None else generator.choice(known)
        arrays = {
            "image": view.image, "matrix": view.matrix, "size": np.array([note["width"], note["height"]], np.float32),
            "values": values, "asked": np.array(asked, np.int64), "role": np.array(role_of(note), np.int8),
        }  # fmt: skip
        if self.categories:
            arrays["category"] = np.array(self.categories[note["category"]], np.int64)
        return arrays if self.labels.classes is not None else {**arrays, "positive": self.labels.positive(note)}


def prepared_view(config: StyleConfig) -> ViewConfig:
    """The view that workers prepare: larger where the local branch cuts its square out of it."""
    if not config.local_backbone:
        return config
    return config.model_copy(update={"input_size": config.input_size * config.detail})
