"""Rules for the folders that a command may write to or read from.

Every command that writes calls `claim_output` before it changes anything. A missing folder, an empty one and one of its
own type are accepted; anything else is refused with a message that describes it. Commands that read a folder of another
command describe a wrong one in the same way (`require_folder`). `fschemas.folder_kinds` detects the type.
"""

import errno
import fnmatch
import os
from collections.abc import Callable
from pathlib import Path

from fschemas.failures import UsageError
from fschemas.folder_kinds import BY_NAME, foreign_names, kind_of_folder, names_in, raw_data_of, what_is
from fschemas.regular_file import open_regular
from fschemas.walk import is_utf8, readable

_TOGETHER = {"table": ("table", "audit"), "audit": ("audit", "table")}  # types that share a folder
_CLOSED = ("shards", "index", "model", "export")  # must not contain other files: other programs read every file in them


def claim_output(path: Path, kind: str) -> Path:
    """Check that an output folder may be written to; return the folder to use, which need not exist yet.

    Accepted are a missing folder, an empty one, one of this `kind`, and an incomplete one of an interrupted command of
    this kind. Links are resolved: the real path is returned. Raises `UsageError`, without changes, for a folder with
    any other content, a file, a dangling link, and a path inside a shard set, an index or an export.
    """
    own, target = BY_NAME[kind], _real(path)
    if target.exists() and not target.is_dir():
        raise UsageError(f"{path}: this is a file; choose a folder for {own.words}")
    _refuse_inside(path, target)
    if not target.is_dir():
        return target
    names = foreign_names(target)
    if not names or any(BY_NAME[name].is_one(target) for name in _TOGETHER.get(kind, (kind,))):
        return target
    if _is_begun(target) and all(any(fnmatch.fnmatchcase(name, one) for one in own.contents) for name in names):
        return target
    raise UsageError(
        f"{path}: this is {what_is(target)}, which {own.words} would be mixed with; choose another output folder"
    )


def claim_file(path: Path, words: str, is_own: Callable[[bytes], bool]) -> Path:
    """Check that an output file may be written; return its resolved path.

    Accepted are a missing file, an empty one, and one that `is_own` recognizes by its first and last 4 KiB. Raises
    `UsageError` for any other file, a folder, a dangling link, and a path inside a shard set, an index or an export.
    """
    target = _real(path)
    if target.is_dir():
        raise UsageError(f"{path}: this is {what_is(target)}; choose a file for {words}")
    _refuse_inside(path, target)
    if target.exists():
        with open_regular(target) as file:
            content = file.read(4096)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(len(content), size - 4096))
            content += file.read(4096)
        if content and not is_own(content):
            raise UsageError(f"{path}: this is a file, but not {words}; choose another output")
    return target


def require_folder(path: Path, wanted: str) -> None:
    """Raise `UsageError` that describes a folder if it is not of the kind `wanted` (`run`, `shards`, `table`, `index`).

    A folder of that kind passes, even if damaged: the function that opens it reports the details.
    """
    kind, own = kind_of_folder(path), BY_NAME[wanted]
    if kind is not None and kind.name in _TOGETHER.get(wanted, (wanted,)):
        return
    if kind is None and path.is_dir() and any(fnmatch.fnmatchcase(name, own.contents[0]) for name in names_in(path)):
        return
    found, reader = what_is(path), raw_data_of(path) if path.is_dir() else None
    if not path.exists() or found == "an empty folder":
        raise UsageError(f"{path}: {_MISSING[wanted]}")
    if kind is None and path.is_dir() and reader is None:
        raise UsageError(f"{path}: {_MISSING[wanted]}; this is {found}")
    way = _WAYS.get((kind.name if kind else "", wanted), _SOURCES[wanted])
    if kind is None and reader is not None:
        steps = {"table": "", "shards": ", then `fprep shard`"}.get(wanted, ", `fprep shard`, and train on the shards")
        way = f"convert it with `fprep convert {reader}`{steps}"
    raise UsageError(f"{path}: this is {found}, but {own.words} is needed here; {way}")


_MISSING = {
    "run": "not a run folder (config.yaml is missing); train one with `ftrain`",
    "shards": "no finished shard set here (dataset.json is missing); run `fprep shard` first",
    "table": "no such table; write it with `fprep convert`",
    "index": "no finished index here (index.json is missing); build one with `ftrain index`",
}
_SOURCES = {
    "run": "choose a folder that `ftrain` has trained into",
    "shards": "choose a folder that `fprep shard` has written",
    "table": "choose a folder that `fprep convert` has written",
    "index": "choose a folder that `ftrain index` has written",
}
_SWAPPED = "perhaps the arguments are swapped"
_WAYS = {
    ("table", "shards"): "write its shards with `fprep shard` first",
    ("table", "run"): "write its shards with `fprep shard`, then train on them",
    ("run", "index"): "index with it by `ftrain index` first",
    ("run", "shards"): f"{_SWAPPED}; choose a folder that `fprep shard` has written",
    ("shards", "run"): f"{_SWAPPED}; choose a folder that `ftrain` has trained into",
    ("shards", "table"): f"{_SWAPPED}; choose the folder that `fprep convert` has written",
    ("index", "run"): f"{_SWAPPED}; choose the run that the index was built with",
}


def _real(path: Path) -> Path:
    """Resolve a path. Raises `UsageError` for a dangling link, also in a parent, and for a name that is not UTF-8."""
    if not is_utf8(str(path)):
        raise UsageError(f"{readable(path)}: the name is not UTF-8; choose another output")
    for target in (path, *path.parents):
        if target.is_symlink() and not _exists(target):
            raise UsageError(
                f"{target}: a link to {target.readlink()}, which does not exist; make that folder, or choose another output"
            )
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _exists(path: Path) -> bool:
    """Whether the target of a link exists; False for a loop."""
    try:
        os.stat(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return False
        raise
    return True


def _refuse_inside(path: Path, target: Path) -> None:
    for parent in Path(os.path.realpath(target)).parents:
        kind = kind_of_folder(parent)
        if kind is not None and kind.name in _CLOSED:
            raise UsageError(f"{path}: is inside {parent}, which is {kind.words}; choose an output outside of it")


def _is_begun(target: Path) -> bool:
    """Whether a command of this package has held this folder, which leaves a lock file next to it."""
    real = Path(os.path.realpath(target))
    return (real.parent / f".{real.name}.lock").exists()
