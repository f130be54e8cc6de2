"""A 64-bit fingerprint of what a picture shows, and a thumbnail that confirms what the fingerprint suspects.

The fingerprint is the signs of 64 low frequencies of the discrete cosine transform of a 32 x 32 luma picture (pHash; Zauner,
Implementation and Benchmarking of Perceptual Image Hash Functions, 2010), with zero instead of the median as threshold: the
mirrored picture then has the same bits but for those of odd horizontal frequency, and mirrored twins are found for nothing.
JPEGs are decoded at the smallest size that still has 64 pixels a side, which leaves little but the entropy decoding.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from fprep.workers import run_isolated

SIDE = 32  # pixels of the luma thumbnail
COLOUR_SIDE = 8  # pixels of the two chroma thumbnails
THUMBNAIL_BYTES = SIDE * SIDE + 2 * COLOUR_SIDE * COLOUR_SIDE
BLANK_CONTRAST = 2.0  # standard deviation of luma levels below which a picture shows nothing
_SMALLEST = 64  # pixels a side that are decoded at least, where the picture has them

# (vertical, horizontal) frequencies: the lowest 8 x 8 without the mean, and one more for 64.
_FREQUENCIES = (*((v, h) for v in range(8) for h in range(8) if v + h), (0, 8))
_ROWS = np.array([v for v, _ in _FREQUENCIES])
_COLUMNS = np.array([h for _, h in _FREQUENCIES])
_COSINES = np.cos(np.pi / (2 * SIDE) * np.outer(np.arange(9), 2 * np.arange(SIDE) + 1)).astype(np.float32)
_POWERS = np.uint64(1) << np.arange(64, dtype=np.uint64)

# Bits that change when a picture is mirrored.
MIRROR_MASK = int(sum(1 << bit for bit, (_, h) in enumerate(_FREQUENCIES) if h % 2))


@dataclass(frozen=True, slots=True)
class PictureTask:
    """A picture to look at: its path relative to the root, and the EXIF orientation (1 to 8) under which it is shown."""

    root: str
    name: str
    orientation: int = 1


@dataclass(frozen=True, slots=True)
class PictureHash:
    """What was seen: SHA-256 of the bytes, the fingerprint, the thumbnail (luma, then both chromas, uint8), the contrast.

    `fault` is empty, "missing" or "unreadable"; with a fault, the rest is empty. `contrast` is the standard deviation of luma.
    """

    sha256: str = ""
    bits: int = 0
    thumbnail: bytes = b""
    contrast: float = 0.0
    fault: str = ""


def hash_pictures(
    tasks: Sequence[PictureTask], *, workers: int = 0, progress: Callable[[int, int], None] | None = None
) -> list[PictureHash]:
    """`hash_picture` for all tasks, in `workers` processes (0: one per core). The answer does not depend on their number."""
    return run_isolated(hash_picture, tasks, crashed=_crashed, workers=workers, progress=progress, preload=(__name__,))


def hash_picture(task: PictureTask) -> PictureHash:
    """Look at one picture. A picture that is missing or broken has a fault; an input/output error of the disk is raised."""
    path = os.path.join(task.root, task.name)
    try:
        with open(path, "rb") as file:
            content = file.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return PictureHash(fault="missing")
    try:
        small = upright(_decode(content), task.orientation)
    except Exception:  # noqa: BLE001  (damaged pictures make decoders raise anything)
        return PictureHash(hashlib.sha256(content).hexdigest(), fault="unreadable")
    luma, colours = _thumbnails(small)
    thumbnail = luma.tobytes() + colours.tobytes()
    return PictureHash(hashlib.sha256(content).hexdigest(), fingerprint(luma), thumbnail, float(luma.std()), "")


def fingerprint(luma: np.ndarray) -> int:
    """The 64 bits of a luma picture of 32 x 32: bit k is the sign of frequency k."""
    spectrum = _COSINES @ luma.astype(np.float32) @ _COSINES.T
    return int((_POWERS * (spectrum[_ROWS, _COLUMNS] > 0)).sum(dtype=np.uint64))


def upright(picture: np.ndarray, orientation: int) -> np.ndarray:
    """The picture (H, W, ...) as displayed under an EXIF orientation."""
    if orientation in (5, 6, 7, 8):
        picture = picture.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        picture = picture[::-1]
    if orientation in (2, 3, 6, 7):
        picture = picture[:, ::-1]
    return picture


def split_thumbnails(thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Luma (N, 32, 32) and chroma (N, 8, 8, 2) of stored thumbnails (N, THUMBNAIL_BYTES), all uint8."""
    luma = thumbnails[:, : SIDE * SIDE].reshape(-1, SIDE, SIDE)
    return luma, thumbnails[:, SIDE * SIDE :].reshape(-1, COLOUR_SIDE, COLOUR_SIDE, 2)


def _thumbnails(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    _one_thread()
    small: Any = cv2.resize(np.ascontiguousarray(picture), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    planes: Any = cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb)
    colours: Any = cv2.resize(planes[..., 1:], (COLOUR_SIDE, COLOUR_SIDE), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(planes[..., 0]), np.ascontiguousarray(colours)


def _decode(content: bytes) -> np.ndarray:
    """RGB pixels, of a JPEG at a reduced size."""
    if content.startswith(b"\xff\xd8"):
        try:
            return simplejpeg.decode_jpeg(
                content, "RGB", fastdct=True, fastupsample=True, min_height=_SMALLEST, min_width=_SMALLEST, min_factor=1,
                strict=False,
            )  # fmt: skip
        except ValueError:
            pass  # CMYK and other odd ones are Pillow's
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "WEBP", "GIF", "BMP"))
        image.draft("RGB", (_SMALLEST, _SMALLEST))
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            layer = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        return np.asarray(image.convert("RGB"))


def _crashed(task: PictureTask, reason: str) -> PictureHash:
    del task, reason
    return PictureHash(fault="unreadable")


@functools.cache
def _one_thread() -> None:
    """OpenCV's threads get in the way of one process per core."""
    cv2.setNumThreads(1)
