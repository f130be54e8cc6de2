"""Pixels in workers: decode no more than needed, one matrix per sample for image and points, color as one 3 x 4 matrix.

Matrices are 2 x 3, act on pixel centers and map the source image to the network's input.
"""

from __future__ import annotations

import cv2
import numpy as np
import simplejpeg

from fschemas.image_limits import check_jpeg

# ITU-R BT.601 luma: what "gray" means for contrast and saturation.
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_DIAGONAL = np.arange(3)
# A half-size decode skips work in the inverse DCT; below this scale of the warp no detail that matters is lost.
_HALF_DECODE_SCALE = 1 / 1.75


def decode(jpeg: bytes, scale: float = 1.0) -> tuple[np.ndarray, float]:
    """Decode to uint8 H, W, 3 RGB, at half size where the image will be shrunk to `scale` anyway.

    Returns the image and the factor by which it is smaller than the stored one (1.0 or 0.5). Color is upsampled by repetition: 9 % faster and half a gray
    level off on average (docs/log.md). Raises `TooMuchError` for an image beyond the limits, `ValueError` for a damaged one.
    """
    height, width, _, _ = simplejpeg.decode_jpeg_header(jpeg)
    check_jpeg(jpeg, int(width), int(height))
    if scale > _HALF_DECODE_SCALE:
        return simplejpeg.decode_jpeg(jpeg, "RGB", fastupsample=True), 1.0
    image = simplejpeg.decode_jpeg(
        jpeg, "RGB", fastupsample=True, min_factor=2, min_height=int(height) // 2, min_width=int(width) // 2
    )
    return image, 0.5 if image.shape[0] < int(height) else 1.0


def decode_exactly(jpeg: bytes) -> np.ndarray:
    """The whole image, uint8 H, W, 3 RGB, with smooth colors; raises as `decode`."""
    height, width, _, _ = simplejpeg.decode_jpeg_header(jpeg)
    check_jpeg(jpeg, int(width), int(height))
    return simplejpeg.decode_jpeg(jpeg, "RGB")


def scaling(factor_x: float, factor_y: float) -> np.ndarray:
    """The matrix of a resize: pixel centers x -> (x + 0.5) * factor - 0.5."""
    return np.array([[factor_x, 0, factor_x / 2 - 0.5], [0, factor_y, factor_y / 2 - 0.5]], dtype=np.float64)


def compose(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    """The matrix that applies `before` and then `after`."""
    return after @ np.vstack([before, (0.0, 0.0, 1.0)])


def invert(matrix: np.ndarray) -> np.ndarray:
    """The inverse of a 2 x 3 matrix."""
    return cv2.invertAffineTransform(matrix)


def move_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply a 2 x 3 matrix to points of shape (..., 2)."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def fit_matrix(
    width: int, height: int, size: int, *, region: tuple[float, float, float, float] | None = None, angle: float = 0.0,
    zoom: float = 1.0, shift: tuple[float, float] = (0.0, 0.0), mirror: bool = False,
) -> np.ndarray:  # fmt: skip
    """Place an image in a size x size square: long side fits, centered, then zoomed, rotated (degrees), shifted (shares of size).

    With a `region` (x1, y1, x2, y2, pixel centers of its corners) that part of the image is placed so. `mirror` flips left and
    right of the source first.
    """
    left, top, right, bottom = region or (0.0, 0.0, width - 1.0, height - 1.0)
    factor = zoom * size / max(right - left + 1, bottom - top + 1)
    radians = np.deg2rad(angle)
    cosine, sine = factor * np.cos(radians), factor * np.sin(radians)
    center_x, center_y = (left + right) / 2, (top + bottom) / 2
    if mirror:
        center_x = width - 1 - center_x
    target_x = (size - 1) / 2 + shift[0] * size
    target_y = (size - 1) / 2 + shift[1] * size
    matrix = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0]])
    matrix[:, 2] = (target_x, target_y) - matrix[:, :2] @ (center_x, center_y)
    if mirror:
        matrix = compose(matrix, np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0]]))
    return matrix


def warp(jpeg: bytes, matrix: np.ndarray, size: tuple[int, int], border: int = 128) -> np.ndarray:
    """Decode and warp into uint8 (height, width, 3); outside of the image is gray `border`."""
    image, factor = decode(jpeg, _scale(matrix))
    if factor != 1.0:
        matrix = compose(matrix, invert(scaling(factor, factor)))
    return warp_image(image, matrix, size, border)


def warp_image(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int], border: int = 128) -> np.ndarray:
    """Warp a decoded image, uint8 H, W, 3, into (height, width, 3); outside of it is gray `border`."""
    scale = _scale(matrix)
    if scale < 0.75:  # bilinear sampling would skip source pixels: average them first
        target = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        smaller = cv2.resize(image, target, interpolation=cv2.INTER_AREA)
        real = scaling(smaller.shape[1] / image.shape[1], smaller.shape[0] / image.shape[0])
        image, matrix = smaller, compose(matrix, invert(real))
    return cv2.warpAffine(
        image, matrix, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(border,) * 3
    )


def _scale(matrix: np.ndarray) -> float:
    """Length in the target of one pixel of the source."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))


def color_matrix(brightness: float, contrast: float, saturation: float) -> np.ndarray:
    """One 3 x 4 float32 matrix on RGB in 0 … 255; 1.0 leaves each property as it is. Contrast turns around mid gray."""
    gain = contrast * brightness
    matrix = np.empty((3, 4), dtype=np.float32)
    matrix[:, :3] = gain * (1 - saturation) * _LUMA
    matrix[_DIAGONAL, _DIAGONAL] += gain * saturation
    matrix[:, 3] = (1 - contrast) * 128.0
    return matrix


def random_color(strength: float, generator: np.random.Generator) -> np.ndarray:
    """A color matrix with each property drawn from 1 ± `strength`."""
    return color_matrix(*generator.uniform(1 - strength, 1 + strength, size=3))


def apply_color(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Transform uint8 RGB; values saturate at 0 and 255."""
    return cv2.transform(image, matrix)
