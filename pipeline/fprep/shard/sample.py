"""Turn a table row into a sample: a JPEG and its annotation.

Upright RGB or grayscale JPEGs that need neither resizing nor augmentation keep their original bytes. All other images
are decoded, rotated upright by their EXIF orientation, composited on white if transparent, and encoded as JPEG without
chroma subsampling (4:4:4).
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from fprep.images.check import ImageFacts, check_image
from fprep.raw.safe_open import OpenError, open_inside, read_all
from fprep.shard.augment import Augmenter, Recipe
from fprep.shard.geometry import Geometry, geometry_of, write_geometry
from fschemas.failures import IntegrityError
from fschemas.image_limits import FORMATS
from fschemas.pixels import as_rgb
from fschemas.shard import Sample

_CHECK = "run `fprep convert` with --check-images full"
CONVERSION_QUALITY = 95  # JPEG quality of images encoded only because of their format


@dataclass(frozen=True)
class SampleOptions:
    """Options of a sample besides its row.

    `columns` are the annotation columns, `size` is the longest side in pixels (None: original size), `flip_index` the
    flip index of the landmark set. `follow_links` allows images behind links that leave `root`; see
    `fprep.raw.safe_open.open_inside`.
    """

    root: Path
    columns: tuple[str, ...]
    size: int | None = None
    quality: int = 90
    seed: int = 0
    recipe: Recipe | None = None
    flip_index: tuple[int, ...] = ()
    follow_links: bool = False


@dataclass(frozen=True)
class Facts:
    """Properties of an image, known before decoding. Width and height are pixels as displayed (after EXIF rotation)."""

    width: int
    height: int
    is_jpeg: bool
    mode: str
    orientation: int

    @classmethod
    def of(cls, found: ImageFacts) -> Facts:
        """Return the properties of an image that was checked and has no problem."""
        assert found.width is not None
        assert found.height is not None
        return cls(found.width, found.height, found.format == "JPEG", found.mode or "", found.orientation or 1)

    @property
    def is_plain_jpeg(self) -> bool:
        """Whether every reader displays the stored bytes correctly."""
        return self.is_jpeg and self.mode in ("RGB", "L") and self.orientation == 1


def sample_key(key: str, copy: int) -> str:
    """Return `key` for the image itself, and `key-a1`, `key-a2`, … for augmented copies."""
    return f"{key}-a{copy}" if copy else key


class SampleMaker:
    """Makes samples from rows (dicts of table columns)."""

    def __init__(self, options: SampleOptions) -> None:
        self.options = options
        self._real_root = os.path.realpath(options.root)  # once: it looks at every folder on the way
        self._augmenter = Augmenter(options.recipe, options.flip_index, options.seed) if options.recipe else None

    def __call__(self, row: dict[str, Any], copy: int = 0) -> Sample:
        """Return the sample of a row, or its augmented copy number `copy`.

        Raises `IntegrityError` if the image is missing, cannot be decoded, or has changed since `fprep convert`.
        """
        root, follow_links = self.options.root, self.options.follow_links
        content = read_image(root, row["image"], row["sha256"], follow_links=follow_links, real_root=self._real_root)
        facts = _facts(row, content, root, follow_links)
        size, longest = self.options.size, max(facts.width, facts.height)
        width, height = facts.width, facts.height
        if size is not None and longest > size:
            width, height = max(1, round(width * size / longest)), max(1, round(height * size / longest))
        transformed: Geometry | None = None
        if copy or not facts.is_plain_jpeg or (width, height) != (facts.width, facts.height):
            image = decode(content, facts, (width, height), root / row["image"])
            if copy or (width, height) != (facts.width, facts.height):
                transformed = geometry_of(row).resized(width / facts.width, height / facts.height)
            if copy:
                assert self._augmenter is not None
                assert transformed is not None
                image, transformed = self._augmenter(image, transformed, row["key"], copy)
                height, width = image.shape[:2]
            as_asked = copy or self.options.size is not None
            content = encode(image, self.options.quality if as_asked else CONVERSION_QUALITY)
        return Sample(sample_key(row["key"], copy), content, self._annotation(row, copy, width, height, transformed))

    def _annotation(
        self, row: dict[str, Any], copy: int, width: int, height: int, transformed: Geometry | None
    ) -> dict[str, Any]:
        annotation: dict[str, Any] = {
            "key": sample_key(row["key"], copy), "split": row["split"], "group": row["group"],
            "width": width, "height": height, "image": row["image"], "copy": copy,
        }  # fmt: skip
        annotation.update((name, row[name]) for name in self.options.columns)
        if transformed is not None:
            write_geometry(annotation, transformed, is_copy=copy > 0)
        return annotation


def read_image(
    root: Path, name: str, sha256: str | None, *, follow_links: bool = False, real_root: str | None = None
) -> bytes:
    """Return the bytes of the image `root/name`. `real_root` is `root` without links, resolved here by default.

    Raises `IntegrityError` if it is missing, may not be opened, or has a different digest.
    """
    try:
        opened = open_inside(real_root or os.path.realpath(root), name, follow_links=follow_links)
    except OpenError as fault:
        if fault.rule == "missing_image":
            raise IntegrityError(
                f"{root / name}: the image is missing; restore it or run `fprep convert` again"
            ) from None
        raise IntegrityError(f"{root / name}: {fault.message}; run `fprep convert` again") from None
    try:
        content = read_all(opened.descriptor, opened.size)
    finally:
        os.close(opened.descriptor)
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise IntegrityError(f"{root / name}: changed since convert (SHA-256 differs); run `fprep convert` again")
    return content


def decode(content: bytes, facts: Facts, target: tuple[int, int], path: Path) -> np.ndarray:
    """Decode an image, upright and opaque, to uint8 RGB (H, W, 3).

    It is reduced to `target` (width, height) by area averaging. Raises `IntegrityError` if it cannot be decoded or has
    an unexpected size.
    """
    image = _decode_jpeg(content, facts, target) if facts.is_plain_jpeg else None
    if image is None:
        image = _decode_any(content, facts, path)
        if image.shape[:2] != (facts.height, facts.width):
            found = f"{image.shape[1]} x {image.shape[0]} instead of {facts.width} x {facts.height}"
            raise IntegrityError(f"{path}: {found} pixels; run `fprep convert` again")
    if image.shape[1::-1] != target:
        image = cv2.resize(image, target, interpolation=cv2.INTER_AREA)
    return image


def encode(image: np.ndarray, quality: int) -> bytes:
    """Encode an RGB image, uint8 (H, W, 3), as JPEG without chroma subsampling (4:4:4)."""
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality, "RGB", "444", fastdct=False)


def _decode_jpeg(content: bytes, facts: Facts, target: tuple[int, int]) -> np.ndarray | None:
    """Decode with libjpeg; returns None if it rejects the file, which is then left to Pillow.

    The decoder's own downscaling is used only if the factor divides both sides. Otherwise the reduced grid would not
    cover the image exactly, and coordinates would not scale as they do under area averaging.
    """
    least_width = least_height = 0
    for factor in (8, 4, 2):
        fits = facts.width // factor >= target[0] and facts.height // factor >= target[1]
        if fits and facts.width % factor == 0 and facts.height % factor == 0:
            least_width, least_height = facts.width // factor, facts.height // factor
            break
    try:
        image = simplejpeg.decode_jpeg(content, "RGB", min_width=least_width, min_height=least_height)
    except ValueError:
        return None
    expected = (least_height or facts.height, least_width or facts.width)
    return image if image.shape[:2] == expected else None


def _decode_any(content: bytes, facts: Facts, path: Path) -> np.ndarray:
    """Decode any other image with Pillow: the first frame, upright, on white."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # notes on odd metadata; convert has checked the size
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            image.load()
            return as_rgb(image if facts.orientation == 1 else ImageOps.exif_transpose(image))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - Pillow raises almost any exception on malicious bytes
        detail = " ".join(str(error).split()) or type(error).__name__
        raise IntegrityError(f"{path}: cannot be decoded ({detail}); {_CHECK}, which rejects it") from None


