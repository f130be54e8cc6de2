"""Images from a user's disk: found by content, decoded within limits, upright, opaque and RGB in any mode.

Limits and handling of transparency, 16-bit images and EXIF orientation match the pipeline, so that a model sees a loose
image exactly as it would in a shard.
"""

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from fschemas.failures import UsageError
from fschemas.folder_kinds import kind_of_folder
from fschemas.image_limits import (
    FORMATS,
    IMAGE_EXTENSIONS,
    MAX_BYTES,
    MAX_PIXELS,
    TooMuchError,
    check_jpeg,
    count_segments,
    within,
)
from fschemas.names import output_path
from fschemas.pixels import as_rgb
from fschemas.regular_file import open_regular
from fschemas.walk import readable, walk

_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM")


class ImageError(UsageError):
    """An image that cannot be used; the message does not include its path."""


@dataclass(frozen=True)
class FoundImage:
    """An image and its output name: relative, without extension, unique among the images found."""

    path: Path
    name: str


def find_images(given: Sequence[Path], skip: Path | None = None) -> list[FoundImage]:
    """The given files, and all images in the given folders and their subfolders, sorted.

    In folders, a file is recognized by its first bytes or by its extension, so that a damaged image is found and
    reported. Hidden files, system and editor files (`fschemas.walk`) and the folder `skip` are ignored. A path that is
    given twice is used once; two files with equal content are two images. Raises `UsageError` for a missing path and if
    there are no images at all.
    """
    found: dict[str, tuple[Path, str]] = {}
    for entry in given:
        if entry.is_dir():
            for path in _walk(entry, skip):
                found.setdefault(os.path.normpath(path.absolute()), (path, _name_below(entry, path)))
        elif entry.exists():
            found.setdefault(os.path.normpath(entry.absolute()), (entry, entry.stem))
        elif entry.is_symlink():
            raise UsageError(f"{readable(entry)}: a broken link to {readable(entry.readlink())}")
        else:
            raise UsageError(f"{readable(entry)}: no such image or folder")
    if not found:
        raise _no_images(given)
    return _with_unique_names(list(found.values()))


def check_images(given: Sequence[Path]) -> None:
    """Raise the `UsageError`s of `find_images`, but stop at the first image found."""
    for entry in given:
        if not entry.is_dir():
            find_images([entry])
    if not any(not entry.is_dir() or next(_walk(entry, None), None) for entry in given):
        raise _no_images(given)


def _no_images(given: Sequence[Path]) -> UsageError:
    kind = kind_of_folder(given[0]) if len(given) == 1 else None
    here = f"this is {kind.words}, and there are no images in it" if kind else "no images here"
    return UsageError(f"{', '.join(map(readable, given))}: {here}; expected {', '.join(FORMATS)} files")


def _name_below(folder: Path, path: Path) -> str:
    """Relative path without extension; a folder named like an image gets a suffix, so its name is not an output's."""
    *parents, _ = path.relative_to(folder).parts
    return "/".join([*(f"{parent}_" if parent.lower().endswith(".jpg") else parent for parent in parents), path.stem])


def _with_unique_names(found: list[tuple[Path, str]]) -> list[FoundImage]:
    """Resolve name conflicts: append the image's extension, then a number. Names that differ only in case conflict."""
    taken: set[str] = set()
    named: list[FoundImage] = []
    for path, name in found:
        unique, number = output_path(Path(), readable(name)).as_posix(), 1
        if unique.lower() in taken and path.suffix:
            unique += f"-{path.suffix[1:]}"
        base = unique
        while unique.lower() in taken:
            number += 1
            unique = f"{base}-{number}"
        taken.add(unique.lower())
        named.append(FoundImage(path, unique))
    return named


def _walk(folder: Path, skip: Path | None) -> Iterator[Path]:
    without = skip.resolve() if skip is not None else None
    for here, folders, files in walk(folder, on_error=lambda _: None):
        folders[:] = [name for name in folders if (here / name).resolve() != without]
        for name in files:
            path = here / name
            is_named = path.suffix.lower() in IMAGE_EXTENSIONS
            dangles = path.is_symlink() and not path.exists()
            if (is_named and (dangles or path.is_file())) or (path.is_file() and _has_magic(path)):
                yield path


def _has_magic(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            start = file.read(12)
    except (OSError, UsageError):
        return False
    return start.startswith(_MAGIC) or (start[:4] == b"RIFF" and start[8:] == b"WEBP")


@contextmanager
def quiet_decoder() -> Iterator[None]:
    """Suppress Pillow's warnings about metadata and large images, in all threads: this package has its own limits."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def read_image(path: Path) -> np.ndarray:
    """Read an image as RGB uint8 (H, W, 3): first frame, EXIF orientation applied, transparency on white.

    Raises `ImageError` with the reason.
    """
    try:
        with open_regular(path) as file:
            if (size := os.fstat(file.fileno()).st_size) > MAX_BYTES:
                raise ImageError(f"{size / (1 << 20):.1f} MiB, more than {MAX_BYTES >> 20}; make it smaller")
            content = file.read(MAX_BYTES)
    except OSError as error:
        raise ImageError(f"cannot be read ({error.strerror})") from None
    except ImageError:
        raise
    except UsageError:
        raise ImageError("not a regular file") from None
    if not content:
        raise ImageError("the file is empty")
    try:
        return within(lambda: _decode(content))
    except (ImageError, MemoryError):
        raise
    except TooMuchError as error:
        raise ImageError(str(error)) from None
    except Exception as error:  # noqa: BLE001 - malicious files make Pillow raise almost anything
        detail = " ".join(str(error).split())[:120] or type(error).__name__
        raise ImageError(f"cannot be decoded ({detail})") from None


def _decode(content: bytes) -> np.ndarray:
    count_segments(content)
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError:
        raise ImageError(f"more than {MAX_PIXELS // 1_000_000} megapixels; make it smaller") from None
    except Image.UnidentifiedImageError:
        raise ImageError(f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image") from None
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"{width} x {height} are more than {MAX_PIXELS // 1_000_000} megapixels; make it smaller")
    if content.startswith(b"\xff\xd8\xff"):
        check_jpeg(content, width, height)
    image.load()
    return upright_rgb(image)


def upright_rgb(image: Image.Image) -> np.ndarray:
    """Convert a Pillow image of any mode to RGB uint8 (H, W, 3), EXIF orientation applied, transparency on white."""
    try:
        rotated = image.getexif().get(0x0112, 1) != 1
    except Exception:  # noqa: BLE001 - damaged EXIF: treat the image as upright
        rotated = False
    return np.ascontiguousarray(as_rgb(ImageOps.exif_transpose(image) if rotated else image))
