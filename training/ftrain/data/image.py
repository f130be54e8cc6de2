"""Image operations of data workers: fast JPEG decoding, affine matrices, and rendering of views.

One 2 x 3 matrix per sample transforms image and landmarks; one 3 x 4 matrix transforms the colors. Affine matrices act
on pixel centers and map the source image to the network's input.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg

from fschemas.image_limits import check_jpeg
from ftrain.data.color_operations import COLOR_OPERATIONS

# An image that shrinks by more than this is halved first, until it does not: in the decoder, where that saves time.
_MAX_SHRINKAGE = 1.75
_JPEG_REDUCTION = 8  # the largest of the decoder
# Bilinear sampling covers two pixels, so up to this shrinkage it misses little, and no smoothing is needed.
_UNSMOOTHED_SHRINKAGE = 4 / 3


def decode(jpeg: bytes, reduction: int = 1, pixels: str = "RGB") -> np.ndarray:
    """Decode a JPEG to RGB uint8 (H, W, 3), reduced by a power of two; partial squares at the margin become pixels.

    Factors up to 8 skip work in the inverse DCT. `pixels` "RGBX" adds a fourth channel without meaning, because OpenCV
    is faster with four. Chroma is upsampled by repetition, which is 9% faster and off by half a gray level on average
    (docs/log.md). Raises `TooMuchError` for an image beyond the limits and `ValueError` for a damaged one.
    """
    height, width, _, _ = simplejpeg.decode_jpeg_header(jpeg)
    height, width = int(height), int(width)
    check_jpeg(jpeg, width, height)
    factor = min(reduction, _JPEG_REDUCTION)
    image = simplejpeg.decode_jpeg(
        jpeg,
        pixels,
        fastupsample=True,
        min_factor=factor,
        min_height=-(-height // factor),
        min_width=-(-width // factor),
    )
    return reduce(image, reduction // factor)


def decode_exactly(jpeg: bytes) -> np.ndarray:
    """Decode at full size to RGB uint8 (H, W, 3), with smooth chroma upsampling. Raises the same errors as `decode`."""
    height, width, _, _ = simplejpeg.decode_jpeg_header(jpeg)
    check_jpeg(jpeg, int(width), int(height))
    return simplejpeg.decode_jpeg(jpeg, "RGB")


def scaling(factor_x: float, factor_y: float) -> np.ndarray:
    """Matrix (2, 3) of a resize by `factor`: pixel centers x -> (x + 0.5) * factor - 0.5."""
    return np.array([[factor_x, 0, factor_x / 2 - 0.5], [0, factor_y, factor_y / 2 - 0.5]], dtype=np.float64)


def compose(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Matrix (2, 3) that applies `before`, then `after`."""
    matrix = after[:, :2] @ before
    matrix[:, 2] += after[:, 2]
    return matrix


def transform_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply an affine matrix (2, 3) to points (..., 2)."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def fit_matrix(
    width: int, height: int, size: int, *, region: tuple[float, float, float, float] | None = None, angle: float = 0.0,
    zoom: float = 1.0, shift: tuple[float, float] = (0.0, 0.0), flip: bool = False,
) -> np.ndarray:  # fmt: skip
    """Letterbox matrix (2, 3): fit the long side, center, then zoom, rotate (degrees) and shift (fractions of `size`).

    Maps an image of `width` x `height` pixels, or its `region` (x1, y1, x2, y2, pixel centers of the corners), into a
    square of `size` x `size` pixels. `flip` flips the source horizontally first.
    """
    left, top, right, bottom = region or (0.0, 0.0, width - 1.0, height - 1.0)
    factor = zoom * size / max(right - left + 1, bottom - top + 1)
    radians = math.radians(angle)
    cosine, sine = factor * math.cos(radians), factor * math.sin(radians)
    center_x, center_y = (left + right) / 2, (top + bottom) / 2
    if flip:
        center_x = width - 1 - center_x
    x = (size - 1) / 2 + shift[0] * size - cosine * center_x + sine * center_y
    y = (size - 1) / 2 + shift[1] * size - sine * center_x - cosine * center_y
    if flip:  # x becomes width - 1 - x before anything else
        x, y = x + cosine * (width - 1), y + sine * (width - 1)
        return np.array([[-cosine, -sine, x], [-sine, cosine, y]])
    return np.array([[cosine, -sine, x], [sine, cosine, y]])


def stretch_matrix(region: tuple[float, float, float, float], size: int) -> np.ndarray:
    """Matrix (2, 3) that stretches a region (x1, y1, x2, y2, pixel centers of the corners) to `size` x `size` pixels."""
    left, top, right, bottom = region
    shift = np.array([[1.0, 0.0, -left], [0.0, 1.0, -top]])
    return compose(scaling(size / (right - left + 1), size / (bottom - top + 1)), shift)


class Recipe(NamedTuple):
    """What was drawn for a view: geometry and colors. `matrix` float64 (2, 3) maps source pixels to input pixels.

    `flipped` views are flipped by the matrix. Then the colors are multiplied by `colors` (3, 4), the `operations` (index
    in `COLOR_OPERATIONS`, strength) follow in order, and the box `erased` (left, top, right, bottom; the last two
    exclusive) becomes gray.
    """

    matrix: np.ndarray
    flipped: bool = False
    colors: np.ndarray | None = None
    operations: tuple[tuple[int, float], ...] = ()
    erased: tuple[int, int, int, int] | None = None


