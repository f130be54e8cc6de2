"""One row of a table becomes a sample: original bytes where possible, else an upright RGB JPEG, and its annotation.

Kept as they are: upright JPEGs in RGB or gray that need neither a smaller size nor an augmentation. Everything else is
decoded, rotated upright by its EXIF orientation, put on white where it is transparent, and encoded as JPEG with full
color resolution.
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

from fprep.images.check import check_image
from fprep.raw.safe_open import CannotOpen, open_inside, read_all
from fprep.shard.augment import Augmenter, Recipe
from fprep.shard.geometry import Geometry, geometry_of, write_geometry
from fschemas.failures import IntegrityError
from fschemas.image_limits import FORMATS
from fschemas.pixels import as_rgb
from fschemas.shard import Sample

CONVERSION_QUALITY = 95  # of images that are encoded only because their format demands it


@dataclass(frozen=True)
class SampleOptions:
    """What a sample depends on besides its row: `columns` are those of the annotation, `size` the longest side in pixels.

    `follow_links`: images may lie behind links that leave the root, see `fprep.raw.safe_open.open_inside`.
    """

    root: Path
    columns: tuple[str, ...]
    size: int | None = None
    quality: int = 90
    seed: int = 0
    recipe: Recipe | None = None
    partners: tuple[int, ...] = ()
    follow_links: bool = False


@dataclass(frozen=True)
class Facts:
    """What is known of an image before it is decoded. Width and height are pixels as displayed."""

    width: int
    height: int
    is_jpeg: bool
    mode: str
    orientation: int

    @property
    def is_plain_jpeg(self) -> bool:
        """Whether every reader shows the stored bytes as they are meant."""
        return self.is_jpeg and self.mode in ("RGB", "L") and self.orientation == 1


def sample_key(key: str, copy: int) -> str:
    """`key` for the image itself, `key-a1`, `key-a2` … for augmented copies."""
    return f"{key}-a{copy}" if copy else key


class SampleMaker:
    """Makes samples of rows (dicts with the columns of a table)."""

    def __init__(self, options: SampleOptions) -> None:
        self.options = options
        self._augmenter = Augmenter(options.recipe, options.partners, options.seed) if options.recipe else None

    def __call__(self, row: dict[str, Any], copy: int = 0) -> Sample:
        """The sample of a row, or its augmented copy number `copy`.

        Raises `IntegrityError` for an image that is missing, cannot be decoded, or is not the one that `fprep convert`
        saw.
        """
        path = self.options.root / row["image"]
        content = read_image(self.options.root, row["image"], row["sha256"], follow_links=self.options.follow_links)
        facts = _facts(row, content, self.options.root, self.options.follow_links)
        width, height = self._target(facts)
        moved: Geometry | None = None
        if copy or not facts.is_plain_jpeg or (width, height) != (facts.width, facts.height):
            image = decode(content, facts, (width, height), path)
            if copy or (width, height) != (facts.width, facts.height):
                moved = geometry_of(row).resized(width / facts.width, height / facts.height)
            if copy:
                assert self._augmenter is not None
                assert moved is not None
                image, moved = self._augmenter(image, moved, row["key"], copy)
                height, width = image.shape[:2]
            as_asked = copy or self.options.size is not None
            content = encode(image, self.options.quality if as_asked else CONVERSION_QUALITY)
        return Sample(sample_key(row["key"], copy), content, self._annotation(row, copy, width, height, moved))

    def _target(self, facts: Facts) -> tuple[int, int]:
        """Width and height after `size`, which never enlarges."""
        size, longest = self.options.size, max(facts.width, facts.height)
        if size is None or longest <= size:
            return facts.width, facts.height
        return max(1, round(facts.width * size / longest)), max(1, round(facts.height * size / longest))

    def _annotation(
        self, row: dict[str, Any], copy: int, width: int, height: int, moved: Geometry | None
    ) -> dict[str, Any]:
        annotation: dict[str, Any] = {
            "key": sample_key(row["key"], copy), "split": row["split"], "group": row["group"],
            "width": width, "height": height, "image": row["image"], "copy": copy,
        }  # fmt: skip
        annotation.update((name, row[name]) for name in self.options.columns)
        if moved is not None:
            write_geometry(annotation, moved, is_copy=copy > 0)
        return annotation


def read_image(root: Path, name: str, sha256: str | None, *, follow_links: bool = False) -> bytes:
    """The bytes of the image `root/name`; raises `IntegrityError` when it is missing, may not be opened, or has another digest."""
    path = root / name
    try:
        opened = open_inside(os.path.realpath(root), name, follow_links=follow_links)
    except CannotOpen as fault:
        if fault.rule == "missing_image":
            raise IntegrityError(f"{path}: the image is gone; restore it or run `fprep convert` again") from None
        raise IntegrityError(f"{path}: {fault.message}; run `fprep convert` again") from None
    try:
        content = read_all(opened.descriptor, opened.size)
    finally:
        os.close(opened.descriptor)
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise IntegrityError(f"{path}: changed since convert (SHA-256 differs); run `fprep convert` again")
    return content


def decode(content: bytes, facts: Facts, target: tuple[int, int], place: Path) -> np.ndarray:
    """An image upright and opaque, uint8 RGB (H, W, 3), shrunk to `target` (width, height) by area averaging."""
    image = _decode_jpeg(content, facts, target) if facts.is_plain_jpeg else None
    if image is None:
        image = _decode_any(content, facts, place)
        if image.shape[:2] != (facts.height, facts.width):
            found = f"{image.shape[1]} x {image.shape[0]} instead of {facts.width} x {facts.height}"
            raise IntegrityError(f"{place}: {found} pixels; run `fprep convert` again")
    if image.shape[1::-1] != target:
        image = cv2.resize(image, target, interpolation=cv2.INTER_AREA)
    return image


def encode(image: np.ndarray, quality: int) -> bytes:
    """JPEG bytes of an RGB image, colors at full resolution (4:4:4)."""
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality, "RGB", "444", fastdct=False)


def _decode_jpeg(content: bytes, facts: Facts, target: tuple[int, int]) -> np.ndarray | None:
    """The fast way; None when libjpeg finds fault with the file, so that Pillow decides what it is worth.

    Shrinking inside the JPEG decoder is used where the factor divides both sides: only then the small grid covers
    exactly the image, and coordinates scale by the same rule as under area averaging.
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


