# ruff: noqa: PTH100, PTH112, PTH115, PTH120
"""Fault injection at chosen file-changing calls of a process, without ptrace and without changes to the tested code.

`install` wraps the calls of `os` and `open` that change files below a folder. The k-th of them fails once with EIO,
fails with ENOSPC together with all later writes (a full disk stays full), or ends the process like SIGKILL. A failing
write has already written half of its bytes. The calls are recorded, so that their order can be checked. A slow disk
takes 5 ms for every call, so that a signal arrives before a small job is done.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

KINDS = ("ENOSPC", "EIO", "KILL")
SLOW = "SLOW"
_OPEN = builtins.open
_OS_OPEN = os.open
_GROWS = ("write", "create", "mkdir")  # refused once the disk is full


class Layer:
    """Count the calls below `root`; call number `at` (from 1; 0 for none) gets the fault `kind`."""

    def __init__(self, root: Path, kind: str = "EIO", at: int = 0) -> None:
        self.root, self.kind, self.at = os.path.realpath(root), kind, at
        self.calls: list[tuple[str, str]] = []
        self.is_full = self.is_off = False
        self._originals: list[tuple[Any, str, Any]] = []

    def covers(self, path: str) -> bool:
        return not self.is_off and path.startswith(self.root + os.sep)

    def call(self, operation: str, path: str, half: Callable[[], object] = lambda: None) -> None:
        """Record a call or let it fail; `half` performs part of it first."""
        if self.is_full and operation in _GROWS:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *([] if operation == "write" else [path]))
        self.calls.append((operation, os.path.relpath(path, self.root)))
        if self.kind == SLOW:
            time.sleep(0.005)
        if len(self.calls) != self.at:
            return
        half()
        if self.kind == "KILL":
            os._exit(137)
        self.is_full = self.kind == "ENOSPC"
        number = getattr(errno, self.kind)
        raise OSError(number, os.strerror(number), *([] if operation in ("write", "fsync") else [path]))

    def install(self) -> None:
        """Wrap the calls of this process."""
        self._replace(os, "open", self._os_open)
        self._replace(builtins, "open", self._open)
        self._replace(io, "open", self._open)
        for name in ("write", "pwrite", "ftruncate"):
            self._replace(os, name, self._on_descriptor("write", getattr(os, name)))
        for name in ("fsync", "fdatasync"):
            self._replace(os, name, self._on_descriptor("fsync", getattr(os, name)))
        for name in ("mkdir", "unlink", "remove", "rmdir"):
            self._replace(os, name, self._on_path(name, getattr(os, name)))
        for name in ("rename", "replace", "link"):
            self._replace(os, name, self._on_two_paths(name, getattr(os, name)))

    def uninstall(self) -> None:
        """Restore the original calls."""
        self.is_off = True
        for owner, name, original in self._originals:
            setattr(owner, name, original)
        self._originals.clear()

    def _replace(self, owner: Any, name: str, wrapped: Any) -> None:
        self._originals.append((owner, name, getattr(owner, name)))
        setattr(owner, name, wrapped)

    def _on_descriptor(self, operation: str, original: Any) -> Any:
        def wrapped(descriptor: int, *arguments: Any) -> Any:
            path = _path_of(descriptor)
            if self.covers(path):
                half = [a[: len(a) // 2] if isinstance(a, bytes | bytearray | memoryview) else a for a in arguments]
                self.call(
                    operation, path, (lambda: original(descriptor, *half)) if operation == "write" else lambda: None
                )
            return original(descriptor, *arguments)

        return wrapped

    def _on_path(self, operation: str, original: Any) -> Any:
        def wrapped(path: Any, *arguments: Any, dir_fd: int | None = None, **options: Any) -> Any:
            place = _absolute(path, dir_fd)
            if self.covers(place) and not (operation == "mkdir" and os.path.isdir(place)):  # no change if it exists
                self.call(operation, place)
            return original(path, *arguments, **({} if dir_fd is None else {"dir_fd": dir_fd}), **options)

        return wrapped

    def _on_two_paths(self, operation: str, original: Any) -> Any:
        def wrapped(source: Any, target: Any, **options: Any) -> Any:
            if self.covers(_absolute(target)):
                self.call(f"{operation} {os.path.relpath(_absolute(source), self.root)}", _absolute(target))
            return original(source, target, **options)

        return wrapped

    def _os_open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        place = _absolute(path, dir_fd)
        if self.covers(place):
            changes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            self.call("create" if changes else "open", place)
        return _OS_OPEN(path, flags, mode) if dir_fd is None else _OS_OPEN(path, flags, mode, dir_fd=dir_fd)

    def _open(
        self, file: Any, mode: str = "r", buffering: int = -1, encoding: Any = None, errors: Any = None, newline: Any = None,
        closefd: bool = True, opener: Any = None,
    ) -> Any:  # fmt: skip
        place = _path_of(file) if isinstance(file, int) else _absolute(file)
        if not set(mode) & set("wax+") or not self.covers(place):
            return _OPEN(file, mode, buffering, encoding, errors, newline, closefd, opener)
        assert "+" not in mode, f"{place}: opened for update"
        self.call("create", place)
        raw = _Raw(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        raw.layer, raw.place = self, place
        if buffering == 0:
            return raw
        buffered = io.BufferedWriter(raw, buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)


class _Raw(io.FileIO):
    layer: Layer
    place: str

    def write(self, content: Any) -> int:
        view = memoryview(content).cast("B")
        self.layer.call("write", self.place, lambda: io.FileIO.write(self, view[: len(view) // 2]))
        return super().write(content)


def install_from_environment() -> None:
    """In a process started with `FASHIONKIT_FAULT=kind:at:root`: install the fault layer, in pool workers only."""
    kind, at, root = os.environ["FASHIONKIT_FAULT"].split(":", 2)
    if any("multiprocessing.forkserver" in word for word in sys.orig_argv):
        Layer(Path(root), kind, int(at)).install()


def disorder(calls: list[tuple[str, str]]) -> list[str]:
    """Return renames that a power failure could tear: content not synced before, or folder not synced after."""
    faults: list[str] = []
    for number, (operation, target) in enumerate(calls):
        if not operation.startswith(("rename ", "replace ")) or ".tmp." in target:
            continue
        source = operation.split(" ", 1)[1]
        below = [(name, path) for name, path in calls[:number] if path == source or path.startswith(source + os.sep)]
        for path in sorted({path for name, path in below if name in ("write", "create", "mkdir")}):
            last = max(
                place for place, call in enumerate(below) if call[1] == path and call[0] in ("write", "create", "mkdir")
            )
            if ("fsync", path) not in below[last:]:
                faults.append(f"{path} was renamed to {target} before it was synced")
        renames = [
            place for place, call in enumerate(calls) if place > number and call[0].startswith(("rename ", "replace "))
        ]
        until = renames[0] if renames else len(calls)
        if ("fsync", os.path.dirname(target) or ".") not in calls[number:until]:
            faults.append(f"the folder of {target} was not synced before the next rename")
    return faults


def _absolute(path: Any, dir_fd: int | None = None) -> str:
    text = os.fsdecode(path)
    if dir_fd is not None:
        text = os.path.join(_path_of(dir_fd), text)
    return os.path.abspath(text)


def _path_of(descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""
