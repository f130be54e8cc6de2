"""Image properties from bytes, without decoding: format, truncation, and the header of a plain JPEG."""

import simplejpeg

from fschemas.image_limits import MAX_PIXELS, MAX_SIDE, MIN_SIDE

HEADER_BYTES = 4096  # tables and frame header of a JPEG without EXIF fit in this
_JPEG_MODES = {"Gray": "L", "YCbCr": "RGB", "RGB": "RGB", "CMYK": "CMYK", "YCCK": "CMYK"}  # Pillow's names

_MAGIC = ((b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"GIF8", "GIF"), (b"BM", "BMP"))


def content_type(content: bytes) -> str | None:
    """Return JPEG, PNG, WEBP, GIF or BMP by the first bytes, None for anything else."""
    for magic, kind in _MAGIC:
        if content.startswith(magic):
            return kind
    return "WEBP" if content[:4] == b"RIFF" and content[8:12] == b"WEBP" else None


def is_cut(content: bytes, kind: str) -> bool:
    """Return whether the end of the file is missing, by its structure and without decoding.

    In the entropy-coded part of a JPEG, every 0xFF of data is followed by 0, so an end marker after the first scan
    header is genuine: no truncated scan passes, and the end marker of a thumbnail is not mistaken for it.
    """
    if kind == "JPEG":
        position, is_scan = first_scan(content)
        return not is_scan or content.find(b"\xff\xd9", position) < 0
    if kind == "PNG":
        end = content.rfind(b"IEND")
        return end < 0 or len(content) < end + 8
    if kind == "WEBP":
        return len(content) < int.from_bytes(content[4:8], "little") + 8
    if kind == "BMP":
        return len(content) < int.from_bytes(content[2:6], "little")
    return not content.rstrip(b"\0").endswith(b";")


def plain_jpeg(head: bytes, end: bytes, size: int) -> tuple[int, int, str] | None:
    """Return width, height and mode of a complete JPEG of valid size without EXIF; None requires the full check."""
    if not head.startswith(b"\xff\xd8\xff") or end != b"\xff\xd9":
        return None
    position, is_scan = first_scan(head)
    if not is_scan or position >= size - 2 or head.find(b"\xff\xe1", 0, position) >= 0:
        return None
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(head)
        height, width = int(height), int(width)
    except ValueError:
        return None
    mode = _JPEG_MODES.get(colors)
    if mode is None or min(width, height) < MIN_SIDE or max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        return None
    return width, height, mode


def first_scan(content: bytes) -> tuple[int, bool]:
    """Follow the segments of a JPEG. Return (start of first scan, True) or (position where they break off, False)."""
    position = 2
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker == 0xDA:
            return position, True
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:
            position += 2
        else:
            position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return position, False
