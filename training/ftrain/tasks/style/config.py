"""What can be chosen of the style task."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ftrain.data.config import Mining, ViewConfig

Styles = Literal["fine", "main"]


class StyleConfig(ViewConfig):
    """Network, image and losses. Defaults are the tiny profile; the weights of the losses are those published."""

    target: Literal["style", "attributes"] = "style"
    styles: Styles = "fine"  # the classes: styles as they are, or the main styles of K-Fashion
    backbone: str = "resnet18"
    weights: str = "none"  # none | imagenet | path of a file
    local_backbone: str = ""  # network of the local branch; empty: there is none
    local_weights: str = "none"
    local_size: int = Field(64, ge=32, le=4096, multiple_of=16)  # pixels of the attended square
    detail: int = Field(2, ge=1, le=4)  # the square is cut out of an image of so many times input_size
    threshold: float = Field(0.1, gt=0, le=0.7)  # of the attention map, stretched to 0 … 1
    local_share: float = Field(0.4, ge=0, le=1)  # of the local branch in the similarity of two images
    embedding_dim: int = Field(256, ge=8, le=65_536, multiple_of=2)
    attribute_width: int = Field(128, ge=8, le=65_536)
    head: Literal["arcface", "linear", "none"] = "arcface"  # none: attributes only, by triplets alone, as published
    arcface_scale: float = Field(10.0, gt=0)  # ArcFace
    arcface_margin: float = Field(0.5, ge=0, lt=1.57)  # ArcFace, radians
    dropout: float = Field(0.1, ge=0, lt=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1)  # of the labels
    class_loss_weight: float = Field(1.0, ge=0)
    triplet_loss_weight: float = Field(0.1, ge=0)
    local_loss_weight: float = Field(0.01, ge=0)
    align_loss_weight: float = Field(0.01, ge=0)
    category_loss_weight: float = Field(
        0.0, ge=0
    )  # of naming the garment as well, which says much about the style; 0: not learnt
    triplet_margin: float = Field(0.2, gt=0)  # of the triplets, in cosine
    mining: Mining = "batch_hard"
    flip_test: bool = True  # predictions are means over the image and its mirror image
    certainty_threshold: float = Field(
        0.15, ge=0, lt=1
    )  # of the way from chance to 1: below it nothing counts as recognized
