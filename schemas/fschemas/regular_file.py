"""Opening files that other people wrote: never a pipe, a device or a socket, and never more bytes than asked for."""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path

from fschemas.failures import UsageError

_KINDS = {
    stat.S_IFIFO: "a pipe (FIFO)", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}  # fmt: skip


def kind_of(mode: int) -> str:
    """What a `st_mode` that is not a regular file is, in words: `a pipe (FIFO)`, `a device`, `a folder`."""
    return _KINDS.get(stat.S_IFMT(mode), "not a regular file")


def open_regular(path: Path) -> BufferedReader:
    """Open a file for reading without ever blocking; raises `UsageError` for anything but a regular file.

    Opening a FIFO without a writer blocks forever, and reading `/dev/zero` never ends: `O_NONBLOCK` avoids the first, the
    check of the open descriptor (not of the path, which may change in between) the second. Links are followed.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise UsageError(f"{path}: {kind_of(mode)}, but must be a regular file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, limit: int) -> bytes:
    """The bytes of a regular file; raises `UsageError` for anything else and for a file of more than `limit` bytes."""
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise UsageError(f"{path}: larger than {limit} bytes, the most that is read here")
    return content
