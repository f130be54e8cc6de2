"""What can be chosen of the category task."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ftrain.data.config import ViewConfig


class CategoryConfig(ViewConfig):
    """Network, image, losses. Defaults are the tiny profile."""

    backbone: str = "resnet18"
    weights: str = "none"  # none | imagenet | path of a file
    labels: tuple[Literal["category", "attributes"], ...] = Field(("category", "attributes"), min_length=1)
    branches: Literal["flat", "three"] = "flat"  # one head of all categories, or one for each type of clothes
    local_size: int = Field(3, ge=0, le=14)  # cells a side that are pooled from the box; 0: global features alone
    local_stride: Literal[8, 16, 32] = 16  # of the features that are pooled
    box_head: Literal["maps", "flat"] = "maps"  # how the box is found; flat: one linear layer, as the original
    box_gradient: bool = True  # whether what is classified moves the box
    hidden: int = Field(0, ge=0, le=65_536)  # width of a layer below the heads; 0: none
    dropout: float = Field(0.0, ge=0, lt=1)  # below the heads
    # auto: a softmax in exclusive groups, else balanced; plain: unweighted, as the original
    attribute_loss: Literal["auto", "balanced", "plain"] = "auto"
    positive_rate: float | None = Field(None, gt=0, lt=1)  # of the training set, for `balanced`; None: each image's own
    attribute_weight: float = Field(1.0, ge=0)
    category_weight: float = Field(1.0, ge=0)
    box_weight: float = Field(1.0, ge=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)  # of labels, where a softmax is learnt
    flip_test: bool = False  # average with the mirrored image
    score_threshold: float = Field(0.2, ge=0, lt=1)  # below this the answer is that nothing is recognized
