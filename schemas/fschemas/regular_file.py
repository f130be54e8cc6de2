"""Safe opening of files from other sources: no pipes, devices or sockets, and a size limit."""

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
    """Describe a `st_mode` that is not a regular file: `a pipe (FIFO)`, `a device`, `a folder`."""
    return _KINDS.get(stat.S_IFMT(mode), "not a regular file")


def open_regular(path: Path) -> BufferedReader:
    """Open a file for reading without blocking. Raises `UsageError` for anything but a regular file.

    Opening a FIFO without a writer blocks forever, and reading `/dev/zero` never ends. `O_NONBLOCK` avoids the first;
    checking the open descriptor (not the path, which may change in between) avoids the second. Links are followed.
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
    """Read a regular file. Raises `UsageError` for anything else and for a file of more than `limit` bytes."""
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise UsageError(f"{path}: larger than the limit of {limit} bytes")
    return content
