"""Checks whether the images of the rows exist, where they are, and whether their resolution fits the boxes."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from statistics import median

from PIL import Image

from fprep.doctor.finding import Finding
from fprep.doctor.scan import Scan
from fprep.raw.file import with_line_feeds
from fprep.raw.image_names import MAX_LISTED, ImageFinder, clean_path, image_path_problem
from fschemas import wording
from fschemas.failures import UsageError
from fschemas.regular_file import open_regular

NUM_SAMPLES = 48
_SUFFIX = rb"\.(?:jpe?g|png|webp|bmp|gif)(?![^\s,\";|])"
_WORD = re.compile(rb"[^\s\"]+?" + _SUFFIX, re.IGNORECASE)  # in lists: paths with commas, quotes and semicolons
_CELL = re.compile(rb"[^,;|\t\"]+?" + _SUFFIX, re.IGNORECASE)  # in tables: paths with spaces
_BOX = re.compile(rb"\s(\d+) +(\d+) +(\d+) +(\d+)\s*$")
_CHUNK = 1 << 14
_USUAL = (
    "", "Img", "img", "images", "train", "train/images", "val", "valid", "test", "images/train", "images/val", "images/test", "train2017",
    "val2017", "images/train2017", "images/val2017",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A sampled row: the path of its image, the annotation file, and the box if the line ends with one."""

    name: str
    file: Path
    box: tuple[int, int, int, int] | None = None


@dataclass
class Sampled:
    """Sampled rows, the image found for each, and by folder the number of images found outside their listed path."""

    rows: list[Row]
    found: dict[Row, Path] = field(default_factory=dict[Row, Path])
    nested: Counter[str] = field(default_factory=Counter[str])


