"""Losses for embeddings: triplet loss with mining within the batch, proxy anchor, and the angular margin of ArcFace.

A label below 0 is unknown: such an image is neither anchor nor positive nor negative, because it may show the very item
it would be pushed away from. All shapes depend on the batch size alone, nothing is random, and the gradient is finite
even if all embeddings are equal. Computed in float32, also under autocast.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ftrain.data.config import Distance, Mining

_MIN_SQUARE = 1e-12  # the square root of a distance has no gradient below this


def distances(embedding: Tensor, distance: Distance = "cosine") -> Tensor:
    """Return float32 distances B, B of embeddings B, D: 1 - cosine (0 … 2), or Euclidean without normalization."""
    with torch.autocast(embedding.device.type, enabled=False):
        vectors = embedding.float()
        if distance == "cosine":
            vectors = F.normalize(vectors, dim=1)
            return 1 - vectors @ vectors.T
        squares = vectors.square().sum(dim=1)
        squared = squares[:, None] + squares[None, :] - 2 * vectors @ vectors.T
        return squared.clamp_min(_MIN_SQUARE).sqrt()


def triplet_loss(
    embedding: Tensor, labels: Tensor, *, margin: float = 0.2, mining: Mining = "batch_hard", distance: Distance = "cosine",
) -> Tensor:  # fmt: skip
    """Mean of max(0, d(anchor, positive) - d(anchor, negative) + margin) over the triplets mined in the batch.

    `embedding` is B, D (normalized here if the distance is the cosine), `labels` is int64 B. Mining strategies:

    - `batch_hard`: each anchor with its farthest positive and nearest negative, averaged over all anchors that have
      both (Hermans et al., 2017, section 2).
    - `semi_hard`: each anchor-positive pair with the nearest negative that is farther than the positive but within the
      margin; pairs without one are ignored (Schroff et al., FaceNet, CVPR 2015, section 3.2).
    - `all`: every triplet that violates the margin (Hermans et al., section 2: batch all, mean of the non-zero terms).

    Returns 0 if no triplet can be formed. `semi_hard` and `all` need memory for B x B x B numbers.
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


def class_masks(labels: Tensor, num_classes: int) -> Tensor:
    """Return a mask bool B, C of the class of each label, int64 B; all false below 0. Reads no value, as one_hot does."""
    return labels[:, None] == torch.arange(num_classes, device=labels.device)


def with_angular_margin(cosines: Tensor, true: Tensor, margin: float) -> Tensor:
    """Add `margin` (radians) to the angles of the true classes (ArcFace, Deng et al., CVPR 2019).

    `cosines` are ..., C, `true` is bool ..., C. Beyond 180 degrees the cosine continues linearly (`easy_margin` off in
    the paper's code), so that a wider angle is never rewarded.
    """
    sines = (1 - cosines.square()).clamp_min(1e-6).sqrt()
    widened = cosines * math.cos(margin) - sines * math.sin(margin)
    widened = torch.where(cosines <= -math.cos(margin), cosines - margin * math.sin(margin), widened)
    return torch.where(true, widened, cosines)


class ProxyAnchor(nn.Module):
    """Proxy-anchor loss (Kim et al., CVPR 2020, equation 4): one learnable proxy per class.

    With s the cosine of image and proxy, the loss is the mean over proxies with an image in the batch of log(1 + sum
    exp(-scale (s - margin))) over their images, plus the mean over all proxies of log(1 + sum exp(scale (s + margin)))
    over the other images. Proxies need about 100 times the learning rate of the network.
    """

    def __init__(self, num_classes: int, dim: int, margin: float = 0.1, scale: float = 32.0) -> None:
        super().__init__()
        self.margin, self.scale = margin, scale
        self.proxies = nn.Parameter(torch.empty(num_classes, dim))
        nn.init.kaiming_normal_(self.proxies, mode="fan_out")

    def forward(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Return the scalar loss of embeddings B, D and int64 labels B in 0 … num_classes - 1; below 0 is unknown.

        Of embeddings with fewer dimensions than the proxies, the first dimensions of the proxies are compared.
        """
        with torch.autocast(embedding.device.type, enabled=False):
            proxies = self.proxies[:, : embedding.shape[1]]
            cosine = F.normalize(embedding.float(), dim=1) @ F.normalize(proxies, dim=1).T
        known = (labels >= 0)[:, None]
        own = class_masks(labels, len(self.proxies))
        pull = _log_one_plus_sum(-self.scale * (cosine - self.margin), own & known)
        push = _log_one_plus_sum(self.scale * (cosine + self.margin), ~own & known)
        return _mean(pull, (own & known).any(dim=0)) + push.mean()


def _mean(values: Tensor, among: Tensor) -> Tensor:
    """Mean of `values` where `among` is true; 0 with a gradient of 0 if it never is. Ignored values may be infinite."""
    return torch.where(among, values, 0.0).sum() / among.sum().clamp_min(1)


def _log_one_plus_sum(exponents: Tensor, among: Tensor) -> Tensor:
    """log(1 + sum of exp over the rows where `among` is true), per column of B, C; a row of zeros provides the 1."""
    rows = torch.cat([exponents.masked_fill(~among, -math.inf), exponents.new_zeros(1, exponents.shape[1])])
    return rows.logsumexp(dim=0)
