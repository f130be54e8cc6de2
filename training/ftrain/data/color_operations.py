"""Color transforms of images: a matrix for brightness, contrast and saturation, and the operations of RandAugment."""

from collections.abc import Callable

import cv2
import numpy as np

# ITU-R BT.601 luma: the definition of "gray" for contrast and saturation.
LUMA = (0.299, 0.587, 0.114)


def color_matrix(brightness: float, contrast: float, saturation: float) -> np.ndarray:
    """Color matrix (3, 4), float32, for RGB values in 0 … 255.

    A factor of 1.0 leaves its property unchanged. Contrast is scaled around mid gray.
    """
    gain, own = contrast * brightness, contrast * brightness * saturation
    red, green, blue = (luma * (gain - own) for luma in LUMA)
    offset = (1 - contrast) * 128.0
    rows = [[red + own, green, blue, offset], [red, green + own, blue, offset], [red, green, blue + own, offset]]
    return np.array(rows, np.float32)


# Operations of RandAugment (Cubuk et al., NeurIPS 2020) that change colors alone, in the ranges of the paper. Each maps
# RGB uint8 (H, W, 3) and a strength in -1 … 1, whose sign matters only where there are two directions.


def _identity(image: np.ndarray, strength: float) -> np.ndarray:
    del strength
    return image


def _brightness(image: np.ndarray, strength: float) -> np.ndarray:
    return cv2.convertScaleAbs(image, alpha=1 + 0.9 * strength)


def _contrast(image: np.ndarray, strength: float) -> np.ndarray:
    """Scale around the mean gray."""
    mean = float(np.dot(cv2.mean(image)[:3], LUMA))
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
