"""Images as evidence: is the file there, is it a picture, whole, of a sane size, and what does its header say.

Verdicts are rules with a message; a picture with one is out of the table. Warnings are kept and counted. A file is opened
once without following it out of the root and without blocking. Plain JPEGs, which is nearly all, are told by the few bytes
that matter; whatever is unusual about a file sends it the long way, by Pillow.
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

import simplejpeg
from PIL import Image

from fprep.image_format import HEADER_BYTES, content_type, first_scan, is_cut, plain_jpeg
from fprep.workers import run_isolated
from fschemas.image_limits import MAX_BYTES, MAX_PIXELS, MAX_SIDE, MIN_SIDE, TooMuchError, check_jpeg, count_segments

_EXTENSIONS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"), "PNG": (".png",), "WEBP": (".webp",), "GIF": (".gif",), "BMP": (".bmp",),
}  # fmt: skip
_GRAY_MODES = ("1", "L", "LA", "I", "I;16", "F")
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What was found: `rule` and `message` for a picture that is refused, else the columns of the table.

    `width` and `height` are pixels as displayed (EXIF orientation applied), `sha256` is that of the bytes, where all were read.
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

    Without, only the header and the end of a plain JPEG are read, and there is no `sha256`. Never raises for a bad picture;
    an input/output error of the disk is raised.
    """
    opened = _open_inside(root, name)
    if isinstance(opened, ImageFacts):
        return opened
    descriptor, size = opened
    try:
        if not decode and (facts := _glance(descriptor, size, name)) is not None:
            return facts
        content = read_all(descriptor, size)
    finally:
        os.close(descriptor)
    if not content:
        return ImageFacts("zero_byte_image", "the picture has 0 bytes")
    kind = content_type(content)
    if kind is None:
        return ImageFacts("not_an_image", "the content is no JPEG, PNG, WEBP, GIF or BMP", repr(content[:16]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's notes on odd metadata; the limits are our own
        return _check_content(content, kind, name, decode)


def _crashed(name: str, reason: str) -> ImageFacts:
    return ImageFacts("decoder_crash", f"the image decoder gave up ({reason})", name)


def _open_inside(root: str, name: str) -> tuple[int, int] | ImageFacts:
    """A descriptor and the size of a regular file inside the root."""
    folder, _, last = name.rpartition("/")
    path = f"{_real_folder(root, folder)}/{last}"
    try:
        descriptor = os.open(path, _OPEN_FLAGS) if path.startswith(f"{root}/") else -1
    except OSError as error:
        if error.errno != errno.ELOOP:
            return _unopened(error, name)
        descriptor = -1
    if descriptor < 0:  # a link, in the folder's path or in the file's place: it may lead somewhere else inside
        path = os.path.realpath(os.path.join(root, name))
        if os.path.commonpath((path, root)) != root:
            return ImageFacts("path_escape", "a symbolic link leads out of the raw root; give the folder that it points to", name)
        try:
            descriptor = os.open(path, _OPEN_FLAGS)
        except OSError as error:
            return _unopened(error, name)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_BYTES:
        return descriptor, status.st_size
    os.close(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return ImageFacts("image_not_a_file", "not a regular file but a folder, pipe or device", name)
    return ImageFacts("image_too_large", f"{status.st_size} bytes are more than {MAX_BYTES}", str(status.st_size))


@functools.lru_cache(maxsize=4096)
def _real_folder(root: str, folder: str) -> str:
    return os.path.realpath(os.path.join(root, folder))


def read_all(descriptor: int, size: int) -> bytes:
    """All bytes of an open file of about `size` bytes, and one more where it has grown."""
    content = os.read(descriptor, size + 1)
    while 0 < len(content) < size:  # Linux gives at most 2 GiB at once, network file systems less
        more = os.read(descriptor, size - len(content))
        if not more:
            break
        content += more
    return content


def _glance(descriptor: int, size: int, name: str) -> ImageFacts | None:
    """The facts of a plain JPEG without reading its pixels; None for anything else."""
    plain = plain_jpeg(os.pread(descriptor, HEADER_BYTES, 0), os.pread(descriptor, 2, max(0, size - 2)), size)
    if plain is None:
        return None
    width, height, mode = plain
    return ImageFacts("", "", "", width, height, None, "JPEG", mode, 1, _warnings("JPEG", mode, name))


def _unopened(error: OSError, name: str) -> ImageFacts:
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
        return ImageFacts("missing_image", "the picture is missing", name)
    if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EISDIR):
        return ImageFacts("image_not_a_file", "not a regular file but a link loop, socket or device", name)
    if error.errno in (errno.EACCES, errno.EPERM):
        return ImageFacts("unreadable_image", "permission to read the picture was denied", name)
    raise error


def _check_content(content: bytes, kind: str, name: str, decode: bool) -> ImageFacts:
    plain = plain_jpeg(content[:HEADER_BYTES], content[-2:], len(content)) if decode and kind == "JPEG" else None
    if plain is not None and plain[2] != "CMYK":
        width, height, mode = plain
        try:
            check_jpeg(content, width, height)
            simplejpeg.decode_jpeg(content, "GRAY")
        except TooMuchError as error:
            return ImageFacts("image_too_large", str(error), f"{width}x{height}")
        except ValueError as error:
            return _undecodable(content, kind, error)
        digest = hashlib.sha256(content).hexdigest()
        return ImageFacts("", "", "", width, height, digest, kind, mode, 1, _warnings("JPEG", mode, name))
    try:
        count_segments(content)
        image = Image.open(io.BytesIO(content), formats=(kind,))
        width, height = image.size
        if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
            limits = f"{MAX_PIXELS} pixels or {MAX_SIDE} on a side"
            return ImageFacts("image_too_large", f"{width} x {height} is more than {limits}", f"{width}x{height}")
        if min(width, height) < MIN_SIDE:
            return ImageFacts("image_too_small", f"{width} x {height} is less than {MIN_SIDE} on a side", f"{width}x{height}")
        if kind == "JPEG":
            check_jpeg(content, width, height)
        if is_cut(content, kind):
            return ImageFacts("truncated_image", "the end of the picture is missing", f"{len(content)} bytes")
        orientation = _orientation(image)
        is_animated = kind != "JPEG" and getattr(image, "is_animated", False)
        odd = _warnings(kind, image.mode, name, orientation=orientation, is_animated=is_animated)
        if decode:
            _decode(content, kind, image)
    except Image.DecompressionBombError:
        return ImageFacts("image_too_large", f"more than {MAX_PIXELS} pixels by its header")
    except TooMuchError as error:
        return ImageFacts("image_too_large", str(error), f"{len(content)} bytes")
    except Exception as error:  # noqa: BLE001  (headers and data that are damaged make decoders raise anything)
        return _undecodable(content, kind, error)
    if orientation >= 5:
        width, height = height, width
    digest = hashlib.sha256(content).hexdigest() if decode else None
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
    position, is_scan = first_scan(content) if kind == "JPEG" else (0, True)
    if is_scan or position + 4 > len(content):
        return ImageFacts("truncated_image", f"the {kind} data are cut or damaged ({reason})", f"{len(content)} bytes")
    return ImageFacts("not_an_image", f"begins like a {kind} but is none ({reason})", repr(content[:16]))


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # Pillow would decode all pixels to look for it behind them
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # noqa: BLE001  (damaged EXIF: the picture counts as upright)
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _warnings(kind: str, mode: str, name: str, *, orientation: int = 1, is_animated: bool = False) -> tuple[str, ...]:
    found = {
        "wrong_extension": not name.lower().endswith(_EXTENSIONS[kind]),
        "exif_orientation": orientation != 1,
        "grayscale_image": mode in _GRAY_MODES,
        "cmyk_image": mode == "CMYK",
        "animated_image": is_animated,
    }
    return tuple(rule for rule, present in found.items() if present)
