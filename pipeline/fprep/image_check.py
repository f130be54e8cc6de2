"""Images as evidence: is the file there, is it a picture, whole, of a sane size, and what does its header say.

Verdicts are rules with a message; a picture with one is out of the table. Warnings are kept and counted. A file is opened
once without following it out of the root and without blocking, and its bytes are read once.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import io
import os
import re
import stat
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import simplejpeg
from PIL import Image

from fprep.workers import run_isolated

MAX_BYTES = 64 << 20
MAX_PIXELS = 40_000_000
MIN_SIDE, MAX_SIDE = 8, 16384

_MAGIC = ((b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"GIF8", "GIF"), (b"BM", "BMP"))
_EXTENSIONS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"), "PNG": (".png",), "WEBP": (".webp",), "GIF": (".gif",), "BMP": (".bmp",),
}  # fmt: skip
_GRAY_MODES = ("1", "L", "LA", "I", "I;16", "F")
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What was found: `rule` and `message` for a picture that is refused, else the columns of the table.

    `width` and `height` are pixels as displayed (EXIF orientation applied), `sha256` is that of the bytes.
    """

    rule: str = ""
    message: str = ""
    found: str = ""
    width: int | None = None
    height: int | None = None
    sha256: str | None = None
    format: str | None = None
    mode: str | None = None
    orientation: int | None = None
    warnings: tuple[str, ...] = ()