def _facts(row: dict[str, Any], content: bytes, root: Path, follow_links: bool) -> Facts:
    """Return the facts from the table if convert checked the image, else from the same check.

    Raises `IntegrityError` if that check fails, or landmarks or boxes lie outside the image.
    """
    known = (row["sha256"], row["width"], row["image_format"], row["image_mode"], row["image_orientation"])
    if None not in known:
        is_jpeg = row["image_format"] == "JPEG"
        return Facts(row["width"], row["height"], is_jpeg, row["image_mode"], row["image_orientation"])
    found = check_image(os.path.realpath(root), row["image"], decode=True, follow_links=follow_links)
    if found.rule:
        raise IntegrityError(f"{root / row['image']}: {found.message}; {_CHECK}, which rejects it")
    if found.sha256 != hashlib.sha256(content).hexdigest():
        raise IntegrityError(f"{root / row['image']}: changed while it was read; run the command again")
    facts = Facts.of(found)
    if row["width"] not in (None, facts.width) or row["height"] not in (None, facts.height):
        sizes = f"{facts.width} x {facts.height} pixels instead of {row['width']} x {row['height']}"
        raise IntegrityError(f"{root / row['image']}: {sizes}; run `fprep convert` again")
    geometry = geometry_of(row)
    points = geometry.landmarks[geometry.has_coordinates]
    if geometry.box is not None:
        points = np.concatenate([points, geometry.box.reshape(2, 2)])
    if len(points) and np.any(points > (facts.width, facts.height)):
        raise IntegrityError(
            f"{row['source_file']}:{row['source_line']}: a landmark or box lies outside {row['image']} "
            f"({facts.width} x {facts.height}); {_CHECK}, which rejects such rows"
        )
    return facts
