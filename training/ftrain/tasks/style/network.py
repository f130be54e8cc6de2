"""The two branches of ASEN++ on a timm network, and the neck between its features and a classifier.

Dong et al., "Fine-Grained Fashion Similarity Prediction by Attribute-Specific Embedding Learning", IEEE TIP 2021: a
global branch processes the whole image, a smaller local network the region the global branch attends to.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fschemas.failures import UsageError
from ftrain.data.config import BackboneConfig
from ftrain.layers.backbone import Backbone
from ftrain.layers.cut_backbone import cut_after
from ftrain.tasks.style.attention import AttributeAttention, attended_boxes, crops
from ftrain.tasks.style.config import StyleConfig
from ftrain.tasks.style.region_patches import PatchAttention

ATTENDED_STRIDE, DEEP_STRIDE = 16, 32  # of the features for attention, and of the final features


def attended_backbone(config: BackboneConfig) -> Backbone:
    """Create a network up to stride 16, without the later stages, which would never be trained."""
    backbone = Backbone(config, (ATTENDED_STRIDE,))
    try:
        cut_after(backbone, config.backbone, ATTENDED_STRIDE)
    except UsageError:
        raise UsageError(
            f"backbone {config.backbone!r} is not a sequence of stages that ends at stride {ATTENDED_STRIDE}; choose a ResNet or an EfficientNet"
        ) from None
    return backbone


class LocalBranch(nn.Module):
    """Local branch: crops the attended square from a larger image and embeds it under the attribute that selected it.

    The threshold of the configuration cuts the attention map; the square covers at least `local_input_size` pixels of
    the image, so that it is never upscaled. With `local_head: patches`, an attention layer over the patches of the square
    replaces the attribute attention.
    """

    def __init__(self, config: StyleConfig) -> None:
        super().__init__()
        self.size, self.threshold = config.local_input_size, config.attention_threshold
        own = {"backbone": config.local_backbone, "weights": config.local_weights, "input_size": self.size}
        self.backbone = attended_backbone(config.model_copy(update=own))
        width = self.backbone.widths[0]
        self.attention = (
            PatchAttention(width, config.attribute_dim, config.embedding_dim)
            if config.local_head == "patches"
            else AttributeAttention(width, config.attribute_dim, width, config.embedding_dim)
        )

    def boxes(self, image_size: int, maps: Tensor) -> Tensor:
        """Return the squares B, 4 (shares of the image) attended by maps B, h, w."""
        return attended_boxes(maps.detach(), self.threshold, min(1.0, self.size / image_size))

    def forward(self, images: Tensor, maps: Tensor, attributes: Tensor) -> Tensor:
        """Return embeddings B, E of images B, S, S, 3 (0 … 255) under one attribute each.

        `maps` B, h, w and `attributes` B, D are its attention maps and vectors. The choice of the square has no
        gradient.
        """
        cut = crops(images, self.boxes(images.shape[1], maps), self.size)
        return self.attention(self.backbone(cut)[0], attributes[:, None])[0][:, 0]


class StyleNeck(nn.Module):
    """Attribute-specific embedding B, E and deep features B, W, h, w to B, E / 2, the input of a classifier.

    The layers are those of the K-Fashion classifier that extended ASEN++. The original had no activations, so that its
    four layers were equivalent to one; here a GELU follows all but the last.
    """

    def __init__(self, width: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.reduce = nn.Linear(width, embedding)
        self.layers = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(2 * embedding, embedding), nn.GELU(), nn.Linear(embedding, embedding), nn.GELU(),
            nn.Dropout(dropout / 2), nn.Linear(embedding, embedding // 2),
        )  # fmt: skip

    def forward(self, embedding: Tensor, deep: Tensor) -> Tensor:
        """Map `embedding` B, E and `deep` B, W, h, w to B, E / 2."""
        whole = F.gelu(self.reduce(deep.mean(dim=(2, 3))))
        return self.layers(torch.cat([whole, embedding.to(whole.dtype)], dim=1))