def sample_rows(paths: Sequence[Path]) -> list[Row]:
    """Return evenly spaced rows of files that list images."""
    rows: dict[Row, None] = {}
    each = max(4, NUM_SAMPLES // max(1, len(paths)))
    for path in paths[:NUM_SAMPLES]:
        pattern = _WORD if path.suffix == ".txt" else _CELL
        for line, match in _lines(path, each, pattern):
            found = _BOX.search(line[match.end() :]) if "bbox" in path.name else None
            box = (int(found[1]), int(found[2]), int(found[3]), int(found[4])) if found else None
            rows[Row(clean_path(match[0].decode("utf-8", errors="replace")), path, box)] = None
    return list(rows)


def _lines(path: Path, number: int, pattern: re.Pattern[bytes]) -> Iterator[tuple[bytes, re.Match[bytes]]]:
    """Yield matching lines at evenly spaced positions; the time does not depend on the file size."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            for index in range(number):
                file.seek(size * index // number)
                lines = with_line_feeds(file.read(_CHUNK)).split(b"\n")
                for line in lines if index == 0 else lines[1:]:
                    if match := pattern.search(line):
                        yield line, match
                        break
    except (OSError, UsageError):
        return


def find_images(scan: Scan, homes: Sequence[Path], rows: list[Row]) -> Sampled:
    """Search for the images of the rows: at their listed paths, in the usual folders, then by the end of the path."""
    result = Sampled(rows)
    by_last: dict[str, list[Path]] = {}
    for path, folder in scan.folders.items():
        if folder.images:
            by_last.setdefault(path.name, []).append(path)
    finders = {home: ImageFinder(os.path.realpath(home), MAX_LISTED) for home in homes}
    for row in rows:
        if image_path_problem(row.name) is not None:
            continue
        path = next((found for home in homes if (found := _below(finders[home], row.name)) is not None), None)
        if path is None and (elsewhere := _elsewhere(by_last, row.name)) is not None:
            path, front = elsewhere
            result.nested[str(front)] += 1
        if path is not None:
            result.found[row] = path
    return result


def _below(finder: ImageFinder, name: str) -> Path | None:
    """Return the file in one of the usual folders with this name or, as in `fprep convert`, nearly this name."""
    for usual in _USUAL:
        found = finder.only(f"{usual}/{name}" if usual else name)
        path = Path(finder.root, found) if found else None
        if path is not None and path.is_file():
            return path
    return None


def _elsewhere(by_last: dict[str, list[Path]], name: str) -> tuple[Path, Path] | None:
    """Return the image with the longest matching path ending, and the folder that replaces the rest of the path."""
    parts = PurePosixPath(name).parts
    folders = parts[:-1]
    candidates = by_last.get(folders[-1], []) if folders else []
    for depth in range(len(folders), 0, -1):
        tail = folders[-depth:]
        for candidate in candidates:
            if candidate.parts[-depth:] == tail and (candidate / parts[-1]).is_file():
                return candidate / parts[-1], candidate.parents[depth - 1]
    if len(folders) == 1:  # `img/00001.jpg`, where the folder may have any name
        anywhere = (candidate for candidates in by_last.values() for candidate in candidates)
        return next(((home / parts[-1], home) for home in anywhere if (home / parts[-1]).is_file()), None)
    return None


def image_findings(sampled: Sampled, home: Path, *, nested: bool) -> Iterator[Finding]:
    """Yield findings about the sampled images. With `nested`, also report images found outside their listed path."""
    rows = {row.name: row for row in sampled.rows}
    found = {row.name for row in sampled.found}
    missing = [row for name, row in rows.items() if name not in found]
    if not rows:
        return
    if not found:
        what = f"all of {wording.count(len(rows), 'sampled image')} are missing"
        message = f"{what}: unpack them here, so that {missing[0].name} exists below it; --check-images none converts without them"
        yield Finding("warning", "no-images", home, message)
        return
    if missing:
        bare = sorted({row.file.name for row in missing} - {row.file.name for row in sampled.found})
        of_lists = f"; all images listed in {', '.join(bare)} are missing" if bare else ""
        what = f"{len(missing)} of {len(rows)} sampled images are missing, such as {missing[0].name}{of_lists}"
        yield Finding("warning", "some-images", home, what)
    else:
        yield Finding("good", "images", home, f"all of {len(rows)} sampled images exist")
    front, count = sampled.nested.most_common(1)[0] if sampled.nested else ("", 0)
    if nested and 4 * count > len(found):
        what = f"{count} of {len(rows)} sampled images are here, but the rows refer to {next(iter(found))} next to the lists"
        message = f"{what}; if `fprep convert` (or --try) misses them, move or link them there"
        yield Finding("warning", "nested-images", Path(front), message)


def size_findings(sampled: Sampled, home: Path, expected: int) -> Iterator[Finding]:
    """Check whether the images have the resolution of the coordinates: a long side of `expected` pixels, if not 0."""
    sizes = {row: size for row, path in sampled.found.items() if (size := _size(path)) is not None}
    if len(sizes) < 3:
        return
    long_side = median(max(size) for size in sizes.values())
    shares = [max(row.box[2] / width, row.box[3] / height) for row, (width, height) in sizes.items() if row.box]
    boxes, side = f"{len(shares)} sampled boxes", f"(long side {long_side:.0f} px)"
    images = f"the images have a long side of {long_side:.0f} px, the coordinates were made for {expected} px"
    if len(shares) >= 3 and max(shares) <= 0.6:
        what = f"the boxes belong to a smaller release of the images: of {boxes} none extends beyond {max(shares):.0%} of its image"
        yield Finding("problem", "resolution", home, f"{what} {side}; unpack the images of low resolution")
    elif len(shares) >= 3 and median(shares) > 1.02:
        what = f"the boxes belong to a larger release of the images: half of {boxes} extend beyond {median(shares):.0%} of their image"
        yield Finding("problem", "resolution", home, f"{what} {side}; unpack the images that the lists were made for")
    elif expected and long_side > 1.3 * expected:
        why = "this is the high-resolution release with the lists of the low-resolution one; unpack the images of low resolution"
        yield Finding("warning", "resolution", home, f"{images}: {why}")
    elif expected and long_side < 0.7 * expected:
        yield Finding("warning", "resolution", home, f"{images}: the images were reduced; unpack the released ones")


def _size(path: Path) -> tuple[int, int] | None:
    try:
        with open_regular(path) as file, Image.open(file) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
