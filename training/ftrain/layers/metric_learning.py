"""Losses that order embeddings: the triplet loss with mining inside the batch, and proxy anchors.

A label below 0 is unknown: such an image is neither anchor nor positive nor negative, because it may show the very item that it
would be pushed away from. All shapes are those of the batch alone, nothing is random, and the gradient is finite even where
all embeddings are equal. Computed in float32, also under autocast.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ftrain.data.config import Distance, Mining

_LEAST_SQUARE = 1e-12  # below it the square root of a distance has no gradient


def distances(embedding: Tensor, distance: Distance = "cosine") -> Tensor:
    """Distances B, B of embeddings B, D in float32: 1 - cosine (0 … 2), or Euclidean between the vectors as they are."""
    with torch.autocast(embedding.device.type, enabled=False):
        vectors = embedding.float()
        if distance == "cosine":
            vectors = F.normalize(vectors, dim=1)
            return 1 - vectors @ vectors.T
        squares = vectors.square().sum(dim=1)
        squared = squares[:, None] + squares[None, :] - 2 * vectors @ vectors.T
        return squared.clamp_min(_LEAST_SQUARE).sqrt()


def triplet_loss(
    embedding: Tensor, labels: Tensor, *, margin: float = 0.2, mining: Mining = "batch_hard", distance: Distance = "cosine",
) -> Tensor:  # fmt: skip
    """Mean of max(0, d(anchor, positive) - d(anchor, negative) + margin) over the triplets that are mined in the batch.

    `embedding` B, D (normalized here where the distance is the cosine), `labels` B int64. Which triplets:

    - `batch_hard`: every anchor with its farthest positive and its nearest negative; the mean over all anchors that have
      both (Hermans et al., 2017, section 2).
    - `semi_hard`: every anchor and positive with the nearest negative that is farther than the positive, but within the
      margin; pairs without one are left out (Schroff et al., FaceNet, CVPR 2015, section 3.2).
    - `all`: every triplet that violates the margin (Hermans et al., section 2: batch all, mean of what is not zero).

    0 where no triplet can be formed. `semi_hard` and `all` take memory for B x B x B numbers.
    """
    apart = distances(embedding, distance)
    known = labels >= 0
    comparable = known[:, None] & known[None, :]
    same = labels[:, None] == labels[None, :]
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    positive, negative = comparable & same & ~itself, comparable & ~same
    if mining == "batch_hard":
        farthest = apart.masked_fill(~positive, -math.inf).amax(dim=1)
        nearest = apart.masked_fill(~negative, math.inf).amin(dim=1)
        return _mean(F.relu(farthest - nearest + margin), positive.any(dim=1) & negative.any(dim=1))
    to_positive, to_negative = apart[:, :, None], apart[:, None, :]  # anchor, positive, negative
    violation = to_positive - to_negative + margin
    triplet = positive[:, :, None] & negative[:, None, :] & (violation > 0)
    if mining == "all":
        return _mean(violation, triplet)
    semi_hard = triplet & (to_negative > to_positive)
    hardest = violation.masked_fill(~semi_hard, -math.inf).amax(dim=2)
    return _mean(hardest, semi_hard.any(dim=2))


class ProxyAnchor(nn.Module):
    """Proxy-anchor loss (Kim et al., CVPR 2020, equation 4): a learnt vector per class, which all images of a batch pull or push.

    With s the cosine of image and proxy, the loss is the mean over proxies with an image in the batch of
    log(1 + sum exp(-scale (s - margin))) over their images, and the mean over all proxies of
    log(1 + sum exp(scale (s + margin))) over the others. Proxies learn about a hundred times faster than a network.
    """

    def __init__(self, num_classes: int, dim: int, margin: float = 0.1, scale: float = 32.0) -> None:
        super().__init__()
        self.margin, self.scale = margin, scale
        self.proxies = nn.Parameter(torch.empty(num_classes, dim))
        nn.init.kaiming_normal_(self.proxies, mode="fan_out")

    def forward(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """The loss, a scalar, of embeddings B, D and labels B int64 in 0 … num_classes - 1; below 0 is unknown."""
        with torch.autocast(embedding.device.type, enabled=False):
            cosine = F.normalize(embedding.float(), dim=1) @ F.normalize(self.proxies, dim=1).T
        known = (labels >= 0)[:, None]
        own = labels[:, None] == torch.arange(len(self.proxies), device=labels.device)[None, :]
        pull = _log_one_plus_sum(-self.scale * (cosine - self.margin), own & known)
        push = _log_one_plus_sum(self.scale * (cosine + self.margin), ~own & known)
        return _mean(pull, (own & known).any(dim=0)) + push.mean()


def _mean(values: Tensor, among: Tensor) -> Tensor:
    """Mean of `values` where `among`; 0, with a gradient of 0, where that is nowhere. What is left out may be infinite."""
    return torch.where(among, values, 0.0).sum() / among.sum().clamp_min(1)


def _log_one_plus_sum(exponents: Tensor, among: Tensor) -> Tensor:
    """log(1 + sum of exp over the rows that are `among`) of each column of B, C: the 1 is a row of zeros."""
    rows = torch.cat([exponents.masked_fill(~among, -math.inf), exponents.new_zeros(1, exponents.shape[1])])
    return rows.logsumexp(dim=0)
