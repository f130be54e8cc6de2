"""What can be chosen of the retrieval task."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ftrain.data.config import Distance, Mining, ViewConfig

Identity = Literal["item", "category"]


class RetrievalConfig(ViewConfig):
    """Network, losses, image and augmentation. Defaults are the tiny profile."""

    backbone: str = "resnet18"
    weights: str = "none"  # none | imagenet | path of a file
    embedding_dim: int = Field(512, ge=2, le=65_536)  # of the embedding
    pooling: Literal["average", "gem"] = "average"
    neck: Literal["none", "batch_norm"] = "none"  # batch_norm: between triplets and classifier (Luo et al., CVPRW 2019)
    labels: Identity = "item"  # what is found again, and what triplets go by
    classify: Literal["category", "item", "none"] = "category"  # classes of the cross-entropy
    classification_weight: float = Field(1.0, ge=0)  # weights of the losses; one of weight 0 is left out
    triplet_weight: float = Field(1.0, ge=0)
    proxy_weight: float = Field(0.0, ge=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)  # of the labels of the cross-entropy
    # 0: a linear classifier; else the cosine with each class x this (Zhai and Wu, BMVC 2019).
    cosine_scale: float = Field(0.0, ge=0)
    triplet_margin: float = Field(0.2, ge=0)  # of triplets
    mining: Mining = "batch_hard"
    distance: Distance = "cosine"
    proxy_margin: float = 0.1
    proxy_scale: float = Field(32.0, gt=0)
    flip_test: bool = False  # the embedding is that of the image and its mirror image together
    score_threshold: float = Field(0.2, ge=0, le=1)  # `ftrain predict`: below it no category is named
