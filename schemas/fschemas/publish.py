"""Atomic and durable publishing of output files and folders, with one writer at a time.

Protocol: temporary name in the same folder, write, fsync, rename, fsync the folder. A file or folder under its final
name is therefore complete, even if a process was killed or a disk was full.
"""

import ctypes
import errno
import fcntl
import hashlib
import itertools
import json
import os
import re
import shutil
import socket
import stat
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fschemas.failures import EnvironmentProblem, with_path
from fschemas.json_file import seal
from fschemas.regular_file import open_regular

TEMPORARY_PREFIX = ".tmp."
_HOST = re.sub("[^A-Za-z0-9-]", "-", socket.gethostname())[:40] or "here"
_LONGEST_NAME = 255  # bytes
_DAY = 86_400.0
_SYNC_EACH = 1000  # files; for more, the whole file system is synced


@contextmanager
def publish(final: Path) -> Generator[Path]:
    """Yield a temporary path next to `final`; the file or folder that the body writes there becomes `final` on success.

    An existing file is replaced atomically; an existing folder is never replaced. On any error, the temporary is
    removed and `final` is left unchanged. Errors of the operating system carry the path of `final`, even if a library
    lost their number.
    """
    final = Path(final)
    temporary = temporary_of(final)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        _remove(temporary)
        yield temporary
        _sync_tree(temporary)
        os.rename(temporary, final) if temporary.is_dir() else os.replace(temporary, final)
        _sync(final.parent)
    except BaseException as error:
        with suppress(OSError):  # report the first error
            _remove(temporary)
        if isinstance(error, OSError):
            set_filename(error, final)
        known = with_path(error, final) if isinstance(error, Exception) else None
        if known is not None:
            raise known from error
        raise


def publish_bytes(final: Path, content: bytes) -> None:
    """Publish a small file."""
    with publish(final) as temporary:
        temporary.write_bytes(content)


def publish_json(final: Path, value: object) -> None:
    """Publish a JSON file: UTF-8, indent of 2, keys in the given order, no NaN, newline at the end."""
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
    publish_bytes(final, text.encode() + b"\n")


def publish_sealed(final: Path, document: dict[str, Any]) -> None:
    """Publish a JSON document with its own digest, which `read_json(…, sealed=True)` verifies."""
    publish_json(final, seal(document))


def withdraw(final: Path) -> None:
    """Delete a published file durably: a power failure does not restore it. No error if it does not exist."""
    final = Path(final)
    try:
        final.unlink(missing_ok=True)
        _sync(final.parent)
    except OSError as error:
        set_filename(error, final)
        raise


def withdraw_folder(final: Path) -> None:
    """Delete a published folder atomically: it is never visible half deleted."""
    final, going = Path(final), temporary_of(Path(final))
    try:
        shutil.rmtree(final.rename(going))
    except OSError as error:
        _remove(going)  # as far as possible; the next cleanup removes the rest
        set_filename(error, final)
        raise


def temporary_of(final: Path) -> Path:
    """Temporary name of this process for `final`: in the same folder, with host and process number."""
    mark = f".{_HOST}.{os.getpid()}"
    name = final.name
    if len(os.fsencode(name)) > _LONGEST_NAME - len(TEMPORARY_PREFIX) - len(mark):
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return final.with_name(f"{TEMPORARY_PREFIX}{name}{mark}")


def remove_leftovers(folder: Path) -> list[str]:
    """Delete temporaries of killed writers: in `folder` and all folders below it, and those of `folder` next to it.

    `exclusive` calls this for every command that writes to a folder. Returns the deleted names, relative to the parent
    of the folder. Links are not followed, and temporaries of other living processes of this host are kept.
    """
    folder = Path(folder)
    found = _temporaries_of(folder)
    for parent, folders, files in os.walk(folder):
        temporaries = [name for name in (*folders, *files) if name.startswith(TEMPORARY_PREFIX)]
        found += [Path(parent, name) for name in temporaries]
        folders[:] = [name for name in folders if not name.startswith(TEMPORARY_PREFIX)]
    leftovers = sorted(path for path in found if not is_being_written(path))
    for path in leftovers:
        _remove(path)
    return [str(path.relative_to(folder.parent)) for path in leftovers]


