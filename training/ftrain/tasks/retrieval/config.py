"""Configuration of the retrieval task."""

from typing import Literal

from pydantic import Field

from ftrain.data.config import Distance, TripletConfig

Identity = Literal["item", "category"]


class RetrievalConfig(TripletConfig):
    """Network, losses, image and augmentation. Defaults are the tiny profile."""

    embedding_dim: int = Field(512, ge=2, le=65_536)
    """Dimension of the embedding."""
    pooling: Literal["average", "gem"] = "average"
    """Pooling of the feature map: average, or generalized mean."""
    bn_neck: bool = False
    """Batch normalization between triplet loss and classifier (Luo et al., CVPRW 2019)."""
    identity: Identity = "item"
    """Identity: what is retrieved, and the labels of the triplets."""
    classify: Literal["category", "item", "none"] = "category"
    """Classes of the cross-entropy."""
    classification_loss_weight: float = Field(1.0, ge=0)
    """Weight of the cross-entropy; a loss of weight 0 is not computed."""
    triplet_loss_weight: float = Field(1.0, ge=0)
    """Weight of the triplet loss."""
    proxy_loss_weight: float = Field(0.0, ge=0)
    """Weight of the proxy loss."""
    cosine_scale: float = Field(0.0, ge=0)
    """0: linear classifier; else scale of a cosine classifier (Zhai and Wu, BMVC 2019)."""
    distance: Distance = "cosine"
    """Distance of two embeddings in the triplet loss."""
    proxy_margin: float = 0.1
    """Margin of the proxy loss."""
    proxy_scale: float = Field(32.0, gt=0)
    """Scale of the proxy loss."""
    score_threshold: float = Field(0.2, ge=0, le=1)
    """Minimum score at which `ftrain predict` returns a category."""
