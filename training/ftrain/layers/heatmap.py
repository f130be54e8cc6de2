"""Heat maps: encode keypoints as Gaussian targets, and decode them.

Cell centers: a map of stride s covers the image in cells of s x s pixels. Cell i has its center at pixel coordinate `i
* s + (s - 1) / 2` (pixel centers, origin top left); at stride 4, cell 0 covers pixels 0 to 3 and its center is 1.5.
Omitting the shift costs 0.4 percentage points of NE at 512 pixels (the "+2 px" of FashionAI's competitors). Flipping an
image flips its cells exactly, so maps can be flipped without a shift.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Offset = Literal["parabola", "quarter", "none"]
PAPER_SIGMA = 1.4
"""Standard deviation in cells of CPN's finest target: a 7 x 7 kernel under OpenCV's rule 0.3 ((k - 1) / 2 - 1) + 0.8.
"""

PYRAMID_SIGMA_RATIOS = tuple(sigma / PAPER_SIGMA for sigma in (1.4, 1.7, 2.0, 2.6))
"""Target widths of GlobalNet's levels relative to the finest, finest first: CPN's kernels 7, 9, 11, 15."""


def pyramid_sigmas(sigma: float) -> tuple[float, ...]:
    """Return the standard deviations, in cells, of the targets of GlobalNet's levels, finest first."""
    return tuple(sigma * ratio for ratio in PYRAMID_SIGMA_RATIOS)


def to_cells(pixels: Tensor, stride: int) -> Tensor:
    """Convert pixel coordinates (any shape) to cell coordinates; the center of cell i is i."""
    return (pixels - (stride - 1) / 2) / stride


def to_pixels(cells: Tensor, stride: int) -> Tensor:
    """Convert cell coordinates to pixel coordinates (any shape): cell i has center i * stride + (stride - 1) / 2."""
    return cells * stride + (stride - 1) / 2


def gaussian_targets(points: Tensor, weight: Tensor, size: tuple[int, int], stride: int, sigma: float) -> Tensor:
    """Return target maps, float32 B, K, h, w, with a Gaussian around each point of positive weight.

    `points` are B, K, 2 pixels (x, y), `weight` is B, K; `size` (h, w) and the standard deviation `sigma` are in cells.
    A point of weight 0 yields an empty map, whatever its coordinates; a point outside the image leaves the tail of its
    Gaussian. The peak is 1 at the point itself, so a cell reaches it only if the point lies on its center.
    """
    present = weight > 0
    cells = to_cells(torch.where(present.unsqueeze(-1), points, 0.0).float(), stride)
    columns = _profile(cells[..., 0], size[1], sigma)
    rows = _profile(cells[..., 1], size[0], sigma) * present.unsqueeze(-1)
    return rows.unsqueeze(-1) * columns.unsqueeze(-2)


def _profile(center: Tensor, num_cells: int, sigma: float) -> Tensor:
    """Return a one-dimensional Gaussian (..., num_cells) with peak 1 at `center` (...)."""
    cells = torch.arange(num_cells, device=center.device, dtype=torch.float32)
    return torch.exp(-0.5 * ((cells - center.unsqueeze(-1)) / sigma) ** 2)


def flip_maps(maps: Tensor, flip_index: Sequence[int] | Tensor) -> Tensor:
    """Flip maps B, K, h, w of a flipped image back: along the width, with left and right channels swapped."""
    order = torch.as_tensor(flip_index, device=maps.device, dtype=torch.long)
    return maps.flip(-1).index_select(1, order)


def decode(maps: Tensor, stride: int, blur_sigma: float = 1.0, offset: Offset = "parabola") -> tuple[Tensor, Tensor]:
    """Decode maps B, K, h, w to points B, K, 2 (float32 pixels: x, y) and scores B, K (float32).

    The maps are smoothed with a Gaussian of `blur_sigma` cells (0: not at all); the highest cell is refined by `offset`
    and converted to pixels. The score is the unsmoothed map at that cell, close to the target amplitude for a confident
    point. h and w must be at least 3.

    "parabola" fits a parabola to the logarithms of three cells per axis, exact for a Gaussian (Zhang et al., CVPR 2020,
    with a diagonal Hessian). "quarter" shifts by 0.25 cells toward the higher neighbor of each axis, 0 if both are
    equal: the sign variant of CPN's shift toward the second peak, robust to distant noise. Its error is up to 1 pixel
    per axis at stride 4; it exists for comparison with published results, as does "none", the center of the cell.
    """
    with torch.no_grad(), torch.autocast(device_type=maps.device.type, enabled=False):
        plain = maps.float()
        source = _smoothed(plain, blur_sigma) if blur_sigma > 0 else plain
        best = source.flatten(2).argmax(dim=2)
        width = maps.shape[3]
        column, row = best % width, best // width
        x, y = column.float(), row.float()
        if offset != "none":
            move = _parabola_move if offset == "parabola" else _quarter_move
            x = x + move(_line(source, row, axis=2), column)
            y = y + move(_line(source, column, axis=3), row)
        scores = plain.flatten(2).gather(2, best.unsqueeze(2)).squeeze(2)
        return to_pixels(torch.stack((x, y), dim=-1), stride), scores


