"""The images of the rows of a conversion: found on the disk, and checked."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import polars as pl

from fprep.image_check import ImageFacts, check_images
from fprep.near_names import tell_near
from fprep.raw import RawFolder
from fprep.safe_open import HOW_TO_FOLLOW

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


def tell_links(raw: RawFolder) -> None:
    """Note the links to folders that were not followed; junk is nobody's business."""
    walked = raw.walked
    if not walked.links:
        return
    inside = walked.links - walked.outside
    parts = [f"{walked.outside} leave the raw folder: {HOW_TO_FOLLOW}"] if walked.outside else []
    parts += [f"{inside} lead to where the walk comes by anyway"] if inside else []
    raw.notes.append(f"{walked.links} links to folders are not followed; {'; '.join(parts)}")


def _take_near(
    raw: RawFolder, frame: pl.DataFrame, facts: dict[str, ImageFacts], check: Check
) -> tuple[pl.DataFrame, dict[str, ImageFacts]]:
    missing = [name for name, fact in facts.items() if fact.rule == "missing_image"]
    matches = raw.images.match(missing, facts.keys() - set(missing))
    for name, why in matches.refused.items():
        facts[name] = replace(facts[name], message=f"{facts[name].message}; {why}")
    if not matches.found:
        return frame, facts
    names = {name: near.path for name, near in matches.found.items()}
    pairs = [pl.col("pairs").list.eval(pl.element().replace(names))] if "pairs" in frame.columns else []
    frame = frame.with_columns(pl.col("image").replace(names), *pairs)
    tell_near(raw, names)
    return frame, facts | dict(zip(names.values(), check(list(names.values())), strict=True))
