"""Configuration of the retrieval task."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ftrain.data.config import Distance, TripletConfig

Identity = Literal["item", "category"]


class RetrievalConfig(TripletConfig):
    """Network, losses, image and augmentation. Defaults are the tiny profile."""

    embedding_dim: int = Field(512, ge=2, le=65_536)
    """Dimension of the embedding."""
    nested_dims: tuple[Annotated[int, Field(ge=2)], ...] = ()
    """Numbers of first dimensions that are embeddings of their own, for `--dim` (Kusupati et al., NeurIPS 2022)."""
    pooling: Literal["average", "gem"] = "average"
    """Pooling of the feature map: average, or generalized mean (GeM, Radenovic et al., TPAMI 2019)."""
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
    """Weight of the proxy anchor loss (Kim et al., CVPR 2020)."""
    cosine_scale: float = Field(0.0, ge=0)
    """0: linear classifier; else scale of a cosine classifier (Zhai and Wu, BMVC 2019)."""
    cosine_margin: float = Field(0.0, ge=0, lt=1.57)
    """Angular margin of the cosine classifier, radians (ArcFace, Deng et al., CVPR 2019)."""
    subcenters: int = Field(1, ge=1)
    """Directions per class of the cosine classifier; the nearest counts (Deng et al., ECCV 2020)."""
    memory_size: int = Field(0, ge=0)
    """Last embeddings, this batch included, for the contrastive loss (XBM, Wang et al., CVPR 2020); 0: no such loss."""
    memory_loss_weight: float = Field(1.0, ge=0)
    """Weight of the contrastive loss with the memory."""
    distance: Distance = "cosine"
    """Distance of two embeddings in the triplet loss."""
    proxy_margin: float = 0.1
    """Margin of the proxy loss."""
    proxy_scale: float = Field(32.0, gt=0)
    """Scale of the proxy loss."""
    score_threshold: float = Field(0.2, ge=0, le=1)
    """Minimum score at which `ftrain predict` returns a category."""

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if list(self.nested_dims) != sorted({dim for dim in self.nested_dims if dim < self.embedding_dim}):
            raise ValueError(f"model.nested_dims must be ascending and below model.embedding_dim={self.embedding_dim}")
        if not self.cosine_scale and (self.cosine_margin or self.subcenters > 1):
            raise ValueError(
                "model.cosine_margin and model.subcenters need a cosine classifier; set model.cosine_scale, for example to 32"
            )
        return self
