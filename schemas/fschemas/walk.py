"""Looking through folders that other people made: sorted, without what operating systems and editors leave behind.

    for place, folders, files in walk(Path("raw")):
        folders[:] = [name for name in folders if name != "Images"]  # do not enter these

Readers, `fprep doctor` and the commands that take loose images all see a folder through this module, so that none of them
takes `._train.csv` of macOS or `labels.json~` of an editor for data.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

# Written by macOS, Windows and network storage beside the files of a user.
_JUNK_FOLDERS = {"__macosx", "$recycle.bin", "system volume information", "@eadir", "lost+found"}
_JUNK_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "dwsync.xml"}
_BACKUP = re.compile(r".*~|#.*#|.*\.sw[nop]", re.IGNORECASE | re.DOTALL)
_STORE_NAME = re.compile(r"[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}")
_ANNEX_KEY = re.compile(r"(MD5|SHA1|SHA2\d\d|SHA3_\d{3}|SHA\d{3}|BLAKE2\w*|BLAKE3)E?-s\d+--[0-9a-f]{32,128}(\.\w+)*")


@dataclass
class Listing:
    """The names in one folder, sorted. `linked` are links to folders; everything else that is no folder is in `files`.

    A link that leads nowhere, a pipe and a device are files: whoever opens them says what is wrong. Those of the files that are
    links or no regular files are in `odd` too. `junk` counts what was
    passed over, hidden names apart; `cut` says that the folder has more names than were asked for.
    """

    folders: list[str] = field(default_factory=list[str])
    files: list[str] = field(default_factory=list[str])
    linked: list[str] = field(default_factory=list[str])
    odd: list[str] = field(default_factory=list[str])
    junk: int = 0
    cut: bool = False


@dataclass
class Walked:
    """What a walk passed over: junk, and links to folders that were not followed, `outside` those that leave the root."""

    junk: int = 0
    links: int = 0
    outside: int = 0


def is_junk(name: str, *, is_folder: bool = False) -> bool:
    """Whether an operating system or an editor left this: `._name`, `__MACOSX`, `.DS_Store`, `Thumbs.db`, `name~` and the like.

    Hidden names count as junk. A folder is junk by fewer names than a file: `#sale#` may be somebody's class.
    """
    if name.startswith("."):
        return True
    if is_folder:
        return name.lower() in _JUNK_FOLDERS
    return name.lower() in _JUNK_FILES or _BACKUP.fullmatch(name) is not None


def list_folder(folder: Path | str, limit: int | None = None) -> Listing:
    """The names in a folder, at most `limit` of them (which ones the disk decides). Raises `OSError`."""
    found = Listing()
    with os.scandir(folder) as entries:
        for number, entry in enumerate(entries):
            if limit is not None and number >= limit:
                found.cut = True
                break
            name = entry.name
            is_link = entry.is_symlink()
            is_folder = _is_folder(entry) if is_link else entry.is_dir(follow_symlinks=False)
            if is_junk(name, is_folder=is_folder):
                found.junk += not name.startswith(".") or name.startswith("._") or name == ".DS_Store"
            elif not is_folder:
                found.files.append(name)
                if is_link or not entry.is_file(follow_symlinks=False):
                    found.odd.append(name)
            elif is_link:
                found.linked.append(name)
            else:
                found.folders.append(name)
    found.folders.sort()
    found.files.sort()
    found.linked.sort()
    found.odd.sort()
    return found


def walk(
    top: Path,
    *,
    follow_links: bool = False,
    walked: Walked | None = None,
    on_error: Callable[[OSError], None] | None = None,
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Folder, names of its folders and names of its files, from the top down; what is taken out of `folders` is not entered.

    Links to folders are not followed, or with `follow_links` those that lead out of `top`, each folder once: what a link
    inside leads to is met on its own way. `walked` counts what was passed over. A folder that cannot be read raises its
    `OSError`, or gives it to `on_error`.
    """
    counts = walked if walked is not None else Walked()
    root, seen = os.path.realpath(top), set[str]()
    waiting = [top]
    while waiting:
        place = waiting.pop()
        try:
            listing = list_folder(place)
        except OSError as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        counts.junk += listing.junk
        folders = list(listing.folders)
        for name in listing.linked:
            target = os.path.realpath(place / name)
            outside = not is_below(target, root)
            if follow_links and outside and target not in seen and not is_below(root, target):
                seen.add(target)
                folders.append(name)
            else:
                counts.links += 1
                counts.outside += outside
        folders.sort()
        yield place, folders, listing.files
        waiting += [place / name for name in reversed(folders)]


def is_below(path: str, root: str) -> bool:
    """Whether an absolute path without links is the folder `root` or lies in it."""
    return path == root or path.startswith(root if root.endswith(os.sep) else root + os.sep)


def is_stored_by_content(path: str) -> bool:
    """Whether a file is one of a store that names files by what is in them: DVC's cache, Hugging Face's blobs, git-annex.

    The name is an MD5, SHA-1 or SHA-256 digest, in DVC with the first two digits as the folder. Nobody who makes a raw folder
    can make such a name lead to a file of his choice, so that links into such a store are as good as the files.
    """
    above, _, last = path.rpartition(os.sep)
    folder = above.rpartition(os.sep)[2]
    names = [last, folder + last] if len(folder) == 2 else [last]
    return any(_STORE_NAME.fullmatch(name) for name in names) or _ANNEX_KEY.fullmatch(last) is not None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links, or a folder above that may not be read
        return False


def is_utf8(path: str) -> bool:
    """Whether a path can be written as UTF-8: no part of it has bytes that are no text."""
    return not any("\ud800" <= character <= "\udfff" for character in path)


def readable(path: Path | str) -> str:
    """A path as text that UTF-8 can hold: bytes of a name that are no text become escapes such as `\\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