def check_images(
    root: str,
    names: Sequence[str],
    *,
    decode: bool,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[ImageFacts]:
    """`check_image` for all names, in `workers` processes (0: all cores). The answer does not depend on their number."""
    work = functools.partial(check_image, root, decode=decode)
    return run_isolated(work, names, crashed=_crashed, workers=workers, progress=progress, preload=(__name__,))


def check_image(root: str, name: str, *, decode: bool) -> ImageFacts:
    """Check `root/name`. With `decode` every pixel is decoded, strictly: no truncated JPEG passes.

    Never raises for a bad picture; an input/output error of the disk is raised.
    """
    content = _read_inside(root, name)
    if isinstance(content, ImageFacts):
        return content
    if not content:
        return ImageFacts("zero_byte_image", "the picture has 0 bytes")
    kind = content_type(content)
    if kind is None:
        return ImageFacts("not_an_image", "the content is no JPEG, PNG, WEBP, GIF or BMP", repr(content[:16]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's notes on odd metadata; the limits are our own
        return _check_content(content, kind, name, decode)


def content_type(content: bytes) -> str | None:
    """JPEG, PNG, WEBP, GIF or BMP by the first bytes, None for anything else."""
    for magic, kind in _MAGIC:
        if content.startswith(magic):
            return kind
    return "WEBP" if content[:4] == b"RIFF" and content[8:12] == b"WEBP" else None


def is_cut(content: bytes, kind: str) -> bool:
    """Whether the end of the file is missing, judged by its structure without decoding.

    In the entropy-coded part of a JPEG every 0xFF of data is followed by 0, so an end marker behind the first scan header is
    a real one: no cut through the scan passes, and a thumbnail's end marker is not taken for it.
    """
    if kind == "JPEG":
        position, is_scan = _first_scan(content)
        return not is_scan or content.find(b"\xff\xd9", position) < 0
    if kind == "PNG":
        end = content.rfind(b"IEND")
        return end < 0 or len(content) < end + 8
    if kind == "WEBP":
        return len(content) < int.from_bytes(content[4:8], "little") + 8
    if kind == "BMP":
        return len(content) < int.from_bytes(content[2:6], "little")
    return not content.rstrip(b"\0").endswith(b";")


def _crashed(name: str, reason: str) -> ImageFacts:
    return ImageFacts("decoder_crash", f"the image decoder gave up ({reason})", name)


def _read_inside(root: str, name: str) -> bytes | ImageFacts:
    path = os.path.realpath(os.path.join(root, name))
    if os.path.commonpath((path, root)) != root:
        return ImageFacts("path_escape", "a symbolic link leads out of the raw root; give the folder that it points to", name)
    try:
        descriptor = os.open(path, _OPEN_FLAGS)
    except OSError as error:
        return _unopened(error, name)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        return ImageFacts("image_not_a_file", "not a regular file but a folder, pipe or device", name)
    with os.fdopen(descriptor, "rb") as file:
        if status.st_size > MAX_BYTES:
            return ImageFacts("image_too_large", f"{status.st_size} bytes are more than {MAX_BYTES}", str(status.st_size))
        return file.read(MAX_BYTES + 1)


def _unopened(error: OSError, name: str) -> ImageFacts:
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
        return ImageFacts("missing_image", "the picture is missing", name)
    if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EISDIR):
        return ImageFacts("image_not_a_file", "not a regular file but a link loop, socket or device", name)
    if error.errno in (errno.EACCES, errno.EPERM):
        return ImageFacts("unreadable_image", "permission to read the picture was denied", name)
    raise error


def _check_content(content: bytes, kind: str, name: str, decode: bool) -> ImageFacts:
    try:
        image = Image.open(io.BytesIO(content), formats=(kind,))
        width, height = image.size
        if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
            limits = f"{MAX_PIXELS} pixels or {MAX_SIDE} on a side"
            return ImageFacts("image_too_large", f"{width} x {height} is more than {limits}", f"{width}x{height}")
        if min(width, height) < MIN_SIDE:
            return ImageFacts("image_too_small", f"{width} x {height} is less than {MIN_SIDE} on a side", f"{width}x{height}")
        if is_cut(content, kind):
            return ImageFacts("truncated_image", "the end of the picture is missing", f"{len(content)} bytes")
        orientation = _orientation(image)
        odd = _warnings(image, kind, name, orientation)
        if decode:
            _decode(content, kind, image)
    except Image.DecompressionBombError:
        return ImageFacts("image_too_large", f"more than {MAX_PIXELS} pixels by its header")
    except Exception as error:  # noqa: BLE001  (headers and data that are damaged make decoders raise anything)
        return _undecodable(content, kind, error)
    if orientation >= 5:
        width, height = height, width
    digest = hashlib.sha256(content).hexdigest()
    return ImageFacts("", "", "", width, height, digest, kind, image.mode, orientation, odd)


def _decode(content: bytes, kind: str, image: Image.Image) -> None:
    """Decode all pixels or raise. libjpeg only warns of missing data and Pillow swallows that: simplejpeg's strict mode raises.

    Gray is enough: the bits of all channels are read, and the colour conversion is saved.
    """
    if kind == "JPEG" and image.mode in ("RGB", "L"):
        simplejpeg.decode_jpeg(content, "GRAY")
    else:
        image.load()


def _undecodable(content: bytes, kind: str, error: Exception) -> ImageFacts:
    reason = re.sub(r" ?<[^>]*>", "", (str(error).splitlines() or [type(error).__name__])[0]).strip()[:120]  # no addresses
    position, is_scan = _first_scan(content) if kind == "JPEG" else (0, True)
    if is_scan or position + 4 > len(content):
        return ImageFacts("truncated_image", f"the {kind} data are cut or damaged ({reason})", f"{len(content)} bytes")
    return ImageFacts("not_an_image", f"begins like a {kind} but is none ({reason})", repr(content[:16]))


def _first_scan(content: bytes) -> tuple[int, bool]:
    """Follow the segments of a JPEG: where the first scan begins and True, or where they break off and False."""
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


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # Pillow would decode all pixels to look for it behind them
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # noqa: BLE001  (damaged EXIF: the picture counts as upright)
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _warnings(image: Image.Image, kind: str, name: str, orientation: int) -> tuple[str, ...]:
    found = {
        "wrong_extension": PurePosixPath(name).suffix.lower() not in _EXTENSIONS[kind],
        "exif_orientation": orientation != 1,
        "grayscale_image": image.mode in _GRAY_MODES,
        "cmyk_image": image.mode == "CMYK",
        "animated_image": kind != "JPEG" and getattr(image, "is_animated", False),
    }
    return tuple(rule for rule, present in found.items() if present)
