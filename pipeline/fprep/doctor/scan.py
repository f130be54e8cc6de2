"""Bounded scan of a folder: names of folders and files, no file is opened. Millions of images take about a second."""

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fschemas.image_limits import IMAGE_EXTENSIONS
from fschemas.walk import is_below, is_stored_by_content, list_folder
from fschemas.wording import count

MAX_ENTRIES = 300_000  # files and folders in total
MAX_IN_FOLDER = 4_000  # names kept per folder
MAX_DEPTH = 9


@dataclass
class Folder:
    """One folder: sorted names of its images and other files. `cut` if it has more entries than were scanned."""

    path: Path
    files: list[str] = field(default_factory=list[str])
    images: list[str] = field(default_factory=list[str])
    cut: bool = False


@dataclass
class Scan:
    """The content of `root`. `incomplete` describes what was not scanned, "" if nothing."""

    root: Path
    folders: dict[Path, Folder] = field(default_factory=dict[Path, Folder])
    entries: int = 0
    incomplete: str = ""
    follow_links: bool = False
    junk: int = 0  # files left by operating systems and editors, which readers ignore
    links: list[Path] = field(default_factory=list[Path])  # links that leave the root and are not followed
    unreadable: list[Path] = field(default_factory=list[Path])
    odd: list[Path] = field(default_factory=list[Path])  # broken links, pipes and other special files

    def files(self) -> Iterator[Path]:
        """Yield files other than images, sorted."""
        for path in sorted(self.folders):
            yield from (path / name for name in self.folders[path].files)

    @property
    def num_images(self) -> int:
        """The number of images found."""
        return sum(len(folder.images) for folder in self.folders.values())


def scan(root: Path, *, max_entries: int = MAX_ENTRIES, follow_links: bool = False) -> Scan:
    """Scan a folder breadth-first, so that entries near the root come first.

    Links are treated as in `fprep convert`: one that leaves the root is recorded and followed only with `follow_links`.
    If `root` is a file, only this file is scanned.
    """
    result = Scan(root, follow_links=follow_links)
    if root.is_file():
        home = Folder(root.parent)
        (home.images if is_image(root.name) else home.files).append(root.name)
        result.folders[root.parent], result.entries = home, 1
        return result
    queue, seen, cut = deque([(root, 0)]), {os.path.realpath(root)}, 0
    while queue:
        path, depth = queue.popleft()
        if result.entries >= max_entries:
            what = f"{len(queue) + 1} folders or more were not scanned"
            result.incomplete = f"{what} (the limit is {max_entries} names)"
            break
        folder, below = _scan_folder(result, path, seen, min(MAX_IN_FOLDER, max_entries))
        cut += folder.cut
        if depth < MAX_DEPTH:
            queue.extend((path / name, depth + 1) for name in below)
        elif below:
            result.incomplete = f"folders more than {MAX_DEPTH} levels deep were not scanned"
    if cut and not result.incomplete:
        what = f"{count(cut, 'folder')} with more than {MAX_IN_FOLDER} files"
        result.incomplete = f"{what}; their other files were not scanned"
    return result


def is_image(name: str) -> bool:
    """Whether a file name has an image extension."""
    return name.lower().endswith(IMAGE_EXTENSIONS)


def _scan_folder(result: Scan, path: Path, seen: set[str], limit: int) -> tuple[Folder, list[str]]:
    folder = result.folders[path] = Folder(path)
    try:
        found = list_folder(path, limit)
    except OSError:
        result.unreadable.append(path)
        return folder, []
    result.entries += len(found.folders) + len(found.files) + len(found.linked) + found.junk
    result.junk += found.junk
    folder.cut = found.cut
    without = {name for name in found.odd if not _may_be_opened(result, path / name)}
    for name in found.files:
        if name not in without:
            (folder.images if is_image(name) else folder.files).append(name)
    below = list(found.folders)
    root = os.path.realpath(result.root)
    for name in found.linked:
        target = os.path.realpath(path / name)
        if is_below(target, root):
            continue  # scanned where its target is
        if not result.follow_links:
            result.links.append(path / name)
        elif target not in seen and not is_below(root, target):
            seen.add(target)
            below.append(name)
    return folder, sorted(below)


def _may_be_opened(result: Scan, path: Path) -> bool:
    """Whether `fprep convert` would open a link or special file; if not, it is recorded."""
    target = os.path.realpath(path)
    allowed = result.follow_links or is_below(target, os.path.realpath(result.root)) or is_stored_by_content(target)
    if not allowed and Path(target).exists():
        result.links.append(path)
        return False
    if not path.is_file():
        result.odd.append(path)
        return False
    return True
