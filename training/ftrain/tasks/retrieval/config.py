"""What can be chosen of the retrieval task."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ftrain.data.config import Distance, Mining, ViewConfig

Identity = Literal["item", "category"]


class RetrievalConfig(ViewConfig):
    """Network, losses, image and augmentation. Defaults are the tiny profile."""

    backbone: str = "resnet18"
    """timm name of the network, with its tag if it has one."""
    weights: str = "none"
    """Weights that the backbone starts from: none, imagenet, or the path of a file."""
    embedding_dim: int = Field(512, ge=2, le=65_536)
    """Length of the embedding."""
    pooling: Literal["average", "gem"] = "average"
    """Pooling of the feature map: average, or generalized mean."""
    neck: Literal["none", "batch_norm"] = "none"
    """batch_norm: between triplets and classifier (Luo et al., CVPRW 2019)."""
    labels: Identity = "item"
    """What is found again, and what triplets go by."""
    classify: Literal["category", "item", "none"] = "category"
    """Classes of the cross-entropy."""
    classification_weight: float = Field(1.0, ge=0)
    """Weight of the cross-entropy; a loss of weight 0 is left out."""
    triplet_weight: float = Field(1.0, ge=0)
    """Weight of the triplet loss."""
    proxy_weight: float = Field(0.0, ge=0)
    """Weight of the proxy loss."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Label smoothing of the cross-entropy."""
    cosine_scale: float = Field(0.0, ge=0)
    """0: a linear classifier; else the cosine with each class times this (Zhai and Wu, BMVC 2019)."""
    triplet_margin: float = Field(0.2, ge=0)
    """Margin of triplets."""
    mining: Mining = "batch_hard"
    """Which triplets count."""
    distance: Distance = "cosine"
    """Distance of two embeddings."""
    proxy_margin: float = 0.1
    """Margin of the proxy loss."""
    proxy_scale: float = Field(32.0, gt=0)
    """Scale of the proxy loss."""
    flip_test: bool = False
    """Test-time augmentation: embed the image and its flip together."""
    score_threshold: float = Field(0.2, ge=0, le=1)
    """Below this score `ftrain predict` names no category."""
