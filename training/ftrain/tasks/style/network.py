"""The two branches of ASEN++ on any timm network, and the neck between its features and a head of classes.

Dong et al., "Fine-Grained Fashion Similarity Prediction by Attribute-Specific Embedding Learning", IEEE TIP 2021: a global branch
looks at the whole image, a local one, with a smaller network, at what the global one attends to.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fschemas.failures import UsageError
from ftrain.layers.backbone import Backbone
from ftrain.layers.cut_backbone import cut_after
from ftrain.tasks.style.attention import AttributeAttention, attended_boxes, crops

ATTENDED_STRIDE, DEEP_STRIDE = 16, 32  # of the features that attention works on, and of those behind the whole network


def attended_backbone(name: str, weights: str) -> Backbone:
    """A network up to stride 16: what lies behind it is taken away, as it would never learn."""
    backbone = Backbone(name, weights, (ATTENDED_STRIDE,))
    try:
        cut_after(backbone, name, ATTENDED_STRIDE)
    except UsageError:
        raise UsageError(
            f"backbone {name!r} is no chain of stages that could end at stride {ATTENDED_STRIDE}; take a ResNet or an EfficientNet"
        ) from None
    return backbone


class LocalBranch(nn.Module):
    """The second look: the attended square of an image, cut out at a higher resolution, seen under the attribute that chose it.

    `threshold` cuts the attention map; the square has at least `size` pixels of the image, so that nothing is enlarged.
    """

    def __init__(
        self, backbone: str, weights: str, size: int, threshold: float, attribute_width: int, embedding: int
    ) -> None:  # fmt: skip
        super().__init__()
        self.size, self.threshold = size, threshold
        self.backbone = attended_backbone(backbone, weights)
        width = self.backbone.widths[0]
        self.attention = AttributeAttention(width, attribute_width, width, embedding)

    def boxes(self, image_size: int, maps: Tensor) -> Tensor:
        """The squares B, 4 (shares of the image) that maps B, h, w point at."""
        return attended_boxes(maps.detach(), self.threshold, min(1.0, self.size / image_size))

    def forward(self, images: Tensor, maps: Tensor, attributes: Tensor) -> Tensor:
        """Embeddings B, E of images B, S, S, 3 (0 … 255) under one attribute each: maps B, h, w and vectors B, D of it.

        No gradient flows into the choice of the square.
        """
        cut = crops(images, self.boxes(images.shape[1], maps), self.size)
        return self.attention(self.backbone(cut)[0], attributes[:, None])[0][:, 0]


class StyleNeck(nn.Module):
    """Attribute-specific embedding B, E and deep features B, W, h, w of an image to E / 2 numbers for a head of classes.

    The layers are those of the K-Fashion classifier that ASEN++ was extended to. It had no activation between them, so that its
    four layers could do no more than one: here stands a GELU behind all but the last.
    """

    def __init__(self, width: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.reduce = nn.Linear(width, embedding)
        self.layers = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(2 * embedding, embedding), nn.GELU(), nn.Linear(embedding, embedding), nn.GELU(),
            nn.Dropout(dropout / 2), nn.Linear(embedding, embedding // 2),
        )  # fmt: skip

    def forward(self, embedding: Tensor, deep: Tensor) -> Tensor:
        """See the class."""
        whole = F.gelu(self.reduce(deep.mean(dim=(2, 3))))
        return self.layers(torch.cat([whole, embedding.to(whole.dtype)], dim=1))
