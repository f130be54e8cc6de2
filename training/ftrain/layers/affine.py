"""Affine matrices on the device, as operations that `torch.export` can trace: what `ftrain.data.image` does in workers with OpenCV."""

from __future__ import annotations

import torch
from torch import Tensor


def invert_matrices(matrices: Tensor) -> Tensor:
    """The inverses of 2 x 3 matrices B, 2, 3, computed in float64 and given in it."""
    a, b, c, d, e, f = matrices.double().flatten(1).unbind(1)
    scale = 1.0 / (a * e - b * d)
    inverse = (e * scale, -b * scale, -d * scale, a * scale)
    shift_x, shift_y = inverse[0] * c + inverse[1] * f, inverse[2] * c + inverse[3] * f
    return torch.stack([inverse[0], inverse[1], -shift_x, inverse[2], inverse[3], -shift_y], dim=1).unflatten(1, (2, 3))


def points_of_source(points: Tensor, matrices: Tensor, size: Tensor) -> Tensor:
    """Points B, K, 2 in pixels of the network's input put back to pixels of the source, and inside it.

    `matrices` B, 2, 3 take the source to the input, as the encoder gives them; `size` B, 2 is the source's width and height.
    """
    back = invert_matrices(matrices).to(points.dtype)
    source = torch.einsum("bij,bkj->bki", back[:, :, :2], points) + back[:, None, :, 2]
    return torch.minimum(source.clamp_min(0), (size - 1)[:, None, :])


def region_in_source(matrix: Tensor, size: int) -> Tensor:
    """Edges x1, y1, x2, y2 in the source of an upright input of `size` pixels, by matrices B, 2, 3; the source begins at 0."""
    scale = matrix[:, [0, 1], [0, 1]]
    start = (-0.5 - matrix[:, :, 2]) / scale + 0.5
    return torch.cat([start, start + size / scale], dim=1)
