"""What every writer of a synthetic raw tree shares: its folder, its images, its lines, its list of planted defects."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fprep.raw.marker import MARKER, MARKER_TEXT
from fprep.synthetic.layouts.processes import mapper
from fschemas.failures import UsageError
from fschemas.folders import claim_output
from fschemas.publish import new_folder, publish
from fschemas.wording import are, count

JPEG_QUALITY = 88
_IMAGES_PER_WORKER = 8  # a process that starts for fewer costs more than it draws
_DOCUMENTS_PER_WORKER = 2000

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Request:
    """What `fprep sample` was asked for. Without `with_images` only annotations are written, with invented places."""

    images: int
    seed: int
    workers: int
    defects: bool = False
    with_images: bool = True
    progress: Progress | None = None


@dataclass(frozen=True)
class Defect:
    """One planted quirk. `line` is 1-based, None for a whole file; `verdict` is `rejected`, `kept` or `blank`."""

    file: str
    line: int | None
    image: str | None
    rule: str
    what: str
    verdict: str = "rejected"


@contextmanager
def sample_folder(out: Path, request: Request, least: int = 1) -> Generator[Path]:
    """The folder to write into, published under its name when complete; raises `UsageError` for one that is occupied."""
    if request.images < least:
        kind = " for --defects" if request.defects else ""
        raise UsageError(
            f"{count(request.images, 'image')} {are(request.images)} too few{kind}; ask for {least} or more"
        )
    if request.defects and not request.with_images:
        raise UsageError("--defects spoils images too, so it cannot be combined with --no-images; drop one of them")
    if request.workers < 1:
        raise UsageError(f"{request.workers} workers cannot draw anything; ask for 1 or more")
    out = claim_output(out, "sample")
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out}: exists already; remove it or choose another folder")
    with new_folder(out), publish(out) as folder:
        folder.mkdir(exist_ok=True)
        (folder / MARKER).write_text(MARKER_TEXT)
        yield folder


def draw_groups(
    request: Request, draw: Callable[[Any], Any], groups: Sequence[Any], sizes: Iterable[int], *, spread: bool = False
) -> Iterator[Any]:
    """The results of `draw` for each group of images, in order; reports the images of each when it is done.

    Without images one process does it all, unless the work is to be `spread` all the same.
    """
    busy = request.images // (_IMAGES_PER_WORKER if request.with_images else _DOCUMENTS_PER_WORKER)
    workers = min(request.workers, busy) if request.with_images or spread else 1
    with mapper(workers, 2 if request.with_images else 100) as mapped:
        for result, size in zip(mapped(draw, groups), sizes, strict=True):
            yield result
            if request.progress is not None:
                request.progress(size)


def chance(*numbers: int) -> np.random.Generator:
    """A source of chance that depends on these numbers only."""
    return np.random.default_rng(np.random.SeedSequence(numbers))


def write_image(path: Path, image: NDArray[np.uint8], quality: int = JPEG_QUALITY) -> bytes:
    """Write (H, W, 3) RGB as JPEG, with its folders, and return the bytes."""
    content = jpeg_bytes(image, quality)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return content


def jpeg_bytes(image: NDArray[np.uint8], quality: int = JPEG_QUALITY) -> bytes:
    """The JPEG file of an image (H, W, 3) RGB."""
    done, buffer = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done, "a rendered image can be encoded"
    return buffer.tobytes()


def write_text(path: Path, lines: Iterable[str], *, newline: str = "\n", encoding: str = "utf-8") -> None:
    """Write lines as they come, every one ended, with the folders above; without a line there is no file, which readers refuse."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = iter(lines)
    first = next(lines, None)
    if first is None:
        return
    with path.open("w", encoding=encoding, newline="") as file:
        file.writelines(line + newline for line in chain([first], lines))


def write_defects(folder: Path, defects: Sequence[Defect], *, wrapped: bool = False) -> None:
    """Write the list of what was planted; `wrapped` into an object, which no reader of JSON records takes for one of its own."""
    found = [asdict(defect) for defect in defects]
    text = json.dumps({"defects": found} if wrapped else found, indent=2, ensure_ascii=False)
    (folder / "defects.json").write_text(text + "\n", encoding="utf-8")


def group_sizes(request: Request, low: int, high: int, mean_at_full_size: int = 0, least: int = 1) -> Iterator[int]:
    """How many images each item has, from `low` to `high`, until all images are given away; large samples go on with small.

    `mean_at_full_size` replaces the range in samples of more than 20,000 images. The last item takes up to `least` - 1 more, so
    that none has fewer than `least`.
    """
    if request.images > 20_000 and mean_at_full_size:
        low, high = mean_at_full_size // 2, mean_at_full_size + mean_at_full_size // 2
    generator, left = chance(request.seed, 102), request.images
    while left > 0:
        size = min(int(generator.integers(low, high + 1)), left)
        size = left if left - size < least else size
        left -= size
        yield size
