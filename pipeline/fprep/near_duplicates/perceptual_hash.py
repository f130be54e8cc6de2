"""A 64-bit perceptual hash of an image, and a thumbnail that confirms matches of the hash.

The hash consists of the signs of 64 low frequencies of the discrete cosine transform of a 32 x 32 luma image (pHash;
Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010), with zero instead of the median as
threshold: flipping the image then only changes the bits of odd horizontal frequencies, and flipped duplicates are found
at no extra cost. JPEGs are decoded at the smallest size with at least 64 pixels a side, so that entropy decoding
dominates the cost. An image with single-color margins (padding, or a shop's white background) is hashed a second time
without them.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from fprep.engine import map_tasks
from fprep.images.check import MAX_BYTES
from fprep.raw.safe_open import OpenError, open_inside, read_all

SIDE = 32  # pixels of the luma thumbnail
COLOR_SIDE = 8  # pixels of the two chroma thumbnails
THUMBNAIL_BYTES = SIDE * SIDE + 2 * COLOR_SIDE * COLOR_SIDE
BLANK_CONTRAST = 2.0  # standard deviation of luma levels below which an image is blank
_SMALLEST = 64  # minimum pixels a side to decode, if the image has them
_MARGIN_RANGE, _MARGIN_DRIFT = 24, 8  # luma levels within a margin line (JPEG noise), and between margin lines
_COARSE = 40  # pixels a side of the area inside the margins, below which the image is decoded again at a larger size
_MIN_MARGIN, _MIN_INSIDE = 0.02, 0.2  # shares of the side

# (vertical, horizontal) frequencies: the lowest 8 x 8 without the mean, plus one more to make 64.
_FREQUENCIES = (*((v, h) for v in range(8) for h in range(8) if v + h), (0, 8))
_ROWS = np.array([v for v, _ in _FREQUENCIES])
_COLUMNS = np.array([h for _, h in _FREQUENCIES])
_COSINES = np.cos(np.pi / (2 * SIDE) * np.outer(np.arange(9), 2 * np.arange(SIDE) + 1)).astype(np.float32)
_POWERS = np.uint64(1) << np.arange(64, dtype=np.uint64)

# Bits that change when an image is flipped.
FLIP_MASK = int(sum(1 << bit for bit, (_, h) in enumerate(_FREQUENCIES) if h % 2))


@dataclass(frozen=True, slots=True)
class ImageTask:
    """An image to hash: its path relative to the root, and its EXIF orientation (1 to 8).

    `root` is a real path, without links; `follow_links`: see `fprep.raw.safe_open.open_inside`.
    """

    root: str
    name: str
    orientation: int = 1
    follow_links: bool = False


@dataclass(frozen=True, slots=True)
class ImageHash:
    """SHA-256 of the bytes, perceptual hash, thumbnail (luma, then both chroma planes, uint8) and contrast of an image.

    `problem` is "", "missing" or "unreadable"; if it is set, the other fields are empty. `contrast` is the standard
    deviation of luma. `inner_bits` and `inner_thumbnail` belong to the image without its margins; empty if it has none.
    """

    sha256: str = ""
    bits: int = 0
    thumbnail: bytes = b""
    contrast: float = 0.0
    problem: str = ""
    inner_bits: int = 0
    inner_thumbnail: bytes = b""


@dataclass(frozen=True)
class Views:
    """One or two views of each image.

    `owners` (V,) are image indices, `bits` (V,) uint64, `thumbnails` (V, THUMBNAIL_BYTES) uint8.
    """

    owners: np.ndarray
    bits: np.ndarray
    thumbnails: np.ndarray

    @classmethod
    def of(cls, looks: Mapping[int, ImageHash]) -> Views:
        """Return the views of images by index, without blank images, which resemble everything."""
        shown = {number: look for number, look in looks.items() if not look.problem and look.contrast >= BLANK_CONTRAST}
        inner = {number: look for number, look in shown.items() if look.inner_thumbnail}
        bits = [look.bits for look in shown.values()] + [look.inner_bits for look in inner.values()]
        thumbnails = [look.thumbnail for look in shown.values()] + [look.inner_thumbnail for look in inner.values()]
        return cls(
            np.array([*shown, *inner], np.int64), np.array(bits, np.uint64),
            np.frombuffer(b"".join(thumbnails), np.uint8).reshape(-1, THUMBNAIL_BYTES),
        )  # fmt: skip


def hash_images(
    tasks: Sequence[ImageTask], *, workers: int = 0, progress: Callable[[int, int], None] | None = None
) -> list[ImageHash]:
    """Hash all images in `workers` processes (0: one per core). The result does not depend on their number."""
    unreadable = ImageHash(problem="unreadable")
    return list(map_tasks(hash_image, tasks, crashed=lambda *_: unreadable, workers=workers, progress=progress))


def hash_image(task: ImageTask) -> ImageHash:
    """Hash one image. A missing or broken image sets `problem`; an I/O error of the disk is raised."""
    try:
        opened = open_inside(task.root, task.name, follow_links=task.follow_links)
    except OpenError as problem:
        return ImageHash(problem="missing" if problem.rule == "missing_image" else "unreadable")
    try:
        if opened.size > MAX_BYTES:
            return ImageHash(problem="unreadable")
        content = read_all(opened.descriptor, opened.size)
    finally:
        os.close(opened.descriptor)
    try:
        small = upright(_decode(content), task.orientation)
    except Exception:  # noqa: BLE001  (damaged images make decoders raise anything)
        return ImageHash(hashlib.sha256(content).hexdigest(), problem="unreadable")
    bits, thumbnail, contrast = _hash_plane(small)
    inside = without_margins(small)
    if inside is not None and min(inside.shape[:2]) < _COARSE:
        larger = upright(_decode(content, _SMALLEST * _SMALLEST // min(inside.shape[:2])), task.orientation)
        inside = without_margins(larger)
    inner = _hash_plane(inside) if inside is not None else (0, b"", 0.0)
    inner_bits, inner_thumbnail = inner[:2] if inner[2] >= BLANK_CONTRAST else (0, b"")
    return ImageHash(hashlib.sha256(content).hexdigest(), bits, thumbnail, contrast, "", inner_bits, inner_thumbnail)


def without_margins(image: np.ndarray) -> np.ndarray | None:
    """Return an image (H, W, 3) without its single-brightness margins; None if it has none, or little else."""
    plane = np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY))  # JPEG smears colors
    top, bottom = _inside_margins(plane, 1)
    left, right = _inside_margins(plane[top:bottom], 0)
    if right - left < plane.shape[1]:  # the inside may have margins along the other axis
        above, below = _inside_margins(plane[top:bottom, left:right], 1)
        top, bottom = top + above, top + below
    least = min((bottom - top) / plane.shape[0], (right - left) / plane.shape[1])
    return image[top:bottom, left:right] if _MIN_INSIDE <= least <= 1 - _MIN_MARGIN else None


def _inside_margins(plane: np.ndarray, axis: int) -> tuple[int, int]:
    """Return first and last + 1 of the lines (rows for axis 1) inside the uniform margins."""
    lowest, highest = plane.min(axis), plane.max(axis)
    first, last = 0, len(lowest)
    if highest[0] - lowest[0] <= _MARGIN_RANGE:
        first = _count(lowest, highest) + 1  # also skip the mixed line that downsampling leaves at the edge
    if highest[-1] - lowest[-1] <= _MARGIN_RANGE:
        last -= _count(lowest[::-1], highest[::-1]) + 1
    return (first, last) if first < last else (0, len(lowest))


def _count(lowest: np.ndarray, highest: np.ndarray) -> int:
    """Count the leading lines with nearly the brightness of the first."""
    middle = (int(lowest[0]) + int(highest[0])) / 2
    reach = _MARGIN_RANGE / 2 + _MARGIN_DRIFT
    is_margin = (lowest >= middle - reach) & (highest <= middle + reach)
    return len(lowest) if is_margin.all() else int(is_margin.argmin())


def _hash_plane(image: np.ndarray) -> tuple[int, bytes, float]:
    """Return hash, thumbnail and contrast of an image (H, W, 3)."""
    luma, colors = _thumbnails(image)
    return fingerprint(luma), luma.tobytes() + colors.tobytes(), float(luma.std())


def fingerprint(luma: np.ndarray) -> int:
    """Return the 64-bit hash of a 32 x 32 luma image; bit k is the sign of frequency k."""
    spectrum = _COSINES @ luma.astype(np.float32) @ _COSINES.T
    return int((_POWERS * (spectrum[_ROWS, _COLUMNS] > 0)).sum(dtype=np.uint64))


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Return the image (H, W, ...) as displayed under an EXIF orientation."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image


def split_thumbnails(thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return luma (N, 32, 32) and chroma (N, 8, 8, 2) of stored thumbnails (N, THUMBNAIL_BYTES), all uint8."""
    luma = thumbnails[:, : SIDE * SIDE].reshape(-1, SIDE, SIDE)
    return luma, thumbnails[:, SIDE * SIDE :].reshape(-1, COLOR_SIDE, COLOR_SIDE, 2)


def _thumbnails(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    small: Any = cv2.resize(np.ascontiguousarray(image), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    planes: Any = cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb)
    colors: Any = cv2.resize(planes[..., 1:], (COLOR_SIDE, COLOR_SIDE), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(planes[..., 0]), np.ascontiguousarray(colors)


def _decode(content: bytes, least: int = _SMALLEST) -> np.ndarray:
    """Decode to RGB pixels; a JPEG at a reduced size of at least `least` pixels a side, if the image has them."""
    if content.startswith(b"\xff\xd8"):
        try:
            return simplejpeg.decode_jpeg(
                content, "RGB", fastdct=True, fastupsample=True, min_height=least, min_width=least, min_factor=1,
                strict=False,
            )  # fmt: skip
        except ValueError:
            pass  # CMYK and other unusual JPEGs are decoded by Pillow
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "WEBP", "GIF", "BMP"))
        image.draft("RGB", (least, least))
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            layer = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        return np.asarray(image.convert("RGB"))
