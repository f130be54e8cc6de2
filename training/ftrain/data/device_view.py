"""Views rendered on the device: data workers only decode, and write the image with a few small arrays.

The worker copies what a view shows of the decoded image, reduced as for `ftrain.data.image.render`, into the upper left
corner of a square canvas of fixed size; its other pixels have no meaning. The device smooths, warps, colors and erases
it, with the same filters, so that both ways agree within rounding (tests/ftrain/data/test_device_view.py states the
tolerance). All shapes are static, and nothing is read back from the device.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fschemas.shard_set import ShardSet
from ftrain.data.color_operations import LUMA
from ftrain.data.image import Recipe, Sampling, compose, decode, scaling

_GRAY = 128.0
_LOOKED_AT = 64  # samples whose sizes determine the canvas
_PLAIN_COLORS = np.eye(3, 4, dtype=np.float32)


def canvas_side(shards: ShardSet, rows: np.ndarray, size: int) -> int:
    """Side of the canvas for views of `size` x `size` pixels: twice that, or the longer side of the largest image.

    The latter is estimated from some of the rows: parts of larger images are shrunk to the canvas.
    """
    some = rows[np.linspace(0, len(rows) - 1, min(len(rows), _LOOKED_AT)).astype(int)]
    notes = (shards.read_annotation(int(row)) for row in some)
    return min(2 * size, max(max(note["width"], note["height"]) for note in notes))


def canvas_inputs(
    jpeg: bytes, recipe: Recipe, size: int, side: int, out: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Return what `render_batch` needs to render a view, which must have `size` x `size` pixels.

    `image` uint8 (`side`, `side`, 3) is the canvas, `out` if given; `canvas_size` 2 is width and height of its part with
    an image; `sampling` float32 (2, 3) maps pixels of the view to those of the canvas; `smoothing` is the weight of
    neighbors in 1/256; `colors` float32 (3, 4); `erased` 4 is a box, empty if nothing is erased.
    """
    sampling = Sampling.of_matrix(recipe.matrix)
    image, sampling = sampling.cut(decode(jpeg, sampling.reduction), size)
    if max(image.shape[:2]) > side:
        image, sampling = _fitted(image, sampling, side)
    height, width = image.shape[:2]
    canvas = np.zeros((side, side, 3), np.uint8) if out is None else out
    canvas[:height, :width] = image
    return {
        "image": canvas,
        "canvas_size": np.array([width, height], np.int32),
        "sampling": np.array([sampling[1:4], sampling[4:]], np.float32),
        "smoothing": np.array(sampling.smoothing, np.int32),
        "colors": _PLAIN_COLORS if recipe.colors is None else recipe.colors,
        "erased": np.array(recipe.erased or (0, 0, 0, 0), np.int32),
    }


