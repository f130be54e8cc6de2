"""Decoding: a damaged image is an error; reductions average. Views are sampled without aliasing."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from ftrain.data.image import compose, decode, fit_matrix, scaling, warp, warp_image


def test_a_truncated_image_is_an_error() -> None:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (149, 121, 3), dtype=np.uint8)).save(stream, "JPEG")
    jpeg = stream.getvalue()
    for cut in (*range(0, 700, 7), len(jpeg) // 2, len(jpeg) - 1):
        with pytest.raises(ValueError, match=r"."):
            decode(jpeg[:cut])


def smooth_image(height: int, width: int, scale: float = 2.0) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), scale), None, 0, 255, cv2.NORM_MINMAX)  # type: ignore[call-overload]


@pytest.mark.parametrize("reduction", [1, 2, 4, 8, 16, 64])
def test_reduced_images_are_averages(reduction: int) -> None:
    image = smooth_image(301, 205)
    found = decode(simplejpeg.encode_jpeg(image, 98, colorsubsampling="444"), reduction)
    assert found.shape == (-(-301 // reduction), -(-205 // reduction), 3)
    rows, columns = 301 // reduction, 205 // reduction  # of whole squares
    squares = image[: rows * reduction, : columns * reduction].reshape(rows, reduction, columns, reduction, 3)
    assert np.abs(found[:rows, :columns] - squares.mean(axis=(1, 3))).mean() < 2.5


@pytest.mark.parametrize("shrinkage", [0.7, 1.0, 1.3, 1.5, 1.9, 2.4, 3.4, 7.0])
def test_a_view_is_that_of_an_accurate_triangle_filter(shrinkage: float) -> None:
    """The reference samples 8 x 8 points per pixel, and weights those of two pixels by a triangle."""
    image, size, finer = smooth_image(240, 320), round(320 / shrinkage), 8
    matrix = fit_matrix(320, 240, size, angle=11.0, flip=True)
    points = compose(scaling(finer, finer), matrix)
    reference = cv2.warpAffine(image.astype(np.float32), points, (size * finer,) * 2, borderValue=(128,) * 3)
    box = np.ones(finer) / finer
    triangle = np.convolve(box, box)
    reference = cv2.sepFilter2D(reference, -1, triangle, triangle, borderType=cv2.BORDER_REPLICATE)
    reference = cv2.warpAffine(reference, scaling(1 / finer, 1 / finer), (size, size))
    assert np.abs(warp_image(image, matrix, size) - reference).mean() < 1.6


def test_fine_stripes_become_gray_at_any_reduction() -> None:
    stripes = np.zeros((32, 4001, 3), np.uint8)
    stripes[:, ::2] = 200
    for size in (2100, 1500, 900, 500, 224, 60):
        matrix = fit_matrix(4001, 32, size)
        view = warp_image(stripes, matrix, size)
        row = view[size // 2, 2:-2]
        assert row.std() < 14, size  # 100 without a filter


def test_a_view_of_a_jpeg_is_written_in_place() -> None:
    image = smooth_image(90, 120)
    jpeg, out = simplejpeg.encode_jpeg(image, 95), np.zeros((64, 64, 3), np.uint8)
    for size_of_pixel in (0.9, 1.1, 1.5):
        matrix = fit_matrix(120, 90, 64, angle=20.0, zoom=120 / 64 / size_of_pixel, shift=(0.3, 0.1))
        assert warp(jpeg, matrix, 64, out) is out
        np.testing.assert_array_equal(out, warp_image(decode(jpeg), matrix, 64))
    outside = fit_matrix(120, 90, 64, shift=(3.0, 0.0))
    assert (warp(jpeg, outside, 64) == 128).all()
