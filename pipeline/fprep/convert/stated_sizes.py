"""Sizes that annotations state against those of the images: which pixels coordinates belong to, and images of another size."""

from __future__ import annotations

import numpy as np
import polars as pl

from fprep.images.check import ImageFacts
from fprep.raw.folder import RawFolder
from fprep.readers.orientation import COORDINATES, turns
from fprep.readers.reader import Reader
from fschemas.wording import count

ASSUMED = "assumed_orientation"  # column: whether the row's turn is an assumption


def turns_of(
    frame: pl.DataFrame,
    raw: RawFolder,
    reader: Reader,
    facts: list[ImageFacts],
    sizes: list[tuple[int | None, int | None]],
) -> tuple[np.ndarray, np.ndarray]:
    """How the coordinates of each row have to be turned, and for which rows that is an assumption."""
    has_any = set(COORDINATES) & {*frame.columns, *(raw.aside.schema if raw.aside else ())}
    orientations = np.array([fact.orientation or 1 for fact in facts], np.int8)
    if not has_any or (orientations == 1).all():
        return np.ones_like(orientations), np.zeros(len(facts), bool)
    upright = np.array([(fact.width or 0, fact.height or 0) for fact in facts], np.int64).reshape(-1, 2)
    stated = np.array([(width or 0, height or 0) for width, height in sizes], np.int64).reshape(-1, 2)
    return turns(orientations, upright, stated, reader.orientation_of(raw.mapping))


def tell_assumed(frame: pl.DataFrame, raw: RawFolder, reader: Reader) -> None:
    """Say where no stated size tells which pixels coordinates belong to."""
    rows = frame.filter(pl.col(ASSUMED)).select("width", "height")
    if len(rows):
        assumed = reader.orientation_of(raw.mapping)
        squares = int((rows["width"] == rows["height"]).sum())
        shapes = f" ({squares} on square images, whose size cannot tell)" if squares else ""
        other = "stored" if assumed == "upright" else "upright"
        given = "as --map says" if "orientation" in raw.mapping else f"--map orientation={other} says otherwise"
        raw.notes.append(
            f"coordinates of {count(len(rows), 'row')} on images with an EXIF orientation{shapes} are taken to belong to the "
            f"{assumed} pixels, {given}"
        )


def compare_size(fact: ImageFacts, width: int, height: int) -> ImageFacts:
    """Refuse an image of another size than its labels are for; the size as stored is as good as the upright one."""
    size = fact.width, fact.height
    if fact.rule or (width, height) == size or ((height, width) == size and (fact.orientation or 1) >= 5):
        return fact
    turned = ": one of them is turned on its side" if (height, width) == size else ""
    message = f"has {fact.width} x {fact.height} pixels, but its labels are for {width} x {height}{turned}"
    return ImageFacts("size_differs", message, f"{fact.width}x{fact.height}")
