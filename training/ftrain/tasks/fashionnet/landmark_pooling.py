"""Landmark pooling (Liu et al., CVPR 2016, section 3.1): what the features show around every predicted landmark.

A window around each point is pooled by ROIAlign (He et al., ICCV 2017) from the map of its own image, and closed by a gate where
the point is not visible. The windows of all landmarks are stacked, not added up, so that what follows learns how they interact.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fschemas.landmarks import Visibility
from ftrain.tasks.fashionnet.config import Gate

_SAMPLES = 2  # per bin and axis, as ROIAlign takes them
VISIBLE = 0  # first of the three classes visible, occluded, absent (the numbers of DeepFashion's files)


def visibility_classes(visibility: Tensor) -> Tensor:
    """`Visibility` (…) as the classes that a network tells apart: 0 visible, 1 occluded, 2 absent or not applicable."""
    return Visibility.VISIBLE.value - visibility.long().clamp_min(Visibility.ABSENT.value)


def gates(visibility: Tensor, kind: Gate) -> Tensor:
    """How far the gate of each landmark is open, B, K in 0 … 1, by the predicted `visibility` B, K, 3 (logits).

    `soft` is the probability of `VISIBLE`, `hard` is 1 where it is the most probable class, as published, `none` always 1. Gates
    give no gradient: what an image shows must not be told by what its attributes would like to see.
    """
    scores = visibility.detach().float()
    if kind == "soft":
        return scores.softmax(dim=2)[:, :, VISIBLE]
    if kind == "hard":
        return (scores.argmax(dim=2) == VISIBLE).float()
    return torch.ones_like(scores[:, :, VISIBLE])


def pool_landmarks(features: Tensor, points: Tensor, gate: Tensor, *, stride: int, window: float, size: int) -> Tensor:
    """Gated windows B, K, C, size, size (float32) of `features` B, C, H, W at `stride`.

    `points` B, K, 2 in pixels of the input, `gate` B, K as `gates` gives it, `window` the side of a window in pixels of the input.
    What lies outside of the map counts as 0. Points get no gradient; they learn from landmarks alone.

    The numbers are those of `torchvision.ops.roi_align` with aligned=True and two samples per bin and axis (a test compares them).
    They are computed as two products with matrices of bilinear weights: nothing is added in an undefined order on a GPU, and an
    export needs no special operator.
    """
    height, width = features.shape[-2:]
    with torch.autocast(features.device.type, enabled=False):
        places = (points.detach().float() + 0.5) / stride - 0.5  # in cells
        across = _weights(places[..., 0], window / stride, width, size)
        down = _weights(places[..., 1], window / stride, height, size)
        rows = torch.einsum("bkph,bchw->bkcpw", down, features.float())
        return torch.einsum("bkcpw,bkqw->bkcpq", rows, across) * gate[:, :, None, None, None]


def _weights(centers: Tensor, window: float, num_cells: int, size: int) -> Tensor:
    """Weight of each cell of one axis in each of `size` bins of windows around `centers` B, K: B, K, size, num_cells."""
    steps = (torch.arange(size * _SAMPLES, device=centers.device, dtype=torch.float32) + 0.5) / (size * _SAMPLES) - 0.5
    places = centers[..., None] + window * steps
    inside = (places >= -1) & (places <= num_cells)
    cells = torch.arange(num_cells, device=centers.device, dtype=torch.float32)
    weights = (1 - (places.clamp(0, num_cells - 1)[..., None] - cells).abs()).clamp_min(0) * inside[..., None]
    return weights.unflatten(2, (size, _SAMPLES)).mean(dim=3)
