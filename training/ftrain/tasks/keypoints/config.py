"""Configuration of the keypoints task."""

from typing import Literal

from pydantic import Field

from ftrain.data.config import BackboneConfig, Views

Offset = Literal["parabola", "quarter", "none"]


class KeypointsConfig(BackboneConfig):
    """Network, image and augmentation. Defaults are the tiny profile."""

    crop: Literal["image", "box", "keypoints"] = "image"  # pyright: ignore[reportIncompatibleVariableOverride]
    """Region that fills the input: the image, the annotated bounding box, or the extent of the keypoints."""
    crop_jitter: float = Field(0.1, ge=0, lt=0.5)
    """Augmentation of crop=keypoints: each side of the crop moves by up to this fraction of its longer side."""
    whole_image_ratio: float = Field(0.25, ge=0, le=1)
    """With crop=keypoints, fraction of the training views that show the whole image, as the first pass does."""
    channels: int = Field(64, ge=8, le=65_536)
    """Channels of the feature pyramid and of RefineNet."""
    sigma: float = Field(1.4, gt=0)
    """Standard deviation of the finest target, in cells of 4 pixels."""
    ohkm_fraction: float = Field(0.5, gt=0, le=1)
    """Online hard keypoint mining: fraction of the valid keypoints that train RefineNet."""
    garment_loss_weight: float = Field(0.05, ge=0)
    """Weight of the garment classification loss."""
    garment: str | None = None
    """Train and evaluate one garment only; null: all in one model."""
    rotation: float = Field(30.0, ge=0)
    """Augmentation: maximum rotation in either direction, degrees."""
    scale: tuple[float, float] = (0.75, 1.3)
    """Augmentation: range of the scale factor."""
    translate: float = Field(0.1, ge=0)
    """Augmentation: maximum shift in either direction, as a fraction of the input size."""
    blur_sigma: float = Field(1.0, ge=0)
    """Standard deviation of the blur of predicted heat maps, in cells."""
    subpixel_offset: Offset = "parabola"
    """Subcell refinement: log-parabola, a quarter cell toward the higher neighbor (CPN), or none."""
    pixel_shift: float = Field(1.5, ge=0, le=4)
    """Position of the first cell of 4 pixels: 1.5 is its center; others serve comparison with published entries."""
    tta: Views = Views(flip=True)
    """Test-time augmentation, unless `--tta` or `--no-tta` is given."""
