"""Classification with an additive angular margin (ArcFace; Deng et al., CVPR 2019)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ArcFace(nn.Module):
    """One direction per class; the logits are `scale` times its cosine with the embedding.

    In training `margin` (radians) is added to the angle of the true class. The scale also applies at inference: without
    it, the softmax of C cosines is nearly flat and the probabilities are meaningless.
    """

    def __init__(self, width: int, num_classes: int, scale: float = 10.0, margin: float = 0.5) -> None:
        super().__init__()
        self.scale, self.margin = scale, margin
        self.directions = nn.Parameter(torch.empty(num_classes, width))
        nn.init.xavier_uniform_(self.directions)

    def forward(self, embedding: Tensor) -> Tensor:
        """Return float32 logits ..., C of embeddings ..., width (any norm), without margin."""
        return self.scale * self._cosines(embedding)

    def with_margin(self, embedding: Tensor, true: Tensor) -> Tensor:
        """Return training logits ..., C of embeddings ..., width; `true` (bool ..., C) marks the true classes."""
        cosines = self._cosines(embedding)
        return self.scale * torch.where(true, self._widened(cosines), cosines)

    def _widened(self, cosines: Tensor) -> Tensor:
        """Return the cosines of the angles plus the margin.

        Beyond 180 degrees the cosine continues linearly (`easy_margin` off in the paper's code), so that a wider angle
        is never rewarded.
        """
        sines = (1 - cosines.square()).clamp_min(1e-6).sqrt()
        widened = cosines * math.cos(self.margin) - sines * math.sin(self.margin)
        return torch.where(cosines <= -math.cos(self.margin), cosines - self.margin * math.sin(self.margin), widened)

    def _cosines(self, embedding: Tensor) -> Tensor:
        with torch.autocast(embedding.device.type, enabled=False):
            return F.normalize(embedding.float(), dim=-1) @ F.normalize(self.directions.float(), dim=-1).T
