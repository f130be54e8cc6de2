"""What can be chosen of the category task."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ftrain.data.config import ViewConfig


class CategoryConfig(ViewConfig):
    """Network, image, losses. Defaults are the tiny profile."""

    backbone: str = "resnet18"
    """timm name of the network, with its tag if it has one."""
    weights: str = "none"
    """Weights that the backbone starts from: none, imagenet, or the path of a file."""
    labels: tuple[Literal["category", "attributes"], ...] = Field(("category", "attributes"), min_length=1)
    """Labels to learn."""
    branches: Literal["flat", "three"] = "flat"
    """One head of all categories, or one for each type of clothes."""
    local_size: int = Field(3, ge=0, le=14)
    """Cells a side that are pooled from the predicted box; 0: global features alone."""
    local_stride: Literal[8, 16, 32] = 16
    """Stride of the features that are pooled from the box, pixels."""
    box_head: Literal["maps", "flat"] = "maps"
    """How the box is found: from maps, or (as the original) by one linear layer."""
    box_gradient: bool = True
    """Let the classification losses move the box."""
    hidden: int = Field(0, ge=0, le=65_536)
    """Width of a layer below the heads; 0: none."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout below the heads."""
    attribute_loss: Literal["auto", "balanced", "plain"] = "auto"
    """auto: softmax in exclusive groups, else balanced; plain: unweighted, as the original."""
    positive_rate: float | None = Field(None, gt=0, lt=1)
    """Share of positives in the training set, for `balanced`; null: that of each image."""
    attribute_weight: float = Field(1.0, ge=0)
    """Weight of the attribute loss."""
    category_weight: float = Field(1.0, ge=0)
    """Weight of the category loss."""
    box_weight: float = Field(1.0, ge=0)
    """Weight of the box loss."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Label smoothing of softmax losses."""
    flip_test: bool = False
    """Test-time augmentation: average with the flipped image."""
    score_threshold: float = Field(0.2, ge=0, lt=1)
    """Below this score `ftrain predict` says that nothing is recognized."""
