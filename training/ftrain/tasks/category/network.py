"""The clothing classifier: a backbone, a predicted box, features of the box and of the whole image, and linear heads.

After the open classifier of Ghadiri (2019): global average and 3 x 3 features of the predicted box, concatenated, into
one linear layer each for attributes and categories. Optional additions: features of a finer stride for the box,
gradients that reach the box, a hidden layer, and a branch per type of clothes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ftrain.layers.backbone import Backbone
from ftrain.tasks.category.box import BoxHead, BoxMaps, pool_box
from ftrain.tasks.category.config import CategoryConfig
from ftrain.tasks.category.labels import CategoryLabels


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
    """uint8 B, H, W, 3 to `CategoryOutputs`, with the heads that the labels need.

    `roi_cells` cells per side of the box, from the features at `roi_stride`, are concatenated with the global features.
    Without `box_gradient` the classification losses do not train the box. A box that nothing trains is the whole image.
    """

    def __init__(self, config: CategoryConfig, labels: CategoryLabels) -> None:
        super().__init__()
        self.backbone = Backbone(config, tuple(dict.fromkeys((config.roi_stride, 32))))
        self.roi_cells, self.box_gradient = config.roi_cells, config.box_gradient
        last = self.backbone.widths[-1]
        self.flat_box = config.box_head == "linear"
        cells = config.input_size // (32 if self.flat_box else config.roi_stride)
        self.box: nn.Module | None = None
        self.register_buffer("whole_image", torch.tensor([[0.0, 0.0, 1.0, 1.0]]), persistent=False)
        self.whole_image: Tensor
        if labels.has_boxes or (self.roi_cells and self.box_gradient):
            self.box = BoxHead(last, cells) if self.flat_box else BoxMaps(self.backbone.widths, cells)
        width = last + self.backbone.widths[0] * self.roi_cells**2
        self.hidden: nn.Module = nn.Identity()
        if config.hidden_dim:
            self.hidden = nn.Sequential(nn.Linear(width, config.hidden_dim), nn.ReLU())
            width = config.hidden_dim
        self.dropout = nn.Dropout(config.dropout)
        self.attribute_head = nn.Linear(width, len(labels.attributes)) if labels.attributes else None
        self.category_head: nn.Module | None = None
        if labels.categories and config.heads == "per_type":
            self.category_head = TypedCategories(width, len(labels.categories), labels.types)
        elif labels.categories:
            self.category_head = nn.Linear(width, len(labels.categories))

    def forward(self, image: Tensor) -> CategoryOutputs:
        """Map images, uint8 B, H, W, 3, to boxes B, 4 and the logits of both heads, B, C and B, A."""
        features = self.backbone(image)
        if self.box is None:
            boxes = self.whole_image.expand(len(image), 4)
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
