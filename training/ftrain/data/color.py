"""Color of a garment as a vector with the dot product as similarity: a spatially weighted soft histogram in CIELAB.

Each pixel votes for the eight nearest of 5 x 5 x 5 colors (lightness, a*, b*) with linear interpolation, so that a small
change of light moves the vector only slightly; its position only determines the weight of its vote. The feature is the
square root of the normalized histogram: the dot product of two features is the Bhattacharyya coefficient, 1 for equal
and 0 for disjoint colors, and their Euclidean distance is sqrt(2) times the Hellinger distance. The square root also
keeps a white background from dominating a small bright print.

CIELAB is used because it is perceptually uniform. Lightness, which changes with shade and exposure, counts as much as
each of a* and b*, but its bins are just as wide, which is deliberately coarse.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from ftrain.data.image import Sampling

# Bin centers. They are denser around gray, the color of most clothes.
LIGHTNESS_CENTERS = (10.0, 30.0, 50.0, 70.0, 90.0)
CHROMA_CENTERS = (-64.0, -24.0, 0.0, 24.0, 64.0)
COLOR_DIMS = len(LIGHTNESS_CENTERS) * len(CHROMA_CENTERS) ** 2  # 125

_SIDE = 64  # pixels; larger images are downscaled first
_PRIOR = (0.2, 0.3)  # standard deviation of the center prior as shares of width and height


def color_feature(
    image: np.ndarray, weight: np.ndarray | None = None, region: Sequence[int] | np.ndarray | None = None
) -> np.ndarray:
    """Return the color of the weighted part of an image: float32 C = 125, non-negative, L2-normalized.

    `image` is RGB uint8 H, W, 3. `weight` (any size h, w; negative values count as 0) is a spatial weight: the
    activation of a network, a mask, the inside of a box. Without it, or if it is 0 everywhere, the weight falls off
    from the image center. Only pixels of the `region` (left, top, right, bottom; `unpadded_region`) vote.
    """
    if region is not None:
        left, top, right, bottom = (int(edge) for edge in region)
        if weight is not None:  # stretched over the whole image before it is cut
            weight = cv2.resize(np.asarray(weight, dtype=np.float32), image.shape[1::-1])[top:bottom, left:right]
        image = image[top:bottom, left:right]
    small = image
    factor = _SIDE / max(image.shape[:2])
    if factor < 1:
        size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    height, width = small.shape[:2]
    votes = _spread(weight, height, width).ravel()
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).reshape(-1, 3)
    histogram = np.zeros(COLOR_DIMS)
    axes = [_neighbors(lab[:, axis], centers) for axis, centers in enumerate(_AXES)]
    for lightness, lightness_share in axes[0]:
        for red, red_share in axes[1]:
            for blue, blue_share in axes[2]:
                cells = (lightness * len(CHROMA_CENTERS) + red) * len(CHROMA_CENTERS) + blue
                share = votes * lightness_share * red_share * blue_share
                histogram += np.bincount(cells, weights=share, minlength=COLOR_DIMS)
    feature = np.sqrt(histogram / histogram.sum())
    return (feature / np.linalg.norm(feature)).astype(np.float32)


def unpadded_region(matrix: np.ndarray, width: float, height: float, input_size: int) -> np.ndarray:
    """Return the pixels of a view that show the image and no padding: int64 left, top, right, bottom (exclusive).

    `matrix` 2, 3 maps the image (`width` x `height` pixels) to the view (`input_size` squared) without rotation or
    flip. Pixels that interpolation blends with the padding are left out, but one pixel per axis always remains.
    """
    scale, shift = matrix[(0, 1), (0, 1)].astype(np.float64), matrix[:, 2].astype(np.float64)
    ends = np.array([width, height]) * scale + shift - scale / 2  # outer edges of the image
    reduction = Sampling.of_matrix(matrix).reduction
    blended = np.maximum(scale * reduction, 1) / 2  # half a pixel of the reduced image or of the view, the larger one
    first = np.ceil(shift - scale / 2 + blended - 1e-3).clip(0, input_size - 1)
    last = np.floor(ends - blended + 1e-3).clip(0, input_size - 1)
    middle = np.floor((shift - scale / 2 + ends) / 2).clip(0, input_size - 1)
    first, last = np.where(first <= last, (first, last), (middle, middle))
    return np.concatenate([first, last + 1]).astype(np.int64)


_AXES = (np.array(LIGHTNESS_CENTERS), np.array(CHROMA_CENTERS), np.array(CHROMA_CENTERS))


def _neighbors(values: np.ndarray, centers: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the two nearest centers of each value with their shares (sum 1). Values out of range are clamped."""
    inside = np.clip(values, centers[0], centers[-1])
    lower = np.clip(np.searchsorted(centers, inside, side="right") - 1, 0, len(centers) - 2)
    upper_share = (inside - centers[lower]) / (centers[lower + 1] - centers[lower])
    return [(lower, 1 - upper_share), (lower + 1, upper_share)]


def _spread(weight: np.ndarray | None, height: int, width: int) -> np.ndarray:
    """Return the weight of each pixel, float64 H, W, with a positive sum."""
    if weight is not None:
        given = np.maximum(np.nan_to_num(np.asarray(weight, dtype=np.float32)), 0)
        shrinks = given.shape[0] > height or given.shape[1] > width
        spread = cv2.resize(given, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        if spread.max() > 0:
            return (spread / spread.max()).astype(np.float64)
    x = ((np.arange(width) + 0.5) / width - 0.5) / _PRIOR[0]
    y = ((np.arange(height) + 0.5) / height - 0.5) / _PRIOR[1]
    return np.exp(-0.5 * (y[:, None] ** 2 + x[None, :] ** 2))
