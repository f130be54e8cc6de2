"""Configuration of the style task."""

from typing import Literal

from pydantic import Field

from ftrain.data.config import ImageLabelConfig, TripletConfig, Views

Styles = Literal["fine", "main"]


class StyleConfig(TripletConfig, ImageLabelConfig):
    """Network, image and losses. Defaults are the tiny profile with the published loss weights."""

    target: Literal["style", "attributes"] = "style"
    """Labels to learn: styles, or attributes to search by."""
    styles: Styles = "fine"
    """Classes: the styles of the data set, or the main styles of K-Fashion."""
    local_backbone: str = ""
    """timm name of the network of the local branch; empty: no local branch."""
    local_weights: str = "none"
    """Initial weights of the local branch, like `weights`."""
    local_head: Literal["attention", "patches"] = "attention"
    """Embedding of the attended square: attribute attention (ASEN++), or attention over its patches (RPF)."""
    local_input_size: int = Field(64, ge=32, le=4096, multiple_of=16)
    """Side of the attended square, pixels."""
    local_zoom: int = Field(2, ge=1, le=4)
    """The attended square is cropped from an image of this many times input_size."""
    attention_threshold: float = Field(0.1, gt=0, le=0.7)
    """Threshold of the attention map, scaled to 0 … 1."""
    local_share: float = Field(0.4, ge=0, le=1)
    """Weight of the local branch in the similarity of two images."""
    embedding_dim: int = Field(256, ge=8, le=65_536, multiple_of=2)
    """Dimension of the embedding."""
    attribute_dim: int = Field(128, ge=8, le=65_536)
    """Dimension of the attribute embedding."""
    head: Literal["arcface", "linear", "none"] = "arcface"
    """Classifier; none (attributes only): triplet loss alone, as published."""
    arcface_scale: float = Field(10.0, gt=0)
    """Scale of ArcFace."""
    arcface_margin: float = Field(0.5, ge=0, lt=1.57)
    """Margin of ArcFace, radians."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout in the neck before the classifier."""
    classes_loss_weight: float = Field(1.0, ge=0)
    """Weight of the classification loss."""
    triplet_loss_weight: float = Field(0.1, ge=0)
    """Weight of the triplet loss."""
    local_loss_weight: float = Field(0.01, ge=0)
    """Weight of the triplet loss of the local branch."""
    align_loss_weight: float = Field(0.01, ge=0)
    """Weight of the loss that aligns the local with the global branch."""
    contrast_loss_weight: float = Field(0.0, ge=0)
    """Weight of the contrast of the attended region with its patches and the background (RPF); 0: not computed."""
    category_loss_weight: float = Field(0.0, ge=0)
    """Weight of the garment category loss, an auxiliary task for styles; 0: not learned."""
    tta: Views = Views(flip=True)
    """Test-time augmentation, unless `--tta` or `--no-tta` is given."""
    score_threshold: float = Field(0.15, ge=0, lt=1)
    """Minimum certainty at which `ftrain predict` recognizes a value: (score - chance) / (1 - chance)."""
