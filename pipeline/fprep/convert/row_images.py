"""Images of the rows of a conversion: find them on disk, check them, and compare them with the annotated sizes.

For images with an EXIF orientation, an annotated size decides which orientation the coordinates belong to.
"""

import functools
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np
import polars as pl

from fprep.images.check import ImageFacts, check_images
from fprep.raw.folder import RawFolder
from fprep.raw.image_names import Matches, image_path_problem
from fprep.raw.safe_open import HOW_TO_FOLLOW
from fprep.readers.orientation import ASSUMED, COORDINATES, coordinate_orientations
from fprep.readers.reader import Reader
from fschemas.wording import count


def inspect_images(
    raw: RawFolder, frame: pl.DataFrame, *, decode: bool, workers: int, progress: Callable[[int, int], None]
) -> tuple[pl.DataFrame, list[ImageFacts]]:
    """Return the frame with image paths as on disk, and the facts about the image of each row.

    A missing image is replaced by the only file with a similar name, if there is exactly one; a note counts these rows.
    """
    names = list(dict.fromkeys(frame["image"].to_list()))
    root, links = str(raw.root), raw.follow_links
    check = functools.partial(check_images, root, decode=decode, follow_links=links, workers=workers)
    by_name = dict(zip(names, check(names, progress=progress), strict=True))
    missing = [name for name, fact in by_name.items() if fact.rule == "missing_image"]
    matches = raw.images.match(missing, by_name.keys() - set(missing))
    for name, why in matches.refused.items():
        by_name[name] = replace(by_name[name], message=f"{by_name[name].message}; {why}")
    found = [near.path for near in matches.found.values()]
    by_name |= dict(zip(found, check(found) if found else [], strict=True))
    frame = _renamed(raw, frame, matches)
    return frame, [by_name[name] for name in frame["image"].to_list()]


def find_images(raw: RawFolder, frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with image paths as on disk.

    Like `inspect_images`, but images are not opened and may be missing.
    """
    names: list[str] = frame["image"].unique(maintain_order=True).to_list()
    missing = _not_listed(raw, names)
    matches = raw.images.match((name for name in missing if image_path_problem(name) is None), set(names) - missing)
    return _renamed(raw, frame, matches)


def _not_listed(raw: RawFolder, names: list[str]) -> set[str]:
    """Return the names without a file. Listing each folder once is faster than checking each file."""
    folders: dict[str, set[str]] = {}
    for name in names:
        folders.setdefault(name.rpartition("/")[0], set()).add(name)
    missing: set[str] = set()
    for folder, members in folders.items():
        listed: list[str] = []
        if image_path_problem(f"{folder}/name" if folder else "name") is None:
            with suppress(OSError):
                listed = os.listdir(raw.root / folder)
        missing |= members.difference(f"{folder}/{file}" if folder else file for file in listed)
    return {name for name in missing if not os.path.lexists(raw.path_of(name))}


def note_unfollowed_links(raw: RawFolder) -> None:
    """Note the links to folders that were not followed, except in junk folders."""
    walked, inside = raw.walked, raw.walked.links - raw.walked.outside
    parts = [f"{walked.outside} leave the raw folder: {HOW_TO_FOLLOW}"] if walked.outside else []
    parts += [f"{inside} lead to where the walk comes by anyway"] if inside else []
    if parts:
        raw.notes.append(f"{count(walked.links, 'link')} to folders not followed; {'; '.join(parts)}")


def _renamed(raw: RawFolder, frame: pl.DataFrame, matches: Matches) -> pl.DataFrame:
    """Replace names of missing images by the names of the files found for them, and count these rows."""
    if not matches.found:
        return frame
    names = {name: near.path for name, near in matches.found.items()}
    raw.note_similar_spellings(names)
    pairs = [pl.col("pairs").list.eval(pl.element().replace(names))] if "pairs" in frame.columns else []
    return frame.with_columns(pl.col("image").replace(names), *pairs)


def orientations_of(
    frame: pl.DataFrame,
    raw: RawFolder,
    reader: Reader,
    facts: list[ImageFacts],
    sizes: list[tuple[int | None, int | None]],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the EXIF orientation of each row's coordinates (rows,) and whether it is assumed (rows,)."""
    has_any = set(COORDINATES) & {*frame.columns, *(raw.spill.schema if raw.spill else ())}
    orientations = np.array([fact.orientation or 1 for fact in facts], np.int8)
    if not has_any or (orientations == 1).all():
        return np.ones_like(orientations), np.zeros(len(facts), bool)
    upright = np.array([(fact.width or 0, fact.height or 0) for fact in facts], np.int64).reshape(-1, 2)
    stated = np.array([(width or 0, height or 0) for width, height in sizes], np.int64).reshape(-1, 2)
    return coordinate_orientations(orientations, upright, stated, reader.orientation_of(raw.mapping))


def note_assumed_orientation(frame: pl.DataFrame, raw: RawFolder, reader: Reader) -> None:
    """Warn about rows whose coordinate orientation is assumed because no size is stated."""
    rows = frame.filter(pl.col(ASSUMED)).select("width", "height")
    if len(rows):
        assumed = reader.orientation_of(raw.mapping)
        squares = int((rows["width"] == rows["height"]).sum())
        shapes = f" ({squares} on square images, where the size does not decide)" if squares else ""
        other = "stored" if assumed == "upright" else "upright"
        given = "as set by --map" if "orientation" in raw.mapping else f"--map orientation={other} changes this"
        raw.notes.append(
            f"coordinates of {count(len(rows), 'row')} on images with an EXIF orientation{shapes} are taken to belong to the "
            f"{assumed} pixels, {given}"
        )


def compare_size(fact: ImageFacts, width: int, height: int) -> ImageFacts:
    """Reject an image with a size other than annotated; both the stored and the upright size are accepted."""
    size = fact.width, fact.height
    if fact.rule or (width, height) == size or ((height, width) == size and (fact.orientation or 1) >= 5):
        return fact
    rotated = ": one of them is rotated by 90 degrees" if (height, width) == size else ""
    message = f"has {fact.width} x {fact.height} pixels, but its labels are for {width} x {height}{rotated}"
    return ImageFacts("size_differs", message, f"{fact.width}x{fact.height}")
