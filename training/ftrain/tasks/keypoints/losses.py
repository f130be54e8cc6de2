"""Heat map losses per keypoint, and online hard keypoint mining (OHKM; CPN, Chen et al., CVPR 2018, section 3.3).

A sample without valid points costs 0 and still counts: if the mean were over the others, the loss of a batch would not
be the mean over its micro-batches, whose numbers of such samples differ.
"""

import torch
from torch import Tensor


def per_point_loss(maps: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Mean squared error over the cells of maps B, K, h, w, times `weight` B, K: float32 B, K.

    A point of weight 0 has no loss and no gradient, whatever the content of its map.
    """
    used = (weight > 0)[..., None, None]
    difference = torch.where(used, maps.float() - targets.float(), 0.0)
    return difference.square().mean(dim=(2, 3)) * weight.float()


def mean_keypoint_loss(point_loss: Tensor, valid: Tensor) -> Tensor:
    """Mean over the valid points of a sample, then over all samples.

    `point_loss` and `valid` are B, K. Used for GlobalNet, which trains on all points.
    """
    return _mean_over_chosen(point_loss, valid.bool())


def hard_keypoint_loss(point_loss: Tensor, valid: Tensor, share: float = 0.5) -> Tensor:
    """Mean over the hardest points of a sample, then over all samples.

    `point_loss` and `valid` are B, K. Selects ceil(share * number of valid points) per sample, so a skirt with four
    points trains two of them and never an invalid one. Ties are broken by the order of the points.
    """
    return _mean_over_chosen(point_loss, hardest_points(point_loss, valid, share))


def hardest_points(point_loss: Tensor, valid: Tensor, share: float = 0.5) -> Tensor:
    """Return a mask B, K of the valid points with the highest loss, ceil(share * valid) per sample."""
    assert 0 < share <= 1, share
    valid = valid.bool()
    num_chosen = torch.ceil(valid.sum(dim=1, keepdim=True) * share - 1e-4)  # 0.3 * 10 is 3, not 4
    hardest_first = point_loss.detach().masked_fill(~valid, -torch.inf).argsort(dim=1, descending=True, stable=True)
    rank = hardest_first.argsort(dim=1)  # inverse permutation
    return (rank < num_chosen) & valid


def _mean_over_chosen(point_loss: Tensor, chosen: Tensor) -> Tensor:
    """Mean over the chosen points of each sample, 0 without any, then over all samples."""
    return (torch.where(chosen, point_loss, 0.0).sum(dim=1) / chosen.sum(dim=1).clamp_min(1)).mean()