def _line(maps: Tensor, index: Tensor, axis: int) -> Tensor:
    """Return row (axis 2) or column (axis 3) `index` B, K of each map."""
    shape = [-1, -1, 1, maps.shape[3]] if axis == 2 else [-1, -1, maps.shape[2], 1]
    return maps.gather(axis, index[..., None, None].expand(shape)).squeeze(axis)


def _parabola_move(line: Tensor, peak: Tensor) -> Tensor:
    """Distance in cells, at most 0.5, from the highest cell to the vertex of the parabola through the logarithms."""
    middle = peak.clamp(1, line.shape[-1] - 2)  # at the border, extrapolate from the three outermost cells
    baseline = (line.amax(-1, keepdim=True) * 1e-3).clamp_min(1e-12)
    logarithm = torch.maximum(line, baseline).log()
    before, center, after = (logarithm.gather(-1, (middle + step).unsqueeze(-1)).squeeze(-1) for step in (-1, 0, 1))
    curvature = before + after - 2 * center
    peaked = curvature < -1e-6
    vertex = 0.5 * (before - after) / torch.where(peaked, curvature, -1.0)
    return torch.where(peaked, (vertex + middle - peak).clamp(-0.5, 0.5), 0.0)


def _quarter_move(line: Tensor, peak: Tensor) -> Tensor:
    """A quarter of a cell toward the higher neighbor; 0 if both are equal, and at the border, where one is missing."""
    last = line.shape[-1] - 1
    before = line.gather(-1, (peak - 1).clamp_min(0).unsqueeze(-1)).squeeze(-1)
    after = line.gather(-1, (peak + 1).clamp_max(last).unsqueeze(-1)).squeeze(-1)
    inside = (peak > 0) & (peak < last)
    return torch.where(inside, 0.25 * torch.sign(after - before), 0.0)


def _smoothed(maps: Tensor, sigma: float) -> Tensor:
    """Blur maps. Peaks near the border keep the unblurred map around the blurred peak.

    Half of the kernel lies outside the map there, and any padding shifts the peak by one to two cells. The blur still
    selects the peak: cells farther from it than this shift become minus infinity.
    """
    height, width = maps.shape[2:]
    vertical, horizontal = _blur_matrix(height, sigma, maps.device), _blur_matrix(width, sigma, maps.device)
    blurred = vertical @ maps @ horizontal.T
    best = blurred.flatten(2).argmax(dim=2)
    column, row = (best % width)[..., None, None], (best // width)[..., None, None]
    margin = math.ceil(3 * sigma) + 1
    inside_width = (column >= margin) & (column < width - margin)
    inside_height = (row >= margin) & (row < height - margin)
    reach = math.ceil(sigma) + 2
    near_column = (torch.arange(width, device=maps.device) - column).abs() <= reach
    near_row = (torch.arange(height, device=maps.device)[:, None] - row).abs() <= reach
    window = maps.masked_fill(~(near_row & near_column), -math.inf)
    return torch.where(inside_width & inside_height, blurred, window)


def _blur_matrix(num_cells: int, sigma: float, device: torch.device) -> Tensor:
    """Gaussian blur along one axis as a matrix; rows sum to 1: the kernel is truncated, not padded, at the border."""
    cells = torch.arange(num_cells, device=device, dtype=torch.float32)
    distance = (cells[:, None] - cells[None, :]).abs()
    kernel = torch.exp(-0.5 * (distance / sigma) ** 2) * (distance <= math.ceil(3 * sigma))
    return kernel / kernel.sum(dim=1, keepdim=True)
