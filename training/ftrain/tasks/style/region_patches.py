"""The local branch and the contrast of RPF: from the attended region to its patches, against the background.

Dong et al., "From Region to Patch: Attribute-Aware Foreground-Background Contrastive Learning for Fine-Grained Fashion
Retrieval", SIGIR 2023. A vision transformer encodes the attended square, and an attention layer in which the attribute
is the query chooses among its patches.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_HEAD_WIDTH = 64  # of the attention heads, as in ViT-B
_TEMPERATURE = 0.07
_BACKGROUND_WEIGHT = 12.0  # alpha, as published for FashionAI


class PatchAttention(nn.Module):
    """Features B, `width`, h, w and attributes to an embedding of each image under each attribute.

    Cross-attention with the attribute as query and the cells (patch tokens) as keys and values, then a linear layer to
    `embedding` dimensions and a residual layer of two. Compare embeddings by their cosine.
    """

    def __init__(self, width: int, attribute_width: int, embedding: int) -> None:
        super().__init__()
        self.attribute_to_query = nn.Linear(attribute_width, width)
        self.norm = nn.LayerNorm(width)  # of queries and tokens, as published
        self.attention = nn.MultiheadAttention(width, math.gcd(width, max(1, width // _HEAD_WIDTH)), batch_first=True)
        self.project = nn.Linear(width, embedding)
        self.mix = nn.Sequential(
            nn.LayerNorm(embedding),
            nn.Linear(embedding, embedding // 2),
            nn.GELU(),
            nn.Linear(embedding // 2, embedding),
        )
        self.out_norm = nn.LayerNorm(embedding)

    def forward(self, features: Tensor, attributes: Tensor) -> tuple[Tensor, Tensor]:
        """Return embeddings B, A, E and maps B, A, h, w that sum to 1, both float32; `attributes` are B, A, D."""
        tokens = self.norm(features.flatten(2).transpose(1, 2))
        queries = self.norm(self.attribute_to_query(attributes).to(tokens.dtype))
        attended, maps = self.attention(queries, tokens, tokens)
        embedding = self.project(attended)
        embedding = self.out_norm(embedding + self.mix(embedding))
        return embedding.float(), maps.float().unflatten(2, features.shape[2:])


def foreground_contrast(
    regions: Tensor, patches: Tensor, background: Tensor, attributes: Tensor, values: Tensor
) -> Tensor:
    """E-InfoNCE (equation 13 of the paper): pull each region to the patches with its value, away from all else.

    `regions`, `patches` and `background` are embeddings B, E (any norm) of B images under one of the `attributes` each,
    int64 B, with the `values` B (below 0: unknown, takes no part). Patches with the same value of the same attribute are
    positives, all others negatives; backgrounds under the same attribute are negatives of weight 12.
    """
    with torch.autocast(regions.device.type, enabled=False):
        anchors = F.normalize(regions.float(), dim=1) / _TEMPERATURE
        to_patches = anchors @ F.normalize(patches.float(), dim=1).T
        to_background = anchors @ F.normalize(background.float(), dim=1).T
    known = values >= 0
    same = (attributes[:, None] == attributes[None, :]) & known[None, :]
    positive = to_patches.masked_fill(~(same & (values[:, None] == values[None, :])), -math.inf)
    everything = [to_patches.masked_fill(~known[None, :], -math.inf), to_background.masked_fill(~same, -math.inf)]
    everything[1] = everything[1] + math.log(_BACKGROUND_WEIGHT)
    # An unknown image has no positive: its row is replaced before, because the gradient of infinities is not a number.
    alone = known[:, None]
    costs = torch.where(alone, torch.cat(everything, dim=1), 0.0).logsumexp(dim=1)
    costs = costs - torch.where(alone, positive, 0.0).logsumexp(dim=1)
    return torch.where(known, costs, 0.0).sum() / known.sum().clamp_min(1)
