"""Names from untrusted sources: patterns of keys, shards, digests and checkpoints, and safe file names for any text.

Shard sets, runs and indexes may come from anyone. Their names are checked on opening, and every output that is named
after one goes through `output_path`, so that nothing is written outside the output folder.
"""

import hashlib
import re
from pathlib import Path

LONGEST_KEY = 94  # characters; a ustar header holds 100, with the suffix and a NUL
KEY_PATTERN = rf"[A-Za-z0-9_-]{{1,{LONGEST_KEY}}}"  # valid in RE2 too, which Arrow uses
KEY = re.compile(KEY_PATTERN)
SHARD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*\.tar")
DIGEST = re.compile(r"[0-9a-f]{64}")
CHECKPOINT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LONGEST_NAME = 200  # bytes of UTF-8; file systems allow 255, minus temporary prefixes and suffixes


def output_name(text: str) -> str:
    """Make a safe name for one file or folder: no separators, not hidden, not empty, not too long.

    Ordinary names are unchanged. Long names are truncated and get a hash of the full name.
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
    """Path below `folder` for a file named after any text, in which `/` separates folders; never outside `folder`.

    `output_name` sanitizes each part: `../../x` becomes `_./_./x`, and an absolute path becomes relative.
    """
    *parents, last = [part for part in name.split("/") if part not in ("", ".")] or [""]
    return Path(folder, *map(output_name, parents), output_name(last) + suffix)
