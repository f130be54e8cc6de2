"""A bounded look at a folder: names of folders and files, nothing opened. A tree of millions of pictures takes a second."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

MAX_ENTRIES = 300_000  # files and folders in all
MAX_IN_FOLDER = 4_000  # names kept of one folder
MAX_DEPTH = 9
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")


@dataclass
class Folder:
    """One folder: sorted names of files that are no pictures, and of pictures; `cut` when it has more than were looked at."""

    path: Path
    files: list[str] = field(default_factory=list[str])
    pictures: list[str] = field(default_factory=list[str])
    cut: bool = False


@dataclass
class Scan:
    """What stands below `root`. `incomplete` is "" or what was not looked at."""

    root: Path
    folders: dict[Path, Folder] = field(default_factory=dict[Path, Folder])
    entries: int = 0
    incomplete: str = ""
    junk: int = 0  # files of macOS, which no reader looks at
    unreadable: list[Path] = field(default_factory=list[Path])
    odd: list[Path] = field(default_factory=list[Path])  # broken links, pipes and the like

    def files(self) -> Iterator[Path]:
        """Files that are no pictures, sorted."""
        for path in sorted(self.folders):
            yield from (path / name for name in self.folders[path].files)

    @property
    def num_pictures(self) -> int:
        """How many pictures were seen."""
        return sum(len(folder.pictures) for folder in self.folders.values())


def scan(
    root: Path, *, max_entries: int = MAX_ENTRIES, max_in_folder: int = MAX_IN_FOLDER, max_depth: int = MAX_DEPTH
) -> Scan:  # fmt: skip
    """Look at a folder level by level, so that what lies near the root is seen first; links to folders are followed once.

    A file gives a scan of this file alone.
    """
    result = Scan(root)
    if root.is_file():
        home = Folder(root.parent)
        (home.pictures if is_picture(root.name) else home.files).append(root.name)
        result.folders[root.parent], result.entries = home, 1
        return result
    queue, seen, cut = deque([(root, 0)]), set[tuple[int, int]](), 0
    while queue:
        path, depth = queue.popleft()
        if result.entries >= max_entries:
            result.incomplete = f"{len(queue) + 1} folders or more were not looked at ({max_entries} names are the limit)"
            break
        folder, below = _look(result, path, seen, min(max_in_folder, max_entries))
        cut += folder.cut
        if depth < max_depth:
            queue.extend((path / name, depth + 1) for name in below)
        elif below:
            result.incomplete = f"folders more than {max_depth} levels down were not looked at"
    if cut and not result.incomplete:
        result.incomplete = f"{cut} folders have more than {max_in_folder} files; the others in them were not looked at"
    return result


def is_picture(name: str) -> bool:
    """Whether a name ends as that of a picture."""
    return name.lower().endswith(PICTURE_SUFFIXES)


def _look(result: Scan, path: Path, seen: set[tuple[int, int]], limit: int) -> tuple[Folder, list[str]]:
    folder, below = Folder(path), list[str]()
    try:
        status = path.stat()
        if (status.st_dev, status.st_ino) in seen:
            return folder, []
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(path) as entries:
            for number, entry in enumerate(entries):
                if number >= limit:
                    folder.cut = True
                    break
                _sort_in(result, folder, below, entry)
    except OSError:
        result.unreadable.append(path)
    folder.files.sort()
    folder.pictures.sort()
    result.folders[path] = folder
    return folder, sorted(below)


def _sort_in(result: Scan, folder: Folder, below: list[str], entry: os.DirEntry[str]) -> None:
    result.entries += 1
    if entry.name == "__MACOSX" or entry.name.startswith("._") or entry.name in (".DS_Store", "Thumbs.db"):
        result.junk += 1
    elif entry.name.startswith("."):
        pass
    elif entry.is_dir():
        below.append(entry.name)
    elif not entry.is_file():
        result.odd.append(folder.path / entry.name)
    elif is_picture(entry.name):
        folder.pictures.append(entry.name)
    else:
        folder.files.append(entry.name)
