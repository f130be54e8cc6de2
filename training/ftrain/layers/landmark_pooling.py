"""Landmark pooling (Liu et al., CVPR 2016, section 3.1): what the features show around every predicted landmark.

A window around each point is pooled by ROIAlign (He et al., ICCV 2017) from the map of its own picture, and closed by a gate where
the point is not visible. The windows of all landmarks are stacked, not added up, so that what follows learns how they interact.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import roi_align

from fschemas.landmarks import Visibility

Gate = Literal["soft", "hard", "none"]

VISIBLE = 0  # first of the three classes visible, occluded, absent (the numbers of DeepFashion's files)


def visibility_classes(visibility: Tensor) -> Tensor:
    """`Visibility` (…) as the classes that a network tells apart: 0 visible, 1 occluded, 2 absent or not applicable."""
    return Visibility.VISIBLE.value - visibility.long().clamp_min(Visibility.ABSENT.value)


def windows_around(points: Tensor, window: float) -> Tensor:
    """Regions B x K, 5 as ROIAlign takes them: number of the picture, x1, y1, x2, y2, in edges of pixels.

    `points` B, K, 2 are pixel centres (the centre of the top left pixel, (0, 0), lies 0.5 from the picture's edges) and become the
    centres of squares of `window` pixels.
    """
    num_pictures, num_points = points.shape[:2]
    centres = points.float().flatten(0, 1) + 0.5
    pictures = torch.arange(num_pictures, device=points.device, dtype=torch.float32).repeat_interleave(num_points)
    return torch.cat([pictures[:, None], centres - window / 2, centres + window / 2], dim=1)


def gates(visibility: Tensor, kind: Gate) -> Tensor:
    """How far the gate of each landmark is open, B, K in 0 … 1, by the predicted `visibility` B, K, 3 (logits).

    `soft` is the probability of `VISIBLE`, `hard` is 1 where it is the most probable class, as published, `none` always 1. Gates
    give no gradient: what a picture shows must not be told by what its attributes would like to see.
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
    """
    with torch.autocast(features.device.type, enabled=False):
        regions = windows_around(points.detach(), window)
        pooled = roi_align(features.float(), regions, size, spatial_scale=1 / stride, sampling_ratio=2, aligned=True)
        return pooled.unflatten(0, tuple(points.shape[:2])) * gate[:, :, None, None, None]
