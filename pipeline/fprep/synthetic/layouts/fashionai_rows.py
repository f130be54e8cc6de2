"""Rows and images of the FashionAI keypoints challenge, as its writer and the writer of its defects need them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from fprep.synthetic.garments.design import CATEGORIES
from fprep.synthetic.garments.render import Image, render
from fprep.synthetic.garments.wardrobe import draw_design
from fprep.synthetic.layouts.processes import mapper
from fschemas.landmarks import FASHIONAI_24, Visibility

TRAIN = "fashionAI_key_points_train_20180227"
TEST_A = "fashionAI_key_points_test_a_20180227"
TRAIN_CSV = f"{TRAIN}/Annotations/train.csv"
NOT_ANNOTATED = "-1_-1_-1"
JPEG_QUALITY = 88
IMAGES_PER_WORKER = 8  # a process that starts for fewer costs more than it draws
_TRAIN_CYCLE = tuple(
    CATEGORIES[index] for index in (0, 1, 2, 3, 4, 0, 2, 4, 1, 0, 3, 2, 4)
)  # shares of the real train archive


@dataclass(frozen=True)
class Row:
    """One annotated image: its path below the archive, its category and its 24 cells `x_y_v`."""

    image_id: str
    category: str
    cells: tuple[str, ...]

    def text(self) -> str:
        """The line of a 26-column CSV, without its end."""
        return ",".join((self.image_id, self.category, *self.cells))


def header() -> str:
    """First line of a CSV with annotations."""
    return ",".join(("image_id", "image_category", *FASHIONAI_24.points))


def draw_rows(
    folder: Path,
    indices: range,
    seed: int,
    workers: int,
    progress: Callable[[int], None] | None = None,
    archive: str | None = None,
) -> list[Row]:
    """Draw and write the images of these indices, in order; into one archive, or into the one that each belongs to."""
    rows: list[Row] = []
    with mapper(min(workers, len(indices) // IMAGES_PER_WORKER)) as mapped:
        for row in mapped(partial(_write_image, folder, seed, archive), indices):
            rows.append(row)
            if progress is not None:
                progress(1)
    return rows


def draw_image(seed: int, index: int) -> Image:
    """Image `index` of a sample, 512 pixels on its longer side."""
    generator = np.random.default_rng(np.random.SeedSequence((seed, index)))
    return render(draw_design(generator, _category(index)), generator)


def cells_of(image: Image) -> tuple[str, ...]:
    """The 24 cells of an image: whole pixels, 1 visible, 0 occluded, `-1_-1_-1` for the rest."""
    cells: list[str] = []
    for (x, y), visibility in zip(image.points, image.visibility, strict=True):
        known = visibility >= Visibility.OCCLUDED
        cells.append(
            f"{round(float(x))}_{round(float(y))}_{int(visibility == Visibility.VISIBLE)}" if known else NOT_ANNOTATED
        )
    return tuple(cells)


def encode(image: Image) -> bytes:
    """The bytes of the image's JPEG file."""
    done, buffer = cv2.imencode(".jpg", image.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert done, "a rendered image can be encoded"
    return buffer.tobytes()


def image_name(content: bytes) -> str:
    """File name of an image: the MD5 of its bytes, as in the real archives."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest() + ".jpg"


def by_category(rows: list[Row]) -> list[Row]:
    """The rows grouped by category, in the order of the archives."""
    return sorted(rows, key=lambda row: CATEGORIES.index(row.category))


def write_lines(path: Path, lines: list[str], *, newline: str = "\n", encoding: str = "utf-8") -> None:
    """Write a CSV: every line ended."""
    path.write_bytes("".join(line + newline for line in lines).encode(encoding))


def is_test(index: int) -> bool:
    """Whether image `index` of a sample belongs to test a."""
    return index % 5 == 4


def _category(index: int) -> str:
    """Category of image `index`: a fixed cycle, so that small samples hold all five."""
    if is_test(index):
        return CATEGORIES[index // 5 % 5]
    return _TRAIN_CYCLE[(index - index // 5) % len(_TRAIN_CYCLE)]


def _write_image(folder: Path, seed: int, archive: str | None, index: int) -> Row:
    image = draw_image(seed, index)
    content = encode(image)
    image_id = f"Images/{image.category}/{image_name(content)}"
    (folder / (archive or (TEST_A if is_test(index) else TRAIN)) / image_id).write_bytes(content)
    return Row(image_id, image.category, cells_of(image))
