"""Decoding: rows that nobody needs are left out without a change to those that are needed."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ftrain.crop import RandomResizedCrop
from ftrain.image import decode


def _jpeg(height: int = 149, width: int = 121, mode: str = "RGB", **options: object) -> bytes:
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    picture = Image.fromarray(np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8), mode)
    stream = io.BytesIO()
    picture.resize((width, height)).save(stream, "JPEG", **options)
    return stream.getvalue()


@pytest.mark.parametrize("rows", [1, 31, 32, 33, 100, 148, 149, 500])
@pytest.mark.parametrize(
    "options",
    [
        {"subsampling": 0},
        {"subsampling": 1},
        {"subsampling": 2},
        {"restart_marker_rows": 1},
        {"progressive": True},
        {"mode": "L"},
    ],
)
def test_the_first_rows_are_those_of_the_whole_picture(options: dict[str, object], rows: int) -> None:
    jpeg = _jpeg(**options)  # type: ignore[arg-type]
    whole, _ = decode(jpeg)
    part, factor = decode(jpeg, rows=rows)
    assert factor == 1.0
    assert min(rows, 149) <= len(part) <= 149
    assert np.array_equal(part, whole[: len(part)])
    assert len(part) < rows + 32 or "progressive" in options


def test_a_crop_of_part_of_the_picture_is_one_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    jpeg, crop = _jpeg(300, 200), RandomResizedCrop(64, normalised=True)
    cropped = [crop(jpeg, np.random.default_rng(seed)) for seed in range(20)]
    monkeypatch.setattr("ftrain.image._shortened", lambda jpeg, rows: None)
    assert all(np.array_equal(picture, crop(jpeg, np.random.default_rng(seed))) for seed, picture in enumerate(cropped))


def test_normalised_crops_are_plain_ones_less_mean_over_deviation() -> None:
    jpeg = _jpeg(300, 200, quality=95)
    plain, normal = (RandomResizedCrop(64, normalised=normalised, color=0.0) for normalised in (False, True))
    picture = plain(jpeg, np.random.default_rng(0)) / 255
    expected = (picture - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert np.allclose(normal(jpeg, np.random.default_rng(0)), expected, atol=1e-4)


def test_a_truncated_picture_is_an_error_whatever_is_needed_of_it() -> None:
    jpeg = _jpeg()
    for cut in (*range(0, 700, 7), len(jpeg) // 2, len(jpeg) - 1):
        with pytest.raises(ValueError, match=r"."):
            decode(jpeg[:cut], rows=40)
