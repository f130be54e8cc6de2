"""Names that may come from strangers: what keys, shards, digests and checkpoints are called, and files named after any text.

A shard set, a run or an index may have been made by anybody. Its names are checked when it is opened, and every output that is
named after one goes through `output_path`, so that nothing is ever written outside of the output folder.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

LONGEST_KEY = 94  # characters; a ustar header holds 100 with the suffix and a NUL
KEY_PATTERN = rf"[A-Za-z0-9_-]{{1,{LONGEST_KEY}}}"  # also in the dialect of RE2, which Arrow has
KEY = re.compile(KEY_PATTERN)
SHARD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*\.tar")
DIGEST = re.compile(r"[0-9a-f]{64}")
CHECKPOINT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LONGEST_NAME = 200  # bytes of UTF-8; file systems allow 255, and temporaries and suffixes need some


def output_name(text: str) -> str:
    """A name for one file or folder made of any text: no separator, not hidden, not empty, not too long.

    Ordinary names stay as they are. What is too long is cut, with a hash of the whole behind it.
    """
    name = _UNPRINTABLE.sub("_", text.replace("/", "_"))
    if not name or name.startswith("."):
        name = "_" + name[1:]
    encoded = name.encode("utf-8", "backslashreplace")
    if len(encoded) > _LONGEST_NAME:
        short = encoded[: _LONGEST_NAME - 13].decode("utf-8", "ignore")
        name = f"{short}-{hashlib.sha256(text.encode('utf-8', 'backslashreplace')).hexdigest()[:12]}"
    return name


def output_path(folder: Path, name: str, suffix: str = "") -> Path:
    """The place below `folder` of a file named after any text, whose `/` part folders; always inside of `folder`.

    Each part is made safe by `output_name`: `../../x` becomes `_./_./x`, and an absolute path a relative one.
    """
    *parents, last = [part for part in name.split("/") if part not in ("", ".")] or [""]
    return Path(folder, *map(output_name, parents), output_name(last) + suffix)
