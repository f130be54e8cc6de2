"""Split lock of a run: shards that were not checked against it are refused, so that no held-out image is trained on.

`fprep audit --write-lock` writes the lock; `fprep shard --lock` checks a table against it and writes its digest into
dataset.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fschemas.failures import IntegrityError
from fschemas.json_file import read_json
from fschemas.names import DIGEST

if TYPE_CHECKING:  # slow to import
    from fschemas.shard_set import ShardSet

FORMAT = "fashionkit-split-lock/1"


def lock_digest(lock: str) -> str:
    """Digest of a configured lock: the value itself or the digest of the lock file it refers to; "" if empty.

    Raises `UsageError` for anything else.
    """
    if not lock or DIGEST.fullmatch(lock):
        return lock
    content = read_json(
        Path(lock), {"digest": DIGEST}, format=FORMAT, sealed=True,
        missing=f"{lock}: no such split lock; write one with `fprep audit TABLE --write-lock`",
        remedy="pass the splits.lock.json of `fprep audit --write-lock`, or its digest",
    )  # fmt: skip
    return str(content["digest"])


def check_lock(digest: str, shards: ShardSet) -> None:
    """Raise `IntegrityError` unless the shards carry this lock; an empty digest requires none."""
    found = shards.metadata.get("lock")
    if digest and found != digest:
        carried = f"the split lock {str(found)[:12]}…" if found else "no split lock"
        raise IntegrityError(
            f"{shards.location}: has {carried}, but {digest[:12]}… is required; write it again with `fprep shard --lock`"
        )
