"""Configuration of the category task."""

from typing import Literal

from pydantic import Field

from ftrain.data.config import ImageLabelConfig


class CategoryConfig(ImageLabelConfig):
    """Network, image, losses. Defaults are the tiny profile."""

    targets: tuple[Literal["category", "attributes"], ...] = Field(("category", "attributes"), min_length=1)
    """Labels to learn."""
    heads: Literal["shared", "per_type"] = "shared"
    """Classifier: one for all categories, or one per type of clothes."""
    roi_cells: int = Field(3, ge=0, le=14)
    """Cells per side pooled from the predicted box; 0: global features alone."""
    roi_stride: Literal[8, 16, 32] = 16
    """Stride of the features pooled from the box, pixels."""
    box_head: Literal["maps", "linear"] = "maps"
    """Box head: one map per edge, or one linear layer as in the original."""
    box_gradient: bool = True
    """Whether the classification losses train the box."""
    hidden_dim: int = Field(0, ge=0, le=65_536)
    """Width of a hidden layer before the heads; 0: none."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before the heads."""
    attribute_loss: Literal["auto", "balanced", "plain", "asymmetric"] = "auto"
    """auto: softmax in exclusive groups, else balanced; plain: unweighted; asymmetric: easy negatives cost little."""
    positive_rate: float | None = Field(None, gt=0, lt=1)
    """Fraction of positives in the training set, for `balanced`; null: computed per image."""
    attributes_loss_weight: float = Field(1.0, ge=0)
    """Weight of the attribute loss."""
    category_loss_weight: float = Field(1.0, ge=0)
    """Weight of the category loss."""
    box_loss_weight: float = Field(1.0, ge=0)
    """Weight of the box loss."""
    score_threshold: float = Field(0.2, ge=0, lt=1)
    """Minimum score at which `ftrain predict` recognizes anything."""
