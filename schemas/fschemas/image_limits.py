"""Image formats and file extensions, and decoder limits for `convert`, `shard` and every command that reads images.

Limits on bytes, pixels and scans bound the memory and time of a decoder in advance; `within` bounds the actual time.
"""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from fschemas.failures import IntegrityError

EXTENSIONS = {  # lower case, by format; the first one is the usual one
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"), "PNG": (".png",), "WEBP": (".webp",), "GIF": (".gif",), "BMP": (".bmp",),
}  # fmt: skip
FORMATS = tuple(EXTENSIONS)
IMAGE_EXTENSIONS = tuple(extension for extensions in EXTENSIONS.values() for extension in extensions)
MAX_BYTES = 64 << 20
MAX_PIXELS = 40_000_000
MIN_SIDE, MAX_SIDE = 8, 16384
# Each scan processes all coefficients, whatever its size: 4,000 empty scans take 100 KB and minutes of time. libjpeg's
# progressive script has 10 scans, mozjpeg's search less than 64, and libjpeg's manual advises against 100. The product
# below bounds the time to half a minute.
MAX_SCANS = 100
MAX_SCANNED_PIXELS = 1_200_000_000  # 30 scans of the largest image, 100 scans of 12 megapixels
MAX_SEGMENTS = 20_000  # marker segments of a JPEG or chunks of a PNG, which decoders process one by one
SECONDS = 60.0  # per image

_Value = TypeVar("_Value")


class TooMuchError(IntegrityError):
    """An image that exceeds the decoder limits; the message does not include its path."""


def check_jpeg(jpeg: bytes, width: int, height: int) -> None:
    """Raise `TooMuchError` if a JPEG of this size takes too long to decode because of its pixels or scans."""
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise TooMuchError(f"{width} x {height} is more than {MAX_PIXELS} pixels or {MAX_SIDE} on a side")
    # Start-of-scan markers, including those of embedded thumbnails. Entropy-coded data cannot look like one: there, a byte
    # 0xFF is followed by 0 or a restart marker.
    pairs = (np.frombuffer(jpeg, "<u2", (len(jpeg) - start) // 2, start) for start in (0, 1))
    scans = sum(np.count_nonzero(pair == 0xDAFF) for pair in pairs)  # bytes.count takes ten times as long
    if scans > MAX_SCANS or scans * width * height > MAX_SCANNED_PIXELS:
        raise TooMuchError(f"{scans} scans of {width} x {height} pixels are too many; save the image again")


def count_segments(content: bytes) -> int:
    """Number of marker segments of a JPEG before its first scan, or of chunks of a PNG; 0 for other formats.

    Raises `TooMuchError` for more than `MAX_SEGMENTS`: Pillow processes each one separately, a million of them in
    minutes.
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
    """Run `work` in a thread and return its result; raise `TooMuchError` after `seconds`, or the error of `work`.

    A thread cannot be stopped: after a timeout, it keeps running until it is done or the process exits.
    """
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.extend((True, work()))
        except BaseException as error:  # noqa: BLE001 - re-raised in the calling thread
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