def _fitted(image: np.ndarray, sampling: Sampling, side: int) -> tuple[np.ndarray, Sampling]:
    """Shrink an image to the canvas."""
    share = side / max(image.shape[:2])
    smaller = cv2.resize(image, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    shrunk = scaling(smaller.shape[1] / image.shape[1], smaller.shape[0] / image.shape[0])
    return smaller, Sampling(sampling.reduction, *compose(shrunk, sampling.matrix).ravel().tolist())


def operation_inputs(recipe: Recipe, count: int) -> dict[str, np.ndarray]:
    """Return `operations` int64 (count) and `strengths` float32 (count) of a recipe; the identity where it has none."""
    operations, strengths = zip(*(recipe.operations or [(0, 0.0)] * count), strict=True)
    return {"operations": np.array(operations, np.int64), "strengths": np.array(strengths, np.float32)}


def render_batch(batch: dict[str, Tensor], size: int) -> dict[str, Tensor]:
    """Replace the arrays of `canvas_inputs` in a batch by the `image`, uint8 B, `size`, `size`, 3."""
    of_canvas = ("canvas_size", "sampling", "smoothing", "colors", "erased", "operations", "strengths")
    rest = {name: tensor for name, tensor in batch.items() if name not in of_canvas}
    image = _smoothed(batch["image"], batch["canvas_size"], batch["smoothing"])
    image = _levels(_sampled(image, batch["sampling"], size) + _GRAY)
    image = _transformed(image, batch["colors"])
    if "operations" in batch:
        for chosen, strength in zip(batch["operations"].unbind(1), batch["strengths"].unbind(1), strict=True):
            image = _operated(image, chosen[:, None, None, None], strength[:, None, None, None])
    pixels = torch.arange(size, device=image.device)
    left, top, right, bottom = (edge[:, None] for edge in batch["erased"].unbind(1))
    columns, rows = (pixels >= left) & (pixels < right), (pixels >= top) & (pixels < bottom)
    image = torch.where(rows[:, None, :, None] & columns[:, None, None, :], _GRAY, image)
    return {**rest, "image": image.to(torch.uint8).permute(0, 2, 3, 1).contiguous()}


def _smoothed(canvas: Tensor, size: Tensor, weight: Tensor) -> Tensor:
    """Return the smoothed images minus gray, float32 B, 3, C, C, and 0 outside the images."""
    image = canvas.permute(0, 3, 1, 2).float()
    share = weight.float()[:, None, None, None] / 256
    pixels = torch.arange(canvas.shape[1], device=canvas.device)
    inside = [pixels < extent[:, None] for extent in size.unbind(1)]  # columns, rows
    ends = [pixels == extent[:, None] - 1 for extent in size.unbind(1)]
    for dim, end in ((3, ends[0][:, None, None, :]), (2, ends[1][:, None, :, None])):
        last = image.shape[dim] - 1
        before = torch.cat([image.narrow(dim, 0, 1), image.narrow(dim, 0, last)], dim)
        after = torch.cat([image.narrow(dim, 1, last), image.narrow(dim, last, 1)], dim)
        after = torch.where(end, image, after)
        image = image + share * (before + after - 2 * image)
    return torch.where(inside[1][:, None, :, None] & inside[0][:, None, None, :], _levels(image) - _GRAY, 0.0)


def _sampled(image: Tensor, sampling: Tensor, size: int) -> Tensor:
    """Sample images B, 3, C, C at the pixels of views, with 0 outside."""
    pixels = torch.arange(size, device=image.device, dtype=torch.float32)
    x, y = (
        row[:, 0, None, None] * pixels + row[:, 1, None, None] * pixels[:, None] + row[:, 2, None, None]
        for row in sampling.unbind(1)
    )
    grid = torch.stack([x, y], dim=3) * (2 / (image.shape[2] - 1)) - 1  # -1 and 1 are the centers of the outer pixels
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def _levels(image: Tensor) -> Tensor:
    """Round to levels of gray, as for uint8."""
    return image.add(0.5).floor().clamp(0, 255)


def _transformed(image: Tensor, matrix: Tensor) -> Tensor:
    """Transform colors B, 3, H, W by matrices B, 3, 4; no matrix product, which could be less precise."""
    red, green, blue, offset = (column[:, :, None, None] for column in matrix.unbind(2))
    return _levels(red * image[:, :1] + green * image[:, 1:2] + blue * image[:, 2:] + offset)


# The color operations of `ftrain.data.color_operations`, for levels B, 3, H, W and strengths B, 1, 1, 1.


def _gray(image: Tensor) -> Tensor:
    red, green, blue = LUMA
    return red * image[:, :1] + green * image[:, 1:2] + blue * image[:, 2:]


def _contrast(image: Tensor, strength: Tensor) -> Tensor:
    mean = _gray(image).mean(dim=(2, 3), keepdim=True)
    return image + 0.9 * strength * (image - mean)


def _saturation(image: Tensor, strength: Tensor) -> Tensor:
    return image + 0.9 * strength * (image - _gray(image))


def _sharpness(image: Tensor, strength: Tensor) -> Tensor:
    smooth = _levels(F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="reflect"), 3, stride=1))
    return image + 0.9 * strength * 9 / 13 * (image - smooth)


def _posterize(image: Tensor, strength: Tensor) -> Tensor:
    step = torch.exp2((4 * strength.abs()).round())
    return (image / step).floor() * step


def _solarize(image: Tensor, strength: Tensor) -> Tensor:
    return torch.where(image > 255 * (1 - strength.abs()), 255 - image, image)


def _stretch_levels(image: Tensor, strength: Tensor) -> Tensor:
    del strength
    low, high = image.amin(dim=(2, 3), keepdim=True), image.amax(dim=(2, 3), keepdim=True)
    return torch.where(high > low, (image - low) * (255 / (high - low).clamp_min(1)), image)


def _equalize(image: Tensor, strength: Tensor) -> Tensor:
    del strength
    levels = image.flatten(2).long()
    counts = torch.zeros(*levels.shape[:2], 256, dtype=torch.int32, device=image.device)
    counts.scatter_add_(2, levels, torch.ones_like(levels, dtype=torch.int32))
    least = counts.gather(2, levels.amin(dim=2, keepdim=True))
    mapped = (counts.cumsum(2) - least) * (255 / (levels.shape[2] - least).clamp_min(1))
    return torch.where((least < levels.shape[2])[..., None], mapped.gather(2, levels).view_as(image), image)


_OPERATIONS: Sequence[Callable[[Tensor, Tensor], Tensor]] = (
    lambda image, _: image, lambda image, strength: image * (1 + 0.9 * strength), _contrast, _saturation, _sharpness,
    _posterize, _solarize, _stretch_levels, _equalize,
)  # fmt: skip


def _operated(image: Tensor, chosen: Tensor, strength: Tensor) -> Tensor:
    """Apply the chosen operation, B, 1, 1, 1, to each image."""
    result = image
    for number, operation in enumerate(_OPERATIONS):
        result = torch.where(chosen == number, _levels(operation(image, strength)), result)
    return result
