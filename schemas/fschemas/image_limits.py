"""Formats and extensions of images, and what an image may ask of a decoder, for `convert`, `shard` and every command that looks at images.

Bytes, pixels and scans bound the memory and the time of a decoder before it begins; `within` bounds the time of the rest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from fschemas.failures import IntegrityError

EXTENSIONS = {  # lower case, by format; the first one is usual
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"), "PNG": (".png",), "WEBP": (".webp",), "GIF": (".gif",), "BMP": (".bmp",),
}  # fmt: skip
FORMATS = tuple(EXTENSIONS)
IMAGE_EXTENSIONS = tuple(extension for extensions in EXTENSIONS.values() for extension in extensions)
MAX_BYTES = 64 << 20
MAX_PIXELS = 40_000_000
MIN_SIDE, MAX_SIDE = 8, 16384
# A scan goes over all coefficients again, whatever its size: 4,000 empty ones are 100 KB and minutes. libjpeg's progressive script
# has 10, mozjpeg's search ends below 64, libjpeg's manual advises against 100. The product bounds the time: half a minute.
MAX_SCANS = 100
MAX_SCANNED_PIXELS = 1_200_000_000  # 30 scans of the largest image, 100 of one of 12 megapixels
MAX_SEGMENTS = 20_000  # marker segments of a JPEG or chunks of a PNG, which readers collect one by one
SECONDS = 60.0  # for one image

_Value = TypeVar("_Value")


class TooMuchError(IntegrityError):
    """An image that asks too much of a decoder; the sentence does not name it."""


def count_scans(jpeg: bytes) -> int:
    """How many scans a JPEG has, at most: start-of-scan markers, also those of a thumbnail among its metadata.

    In entropy-coded data a byte 0xFF is followed by 0 or a restart marker, so no data look like one.
    """
    return jpeg.count(b"\xff\xda")


def check_jpeg(jpeg: bytes, width: int, height: int) -> None:
    """Raise `TooMuchError` where a JPEG of that size would keep a decoder busy for too long, by its pixels or its scans."""
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise TooMuchError(f"{width} x {height} is more than {MAX_PIXELS} pixels or {MAX_SIDE} on a side")
    scans = count_scans(jpeg)
    if scans > MAX_SCANS or scans * width * height > MAX_SCANNED_PIXELS:
        raise TooMuchError(f"{scans} scans of {width} x {height} pixels are too many; save the image again")


def count_segments(content: bytes) -> int:
    """How many marker segments a JPEG has before its first scan, or chunks a PNG; 0 for other kinds.

    Raises `TooMuchError` for more than `MAX_SEGMENTS`: Pillow takes up each one by itself, a million of them in minutes.
    """
    is_jpeg = content.startswith(b"\xff\xd8\xff")
    if not is_jpeg and not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return 0
    position, count = 2 if is_jpeg else 8, 0
    while position + 4 <= len(content):
        if not is_jpeg:
            position += 12 + int.from_bytes(content[position : position + 4], "big")
        elif content[position] != 0xFF or content[position + 1] == 0xDA:
            break
        elif content[position + 1] == 0xFF:  # a fill byte
            position += 1
        else:
            position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
        count += 1
        if count > MAX_SEGMENTS:
            raise TooMuchError(f"more than {MAX_SEGMENTS} pieces of metadata are too many; save the image again")
    return count


def within(work: Callable[[], _Value], seconds: float = SECONDS) -> _Value:
    """The result of `work`, done in a thread that is given up after `seconds`, with `TooMuchError`; its errors are raised here.

    No thread can be stopped: what was given up goes on until it is done or the process ends, which does not wait for it.
    """
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.extend((True, work()))
        except BaseException as error:  # noqa: BLE001 - raised in the thread that asked
            outcome.extend((False, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise TooMuchError(f"the decoder gave no answer for {seconds:.0f} seconds")
    done, value = outcome
    if not done:
        raise value
    return value
