"""Shared code of the writers of synthetic raw trees; modules of `layouts` add only what is specific to a format.

It validates the request, starts the processes, reports progress, writes the marker file and the list of inserted
defects, and publishes the folder when it is complete.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from fprep.engine import map_tasks
from fprep.raw.marker import MARKER, MARKER_TEXT
from fschemas.failures import UsageError
from fschemas.folders import claim_output
from fschemas.publish import new_folder, publish
from fschemas.wording import are, count

T = TypeVar("T")
R = TypeVar("R")
G = TypeVar("G", bound="Group")
_IMAGES_PER_WORKER = 8  # below this, starting a process costs more than rendering
_DOCUMENTS_PER_WORKER = 2000


@dataclass(frozen=True)
class Request:
    """Request of `fprep sample`. Without `with_images`, only annotations are written, with made-up coordinates."""

    images: int
    seed: int
    workers: int
    defects: bool = False
    with_images: bool = True
    progress: Callable[[int], None] | None = None


@dataclass(frozen=True)
class Defect:
    """One inserted defect. `line` is 1-based, None for a whole file; `verdict` is `rejected`, `kept` or `blank`."""

    file: str
    line: int | None
    image: str | None
    rule: str
    what: str
    verdict: str = "rejected"


@dataclass(frozen=True)
class Layout:
    """A raw format. `write` fills a folder and returns the number of rows per part; `insert_defects` then inserts defects.

    `published` is the number of images of the real data set. `insert_defects` may change the counts. A format without it rejects
    `--defects` and refers to `defects_elsewhere`. `--no-images` is rejected unless `annotations_alone` is set.
    """

    published: int
    write: Callable[[Path, Request], dict[str, int]]
    insert_defects: Callable[[Path, Request, dict[str, int]], list[Defect]] | None = None
    least: int = 1
    least_for_defects: int = 1
    annotations_alone: bool = True
    defects_elsewhere: str = ""
    wrap_defects: bool = False  # in an object, so that readers of JSON records ignore the file

    def write_sample(self, name: str, out: Path, request: Request) -> dict[str, int]:
        """Write a sample of the data set `name` to `out` and return counts by kind.

        Raises `UsageError` for a non-empty folder, too few images, no workers, and options that this format does not
        support.
        """
        least = self.least_for_defects if request.defects else self.least
        if request.defects and self.insert_defects is None:
            raise UsageError(f"{name} has no --defects of its own; use those of {self.defects_elsewhere}")
        if not request.with_images and not self.annotations_alone:
            raise UsageError(f"{name} names images after their bytes and cannot be written with --no-images")
        if request.images < least:
            kind = " for --defects" if request.defects else ""
            few = f"{count(request.images, 'image')} {are(request.images)} too few{kind}"
            raise UsageError(f"{few}; use --num-images {least} or more")
        if request.defects and not request.with_images:
            raise UsageError("--defects spoils images too, so it cannot be combined with --no-images; omit one of them")
        if request.workers < 1:
            raise UsageError(f"--workers {request.workers}: must be at least 1")
        out = claim_output(out, "sample")
        if out.exists() and any(out.iterdir()):
            raise UsageError(f"{out}: exists already; remove it or choose another folder")
        with new_folder(out), publish(out) as folder:
            folder.mkdir(exist_ok=True)
            (folder / MARKER).write_text(MARKER_TEXT)
            counts = self.write(folder, request)
            if request.defects and self.insert_defects is not None:
                found = [asdict(defect) for defect in self.insert_defects(folder, request, counts)]
                counts["defects"] = len(found)
                listed = {"defects": found} if self.wrap_defects else found
                text = json.dumps(listed, indent=2, ensure_ascii=False)
                (folder / "defects.json").write_text(text + "\n", encoding="utf-8")
        return counts


@dataclass(frozen=True)
class Group:
    """Images of one item or outfit: `first` is the number of images of earlier groups."""

    number: int
    first: int
    count: int


def draw_groups(request: Request, low: int, high: int, mean_at_full_size: int = 0, least: int = 1) -> list[Group]:
    """Sample groups of `low` to `high` images, until all images are assigned.

    In samples of more than 20,000 images, `mean_at_full_size` replaces the range. The last group takes up to
    `least` - 1 more images, so that none has fewer than `least`.
    """
    if request.images > 20_000 and mean_at_full_size:
        low, high = mean_at_full_size // 2, mean_at_full_size + mean_at_full_size // 2
    generator, first, groups = chance(request.seed, 102), 0, list[Group]()
    while (left := request.images - first) > 0:
        size = min(int(generator.integers(low, high + 1)), left)
        size = left if left - size < least else size
        groups.append(Group(len(groups), first, size))
        first += size
    return groups


def map_groups(
    folder: Path,
    request: Request,
    render: Callable[[Path, Request, G], R],
    groups: Sequence[G],
    *,
    spread: bool = False,
) -> Iterator[R]:
    """Yield `render(folder, request, group)` for each group, in order; reports progress by images.

    Without images, one process does all the work, unless `spread` is set.
    """
    busy = request.images // (_IMAGES_PER_WORKER if request.with_images else _DOCUMENTS_PER_WORKER)
    workers = min(request.workers, busy) if request.with_images or spread else 1
    chunk = 2 if request.with_images else 100
    work = partial(render, folder, replace(request, progress=None))
    results = map_tasks(work, groups, workers=max(1, workers), trusted=True, timeout=600.0, chunk=chunk)
    for result, group in zip(results, groups, strict=True):
        yield result
        if request.progress is not None:
            request.progress(group.count)


def map_images(folder: Path, request: Request, render: Callable[[Path, Request, Group], R]) -> list[R]:
    """Return `render(folder, request, group)` for each image, as a group of one."""
    return list(map_groups(folder, request, render, [Group(index, index, 1) for index in range(request.images)]))


def chance(*numbers: int) -> np.random.Generator:
    """Return a random generator seeded by these numbers."""
    return np.random.default_rng(np.random.SeedSequence(numbers))


def shuffled(items: Sequence[T], generator: np.random.Generator) -> list[T]:
    """Return the items in random order."""
    return [items[index] for index in generator.permutation(len(items)).tolist()]


def draw_splits(generator: np.random.Generator, shares: Mapping[str, float], num_images: int) -> list[str]:
    """Sample a split for each image, with the given shares."""
    bounds = np.cumsum(list(shares.values())) / sum(shares.values())
    names = list(shares)
    return [names[index] for index in np.searchsorted(bounds, generator.random(num_images))]
