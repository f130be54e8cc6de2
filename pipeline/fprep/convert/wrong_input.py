"""Our own outputs given as raw data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fschemas.failures import UsageError
from fschemas.folder_kinds import kind_of_folder

_NEVER_RAW = ("run", "shards", "index")


def refuse_outputs(raw: Sequence[Path]) -> None:
    """Raise `UsageError` where a raw folder is a run, a shard set or an index, which no reader reads."""
    for path in raw:
        kind = kind_of_folder(path)
        if kind is not None and kind.name in _NEVER_RAW:
            raise UsageError(
                f"{path}: this is {kind.words}, not raw data; name the folder that the archive was unpacked into"
            )
