"""Ways to spoil the file of an image."""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image


def _as_png(content: bytes) -> bytes:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None, "our own JPEG can be decoded"
    return cv2.imencode(".png", image)[1].tobytes()


def _as_grayscale(content: bytes) -> bytes:
    return _saved(Image.open(io.BytesIO(content)).convert("L"))


def _as_cmyk(content: bytes) -> bytes:
    return _saved(Image.open(io.BytesIO(content)).convert("CMYK"))


def _saved(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _with_orientation(content: bytes) -> bytes:
    """The same JPEG with an EXIF segment (big-endian TIFF, one entry: tag 0x0112, orientation 6) after its start marker."""
    tiff = b"MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    body = b"Exif\x00\x00" + tiff
    return content[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + content[2:]


SPOILT_IMAGES: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "truncated_image": (
        "the file ends after 40 % of its bytes",
        lambda content: content[: len(content) * 2 // 5],
        "rejected",
    ),
    "zero_byte_image": ("the file is empty", lambda _: b"", "rejected"),
    "not_an_image": ("the file holds an HTML page", lambda _: b"<html><body>403 Forbidden</body></html>\n", "rejected"),
    "wrong_extension": ("PNG bytes under a name that ends in .jpg", _as_png, "kept"),
    "exif_orientation": (
        "EXIF orientation 6 was added; the points belong to the pixels as stored",
        _with_orientation,
        "kept",
    ),
    "grayscale_image": ("a JPEG with one channel", _as_grayscale, "kept"),
    "cmyk_image": ("a JPEG with four channels, CMYK", _as_cmyk, "kept"),
}
"""Rule, then what was done, how, and the verdict of a row with such an image."""
