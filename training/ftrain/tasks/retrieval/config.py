"""Configuration of the retrieval task."""

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
    """Initial weights of the backbone: none, imagenet, or the path of a file."""
    embedding_dim: int = Field(512, ge=2, le=65_536)
    """Dimension of the embedding."""
    pooling: Literal["average", "gem"] = "average"
    """Pooling of the feature map: average, or generalized mean."""
    neck: Literal["none", "batch_norm"] = "none"
    """batch_norm: between triplet loss and classifier (Luo et al., CVPRW 2019)."""
    labels: Identity = "item"
    """Identity: what is retrieved, and the labels of the triplets."""
    classify: Literal["category", "item", "none"] = "category"
    """Classes of the cross-entropy."""
    classification_weight: float = Field(1.0, ge=0)
    """Weight of the cross-entropy; a loss of weight 0 is not computed."""
    triplet_weight: float = Field(1.0, ge=0)
    """Weight of the triplet loss."""
    proxy_weight: float = Field(0.0, ge=0)
    """Weight of the proxy loss."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Label smoothing of the cross-entropy."""
    cosine_scale: float = Field(0.0, ge=0)
    """0: linear classifier; else scale of a cosine classifier (Zhai and Wu, BMVC 2019)."""
    triplet_margin: float = Field(0.2, ge=0)
    """Margin of the triplet loss."""
    mining: Mining = "batch_hard"
    """Triplet mining strategy."""
    distance: Distance = "cosine"
    """Distance of two embeddings in the triplet loss."""
    proxy_margin: float = 0.1
    """Margin of the proxy loss."""
    proxy_scale: float = Field(32.0, gt=0)
    """Scale of the proxy loss."""
    flip_test: bool = False
    """Test-time augmentation: combine the embeddings of the image and its flip."""
    score_threshold: float = Field(0.2, ge=0, le=1)
    """Minimum score at which `ftrain predict` returns a category."""