def render(jpeg: bytes, recipe: Recipe, size: int, out: np.ndarray | None = None) -> np.ndarray:
    """Decode a JPEG and render its view, RGB uint8 (`size`, `size`, 3); into `out`, if given."""
    out = warp(jpeg, recipe.matrix, size, out)
    if recipe.colors is not None:
        cv2.transform(out, recipe.colors, dst=out)
    for number, strength in recipe.operations:
        out[:] = COLOR_OPERATIONS[number](out, strength)
    if recipe.erased:
        left, top, right, bottom = recipe.erased
        out[top:bottom, left:right] = 128
    return out


def warp(jpeg: bytes, matrix: np.ndarray, size: int, out: np.ndarray | None = None) -> np.ndarray:
    """Decode a JPEG and warp it to RGB uint8 (`size`, `size`, 3) by `matrix` (2, 3), with gray outside.

    The result is written to `out`, if given.
    """
    sampling = Sampling.of_matrix(matrix)
    image = _sample(decode(jpeg, sampling.reduction, "RGBX"), sampling, size)
    return cv2.cvtColor(image, cv2.COLOR_RGBA2RGB, dst=out)


def warp_image(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Warp an RGB uint8 image (H, W, 3) to (`size`, `size`, 3) by `matrix` (2, 3), with gray outside."""
    sampling = Sampling.of_matrix(matrix)
    return _sample(reduce(image, sampling.reduction), sampling, size)


class Sampling(NamedTuple):
    """How a view is sampled from an image, which is reduced before: `reduction` is a power of two.

    A pixel (column, row) of the view lies at (`xx` column + `xy` row + `x`, `yx` column + `yy` row + `y`) in the reduced
    image. Plain numbers, because numpy takes most of the time of an operation on six.
    """

    reduction: int
    xx: float
    xy: float
    x: float
    yx: float
    yy: float
    y: float

    @classmethod
    def of_matrix(cls, matrix: np.ndarray) -> "Sampling":
        """Return the sampling of a view; `matrix` (2, 3) maps the image to it."""
        (a, b, shift_x), (c, d, shift_y) = matrix.tolist()
        area = a * d - b * c  # of a pixel of the image
        shrinkage, reduction = 1 / math.sqrt(abs(area)), 1
        while shrinkage > _MAX_SHRINKAGE * reduction:
            reduction *= 2
        scale, center = 1 / (area * reduction), (1 / reduction - 1) / 2
        xx, xy, yx, yy = d * scale, -b * scale, -c * scale, a * scale
        x, y = center - xx * shift_x - xy * shift_y, center - yx * shift_x - yy * shift_y
        return cls(reduction, xx, xy, x, yx, yy, y)

    @property
    def smoothing(self) -> int:
        """Weight of each neighbor, in 1/256, in the filter [w, 256 - 2 w, w] that precedes bilinear sampling.

        Filter and interpolation together have the variance of the triangle filter of antialiased bilinear resizing,
        whose width is that of two pixels of the view; for pixels of twice the side they are that filter.
        """
        area = abs(self.xx * self.yy - self.xy * self.yx)  # of a pixel of the view
        return round(256 * (area - 1) / 12) if area > _UNSMOOTHED_SHRINKAGE**2 else 0

    @property
    def matrix(self) -> np.ndarray:
        """The matrix (2, 3), float64, from the view to the reduced image."""
        return np.array([[self.xx, self.xy, self.x], [self.yx, self.yy, self.y]])

    def cut(self, image: np.ndarray, size: int) -> tuple[np.ndarray, "Sampling"]:
        """Return the part of the reduced image that a view of `size` x `size` pixels needs, and the sampling of it."""
        (height, width), span = image.shape[:2], (size - 1) / 2
        x, y = self.x + (self.xx + self.xy) * span, self.y + (self.yx + self.yy) * span  # of the center
        half_width = (abs(self.xx) + abs(self.xy)) * span + 2  # 1 for interpolation, 1 for smoothing
        half_height = (abs(self.yx) + abs(self.yy)) * span + 2
        left = min(max(0, math.floor(x - half_width)), width - 1)
        top = min(max(0, math.floor(y - half_height)), height - 1)
        right, bottom = max(left, math.ceil(x + half_width)) + 1, max(top, math.ceil(y + half_height)) + 1
        moved = Sampling(self.reduction, self.xx, self.xy, self.x - left, self.yx, self.yy, self.y - top)
        return image[top:bottom, left:right], moved


def reduce(image: np.ndarray, factor: int) -> np.ndarray:
    """Average squares of `factor` x `factor` pixels; the last row and column are repeated where one is incomplete."""
    if factor == 1:
        return image
    image = cv2.copyMakeBorder(image, 0, -image.shape[0] % factor, 0, -image.shape[1] % factor, cv2.BORDER_REPLICATE)
    return cv2.resize(image, (image.shape[1] // factor, image.shape[0] // factor), interpolation=cv2.INTER_AREA)


def _sample(image: np.ndarray, sampling: Sampling, size: int) -> np.ndarray:
    """Return the view (`size`, `size`, channels) of a reduced image."""
    weight = sampling.smoothing
    if weight:
        image, sampling = sampling.cut(image, size)
        kernel = np.array([weight, 256 - 2 * weight, weight]) / 256
        image = cv2.sepFilter2D(image, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, sampling.matrix, (size, size), flags=flags, borderValue=(128,) * 4)
