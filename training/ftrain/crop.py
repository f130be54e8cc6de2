"""Random resized crops, the augmentation of models that need no points moved: decode, slice, resize, color; no warp.

About half the cost of a warp at 224 pixels. The distribution of crops is that of Inception (Szegedy et al., CVPR 2015).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import simplejpeg

from ftrain.image import decode, random_color

_ATTEMPTS = 10
_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32) * 255
_IMAGENET_DEVIATION = np.array([[0.229], [0.224], [0.225]], dtype=np.float32) * 255


@dataclass(frozen=True)
class RandomResizedCrop:
    """Crop a random area and aspect, mirror half of them, change colors, resize to `size`; uint8, or float32 normalised."""

    size: int = 224
    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    mirror: float = 0.5
    color: float = 0.4
    normalised: bool = False

    def __call__(self, jpeg: bytes, generator: np.random.Generator) -> np.ndarray:
        """The crop of a JPEG: size, size, 3, RGB; float32 has ImageNet's mean and deviation taken out."""
        height, width, _, _ = simplejpeg.decode_jpeg_header(jpeg)
        left, top, crop_width, crop_height = self._box(int(width), int(height), generator)
        picture, factor = decode(jpeg, self.size / min(crop_width, crop_height), top + crop_height)
        if factor != 1.0:
            left, top = int(left * factor), int(top * factor)
            crop_width, crop_height = max(1, int(crop_width * factor)), max(1, int(crop_height * factor))
        crop = picture[top : top + crop_height, left : left + crop_width]
        crop = cv2.resize(crop, (self.size, self.size), interpolation=cv2.INTER_LINEAR)
        if generator.random() < self.mirror:
            crop = cv2.flip(crop, 1)
        matrix = random_color(self.color, generator)
        if not self.normalised:
            return cv2.transform(crop, matrix)
        matrix[:, 3] -= _IMAGENET_MEAN
        matrix /= _IMAGENET_DEVIATION
        return cv2.transform(crop.astype(np.float32), matrix)

    def _box(self, width: int, height: int, generator: np.random.Generator) -> tuple[int, int, int, int]:
        low, high = math.log(self.aspect[0]), math.log(self.aspect[1])
        draws = generator.random((_ATTEMPTS, 2))
        for area_draw, aspect_draw in draws:
            area = width * height * (self.area[0] + (self.area[1] - self.area[0]) * area_draw)
            aspect = math.exp(low + (high - low) * aspect_draw)
            crop_width, crop_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < crop_width <= width and 0 < crop_height <= height:
                left = int(generator.integers(0, width - crop_width + 1))
                return left, int(generator.integers(0, height - crop_height + 1)), crop_width, crop_height
        side = min(width, height)
        return (width - side) // 2, (height - side) // 2, side, side