def remove_leftovers_of(final: Path) -> None:
    """Delete temporaries of killed writers of a single file, which has no lock; those of other hosts after a day."""
    for path in _temporaries_of(Path(final)):
        with suppress(FileNotFoundError):  # another process cleans up too
            age = time.time() - path.stat().st_mtime
            if not is_being_written(path) and (age > _DAY or _writer(path)[0] == _HOST):
                _remove(path)


def is_being_written(temporary: Path) -> bool:
    """Whether the writer of this temporary is another living process of this host. Zombies count as dead."""
    host, process = _writer(temporary)
    if host != _HOST or process in (0, os.getpid()):
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return not _is_zombie(process)


def _is_zombie(process: int) -> bool:
    with suppress(OSError):  # no such file outside Linux
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return False


def _temporaries_of(final: Path) -> list[Path]:
    start = f"{TEMPORARY_PREFIX}{final.name}."
    with suppress(OSError), os.scandir(final.parent) as entries:
        return [final.parent / entry.name for entry in entries if entry.name.startswith(start)]
    return []


def _writer(temporary: Path) -> tuple[str, int]:
    """Host and process number in the name of a temporary; ("", 0) if it has none."""
    parts = temporary.name.rsplit(".", 2)
    return (parts[1], int(parts[2])) if len(parts) == 3 and parts[2].isascii() and parts[2].isdigit() else ("", 0)


@contextmanager
def exclusive(folder: Path) -> Generator[None]:
    """Hold the exclusive right to write to `folder`, and remove leftovers of killed writers (`remove_leftovers`).

    The lock is a `flock` on a hidden file next to the folder, so that the kernel releases it at process death and no
    lock file becomes part of a DVC output. The folder is created if missing. Raises `EnvironmentProblem` if another
    process holds the lock or the folder is not writable.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise EnvironmentProblem(
            f"{folder}: not writable for this user; check its owner and mode or choose another folder"
        )
    descriptor = _open_lock(folder)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        except BlockingIOError:
            raise EnvironmentProblem(
                f"{folder}: {_holder(descriptor)} is writing here; wait for it or choose another folder"
            ) from None
        except OSError as error:
            set_filename(error, folder)
            raise
        remove_leftovers(folder)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def new_folder(out: Path) -> Generator[None]:
    """`exclusive(out)` for a folder that is published as a whole: on an error, no empty folder is left."""
    existed = Path(out).exists()
    try:
        with exclusive(out):
            yield
    except BaseException:
        if not existed:
            with suppress(OSError):
                Path(out).rmdir()
        raise


def _open_lock(folder: Path) -> int:
    """Open the lock: a hidden file next to the folder, or the folder itself if its parent is read-only (a mount)."""
    path = folder.resolve()
    try:
        return os.open(path.parent / f".{path.name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _holder(descriptor: int) -> str:
    with suppress(OSError):  # a folder has no content to read
        return os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
    return "another process"


def sha256_of(path: Path) -> str:
    """SHA-256 of a regular file, in hex. Raises `UsageError` for a pipe or device."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def set_filename(error: OSError, final: Path) -> None:
    """Set the path of an operating system error to `final` if it has none or that of a temporary."""
    if error.errno is not None and (error.filename is None or TEMPORARY_PREFIX in str(error.filename)):
        error.filename = str(final)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_tree(path: Path) -> None:
    """Sync a file, or a folder with its content, to disk: file by file, or the whole file system if there are many."""
    paths = list(itertools.islice(_sync_order(path), _SYNC_EACH + 1))
    if len(paths) <= _SYNC_EACH:
        for each in paths:
            _sync(each)
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if sys.platform != "linux":
            os.sync()
        elif ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


def _sync_order(path: Path) -> Generator[Path]:
    """Yield a file, or the content of a folder and then the folder. Links are skipped: only the folder stores them."""
    if path.is_symlink():
        return
    if path.is_dir():
        for name in sorted(os.listdir(path)):
            yield from _sync_order(path / name)
    yield path
