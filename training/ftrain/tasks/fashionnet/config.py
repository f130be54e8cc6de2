"""What can be chosen of FashionNet: the network, and what it learns."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ftrain.data.config import Mining, ViewConfig

Gate = Literal["soft", "hard", "none"]
Head = Literal["category", "attributes", "embedding"]


class NetworkConfig(ViewConfig):
    """The network. Defaults are small; `neck: flatten` with vgg16 and `norm: false` is the published one."""

    backbone: str = "resnet18"
    weights: str = "none"  # none | imagenet | path of a file
    trunk_stride: Literal[8, 16] = 16  # where the branches part; 8 is behind conv4_3 of VGG-16
    neck: Literal["pool", "flatten"] = "pool"  # what the fully connected layers see: mean (pose: few channels), or all
    norm: bool = True  # batch normalisation in the fully connected layers
    dropout: float = Field(0.0, ge=0, lt=1)
    pose_widths: tuple[Annotated[int, Field(ge=1, le=65_536)], ...] = Field(
        (256, 256), min_length=1
    )  # fc6_pose, fc7_pose
    points: Literal["regression", "heatmap"] = "heatmap"
    map_stride: Literal[4, 8] = 4  # of the maps of `heatmap`, pixels
    map_channels: int = Field(64, ge=8, le=65_536)
    local_channels: int = Field(64, ge=0, le=65_536)  # features are reduced to so many before pooling; 0: not at all
    window: float = Field(0.25, gt=0, le=1)  # side of the window around a landmark, share of the input
    pooled: int = Field(2, ge=1, le=64)  # cells of a pooled window, along each side
    gate: Gate = "soft"
    local_width: int = Field(256, ge=1, le=65_536)  # fc6_local
    global_width: int = Field(512, ge=1, le=65_536)  # fc6_global
    fusion_width: int = Field(512, ge=0, le=65_536)  # fc7_fusion; 0: none, heads on local and global side by side


class FashionNetConfig(NetworkConfig):
    """Network, image, augmentation and losses. Defaults are the tiny profile; weights of losses stand in `fit.stages`."""

    without: tuple[Head, ...] = ()  # heads to leave out; each other one is there where the shard set has its labels
    embedding_dim: int = Field(128, ge=2, le=65_536)
    auxiliary: bool = False  # the pose branch names the category as well
    distance: Literal["absolute", "squared"] = "absolute"  # what a landmark costs; squared as published
    heatmap_loss_weight: float = Field(0.2, ge=0)  # of maps beside their mean places
    triplet_margin: float = Field(0.2, gt=0)  # of triplets, in cosine
    mining: Mining = "batch_hard"
    label_smoothing: float = Field(0.0, ge=0, lt=1)  # of categories and exclusive attributes
    flip_test: bool = False  # predictions are means over an image and its mirror image; so is `--tta`
    score_threshold: float = Field(0.1, ge=0, le=1)  # below it nothing is said to be recognized
