"""Configuration of FashionNet: network and labels."""

from typing import Annotated, Literal

from pydantic import Field

from ftrain.data.config import TripletConfig

Gate = Literal["soft", "hard", "none"]
Head = Literal["category", "attributes", "embedding"]


class NetworkConfig(TripletConfig):
    """The network. Defaults are small; `fc_input: flatten` with vgg16 and `norm: false` is the published one."""

    trunk_stride: Literal[8, 16] = 16
    """Stride at which the branches split, pixels; 8 is after conv4_3 of VGG-16."""
    fc_input: Literal["pool", "flatten"] = "pool"
    """Input of the fully connected layers: the mean (pose: few channels), or all cells."""
    norm: bool = True
    """Batch normalization in the fully connected layers."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout in the fully connected layers."""
    pose_dims: tuple[Annotated[int, Field(ge=1, le=65_536)], ...] = Field((256, 256), min_length=1)
    """Widths of the fully connected layers of the pose branch (fc6_pose, fc7_pose)."""
    landmark_head: Literal["regression", "heatmap"] = "heatmap"
    """Landmark head: coordinate regression, or heat maps."""
    map_stride: Literal[4, 8] = 4
    """Stride of the heat maps, pixels."""
    map_channels: int = Field(64, ge=8, le=65_536)
    """Channels of the layers that predict the heat maps."""
    local_channels: int = Field(64, ge=0, le=65_536)
    """Features are reduced to this many channels before pooling; 0: no reduction."""
    window_size: float = Field(0.25, gt=0, le=1)
    """Side of the window around a landmark, as a fraction of the input size."""
    window_cells: int = Field(2, ge=1, le=64)
    """Cells per side of a pooled window."""
    visibility_gate: Gate = "soft"
    """How the predicted visibility of a landmark gates its features."""
    local_dim: int = Field(256, ge=1, le=65_536)
    """Width of the local branch (fc6_local)."""
    global_dim: int = Field(512, ge=1, le=65_536)
    """Width of the global branch (fc6_global)."""
    fusion_dim: int = Field(512, ge=0, le=65_536)
    """Width of the fused layer (fc7_fusion); 0: none, local and global are concatenated."""


class FashionNetConfig(NetworkConfig):
    """Network, image, augmentation and losses. Defaults are the tiny profile; loss weights are set in `fit.stages`."""

    targets: tuple[Head, ...] = ("category", "attributes", "embedding")
    """Heads besides landmarks; each exists only if the shard set has its labels."""
    embedding_dim: int = Field(128, ge=2, le=65_536)
    """Dimension of the embedding."""
    auxiliary_category_loss: bool = False
    """Whether the pose branch predicts the category as well."""
    landmark_loss: Literal["euclidean", "squared"] = "euclidean"
    """Loss of a landmark: its distance, or the squared distance as published."""
    maps_loss_weight: float = Field(0.2, ge=0)
    """Weight of the heat map loss relative to the coordinate loss."""
    score_threshold: float = Field(0.1, ge=0, le=1)
    """Minimum score at which `ftrain predict` recognizes anything."""
