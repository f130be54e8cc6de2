"""Messages for errors of other libraries, from `third_party_errors.toml`; system error numbers take precedence.

Libraries are never imported here. An error that is not in the table is reported as an internal error.
"""

import errno
import functools
import os
import re
import tomllib
from pathlib import Path
from typing import Any

# Read at import: no file may be opened when the limit on open files is reached.
_TEXT = Path(__file__).with_name("third_party_errors.toml").read_text(encoding="utf-8")
_LONGEST = 200  # maximum length of a quoted message

_FULL = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ESTALE,
)  # fmt: skip
# Messages of libraries that lose the number of a system error.
_BY_WORDS = {
    os.strerror(number): number for number in (*_FULL, errno.EACCES, errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
}
_RUST = re.compile(r"\(os error (\d+)\)")
_NOISE = (
    re.compile(r"\x1b\[[0-9;]*m"),
    re.compile(r"\[enforce fail at [^\]]*\]\s*\.?\s*"),
    re.compile(r"OpenCV\([^)]*\) \S+: error: \(-?\d+:[^)]*\)\s*"),
    re.compile(r"Error in .*? at \S+\.cpp:\d+: (Error: )?"),
    re.compile(r"\[ONNXRuntimeError\] : \d+ : "),
    re.compile(r"Exception raised from .*"),
)


@functools.cache
def known_errors() -> list[dict[str, Any]]:
    """Return the entries of the file, which describes them. Parsed on demand: it takes 9 ms, and few commands fail."""
    return tomllib.loads(_TEXT)["known"]


def explain_third_party(error: BaseException) -> tuple[int, str] | None:
    """Exit code and message for a known error of another library or of Python; None for others.

    If the error itself is unknown, its explicit causes (`raise … from`) are checked.
    """
    asked: BaseException | None = error
    for _ in range(5):
        if asked is None:
            return None
        found = _explained(asked)
        if found is not None:
            return found
        asked = asked.__cause__
    return None


def system_error_of(error: BaseException) -> int | None:
    """System error number (errno) of an error, from the error itself or from its message; None if there is none.

    Rust libraries write `(os error 28)`, C++ libraries only the system's message. Messages about full disks, memory and
    limits count in any error, those about missing files and permissions only in an `OSError`.
    """
    if isinstance(error, OSError) and error.errno is not None:
        own_numbers = type(error).__module__ in ("ssl", "socket")  # TLS and name resolution errors: not errno
        return None if own_numbers else error.errno
    message = str(error)
    rust = _RUST.search(message)
    if rust:
        return int(rust[1])
    for words, number in _BY_WORDS.items():
        if words in message and (number in _FULL or isinstance(error, OSError)):
            return number
    return None


def shortened(message: str) -> str:
    """First line of a message, without colors, addresses in C++ sources and trailing advice."""
    for noise in _NOISE:
        message = noise.sub("", message.replace("\n", " "))
    message = " ".join(message.split()).strip(" .;")
    return message if len(message) <= _LONGEST else f"{message[:_LONGEST].rstrip()}…"


def _explained(error: BaseException) -> tuple[int, str] | None:
    names = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__]
    message = str(error)
    for known in known_errors():
        found = re.search(known.get("words", ""), message, re.IGNORECASE | re.DOTALL)
        if found and any(_is(kind, names) for kind in known["kinds"]):
            words = shortened(message) or type(error).__name__
            groups = {name: value or "" for name, value in found.groupdict().items()}
            return known["code"], known["sentence"].format(words=words, **groups)
    return None


def _is(kind: str, names: list[str]) -> bool:
    return any(name.startswith(kind) for name in names) if kind.endswith(".") else kind in names
