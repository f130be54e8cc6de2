"""Affine matrices and rotation on the device, traceable by `torch.export` (`ftrain.data.image` uses OpenCV)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ftrain.data.config import Views


def invert_matrices(matrices: Tensor) -> Tensor:
    """Return the inverses of affine matrices B, 2, 3 as float64 B, 2, 3."""
    a, b, c, d, e, f = matrices.double().flatten(1).unbind(1)
    scale = 1.0 / (a * e - b * d)
    inverse = (e * scale, -b * scale, -d * scale, a * scale)
    shift_x, shift_y = inverse[0] * c + inverse[1] * f, inverse[2] * c + inverse[3] * f
    return torch.stack([inverse[0], inverse[1], -shift_x, inverse[2], inverse[3], -shift_y], dim=1).unflatten(1, (2, 3))


def points_of_source(points: Tensor, matrices: Tensor, size: Tensor) -> Tensor:
    """Map points B, K, 2 (x, y in input pixels) to source pixels, clamped to the source image.

    `matrices` B, 2, 3 map source to input pixels, as returned by the encoder; `size` B, 2 is the source's width and
    height.
    """
    back = invert_matrices(matrices).to(points.dtype)
    source = torch.einsum("bij,bkj->bki", back[:, :, :2], points) + back[:, None, :, 2]
    return torch.minimum(source.clamp_min(0), (size - 1)[:, None, :])


def region_in_source(matrix: Tensor, size: int) -> Tensor:
    """Return the source region covered by an unrotated input of `size` pixels: edges B, 4 (x1, y1, x2, y2).

    `matrix` B, 2, 3 maps source to input pixels. Edges are measured from the left and upper edge of the source.
    """
    scale = matrix[:, [0, 1], [0, 1]]
    start = (-0.5 - matrix[:, :, 2]) / scale + 0.5
    return torch.cat([start, start + size / scale], dim=1)


def views_of(images: Tensor, views: Views) -> list[Tensor]:
    """Return images, uint8 B, S, S, 3, and the other views of test-time augmentation, without rotations.

    Each view follows the plain images, then the images enlarged around their center to each of the scales, with gray
    outside, and is followed by its flip if flips are chosen.
    """
    found = [images]
    for scale in views.scales:
        centered = images.permute(0, 3, 1, 2).float() - 128
        found.append((rotate(centered, 0.0, scale) + 128).round().to(images.dtype).permute(0, 2, 3, 1))
    return [view for own in found for view in ((own, own.flip(2)) if views.flip else (own,))]


def rotate(values: Tensor, degrees: float, scale: float = 1.0) -> Tensor:
    """Rotate B, C, H, W around the image center and enlarge by `scale`, bilinearly; the outside is zero.

    Positive angles rotate the y axis toward the x axis on the screen; `rotate(rotate(x, a), -a)` is x except for the
    corners.
    """
    radians = math.radians(degrees)
    cosine, sine = math.cos(radians) / scale, math.sin(radians) / scale
    height, width = values.shape[-2:]
    # affine_grid uses units of half a side, hence the aspect ratio in the terms that mix x and y.
    matrix = torch.tensor(
        [[cosine, -sine * height / width, 0.0], [sine * width / height, cosine, 0.0]], device=values.device, dtype=values.dtype
    )  # fmt: skip
    grid = F.affine_grid(matrix.expand(values.shape[0], 2, 3), list(values.shape), align_corners=False)
    return F.grid_sample(values, grid, mode="bilinear", align_corners=False)
