"""What can be chosen of the key-point task."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ftrain.data.config import ViewConfig

Offset = Literal["parabola", "quarter"]


class KeypointsConfig(ViewConfig):
    """Network, image and augmentation. Defaults are the tiny profile."""

    backbone: str = "resnet18"
    weights: str = "none"  # none | imagenet | path of a file
    channels: int = Field(64, ge=8, le=65_536)
    sigma: float = Field(1.4, gt=0)  # of the finest target, in cells of 4 pixels
    ohkm_fraction: float = Field(0.5, gt=0, le=1)  # OHKM: share of the valid points that RefineNet trains
    garment_loss_weight: float = Field(0.05, ge=0)
    category: str | None = None  # train and evaluate one garment only; None: all in one model
    rotation: float = Field(30.0, ge=0)  # degrees, uniform in ±
    scale: tuple[float, float] = (0.75, 1.3)
    translate: float = Field(0.1, ge=0)  # of the input size, uniform in ±
    blur_sigma: float = Field(1.0, ge=0)  # of predicted maps, in cells
    offset: Offset = "parabola"  # of the peak, below a cell: log-parabola, or CPN's quarter of a cell
    flip_test: bool = True
    tta_angles: tuple[float, ...] = ()  # degrees; maps of turned images are turned back and averaged
