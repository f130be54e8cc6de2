"""Errors for users, and the exit code of each."""

import errno
import os
from collections.abc import Iterable
from difflib import get_close_matches
from enum import IntEnum

from fschemas.extras import not_installed
from fschemas.third_party import explain_third_party, shortened, system_error_of


class ExitCode(IntEnum):
    """Exit code of a command, for the shell, DVC and Slurm."""

    DONE = 0
    USAGE = 2
    REJECTED = 3
    ENVIRONMENT = 4
    INTEGRITY = 5
    NON_FINITE = 6
    INTERRUPTED = 130
    BROKEN_PIPE = 141  # closed pipe, as with `| head`: 128 + SIGPIPE, like other programs
    TERMINATED = 143


class FashionkitError(ValueError):
    """Base of all errors with a message for the user: location, problem, remedy."""

    exit_code = ExitCode.USAGE


class UsageError(FashionkitError):
    """A wrong option, an unknown name or a missing input."""


class RejectedError(FashionkitError):
    """The work is finished, but more rows were rejected than allowed."""

    exit_code = ExitCode.REJECTED


class EnvironmentProblem(FashionkitError):
    """A problem of the disk, memory, permissions or a lock."""

    exit_code = ExitCode.ENVIRONMENT


class IntegrityError(FashionkitError):
    """A file does not match its digest, size or record."""

    exit_code = ExitCode.INTEGRITY


class NonFiniteError(FashionkitError):
    """A loss, gradient or weight is NaN or infinite."""

    exit_code = ExitCode.NON_FINITE


class Terminated(BaseException):
    """SIGTERM was received. Not an `Exception`, like `KeyboardInterrupt`: handlers of bad data must not swallow it."""

    exit_code = ExitCode.TERMINATED


_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space and run the command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the command again",
    errno.EFBIG: "the file would be larger than allowed here; raise the limit and run the command again",
    errno.EIO: "the disk reports an input/output error; check it and run the command again",
    errno.ENOMEM: "out of memory; use fewer workers or smaller batches and run the command again",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n) or use fewer workers",
    errno.ENFILE: "too many open files on this machine; raise its limit or use fewer workers",
    errno.ESTALE: "the network file system lost the file; run the command again",
    errno.ETIMEDOUT: "no response in time; check the network or the storage and run the command again",
    errno.ECONNREFUSED: "connection refused; check the address and run the command again",
    errno.ELOOP: "a link leads back to itself; remove it",
    errno.ENAMETOOLONG: "the name is too long for this file system; choose a shorter one",
    errno.EACCES: "permission denied; check the owner and the mode of the path",
    errno.EPERM: "permission denied; check the owner and the mode of the path",
    errno.EROFS: "the file system is read-only; choose another output",
    errno.EPIPE: "a process at work for us died (killed, or out of memory); use fewer workers and run the command again",
    errno.ENOENT: "no such file or folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EISDIR: "a folder is where a file was expected",
}


def explain(error: BaseException) -> tuple[ExitCode, str] | None:
    """Exit code and message of an error in the user's data or environment; None for a bug in this package."""
    if isinstance(error, FashionkitError | Terminated):
        return error.exit_code, str(error)
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED, "interrupted"
    if isinstance(error, MemoryError):
        return ExitCode.ENVIRONMENT, "out of memory; use fewer workers or smaller shards and run the command again"
    extra = not_installed(error.name) if isinstance(error, ModuleNotFoundError) else None
    if extra is not None:
        return ExitCode.ENVIRONMENT, extra
    number = system_error_of(error)
    if number is not None:
        return _of_the_system(error, number)
    known = explain_third_party(error)
    if known is not None:
        return ExitCode(known[0]), known[1]
    if isinstance(error, OSError):  # without errno: raised by a library that does I/O for this package
        words = shortened(str(error)) or type(error).__name__
        if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
            return ExitCode.USAGE, f"{words}: no such file or folder"
        return ExitCode.ENVIRONMENT, f"the system or the storage reports: {words}; check it and run the command again"
    return None


def with_path(error: Exception, path: object) -> FashionkitError | None:
    """Convert an environment error of another library to a `FashionkitError` with its location; None for other errors.

    For errors without a location. Errors of the operating system and of this package already have one.
    """
    if isinstance(error, FashionkitError) or getattr(error, "errno", None) is not None:
        return None
    known = explain(error)
    if known is None or known[0] != ExitCode.ENVIRONMENT:
        return None
    return EnvironmentProblem(f"{path}: {known[1]}")


def _of_the_system(error: BaseException, number: int) -> tuple[ExitCode, str]:
    filename = error.filename if isinstance(error, OSError) else None
    prefix = f"{filename}: " if filename else ""
    if not prefix and not (isinstance(error, OSError) and error.errno is not None):
        prefix = f"{shortened(str(error))}: "
    missing = number in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
    code = ExitCode.USAGE if missing else ExitCode.ENVIRONMENT
    return code, f"{prefix}{_REMEDIES.get(number, os.strerror(number))}"


_NEAR = 0.67  # of `difflib`: about one letter in three may differ
_SHORTEST_PART = 3


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `did you mean light? ` with the closest known name, or "" if none is close.

    A name is close if a few letters differ, or if one of the two contains the other.
    """
    plain = {_letters(entry): entry for entry in known}
    given = _letters(name)
    parts = [
        entry for entry in plain if min(len(entry), len(given)) >= _SHORTEST_PART and (entry in given or given in entry)
    ]
    nearest = get_close_matches(given, list(plain), n=1, cutoff=_NEAR) or sorted(parts, key=len)[:1]
    return f"did you mean {plain[nearest[0]]}? " if nearest else ""


def _letters(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum() or character == ".")
