"""Where the images of a benchmark were unpacked, and whether they are those that its coordinates belong to.

Lists say `img/…`, also where the high-resolution images of `img_highres/…` are meant. Archives get unpacked into `img/`,
`Img/img/`, or deeper, such as `img/img/img_highres_seg-003/img_highres/`.
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
    """The folder, relative to the root and with `/` at the end (or ""), that stands for `img/` in the lists; whether its name
    says that it is of high resolution.

    `markers` are the folders in it, of which one must be there. Of several candidates one of low resolution comes first, and
    of these the one with the shortest path; without any it is `img/` beside the lists.
    """
    found: list[tuple[bool, int, str]] = []
    lower = {marker.lower() for marker in markers}
    for place, folders, _ in raw.walk(home):
        relative = place.relative_to(home)
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
    """At most `count` of the names, from the first to the last."""
    return names.gather(np.unique(np.linspace(0, len(names) - 1, count).astype(int))).to_list() if len(names) else []


def are_larger(raw: RawFolder, images: pl.Series, side: int) -> bool:
    """Whether most of some evenly spread images, as far as they are there, have a side of more than `side` pixels."""
    chosen, root = evenly_spread(images, _NUM_PROBES), str(raw.root)
    facts = [check_image(root, name, decode=False, follow_links=raw.follow_links) for name in chosen]
    sizes = [max(fact.width, fact.height) for fact in facts if fact.width and fact.height]
    return sum(size > side for size in sizes) * 2 > len(sizes)


def spelling_on_disk(raw: RawFolder, images: pl.Series, spellings: Sequence[tuple[str, str]]) -> pl.Series:
    """The paths as the unpacked images are spelt: where the first path with one spelling is not there, but is with the
    other, all such paths are changed, with a note. `spellings` are pairs: in the lists, on the disk."""
    for listed, other in spellings:
        first = next(iter(images.filter(images.str.contains(listed, literal=True)).head(1)), None)
        if first is None or (raw.root / first).exists() or not (raw.root / first.replace(listed, other, 1)).exists():
            continue
        raw.notes.append(f"the lists say {listed}, the images are called {other}: the latter is taken")
        images = images.str.replace(listed, other, literal=True)
    return images
