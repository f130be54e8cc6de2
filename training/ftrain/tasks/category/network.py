"""The clothing classifier: a backbone, a predicted box, features of the box and of the whole image, and linear heads.

After the open classifier of Ghadiri (2019): global average and 3 x 3 features of the predicted box, concatenated, into
one linear layer each for attributes and categories. Optional additions: features of a finer stride for the box,
gradients that reach the box, a hidden layer, and a branch per type of clothes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ftrain.data.config import BackboneConfig
from ftrain.layers.backbone import Backbone
from ftrain.tasks.category.box import BoxHead, BoxMaps, pool_box


@dataclass(frozen=True)
class CategoryOutputs:
    """`boxes` B, 4 (shares of the input), logits `category` B, C and `attributes` B, A; None for a missing head."""

    boxes: Tensor
    category: Tensor | None
    attributes: Tensor | None


class _SingleCategory(nn.Module):
    """Features B, F to the logit B, 1 of the only class."""

    def forward(self, features: Tensor) -> Tensor:
        return features.new_zeros(len(features), 1)


class TypedCategories(nn.Module):
    """Features B, F to category logits B, C: a head for the type, and a branch for the categories of each type.

    The logits are log P(type) + log P(category | type): log-probabilities, so that cross-entropy trains both at once.
    """

    def __init__(self, num_features: int, num_categories: int, types: Mapping[str, Sequence[int]]) -> None:
        super().__init__()
        branches = [list(members) for members in types.values()]
        rest = sorted(set(range(num_categories)) - {category for members in branches for category in members})
        branches += [rest] if rest else []
        order = [category for members in branches for category in members]
        self.type_head = nn.Linear(num_features, len(branches))
        # A type with a single category needs no branch.
        heads = (nn.Linear(num_features, len(ids)) if len(ids) > 1 else _SingleCategory() for ids in branches)
        self.branches = nn.ModuleList(heads)
        positions = torch.tensor([order.index(category) for category in range(num_categories)])
        self.register_buffer("positions", positions, persistent=False)
        self.positions: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """Map features B, F to log-probabilities of the categories, float32 B, C."""
        types = self.type_head(features).float().log_softmax(dim=1)
        within = [branch(features).float().log_softmax(dim=1) for branch in self.branches]
        joint = [types[:, number, None] + shares for number, shares in enumerate(within)]
        return torch.cat(joint, dim=1)[:, self.positions]


class CategoryNetwork(nn.Module):
    """uint8 B, H, W, 3 to `CategoryOutputs`.

    `num_categories` or `num_attributes` of 0 omits a head; `types` (name to category ids) creates a branch per type.
    `roi_cells` cells per side of the box, from the features at `roi_stride`, are concatenated with the global
    features (0: none). `box_head` is `maps`, or `linear` as in the original. Without `box_gradient` the classification
    losses do not train the box. `true_boxes` means that boxes have ground truth; a box that nothing trains is the whole
    image.
    """

    def __init__(
        self, config: BackboneConfig, num_categories: int, num_attributes: int, *,
        types: Mapping[str, Sequence[int]] | None = None, roi_cells: int = 3, roi_stride: int = 32, box_head: str = "maps",
        box_gradient: bool = True, true_boxes: bool = True, hidden_dim: int = 0, dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.backbone = Backbone(config, (roi_stride, 32) if roi_stride != 32 else (32,))
        self.roi_cells, self.box_gradient = roi_cells, box_gradient
        last = self.backbone.widths[-1]
        self.flat_box = box_head == "linear"
        cells = config.input_size // (32 if self.flat_box else roi_stride)
        self.box: nn.Module | None = None
        if true_boxes or (roi_cells and box_gradient):
            self.box = BoxHead(last, cells) if self.flat_box else BoxMaps(self.backbone.widths, cells)
        num_features = last + self.backbone.widths[0] * roi_cells**2
        self.hidden = nn.Sequential(nn.Linear(num_features, hidden_dim), nn.ReLU()) if hidden_dim else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        num_joined = hidden_dim or num_features
        self.attribute_head = nn.Linear(num_joined, num_attributes) if num_attributes else None
        self.category_head: nn.Module | None = None
        if num_categories:
            flat = types is None
            self.category_head = (
                nn.Linear(num_joined, num_categories) if flat else TypedCategories(num_joined, num_categories, types)
            )

    def forward(self, image: Tensor) -> CategoryOutputs:
        """Map images, uint8 B, H, W, 3, to boxes B, 4 and the logits of both heads, B, C and B, A."""
        features = self.backbone(image)
        if self.box is None:
            boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]], device=image.device).expand(len(image), 4)
        else:
            boxes = self.box(features[-1] if self.flat_box else features)
        parts = [features[-1].float().mean(dim=(2, 3))]
        if self.roi_cells:
            region = boxes if self.box_gradient else boxes.detach()
            parts.append(pool_box(features[0], region, self.roi_cells).flatten(1))
        joined = self.dropout(self.hidden(torch.cat(parts, dim=1)))
        category = None if self.category_head is None else self.category_head(joined)
        attributes = None if self.attribute_head is None else self.attribute_head(joined)
        return CategoryOutputs(boxes, category, attributes)
