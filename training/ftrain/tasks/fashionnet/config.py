"""Configuration of FashionNet: network and labels."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ftrain.data.config import Mining, ViewConfig

Gate = Literal["soft", "hard", "none"]
Head = Literal["category", "attributes", "embedding"]


class NetworkConfig(ViewConfig):
    """The network. Defaults are small; `neck: flatten` with vgg16 and `norm: false` is the published one."""

    backbone: str = "resnet18"
    """timm name of the network, with its tag if it has one."""
    weights: str = "none"
    """Initial weights of the backbone: none, imagenet, or the path of a file."""
    trunk_stride: Literal[8, 16] = 16
    """Stride at which the branches split, pixels; 8 is after conv4_3 of VGG-16."""
    neck: Literal["pool", "flatten"] = "pool"
    """Input of the fully connected layers: the mean (pose: few channels), or all cells."""
    norm: bool = True
    """Batch normalization in the fully connected layers."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout in the fully connected layers."""
    pose_widths: tuple[Annotated[int, Field(ge=1, le=65_536)], ...] = Field((256, 256), min_length=1)
    """Widths of the fully connected layers of the pose branch (fc6_pose, fc7_pose)."""
    points: Literal["regression", "heatmap"] = "heatmap"
    """Landmark head: coordinate regression, or heat maps."""
    map_stride: Literal[4, 8] = 4
    """Stride of the heat maps, pixels."""
    map_channels: int = Field(64, ge=8, le=65_536)
    """Channels of the layers that predict the heat maps."""
    local_channels: int = Field(64, ge=0, le=65_536)
    """Features are reduced to this many channels before pooling; 0: no reduction."""
    window: float = Field(0.25, gt=0, le=1)
    """Side of the window around a landmark, as a share of the input."""
    pooled: int = Field(2, ge=1, le=64)
    """Cells per side of a pooled window."""
    gate: Gate = "soft"
    """How the predicted visibility of a landmark gates its features."""
    local_width: int = Field(256, ge=1, le=65_536)
    """Width of the local branch (fc6_local)."""
    global_width: int = Field(512, ge=1, le=65_536)
    """Width of the global branch (fc6_global)."""
    fusion_width: int = Field(512, ge=0, le=65_536)
    """Width of the fused layer (fc7_fusion); 0: none, local and global are concatenated."""


class FashionNetConfig(NetworkConfig):
    """Network, image, augmentation and losses. Defaults are the tiny profile; loss weights are set in `fit.stages`."""

    without: tuple[Head, ...] = ()
    """Heads to omit; the others exist if the shard set has their labels."""
    embedding_dim: int = Field(128, ge=2, le=65_536)
    """Dimension of the embedding."""
    auxiliary: bool = False
    """Whether the pose branch predicts the category as well."""
    distance: Literal["absolute", "squared"] = "absolute"
    """Landmark loss: absolute distance, or squared as published."""
    heatmap_loss_weight: float = Field(0.2, ge=0)
    """Weight of the heat map loss relative to the coordinate loss."""
    triplet_margin: float = Field(0.2, gt=0)
    """Margin of the triplet loss, in cosine distance."""
    mining: Mining = "batch_hard"
    """Triplet mining strategy."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Label smoothing of categories and exclusive attributes."""
    flip_test: bool = False
    """Test-time augmentation: average with the flipped image."""
    score_threshold: float = Field(0.1, ge=0, le=1)
    """Minimum score at which `ftrain predict` recognizes anything."""
