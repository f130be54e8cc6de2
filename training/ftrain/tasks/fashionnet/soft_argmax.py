"""Soft-argmax: keypoints as the mean of a probability map (Sun et al., Integral Human Pose Regression, ECCV 2018)."""

import torch
from torch import Tensor

from ftrain.layers.heatmap import gaussian_targets, to_pixels


def soft_argmax(maps: Tensor, stride: int) -> Tensor:
    """Return points B, K, 2 (float32 pixels: x, y) of logit maps B, K, h, w: the mean position under their softmax.

    Differentiable, finer than a cell, and within the outermost cell centers. Flat maps yield the center.
    """
    with torch.autocast(maps.device.type, enabled=False):
        height, width = maps.shape[2:]
        shares = maps.float().flatten(2).softmax(dim=2).unflatten(2, (height, width))
        x = shares.sum(dim=2) @ torch.arange(width, device=maps.device, dtype=torch.float32)
        y = shares.sum(dim=3) @ torch.arange(height, device=maps.device, dtype=torch.float32)
        return to_pixels(torch.stack((x, y), dim=-1), stride)


def map_loss(maps: Tensor, points: Tensor, counted: Tensor, stride: int, sigma: float) -> Tensor:
    """Cross-entropy B, K of the softmax of logit maps B, K, h, w against Gaussians of `sigma` cells around the points.

    Encourages a single peak, which the mean position alone does not. `points` are B, K, 2 in pixels; 0 where `counted`
    B, K is false.
    """
    with torch.autocast(maps.device.type, enabled=False):
        targets = gaussian_targets(points, counted, (maps.shape[2], maps.shape[3]), stride, sigma).flatten(2)
        targets = targets / targets.sum(dim=2, keepdim=True).clamp_min(1e-6)
        return -(targets * maps.float().flatten(2).log_softmax(dim=2)).sum(dim=2) * counted
