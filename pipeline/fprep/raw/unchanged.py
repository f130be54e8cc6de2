"""Annotation files that nobody writes to while they are read."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

from fschemas.failures import UsageError
from fschemas.regular_file import kind_of, open_regular

MAX_FILE = 1 << 31  # bytes of an annotation file


def stamp_of(path: Path, name: str) -> tuple[int, int]:
    """Size and time of change; raises `UsageError` for a file that is no file, or too large."""
    try:
        found = path.stat()
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise UsageError(f"{name}: a link that leads to itself; restore the file from the archive") from None
    if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for ever
        raise UsageError(f"{name}: {kind_of(found.st_mode)}, but must be a regular file; restore it from the archive")
    if found.st_size > MAX_FILE:
        raise UsageError(f"{name}: {found.st_size} bytes are more than an annotation file may have ({MAX_FILE})")
    return found.st_size, found.st_mtime_ns


def check_stamp(stamp: tuple[int, int], path: Path, name: str) -> None:
    """Raise `UsageError` where a file is no longer what `stamp_of` said of it."""
    if stamp_of(path, name) != stamp:
        raise UsageError(f"{name}: the file changed while it was read; run the command again when it is at rest")


def read_unchanged(path: Path, name: str) -> bytes:
    """The bytes of a file; raises `UsageError` for one that is no file, too large, or written to at the same time."""
    stamp = stamp_of(path, name)
    with open_regular(path) as file:
        content = file.read(MAX_FILE + 1)
    check_stamp(stamp, path, name)
    if len(content) != stamp[0]:
        raise UsageError(f"{name}: the file changed while it was read; run the command again when it is at rest")
    return content
