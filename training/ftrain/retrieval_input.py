"""What the retrieval task is given: its configuration, and samples as its network sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from ftrain.layers.metric_learning import Distance, Mining
from ftrain.search_roles import role_of
from ftrain.stream import RawSample
from ftrain.view import ViewConfig, item_number, view_of_sample

Identity = Literal["item", "category"]


class RetrievalConfig(ViewConfig):
    """Network, losses, picture and augmentation. Defaults are the tiny profile."""

    backbone: str = "resnet18"
    weights: str = "none"  # none | imagenet | path of a file
    dim: int = Field(512, ge=2, le=65_536)  # of the embedding
    pooling: Literal["average", "gem"] = "average"
    neck: Literal["none", "batch_norm"] = "none"  # batch_norm: between triplets and classifier (Luo et al., CVPRW 2019)
    labels: Identity = "item"  # what is found again, and what triplets go by
    classify: Literal["category", "item", "none"] = "category"  # classes of the cross-entropy
    classification: float = Field(1.0, ge=0)  # weights of the losses; one of weight 0 is left out
    triplet: float = Field(1.0, ge=0)
    proxy: float = Field(0.0, ge=0)
    smoothing: float = Field(0.0, ge=0, lt=1)  # of the labels of the cross-entropy
    cosine_scale: float = Field(
        0.0, ge=0
    )  # 0: a linear classifier; else the cosine with each class x this (Zhai and Wu, BMVC 2019)
    margin: float = Field(0.2, ge=0)  # of triplets
    mining: Mining = "batch_hard"
    distance: Distance = "cosine"
    proxy_margin: float = 0.1
    proxy_scale: float = Field(32.0, gt=0)
    flip_test: bool = False  # the embedding is that of the picture and its mirror image together
    least_score: float = Field(0.2, ge=0, le=1)  # `ftrain predict`: below it no category is named


@dataclass(frozen=True)
class RetrievalEncoder:
    """Sample to network input and its labels as numbers."""

    config: RetrievalConfig
    categories: dict[str, int]  # "" and, in a set without categories, every name: -1
    items: dict[str, int]  # of training, where the losses need classes of them

    def __call__(self, sample: RawSample, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        """`image` S, S, 3 uint8 and the `labels`."""
        return {"image": view_of_sample(self.config, sample, generator).image, **self.labels(sample.annotation)}

    def labels(self, note: dict[str, Any]) -> dict[str, np.ndarray]:
        """Numbers of `identity`, `category` and `item_class` (-1 unknown) of an annotation, and its `role` in a search."""
        item, category = str(note.get("item", "")), self.categories.get(note.get("category", ""), -1)
        numbers = {
            "identity": item_number(item) if self.config.labels == "item" else category,
            "category": category,
            "item_class": self.items.get(item, -1),
            "role": role_of(note),
        }
        return {name: np.array(value, dtype=np.int64) for name, value in numbers.items()}
