"""Paths from a YAML file instead of the command line: names with blanks, quotes, `$` or a leading `-` then reach no shell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from fschemas.failures import UsageError
from fschemas.regular_file import read_regular

_MAX_BYTES = 1 << 20


def raw_and_out(paths: Sequence[Path], raw_from: str | None) -> tuple[list[Path], Path]:
    """The raw folders and the output of `fprep convert`; `raw_from` is FILE:KEY, and then `paths` is the output alone."""
    if raw_from is None:
        if len(paths) < 2:
            raise UsageError(
                "convert needs at least one raw folder and the folder to write: fprep convert DATASET RAW... OUT"
            )
        return list(paths[:-1]), paths[-1]
    if len(paths) != 1:
        raise UsageError(f"--raw-from {raw_from}: the raw folder is named there, so give the folder to write alone")
    return paths_from(raw_from), paths[0]


def paths_from(place: str) -> list[Path]:
    """The path, or the paths of a list, at FILE:KEY, such as `params.yaml:datasets.kfashion.raw`; `~` is the home folder.

    Raises `UsageError` for a file or key that is missing and for a value that is no path.
    """
    name, colon, key = place.rpartition(":")
    if not colon or not key:
        raise UsageError(f"--raw-from {place}: expected FILE:KEY, such as params.yaml:datasets.kfashion.raw")
    file = Path(name)
    if not file.exists():
        raise UsageError(f"--raw-from {place}: {name} does not exist")
    try:
        value: Any = yaml.safe_load(read_regular(file, _MAX_BYTES))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{name}: not YAML ({' '.join(str(error).split())[:100]}); fix it") from None
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            raise UsageError(f"--raw-from {place}: {name} has no key {key} ({part!r} is missing)")
        value = value[part]
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(entry, str) and entry for entry in values):
        raise UsageError(f"--raw-from {place}: {key} is {value!r}, but must be a path or a list of paths")
    return [Path(entry).expanduser() for entry in values]
