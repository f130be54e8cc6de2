"""Which folders a command may write into or read from.

Every command that writes calls `claim_output` before it changes anything: a missing or an empty folder and one of its own kind are
taken, all else is refused with a sentence that says what it is. Every command that reads a folder of another command says the same
of a wrong one (`explain_wrong`). `fschemas.folder_kinds` tells what a folder is.
"""

from __future__ import annotations

import errno
import fnmatch
import os
from collections.abc import Callable
from pathlib import Path

from fschemas.failures import UsageError
from fschemas.folder_kinds import BY_NAME, foreign_names, kind_of_folder, names_in, raw_data_of, what_is
from fschemas.regular_file import open_regular
from fschemas.walk import is_utf8, readable

_TOGETHER = {"table": ("table", "audit"), "audit": ("audit", "table")}  # kinds that share a folder
_CLOSED = ("shards", "index", "model", "export")  # nothing else may be inside: other programs read all files there


def claim_output(path: Path, kind: str) -> Path:
    """Refuse an output folder that would be mixed or overwritten; returns the folder to write into, which need not exist yet.

    Taken are a missing folder, an empty one, one of this `kind`, and what an interrupted command of this kind has left. A link to
    a folder is that folder: the real path is returned. Raises `UsageError`, having changed nothing, for a folder of anything else,
    a file, a link that leads nowhere, and a place inside of a shard set, an index or an export.
    """
    own, place = BY_NAME[kind], _real(path)
    if place.exists() and not place.is_dir():
        raise UsageError(f"{path}: this is a file; choose a folder for {own.words}")
    _refuse_inside(path, place)
    if not place.is_dir():
        return place
    names = foreign_names(place)
    if not names or any(BY_NAME[name].is_one(place) for name in _TOGETHER.get(kind, (kind,))):
        return place
    if _is_begun(place) and all(any(fnmatch.fnmatchcase(name, one) for one in own.contents) for name in names):
        return place
    raise UsageError(
        f"{path}: this is {what_is(place)}, which {own.words} would be mixed with; choose another output folder"
    )


def claim_file(path: Path, words: str, is_own: Callable[[bytes], bool]) -> Path:
    """As `claim_output` for one file: taken are a missing one, an empty one, and one whose first and last 4 KiB `is_own` knows.

    A link to a file is that file. Raises `UsageError` for any other file, a folder, a link that leads nowhere, and a place inside
    of a shard set, an index or an export.
    """
    place = _real(path)
    if place.is_dir():
        raise UsageError(f"{path}: this is {what_is(place)}; name a file for {words}")
    _refuse_inside(path, place)
    if place.exists():
        with open_regular(place) as file:
            content = file.read(4096)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(len(content), size - 4096))
            content += file.read(4096)
        if content and not is_own(content):
            raise UsageError(f"{path}: this is a file, but not {words}; choose another output")
    return place


def explain_wrong(path: Path, wanted: str, *, missing: str) -> UsageError:
    """The error for a path that is not a folder of the kind `wanted` (`run`, `shards`, `table`, `index`): what it is instead.

    `missing` is the sentence for a path where there is nothing of ours, an empty or a missing folder.
    """
    found, kind = what_is(path), kind_of_folder(path)
    if not path.exists() or found == "an empty folder" or (kind is not None and kind.name == wanted):
        return UsageError(f"{path}: {missing}")
    if kind is None and path.is_dir() and raw_data_of(path) is None:
        return UsageError(f"{path}: {missing}; this is {found}")
    return UsageError(f"{path}: this is {found}, but {BY_NAME[wanted].words} is needed here; {_way(path, wanted)}")


def require_folder(path: Path, wanted: str, *, missing: str) -> None:
    """Raise `explain_wrong` where a folder is known to be of another kind than `wanted`, or is nothing that we wrote.

    A folder of that kind passes, and so does one that is damaged beyond recognition: whoever opens it says more of it.
    """
    kind = kind_of_folder(path)
    if kind is not None and kind.name in _TOGETHER.get(wanted, (wanted,)):
        return
    if (
        kind is None
        and path.is_dir()
        and any(fnmatch.fnmatchcase(name, BY_NAME[wanted].contents[0]) for name in names_in(path))
    ):
        return
    raise explain_wrong(path, wanted, missing=missing)


def _way(path: Path, wanted: str) -> str:
    """What to do to get from what a path is to what is wanted."""
    kind, reader = kind_of_folder(path), raw_data_of(path) if path.is_dir() else None
    if kind is None and reader is not None:
        steps = {"table": "", "shards": ", then `fprep shard`"}.get(wanted, ", `fprep shard`, and train on the shards")
        return f"convert it with `fprep convert {reader}`{steps}"
    name = kind.name if kind else ""
    if (name, wanted) in _WAYS:
        return _WAYS[name, wanted]
    return _SOURCES[wanted]


_SOURCES = {
    "run": "name a folder that `ftrain` has trained into",
    "shards": "name a folder that `fprep shard` has written",
    "table": "name a folder that `fprep convert` has written",
    "index": "name a folder that `ftrain index` has written",
}
_SWAPPED = "perhaps the arguments are swapped"
_WAYS = {
    ("table", "shards"): "write its shards with `fprep shard` first",
    ("table", "run"): "write its shards with `fprep shard`, then train on them",
    ("run", "index"): "index with it by `ftrain index` first",
    ("run", "shards"): f"{_SWAPPED}; name a folder that `fprep shard` has written",
    ("shards", "run"): f"{_SWAPPED}; name a folder that `ftrain` has trained into",
    ("shards", "table"): f"{_SWAPPED}; name the folder that `fprep convert` has written",
    ("index", "run"): f"{_SWAPPED}; name the run that the index was built with",
}


def _real(path: Path) -> Path:
    """The place that a path leads to: of a link its target. Raises `UsageError` for a link that leads nowhere, also on the way, and
    for a name that no file of ours could hold."""
    if not is_utf8(str(path)):
        raise UsageError(f"{readable(path)}: the name is not UTF-8; choose another output")
    for place in (path, *path.parents):
        if place.is_symlink() and not _exists(place):
            raise UsageError(
                f"{place}: a link to {place.readlink()}, which does not exist; make that folder, or choose another output"
            )
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _exists(path: Path) -> bool:
    """Whether a link leads somewhere; a loop does not."""
    try:
        os.stat(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return False
        raise
    return True


def _refuse_inside(path: Path, place: Path) -> None:
    for parent in Path(os.path.realpath(place)).parents:
        kind = kind_of_folder(parent)
        if kind is not None and kind.name in _CLOSED:
            raise UsageError(f"{path}: lies inside of {parent}, which is {kind.words}; choose an output outside of it")


def _is_begun(place: Path) -> bool:
    """Whether one of our commands has held this folder: it leaves the lock beside it."""
    real = Path(os.path.realpath(place))
    return (real.parent / f".{real.name}.lock").exists()
