"""Landmark pooling (Liu et al., CVPR 2016, section 3.1): features around every predicted landmark.

A window around each point is pooled by ROIAlign (He et al., ICCV 2017) from the features of its image, and gated by the
visibility of the point. The windows of all landmarks are stacked, not summed, so that the next layer can learn their
interaction.
"""

import torch
from torch import Tensor

from fschemas.landmarks import Visibility
from ftrain.tasks.fashionnet.config import Gate

_SAMPLES = 2  # per bin and axis, as in ROIAlign
VISIBLE = 0  # first of the classes visible, occluded, absent (the numbers in DeepFashion's files)


def visibility_classes(visibility: Tensor) -> Tensor:
    """Convert `Visibility` (…) to classes: 0 visible, 1 occluded, 2 absent or not applicable."""
    return Visibility.VISIBLE.value - visibility.long().clamp_min(Visibility.ABSENT.value)


def gates(visibility: Tensor, kind: Gate) -> Tensor:
    """Return how far the gate of each landmark is open, B, K in 0 … 1, from visibility logits B, K, 3.

    `soft` is the probability of `VISIBLE`, `hard` is 1 if it is the most probable class, as published, `none` is always
    1. Gates have no gradient: attribute losses must not influence the visibility prediction.
    """
    scores = visibility.detach().float()
    if kind == "soft":
        return scores.softmax(dim=2)[:, :, VISIBLE]
    if kind == "hard":
        return (scores.argmax(dim=2) == VISIBLE).float()
    return torch.ones_like(scores[:, :, VISIBLE])


def pool_landmarks(features: Tensor, points: Tensor, gate: Tensor, *, stride: int, window: float, size: int) -> Tensor:
    """Return gated windows B, K, C, size, size (float32) of `features` B, C, H, W at `stride`.

    `points` B, K, 2 are in input pixels, `gate` B, K is as returned by `gates`, `window` is the side of a window in
    input pixels. Cells outside the map count as 0. Points get no gradient; they are trained by the landmark loss alone.

    Equal to `torchvision.ops.roi_align` with aligned=True and two samples per bin and axis (covered by a test).
    Computed as two products with matrices of bilinear weights: the order of summation on a GPU is deterministic, and an
    export needs no special operator.
    """
    height, width = features.shape[-2:]
    with torch.autocast(features.device.type, enabled=False):
        positions = (points.detach().float() + 0.5) / stride - 0.5  # in cells
        across = _weights(positions[..., 0], window / stride, width, size)
        down = _weights(positions[..., 1], window / stride, height, size)
        rows = torch.einsum("bkph,bchw->bkcpw", down, features.float())
        return torch.einsum("bkcpw,bkqw->bkcpq", rows, across) * gate[:, :, None, None, None]


def _weights(centers: Tensor, window: float, num_cells: int, size: int) -> Tensor:
    """Return the weight of each cell of an axis in each bin of windows around `centers` B, K: B, K, size, num_cells."""
    steps = (torch.arange(size * _SAMPLES, device=centers.device, dtype=torch.float32) + 0.5) / (size * _SAMPLES) - 0.5
    positions = centers[..., None] + window * steps
    inside = (positions >= -1) & (positions <= num_cells)
    cells = torch.arange(num_cells, device=centers.device, dtype=torch.float32)
    weights = (1 - (positions.clamp(0, num_cells - 1)[..., None] - cells).abs()).clamp_min(0) * inside[..., None]
    return weights.unflatten(2, (size, _SAMPLES)).mean(dim=3)
