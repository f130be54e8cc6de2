"""Predicted boxes: heads that always return a valid box, box losses, and pooling that is differentiable in the box.

Boxes are x1, y1, x2, y2 as shares of the image, edge to edge: 0 is its left or upper edge, 1 its right or lower edge.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SAMPLES = 2  # per bin and axis, as in ROIAlign
_EPSILON = 1e-7  # of areas in denominators
_FIRST_SLOPE = 8.0  # initial slope of the maps: edges at about 0.15 and 0.85
_FIRST_SIDE = 1.4  # its sigmoid, 0.8, is the initial side of the box


class BoxHead(nn.Module):
    """Features B, C, H, W to boxes B, 4 that are ordered and inside the image for any weights.

    A 1 x 1 convolution to 32 channels and one linear layer, as in Ghadiri's clothing classifier. Two of its four
    outputs are the sides, two are the share of the remaining space that precedes the box.
    """

    def __init__(self, num_channels: int, cells: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(num_channels, 32, 1)
        self.out = nn.Linear(32 * cells * cells, 4)
        nn.init.normal_(self.out.weight, std=0.01)
        with torch.no_grad():
            self.out.bias.copy_(torch.tensor([0.0, 0.0, _FIRST_SIDE, _FIRST_SIDE]))

    def forward(self, features: Tensor) -> Tensor:
        """Map features B, C, H, W to boxes, float32 B, 4."""
        values = self.out(F.relu(self.reduce(features)).flatten(1)).float().sigmoid()
        sides = values[:, 2:]
        first = values[:, :2] * (1 - sides)
        return torch.cat([first, first + sides], dim=1)


class BoxMaps(nn.Module):
    """Features of one or two strides, finest first, to boxes B, 4: each edge is the mean position of its own map.

    Integral regression (Sun et al., ECCV 2018): an edge detector learned at one position works at all of them, so that
    a few hundred images teach more than with `BoxHead`. `prior` is the bias of the maps, initially a box that covers
    most of the image.
    """

    def __init__(self, widths: Sequence[int], cells: int, channels: int = 64) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths)
        self.maps = nn.Conv2d(channels, 4, 1)
        positions = torch.linspace(0, 1, cells)
        self.register_buffer("positions", positions, persistent=False)
        self.positions: Tensor
        across, down = positions.expand(cells, cells), positions[:, None].expand(cells, cells)
        self.prior = nn.Parameter(_FIRST_SLOPE * torch.stack([-across, -down, across, down]))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map features per stride, B, C, H, W each, finest first, to boxes, float32 B, 4."""
        size = features[0].shape[-2:]
        levels = [lateral(level) for lateral, level in zip(self.laterals, features, strict=True)]
        joined = torch.stack([F.interpolate(level, size, mode="nearest") for level in levels]).sum(dim=0)
        shares = (self.maps(F.relu(joined)).float() + self.prior).flatten(2).softmax(dim=2).unflatten(2, size)
        across, down = (shares.sum(dim=2) * self.positions).sum(dim=2), (shares.sum(dim=3) * self.positions).sum(dim=2)
        ends = torch.stack([across[:, 0], down[:, 1], across[:, 2], down[:, 3]], dim=1)
        first, last = ends[:, :2], ends[:, 2:]
        return torch.cat([torch.minimum(first, last), torch.maximum(first, last)], dim=1)


def box_loss(boxes: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """L1 plus generalized IoU loss (Rezatofighi et al., CVPR 2019) of boxes B, 4, averaged over rows.

    Rows that are not `known` (bool B) contribute 0.
    """
    distances = (boxes - target).abs().mean(dim=1)
    overlaps = _generalized_iou_loss(boxes, target)
    return ((distances + overlaps) * known).mean()


def _generalized_iou_loss(boxes: Tensor, target: Tensor) -> Tensor:
    """1 - generalized IoU of boxes B, 4, as of torchvision, but without masks, whose sizes the device would report."""
    sides = torch.minimum(boxes[:, 2:], target[:, 2:]) - torch.maximum(boxes[:, :2], target[:, :2])
    shared = _area(sides.clamp_min(0))
    union = _area(boxes[:, 2:] - boxes[:, :2]) + _area(target[:, 2:] - target[:, :2]) - shared
    hull = _area(torch.maximum(boxes[:, 2:], target[:, 2:]) - torch.minimum(boxes[:, :2], target[:, :2]))
    return 1 - shared / (union + _EPSILON) + (hull - union) / (hull + _EPSILON)


def _area(sides: Tensor) -> Tensor:
    return sides[:, 0] * sides[:, 1]


def pool_box(features: Tensor, boxes: Tensor, size: int) -> Tensor:
    """ROIAlign (He et al., ICCV 2017) of one box per image: features B, C, H, W and boxes B, 4 to B, C, size, size.

    Equal to `torchvision.ops.roi_align` with aligned=True and two samples per bin and axis, but computed as two
    products with matrices of bilinear weights: gradients reach the boxes (as in Jaderberg et al., NIPS 2015, and Jiang
    et al., ECCV 2018, section 3), the order of summation on a GPU is deterministic, and an export needs no special
    operator.
    """
    height, width = features.shape[-2:]
    across = _weights(boxes[:, 0], boxes[:, 2], width, size)
    down = _weights(boxes[:, 1], boxes[:, 3], height, size)
    with torch.autocast(features.device.type, enabled=False):
        rows = torch.einsum("bph,bchw->bcpw", down, features.float())
        return torch.einsum("bcpw,bqw->bcpq", rows, across)


def _weights(start: Tensor, end: Tensor, cells: int, size: int) -> Tensor:
    """Return the weights of cells of an axis in `size` bins between two positions B (shares): B, size, cells."""
    number = size * _SAMPLES
    steps = (torch.arange(number, device=start.device, dtype=torch.float32) + 0.5) / number
    positions = (start[:, None] + (end - start)[:, None] * steps) * cells - 0.5
    positions = positions.clamp(0, cells - 1)
    centers = torch.arange(cells, device=start.device, dtype=torch.float32)
    weights = (1 - (positions[:, :, None] - centers).abs()).clamp_min(0)
    return weights.unflatten(1, (size, _SAMPLES)).mean(dim=2)
