"""Rotation of images and maps around their center, on the device, for test-time augmentation."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


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
