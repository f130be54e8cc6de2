"""Image checks: the file exists, is a complete image of a reasonable size, and what its header contains.

Problems are rules with a message and exclude the image from the table; warnings are counted. A file is opened once,
without leaving the root and without blocking. Plain JPEGs, the vast majority, are checked by the few bytes that matter;
anything unusual falls back to Pillow.
"""

import functools
import hashlib
import io
import os
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import simplejpeg
from PIL import Image

from fprep.engine import map_tasks
from fprep.images.format import HEADER_BYTES, content_type, first_scan, is_cut, plain_jpeg
from fprep.raw.safe_open import OpenError, open_inside, read_all
from fschemas.image_limits import (
    EXTENSIONS,
    MAX_BYTES,
    MAX_PIXELS,
    MAX_SIDE,
    MIN_SIDE,
    TooMuchError,
    check_jpeg,
    count_segments,
)

_GRAY_MODES = ("1", "L", "LA", "I", "I;16", "F")


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Facts about an image: `rule` and `message` if it is rejected, else the image columns of the table.

    `width` and `height` are pixels as displayed (EXIF orientation applied). `sha256` is set if all bytes were read.
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
    follow_links: bool = False,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[ImageFacts]:
    """Check all images in `workers` processes (0: all cores). The result does not depend on their number."""

    def crashed(name: str, reason: str) -> ImageFacts:
        return ImageFacts("decoder_crash", f"the image decoder gave up ({reason})", name)

    work = functools.partial(check_image, root, decode=decode, follow_links=follow_links)
    return list(map_tasks(work, names, crashed=crashed, workers=workers, progress=progress))


def check_image(root: str, name: str, *, decode: bool, follow_links: bool = False) -> ImageFacts:
    """Check `root/name`. With `decode`, every pixel is decoded strictly, so that no truncated JPEG passes.

    Otherwise only the header and the end of a plain JPEG are read, and there is no `sha256`. Never raises for a bad
    image; an I/O error of the disk is raised. `follow_links`: see `fprep.raw.safe_open.open_inside`.
    """
    try:
        opened = open_inside(root, name, follow_links=follow_links)
    except OpenError as problem:
        return ImageFacts(problem.rule, problem.message, problem.found)
    try:
        facts = _check_opened(opened.descriptor, opened.size, name, decode)
    finally:
        os.close(opened.descriptor)
    if opened.outside and not facts.rule:
        return replace(facts, warnings=(*facts.warnings, "link_out_of_root"))
    return facts


def _check_opened(descriptor: int, size: int, name: str, decode: bool) -> ImageFacts:
    if size > MAX_BYTES:
        return ImageFacts("image_too_large", f"{size} bytes are more than {MAX_BYTES}", str(size))
    if not decode and (facts := _check_header(descriptor, size, name)) is not None:
        return facts
    content = read_all(descriptor, size)
    if not content:
        return ImageFacts("zero_byte_image", "the image has 0 bytes")
    kind = content_type(content)
    if kind is None:
        return ImageFacts("not_an_image", "the content is not a JPEG, PNG, WEBP, GIF or BMP", repr(content[:16]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about odd metadata; the size limits are checked here
        return _check_content(content, kind, name, decode)


def _check_header(descriptor: int, size: int, name: str) -> ImageFacts | None:
    """Return the facts about a plain JPEG without reading its pixels; None for anything else."""
    plain = plain_jpeg(os.pread(descriptor, HEADER_BYTES, 0), os.pread(descriptor, 2, max(0, size - 2)), size)
    if plain is None:
        return None
    width, height, mode = plain
    return ImageFacts("", "", "", width, height, None, "JPEG", mode, 1, _warnings("JPEG", mode, name))


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
            message = f"{width} x {height} is less than {MIN_SIDE} on a side"
            return ImageFacts("image_too_small", message, f"{width}x{height}")
        if kind == "JPEG":
            check_jpeg(content, width, height)
        if is_cut(content, kind):
            return ImageFacts("truncated_image", "the end of the image is missing", f"{len(content)} bytes")
        orientation = _orientation(image)
        is_animated = kind != "JPEG" and getattr(image, "is_animated", False)
        odd = _warnings(kind, image.mode, name, orientation=orientation, is_animated=is_animated)
        if decode and kind == "JPEG" and image.mode in ("RGB", "L"):
            simplejpeg.decode_jpeg(content, "GRAY")  # strict, unlike Pillow; the bits of all channels are read
        elif decode:
            image.load()
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


def _undecodable(content: bytes, kind: str, error: Exception) -> ImageFacts:
    sentence = (str(error).splitlines() or [type(error).__name__])[0]
    reason = re.sub(r" ?<[^>]*>", "", sentence).strip()[:120]  # without memory addresses
    position, is_scan = first_scan(content) if kind == "JPEG" else (0, True)
    if is_scan or position + 4 > len(content):
        return ImageFacts("truncated_image", f"the {kind} data are cut or damaged ({reason})", f"{len(content)} bytes")
    return ImageFacts("not_an_image", f"begins like a {kind}, but is not one ({reason})", repr(content[:16]))


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # Pillow would decode all pixels to look for EXIF after them
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # noqa: BLE001  (damaged EXIF: the image counts as upright)
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _warnings(kind: str, mode: str, name: str, *, orientation: int = 1, is_animated: bool = False) -> tuple[str, ...]:
    found = {
        "wrong_extension": not name.lower().endswith(EXTENSIONS[kind]),
        "exif_orientation": orientation != 1,
        "grayscale_image": mode in _GRAY_MODES,
        "cmyk_image": mode == "CMYK",
        "animated_image": is_animated,
    }
    return tuple(rule for rule, present in found.items() if present)
