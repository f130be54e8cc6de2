"""Decoding: a damaged image is an error."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ftrain.data.image import decode


def test_a_truncated_image_is_an_error() -> None:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (149, 121, 3), dtype=np.uint8)).save(stream, "JPEG")
    jpeg = stream.getvalue()
    for cut in (*range(0, 700, 7), len(jpeg) // 2, len(jpeg) - 1):
        with pytest.raises(ValueError, match=r"."):
            decode(jpeg[:cut])
