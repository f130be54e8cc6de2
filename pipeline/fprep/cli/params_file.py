"""Paths from a YAML file instead of the command line.

Names with spaces, quotes, `$` or a leading `-` then never pass through a shell.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from fschemas.failures import UsageError
from fschemas.regular_file import read_regular

_MAX_BYTES = 1 << 20


def raw_and_out(paths: Sequence[Path], raw_from: str | None) -> tuple[list[Path], Path]:
    """Return the raw folders and the output folder of `fprep convert`.

    If `raw_from` (FILE:KEY) is given, `paths` must hold the output folder only.
    """
    if raw_from is None:
        if len(paths) < 2:
            raise UsageError(
                "convert needs at least one raw folder and the folder to write: fprep convert DATASET RAW... OUT"
            )
        return list(paths[:-1]), paths[-1]
    if len(paths) != 1:
        raise UsageError(f"--raw-from {raw_from}: it contains the raw folder, so pass only the folder to write")
    return paths_from(raw_from), paths[0]


def paths_from(reference: str) -> list[Path]:
    """Return the path or list of paths at FILE:KEY, such as `params.yaml:datasets.kfashion.raw`, with `~` expanded.

    Raises `UsageError` if the file or key is missing, or the value is not a path.
    """
    name, colon, key = reference.rpartition(":")
    if not colon or not key:
        raise UsageError(f"--raw-from {reference}: expected FILE:KEY, such as params.yaml:datasets.kfashion.raw")
    file = Path(name)
    if not file.exists():
        raise UsageError(f"--raw-from {reference}: {name} does not exist")
    try:
        value: Any = yaml.safe_load(read_regular(file, _MAX_BYTES))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{name}: not YAML ({' '.join(str(error).split())[:100]}); fix it") from None
    for step in key.split("."):
        if not isinstance(value, dict) or step not in value:
            raise UsageError(f"--raw-from {reference}: {name} has no key {key} ({step!r} is missing)")
        value = value[step]
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(entry, str) and entry for entry in values):
        raise UsageError(f"--raw-from {reference}: {key} is {value!r}, but must be a path or a list of paths")
    return [Path(entry).expanduser() for entry in values]
