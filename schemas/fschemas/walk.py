"""Sorted traversal of folders from other sources, without files left by operating systems and editors.

    for folder, folders, files in walk(Path("raw")):
        folders[:] = [name for name in folders if name != "Images"]  # do not enter these

Readers, `fprep doctor` and commands that take loose images all traverse folders with this module, so that none of them
treats `._train.csv` of macOS or `labels.json~` of an editor as data.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

# Written by macOS, Windows and network storage among the files of a user.
_JUNK_FOLDERS = {"__macosx", "$recycle.bin", "system volume information", "@eadir", "lost+found"}
_JUNK_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "dwsync.xml"}
_BACKUP = re.compile(r".*~|#.*#|.*\.sw[nop]", re.IGNORECASE | re.DOTALL)
_STORE_NAME = re.compile(r"[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}")
_ANNEX_KEY = re.compile(r"(MD5|SHA1|SHA2\d\d|SHA3_\d{3}|SHA\d{3}|BLAKE2\w*|BLAKE3)E?-s\d+--[0-9a-f]{32,128}(\.\w+)*")


@dataclass
class Listing:
    """Sorted names in one folder: `folders`, `linked` (links to folders) and `files` (everything else).

    Dangling links, pipes and devices are files; the function that opens them reports the problem. `odd` are the files
    that are links or not regular files. `junk` counts skipped names, except hidden ones. `cut` is true if the folder
    has more names than the limit.
    """

    folders: list[str] = field(default_factory=list[str])
    files: list[str] = field(default_factory=list[str])
    linked: list[str] = field(default_factory=list[str])
    odd: list[str] = field(default_factory=list[str])
    junk: int = 0
    cut: bool = False


@dataclass
class Walked:
    """Names that a walk skipped: `junk`, and unfollowed `links` to folders, of which `outside` leave the root."""

    junk: int = 0
    links: int = 0
    outside: int = 0


def is_junk(name: str, *, is_folder: bool = False) -> bool:
    """Whether an operating system or an editor left this file: `._name`, `__MACOSX`, `.DS_Store`, `name~`, etc.

    Hidden names are junk. Fewer names are junk for folders than for files: `#sale#` may be a class.
    """
    if name.startswith("."):
        return True
    if is_folder:
        return name.lower() in _JUNK_FOLDERS
    return name.lower() in _JUNK_FILES or _BACKUP.fullmatch(name) is not None


def list_folder(folder: Path | str, limit: int | None = None) -> Listing:
    """List a folder, at most `limit` names in disk order. Raises `OSError`."""
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
    """Yield each folder with its subfolder and file names, top down; names removed from `folders` are not entered.

    Links to folders are not followed; with `follow_links`, those to folders outside `top` are, each folder once
    (targets inside are visited anyway). `walked` counts what was skipped. A folder that cannot be read raises its
    `OSError`, or passes it to `on_error`.
    """
    counts = walked if walked is not None else Walked()
    root, seen = os.path.realpath(top), set[str]()
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        try:
            listing = list_folder(folder)
        except OSError as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        counts.junk += listing.junk
        folders = list(listing.folders)
        for name in listing.linked:
            target = os.path.realpath(folder / name)
            outside = not is_below(target, root)
            if follow_links and outside and target not in seen and not is_below(root, target):
                seen.add(target)
                folders.append(name)
            else:
                counts.links += 1
                counts.outside += outside
        folders.sort()
        yield folder, folders, listing.files
        waiting += [folder / name for name in reversed(folders)]


def is_below(path: str, root: str) -> bool:
    """Whether an absolute path without links is the folder `root` or is inside it."""
    return path == root or path.startswith(root if root.endswith(os.sep) else root + os.sep)


def is_stored_by_content(path: str) -> bool:
    """Whether a file is in a content-addressed store: DVC's cache, Hugging Face's blobs, git-annex.

    Its name is an MD5, SHA-1 or SHA-256 digest (in DVC with the first two digits as folder). The author of a raw folder
    cannot choose the file that such a name refers to, so links into such a store are as good as the files.
    """
    above, _, last = path.rpartition(os.sep)
    folder = above.rpartition(os.sep)[2]
    names = [last, folder + last] if len(folder) == 2 else [last]
    return any(_STORE_NAME.fullmatch(name) for name in names) or _ANNEX_KEY.fullmatch(last) is not None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link loop, or a parent folder without permission
        return False


def is_utf8(path: str) -> bool:
    """Whether a path can be encoded as UTF-8, i.e. contains no undecodable bytes."""
    return not any("\ud800" <= character <= "\udfff" for character in path)


def readable(path: Path | str) -> str:
    """Path as valid UTF-8 text; undecodable bytes become escapes such as `\\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
