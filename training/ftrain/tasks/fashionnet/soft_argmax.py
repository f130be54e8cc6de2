"""Points as the mean of a probability map: soft-argmax (Sun et al., Integral human pose regression, ECCV 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from ftrain.layers.heatmap import gaussian_targets, to_pixels


def soft_argmax(maps: Tensor, stride: int) -> Tensor:
    """Points B, K, 2 (float32 pixels: x, y) of maps of logits B, K, h, w: the mean place under their softmax.

    It is differentiable, finer than a cell, and inside the outermost centers of cells. Maps without contrast give the middle.
    """
    with torch.autocast(maps.device.type, enabled=False):
        height, width = maps.shape[2:]
        shares = maps.float().flatten(2).softmax(dim=2).unflatten(2, (height, width))
        x = shares.sum(dim=2) @ torch.arange(width, device=maps.device, dtype=torch.float32)
        y = shares.sum(dim=3) @ torch.arange(height, device=maps.device, dtype=torch.float32)
        return to_pixels(torch.stack((x, y), dim=-1), stride)


def map_loss(maps: Tensor, points: Tensor, counted: Tensor, stride: int, sigma: float) -> Tensor:
    """Cross-entropy B, K of the softmax of maps of logits B, K, h, w against Gaussians of `sigma` cells around the points.

    It keeps a map to one peak, which the mean place alone does not ask for. `points` B, K, 2 in pixels; 0 where not `counted` B, K.
    """
    with torch.autocast(maps.device.type, enabled=False):
        targets = gaussian_targets(points, counted, (maps.shape[2], maps.shape[3]), stride, sigma).flatten(2)
        targets = targets / targets.sum(dim=2, keepdim=True).clamp_min(1e-6)
        return -(targets * maps.float().flatten(2).log_softmax(dim=2)).sum(dim=2) * counted
