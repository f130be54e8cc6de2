"""Attribute-specific embeddings: spatial and channel attention guided by an attribute, and crops around peaks.

ASEN (Ma et al., "Fine-Grained Fashion Similarity Learning by Attribute-Specific Embedding Network", AAAI 2020) and
ASEN++ (Dong et al., "Fine-Grained Fashion Similarity Prediction by Attribute-Specific Embedding Learning", IEEE TIP
2021).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FLAT = 1e-3  # a map is flat if (max - min) / max is at most this
_FINER = 4  # boxes are computed on a grid this many times finer than the map
_SAMPLES = 2  # per side of a pixel of the crop


class AttributeAttention(nn.Module):
    """Features B, `width`, h, w and A attributes to an embedding of each image under each attribute.

    Spatial attention: features and attribute are projected to `common` dimensions; the softmax over cells of their
    scaled dot product (divided by the square root of `common`) weights the cells. Channel attention: a gate computed
    from the pooled features and the attribute by two layers with `width / 2` hidden units. A linear layer projects to
    `embedding` dimensions. Compare embeddings by their cosine.
    """

    def __init__(self, width: int, attribute_width: int, common: int, embedding: int) -> None:
        super().__init__()
        self.scale = common**-0.5
        self.features_to_common = nn.Conv2d(width, common, 1)
        self.attribute_to_common = nn.Linear(attribute_width, common)
        self.attribute_to_gate = nn.Linear(attribute_width, attribute_width)
        self.squeeze = nn.Linear(width + attribute_width, width // 2)
        self.excite = nn.Linear(width // 2, width)
        self.project = nn.Linear(width, embedding)

    def forward(self, features: Tensor, attributes: Tensor) -> tuple[Tensor, Tensor]:
        """Return embeddings B, A, E (not normalized) and maps B, A, h, w that sum to 1, both float32.

        `attributes` are vectors A, D shared by all images, or B, A, D per image.
        """
        batch_size, _, height, columns = features.shape
        attributes = attributes.expand(batch_size, -1, -1) if attributes.dim() == 2 else attributes
        keys = self.features_to_common(features).tanh().flatten(2)
        queries = self.attribute_to_common(attributes).tanh()
        maps = (torch.bmm(queries, keys).float() * self.scale).softmax(dim=2)
        return self._embedded(features, maps, attributes), maps.unflatten(2, (height, columns))

    def background(self, features: Tensor, maps: Tensor, attributes: Tensor) -> Tensor:
        """Return embeddings B, A, E of what the maps B, A, h, w leave out: each cell has the weight 1 - its own."""
        rest = 1 - maps.flatten(2)
        return self._embedded(features, rest / rest.sum(dim=2, keepdim=True), attributes)

    def _embedded(self, features: Tensor, weights: Tensor, attributes: Tensor) -> Tensor:
        """Return embeddings B, A, E of the cells weighted by B, A, h * w, for attributes B, A, D."""
        pooled = torch.bmm(weights.to(features.dtype), features.flatten(2).transpose(1, 2))
        asked = self.attribute_to_gate(attributes).relu()
        gate = self.excite(self.squeeze(torch.cat([pooled, asked.to(pooled.dtype)], dim=2)).relu()).sigmoid()
        return self.project(pooled * gate).float()


@torch.no_grad()
def attended_boxes(maps: Tensor, threshold: float, least: float) -> Tensor:
    """Return squares B, 4 (x1, y1, x2, y2 as shares of the image, pixel edges) around the peaks of maps B, h, w.

    A map is scaled to 0 … 1 and thresholded at `threshold`; only the bright region that contains the peak counts
    (ASEN++ uses the box of all regions, so that one stray cell extends it to the whole image). The box is extended to a
    square of its longer side, at least `least` of the image, and moved inside. A flat map yields the whole image.
    Without gradients and without device synchronization.
    """
    height, width = maps.shape[-2:]
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    flat = high - low <= _FLAT * high
    span = torch.where(flat, torch.ones_like(high), high - low)
    stretched = torch.where(flat, torch.ones_like(maps), (maps - low) / span)
    region = _region_of_peak(stretched, stretched >= threshold)
    finer = (_FINER * height, _FINER * width)
    bright = _enlarged(stretched, finer) >= threshold
    bright &= _enlarged(region.float(), finer) > 0  # between cells of the region, or at its edge
    left, right = _extent(bright.any(dim=1))
    top, bottom = _extent(bright.any(dim=2))
    side = torch.maximum(right - left, bottom - top).clamp(least, 1.0)
    x = ((left + right - side) / 2).clamp_min(0).minimum(1 - side)
    y = ((top + bottom - side) / 2).clamp_min(0).minimum(1 - side)
    return torch.stack([x, y, x + side, y + side], dim=1)


def crops(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Crop `boxes` B, 4 (shares, as in `attended_boxes`) from images B, S, S, 3 and resize: float32 B, size, size, 3.

    Values stay in 0 … 255. Each pixel is the mean of four bilinear samples.
    """
    from torchvision.ops import roi_align  # this import takes a second; needed only with a local branch

    side = images.shape[1]
    with torch.autocast(images.device.type, enabled=False):
        channels_first = images.permute(0, 3, 1, 2).float()
        numbers = torch.arange(boxes.shape[0], device=boxes.device, dtype=torch.float32)[:, None]
        regions = torch.cat([numbers, boxes.detach().float() * side], dim=1)
        cut = roi_align(channels_first, regions, (size, size), sampling_ratio=_SAMPLES, aligned=True)
    return cut.permute(0, 2, 3, 1)


def _region_of_peak(values: Tensor, bright: Tensor) -> Tensor:
    """Return the mask B, h, w of the cells connected to the peak by bright neighbors (including diagonal ones)."""
    height, width = values.shape[-2:]
    peak = values.flatten(1).argmax(dim=1)
    positions = torch.arange(height * width, device=values.device).reshape(1, height, width)
    region = (positions == peak[:, None, None]).float()
    within = bright.float()
    for _ in range(height + width):  # enough except for maze-like regions
        region = F.max_pool2d(region, 3, stride=1, padding=1) * within
    return region > 0


def _enlarged(values: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(values[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def _extent(marked: Tensor) -> tuple[Tensor, Tensor]:
    """Return the edges of the first and last marked position of B, N, as shares of N."""
    num_positions = marked.shape[1]
    positions = torch.arange(num_positions, device=marked.device, dtype=torch.float32)
    first = torch.where(marked, positions, float(num_positions)).amin(dim=1)
    last = torch.where(marked, positions, -1.0).amax(dim=1)
    return first / num_positions, (last + 1) / num_positions
