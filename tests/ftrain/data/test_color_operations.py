"""Random color operations are those of Pillow."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from ftrain.data.color_operations import COLOR_OPERATIONS


def test_color_operations_are_those_of_pillow() -> None:
    """In the ranges of RandAugment; Pillow rounds and treats the margin of its filter in another way."""
    generator = np.random.default_rng(0)
    image = generator.integers(30, 200, (80, 60, 3), np.uint8).repeat(3, 0).repeat(3, 1)
    of_pillow: list[Callable[[Image.Image, float], Image.Image]] = [
        lambda one, _: one,
        lambda one, strength: ImageEnhance.Brightness(one).enhance(1 + 0.9 * strength),
        lambda one, strength: ImageEnhance.Contrast(one).enhance(1 + 0.9 * strength),
        lambda one, strength: ImageEnhance.Color(one).enhance(1 + 0.9 * strength),
        lambda one, strength: ImageEnhance.Sharpness(one).enhance(1 + 0.9 * strength),
        lambda one, strength: ImageOps.posterize(one, 8 - round(4 * abs(strength))),
        lambda one, strength: ImageOps.solarize(one, int(255 * (1 - abs(strength))) + 1),
        lambda one, _: ImageOps.autocontrast(one),
        lambda one, _: ImageOps.equalize(one),
    ]
    for own, other in zip(COLOR_OPERATIONS, of_pillow, strict=True):
        for strength in (-1.0, -0.3, 0.0, 0.3, 1.0):
            found, expected = own(image, strength), np.array(other(Image.fromarray(image), strength))
            assert found.dtype == np.uint8
            error = np.abs(found.astype(int) - expected)[1:-1, 1:-1]
            assert error.max() <= 2, (own, strength, error.max())


def test_an_even_image_survives_every_color_operation() -> None:
    even = np.full((8, 8, 3), 90, np.uint8)
    for operation in COLOR_OPERATIONS:
        assert len(np.unique(operation(even, 0.3))) == 1
    np.testing.assert_array_equal(COLOR_OPERATIONS[7](even, 0.3), even)
