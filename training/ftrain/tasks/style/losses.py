"""Losses for images with at most one known value per attribute, and ArcFace, a classifier with an angular margin."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ftrain.layers.attribute_loss import class_losses
from ftrain.layers.metric_learning import Mining, class_masks, triplet_loss, with_angular_margin


class ArcFace(nn.Module):
    """ArcFace (Deng et al., CVPR 2019): one direction per class; logits are `scale` times its cosine with the embedding.

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
        return self.scale * with_angular_margin(self._cosines(embedding), true, self.margin)

    def _cosines(self, embedding: Tensor) -> Tensor:
        with torch.autocast(embedding.device.type, enabled=False):
            return F.normalize(embedding.float(), dim=-1) @ F.normalize(self.directions.float(), dim=-1).T


def value_loss(
    heads: Iterable[nn.Module], seen: Sequence[Tensor], values: Tensor, adjustments: Sequence[Tensor], smoothing: float
) -> Tensor:
    """Cross-entropy of the known values: mean over the attributes of an image, then over images (0 if none is known).

    For each of A attributes, `heads` has the classifier, `seen` its input B, D, and `adjustments` what is added to its
    logits (`logit_adjustment`, or 0), V; `values` is int64 B, A, -1 unknown.
    """
    costs = torch.zeros(values.shape[0], device=values.device)
    for number, (head, evaluated) in enumerate(zip(heads, seen, strict=True)):
        true = values[:, number]
        if isinstance(head, ArcFace):
            logits = head.with_margin(evaluated, class_masks(true, len(adjustments[number])))
        else:
            logits = head(evaluated)
        costs = costs + class_losses(logits, true, smoothing, adjustments[number])
    return (costs / (values >= 0).sum(dim=1).clamp_min(1)).mean()


def value_triplets(embedding: Tensor, values: Tensor, *, margin: float, mining: Mining) -> Tensor:
    """Triplet loss per attribute of embeddings B, A, E, mined in the batch, weighted by the known values B, A."""
    known = (values >= 0).sum(dim=0)
    losses = [
        triplet_loss(embedding[:, number], values[:, number], margin=margin, mining=mining)
        for number in range(values.shape[1])
    ]
    return (torch.stack(losses) * known).sum() / known.sum().clamp_min(1)
