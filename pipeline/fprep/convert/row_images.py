"""The images of the rows of a conversion: found on the disk, and checked."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import polars as pl

from fprep.images.check import ImageFacts, check_images
from fprep.raw.folder import RawFolder
from fprep.raw.image_names import Matches, image_path_fault
from fprep.raw.near_names import tell_near
from fprep.raw.safe_open import HOW_TO_FOLLOW
from fschemas.wording import count

Check = Callable[[list[str]], list[ImageFacts]]


def look_at_images(
    raw: RawFolder, frame: pl.DataFrame, *, decode: bool, workers: int, progress: Callable[[int, int], None]
) -> tuple[pl.DataFrame, list[ImageFacts]]:
    """The frame with the paths that images have on the disk, and what was found of each row's image.

    Rows whose image is missing get the file that is spelled nearly so, if it is the only one; a note counts them.
    """
    names = list(dict.fromkeys(frame["image"].to_list()))
    root, links = str(raw.root), raw.follow_links
    check = functools.partial(check_images, root, decode=decode, follow_links=links, workers=workers)
    by_name = dict(zip(names, check(names, progress=progress), strict=True))
    frame, by_name = _take_near(raw, frame, by_name, check)
    return frame, [by_name[name] for name in frame["image"].to_list()]


def find_images(raw: RawFolder, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with the paths that images have on the disk: as `look_at_images`, but no image is opened, and none need be there."""
    names: list[str] = frame["image"].unique(maintain_order=True).to_list()
    missing = _not_listed(raw, names)
    matches = raw.images.match((name for name in missing if image_path_fault(name) is None), set(names) - missing)
    return _renamed(raw, frame, matches)


def _not_listed(raw: RawFolder, names: list[str]) -> set[str]:
    """The names of which no file is there. Folders are listed one by one, which is faster than a look at each file."""
    folders: dict[str, set[str]] = {}
    for name in names:
        folders.setdefault(name.rpartition("/")[0], set()).add(name)
    missing: set[str] = set()
    for folder, members in folders.items():
        listed: list[str] = []
        if image_path_fault(f"{folder}/name" if folder else "name") is None:
            with suppress(OSError):
                listed = os.listdir(raw.root / folder)
        missing |= members.difference(f"{folder}/{file}" if folder else file for file in listed)
    return {name for name in missing if not os.path.lexists(raw.path_of(name))}


def tell_links(raw: RawFolder) -> None:
    """Note the links to folders that were not followed; junk is nobody's business."""
    walked = raw.walked
    if not walked.links:
        return
    inside = walked.links - walked.outside
    parts = [f"{walked.outside} leave the raw folder: {HOW_TO_FOLLOW}"] if walked.outside else []
    parts += [f"{inside} lead to where the walk comes by anyway"] if inside else []
    raw.notes.append(f"{count(walked.links, 'link')} to folders not followed; {'; '.join(parts)}")


def _take_near(
    raw: RawFolder, frame: pl.DataFrame, facts: dict[str, ImageFacts], check: Check
) -> tuple[pl.DataFrame, dict[str, ImageFacts]]:
    missing = [name for name, fact in facts.items() if fact.rule == "missing_image"]
    matches = raw.images.match(missing, facts.keys() - set(missing))
    for name, why in matches.refused.items():
        facts[name] = replace(facts[name], message=f"{facts[name].message}; {why}")
    found = [near.path for near in matches.found.values()]
    return _renamed(raw, frame, matches), facts | dict(zip(found, check(found) if found else [], strict=True))


def _renamed(raw: RawFolder, frame: pl.DataFrame, matches: Matches) -> pl.DataFrame:
    """The frame with the names that were found in the place of those that were missing; they are counted."""
    if not matches.found:
        return frame
    names = {name: near.path for name, near in matches.found.items()}
    tell_near(raw, names)
    pairs = [pl.col("pairs").list.eval(pl.element().replace(names))] if "pairs" in frame.columns else []
    return frame.with_columns(pl.col("image").replace(names), *pairs)