def _decode_any(content: bytes, facts: Facts, place: Path) -> np.ndarray:
    """Everything else, by Pillow: the first frame, upright, on white."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # notes on odd metadata; convert has checked the size
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            image.load()
            return as_rgb(image if facts.orientation == 1 else ImageOps.exif_transpose(image))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - hostile bytes make Pillow raise nearly anything
        raise _undecodable(place, error) from None


def _undecodable(place: Path, error: Exception) -> IntegrityError:
    detail = " ".join(str(error).split()) or type(error).__name__
    return IntegrityError(
        f"{place}: cannot be decoded ({detail}); let `fprep convert` look at the images: it rejects it"
    )


def _facts(row: dict[str, Any], content: bytes, root: Path, follow_links: bool) -> Facts:
    """From the table where convert looked at the image, else by the same check, and points outside are then an error."""
    known = (row["sha256"], row["width"], row["image_format"], row["image_mode"], row["image_orientation"])
    if None not in known:
        is_jpeg = row["image_format"] == "JPEG"
        return Facts(row["width"], row["height"], is_jpeg, row["image_mode"], row["image_orientation"])
    found = check_image(os.path.realpath(root), row["image"], decode=True, follow_links=follow_links)
    if found.rule:
        raise IntegrityError(
            f"{root / row['image']}: {found.message}; let `fprep convert` look at the images: it rejects it"
        )
    if found.sha256 != hashlib.sha256(content).hexdigest():
        raise IntegrityError(f"{root / row['image']}: changed while it was read; run the command again")
    assert found.width is not None
    assert found.height is not None
    facts = Facts(found.width, found.height, found.format == "JPEG", found.mode or "", found.orientation or 1)
    if row["width"] not in (None, facts.width) or row["height"] not in (None, facts.height):
        sizes = f"{facts.width} x {facts.height} pixels instead of {row['width']} x {row['height']}"
        raise IntegrityError(f"{root / row['image']}: {sizes}; run `fprep convert` again")
    geometry = geometry_of(row)
    points = geometry.points[geometry.has_coordinates]
    if geometry.box is not None:
        points = np.concatenate([points, geometry.box.reshape(2, 2)])
    if len(points) and np.any(points > (facts.width, facts.height)):
        raise IntegrityError(
            f"{row['source_file']}:{row['source_line']}: a point or box lies outside {row['image']} "
            f"({facts.width} x {facts.height}); let `fprep convert` look at the images: it rejects such rows"
        )
    return facts
