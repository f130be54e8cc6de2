"""Find the unpacked images of a benchmark, and check that they are the ones the coordinates belong to.

Lists use `img/…` even for the high-resolution images of `img_highres/…`. Archives are unpacked to `img/`, `Img/img/`,
or deeper, e.g. `img/img/img_highres_seg-003/img_highres/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from fprep.images.check import check_image
from fprep.raw.folder import RawFolder

_MAX_DEPTH = 6
_NUM_PROBES = 16


def find_images(raw: RawFolder, home: Path, markers: Sequence[str]) -> tuple[str, bool]:
    """Return the folder that corresponds to `img/` in the lists, and whether its name indicates high resolution.

    The folder is relative to the root and ends in `/` (or is ""). `markers` are subfolders, at least one of which must
    exist. Low-resolution folders are preferred, then the shortest path; the default is `img/` next to the lists.
    """
    found: list[tuple[bool, int, str]] = []
    lower = {marker.lower() for marker in markers}
    for here, folders, _ in raw.walk(home):
        relative = here.relative_to(home)
        if any(name.lower() in lower for name in folders):
            name = relative.as_posix()
            found.append(("highres" in name.lower(), len(relative.parts), name))
            folders[:] = [folder for folder in folders if folder.lower().startswith("img")]
        depth = len(relative.parts)
        folders[:] = [folder for folder in folders if depth < _MAX_DEPTH and folder.lower() not in lower]
    base = raw.prefix_of(home)
    if not found:
        return f"{base}img/", False
    is_highres, _, name = min(found)
    if len(found) > 1:
        others = ", ".join(other or "." for _, _, other in sorted(found)[1:4])
        raw.notes.append(f"images are taken from {base}{name}; there are others in {others}")
    return (base if name == "." else f"{base}{name}/"), is_highres


def evenly_spread(names: pl.Series, count: int) -> list[str]:
    """Return at most `count` of the names, evenly spaced from the first to the last."""
    return names.gather(np.unique(np.linspace(0, len(names) - 1, count).astype(int))).to_list() if len(names) else []


def are_larger(raw: RawFolder, images: pl.Series, side: int) -> bool:
    """Return whether most of a sample of the existing images have a side above `side` pixels."""
    chosen, root = evenly_spread(images, _NUM_PROBES), str(raw.root)
    facts = [check_image(root, name, decode=False, follow_links=raw.follow_links) for name in chosen]
    sizes = [max(fact.width, fact.height) for fact in facts if fact.width and fact.height]
    return sum(size > side for size in sizes) * 2 > len(sizes)


def spelling_on_disk(raw: RawFolder, images: pl.Series, spellings: Sequence[tuple[str, str]]) -> pl.Series:
    """Return the paths with the spelling used on disk.

    If the first path with a spelling does not exist, but does with the alternative, all such paths are changed, with a
    note. `spellings` are pairs (in the lists, on disk).
    """
    for listed, other in spellings:
        first = next(iter(images.filter(images.str.contains(listed, literal=True)).head(1)), None)
        if first is None or (raw.root / first).exists() or not (raw.root / first.replace(listed, other, 1)).exists():
            continue
        raw.notes.append(f"the lists have {listed}, the images {other}: the latter is used")
        images = images.str.replace(listed, other, literal=True)
    return images
