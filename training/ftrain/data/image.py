"""Image operations of data workers: fast JPEG decoding, affine transforms and color transforms.

One 2 x 3 matrix per sample transforms image and landmarks; one 3 x 4 matrix transforms the colors. Affine matrices act
on pixel centers and map the source image to the network's input.
"""

from collections.abc import Callable

import cv2
import numpy as np
import simplejpeg

from fschemas.image_limits import check_jpeg

# ITU-R BT.601 luma: the definition of "gray" for contrast and saturation.
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
# Decoding at half size skips work in the inverse DCT; below this scale of the warp, no relevant detail is lost.
_HALF_DECODE_SCALE = 1 / 1.75


def decode(jpeg: bytes, scale: float = 1.0) -> tuple[np.ndarray, float]:
    """Decode a JPEG to RGB uint8 (H, W, 3), at half size if the image is going to be shrunk to `scale` anyway.

    Returns the image and its scale relative to the stored one (1.0 or 0.5). Chroma is upsampled by repetition, which is
    9% faster and off by half a gray level on average (docs/log.md). Raises `TooMuchError` for an image beyond the
    limits and `ValueError` for a damaged one.
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
    """Decode at full size to RGB uint8 (H, W, 3), with smooth chroma upsampling. Raises the same errors as `decode`."""
    height, width, _, _ = simplejpeg.decode_jpeg_header(jpeg)
    check_jpeg(jpeg, int(width), int(height))
    return simplejpeg.decode_jpeg(jpeg, "RGB")


def scaling(factor_x: float, factor_y: float) -> np.ndarray:
    """Matrix (2, 3) of a resize by `factor`: pixel centers x -> (x + 0.5) * factor - 0.5."""
    return np.array([[factor_x, 0, factor_x / 2 - 0.5], [0, factor_y, factor_y / 2 - 0.5]], dtype=np.float64)


def compose(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Matrix (2, 3) that applies `before`, then `after`."""
    return after @ np.vstack([before, (0.0, 0.0, 1.0)])


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
    radians = np.deg2rad(angle)
    cosine, sine = factor * np.cos(radians), factor * np.sin(radians)
    center_x, center_y = (left + right) / 2, (top + bottom) / 2
    if flip:
        center_x = width - 1 - center_x
    target_x = (size - 1) / 2 + shift[0] * size
    target_y = (size - 1) / 2 + shift[1] * size
    matrix = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0]])
    matrix[:, 2] = (target_x, target_y) - matrix[:, :2] @ (center_x, center_y)
    if flip:
        matrix = compose(matrix, np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0]]))
    return matrix


def stretch_matrix(region: tuple[float, float, float, float], size: int) -> np.ndarray:
    """Matrix (2, 3) that stretches a region (x1, y1, x2, y2, pixel centers of the corners) to `size` x `size` pixels."""
    left, top, right, bottom = region
    shift = np.array([[1.0, 0.0, -left], [0.0, 1.0, -top]])
    return compose(scaling(size / (right - left + 1), size / (bottom - top + 1)), shift)


def warp(jpeg: bytes, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Decode a JPEG and warp it to RGB uint8 (height, width, 3) by `matrix` (2, 3), with gray outside."""
    image, factor = decode(jpeg, _scale(matrix))
    if factor != 1.0:
        matrix = compose(matrix, cv2.invertAffineTransform(scaling(factor, factor)))
    return warp_image(image, matrix, size)


def warp_image(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Warp an RGB uint8 image (H, W, 3) to (height, width, 3) by `matrix` (2, 3), with gray outside."""
    scale = _scale(matrix)
    if scale < 0.75:  # bilinear sampling would skip source pixels, so average them first
        target = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        smaller = cv2.resize(image, target, interpolation=cv2.INTER_AREA)
        real = scaling(smaller.shape[1] / image.shape[1], smaller.shape[0] / image.shape[0])
        image, matrix = smaller, compose(matrix, cv2.invertAffineTransform(real))
    return cv2.warpAffine(image, matrix, size[::-1], flags=cv2.INTER_LINEAR, borderValue=(128,) * 3)


def _scale(matrix: np.ndarray) -> float:
    """Scale of an affine matrix: length in the target of one source pixel."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))


def color_matrix(brightness: float, contrast: float, saturation: float) -> np.ndarray:
    """Color matrix (3, 4), float32, for RGB values in 0 … 255.

    A factor of 1.0 leaves its property unchanged. Contrast is scaled around mid gray.
    """
    gain = contrast * brightness
    matrix = np.empty((3, 4), dtype=np.float32)
    matrix[:, :3] = gain * (1 - saturation) * _LUMA
    matrix[:, :3] += gain * saturation * np.eye(3)
    matrix[:, 3] = (1 - contrast) * 128.0
    return matrix


# Operations of RandAugment (Cubuk et al., NeurIPS 2020) that change colors alone, in the ranges of the paper. Each maps
# RGB uint8 (H, W, 3) and a strength in -1 … 1, whose sign matters only where there are two directions.


def _identity(image: np.ndarray, strength: float) -> np.ndarray:
    del strength
    return image


def _brightness(image: np.ndarray, strength: float) -> np.ndarray:
    return cv2.convertScaleAbs(image, alpha=1 + 0.9 * strength)


def _contrast(image: np.ndarray, strength: float) -> np.ndarray:
    """Scale around the mean gray."""
    mean = float(np.dot(cv2.mean(image)[:3], _LUMA))
    return cv2.addWeighted(image, 1 + 0.9 * strength, image, 0.0, -0.9 * strength * mean)


def _saturation(image: np.ndarray, strength: float) -> np.ndarray:
    return cv2.transform(image, color_matrix(1.0, 1.0, 1 + 0.9 * strength))


def _sharpness(image: np.ndarray, strength: float) -> np.ndarray:
    """Move away from the smoothed image, or toward it; the filter is 4 parts of the image to 9 parts of its box blur."""
    away = 0.9 * strength * 9 / 13
    return cv2.addWeighted(image, 1 + away, cv2.blur(image, (3, 3)), -away, 0.0)


def _posterize(image: np.ndarray, strength: float) -> np.ndarray:
    """Keep the 8 to 4 highest bits."""
    return image & np.uint8(0xFF << round(4 * abs(strength)) & 0xFF)


def _solarize(image: np.ndarray, strength: float) -> np.ndarray:
    """Invert the levels above a threshold."""
    levels = np.arange(256, dtype=np.uint8)
    return cv2.LUT(image, np.where(levels > 255 * (1 - abs(strength)), 255 - levels, levels))


def _stretch_levels(image: np.ndarray, strength: float) -> np.ndarray:
    """Stretch each channel to 0 … 255 (autocontrast); a channel of one level stays as it is."""
    del strength
    matrix = np.eye(3, 4)
    for number, channel in enumerate(cv2.split(image)):
        low, high, *_ = cv2.minMaxLoc(channel)
        if high > low:
            matrix[number] *= 255 / (high - low)
            matrix[number, 3] = -low * 255 / (high - low)
    return cv2.transform(image, matrix)


def _equalize(image: np.ndarray, strength: float) -> np.ndarray:
    """Equalize the histogram of each channel."""
    del strength
    return cv2.merge([cv2.equalizeHist(channel) for channel in cv2.split(image)])


COLOR_OPERATIONS: tuple[Callable[[np.ndarray, float], np.ndarray], ...] = (
    _identity, _brightness, _contrast, _saturation, _sharpness, _posterize, _solarize, _stretch_levels, _equalize,
)  # fmt: skip
