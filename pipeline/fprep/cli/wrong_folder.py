"""Hints for a conversion of the wrong input: another data set, a fashionkit output folder, or swapped arguments."""

from collections.abc import Sequence
from pathlib import Path

from fprep.doctor.command import doctor
from fprep.readers.registry import readers
from fschemas.failures import FashionkitError, UsageError
from fschemas.folder_kinds import kind_of_folder

_MAX_NAMES = 20_000  # maximum number of file names that doctor reads


def refuse_path(name: str) -> None:
    """Raise `UsageError` if the reader argument is a path."""
    if name in readers() or not ("/" in name or Path(name).exists()):
        return
    found = describe_path(Path(name))
    raise UsageError(
        f"{name}: the reader comes first, as in `fprep convert READER RAW... OUT`{f'; {name} {found}' if found else ''}"
    )


def input_hint(reader: str, raw: Sequence[Path], out: Path) -> str:
    """Return a hint to append to an error: what the raw folders contain if this reader cannot read them, else "".

    Readers of a user's own files accept almost any folder, so a folder of another data set may fail only later.
    """
    missing = [path for path in raw if not path.exists()]
    if missing and out.is_dir() and any(out.iterdir()):
        return f" (or swap the arguments: {out} exists, and the folder to write comes last)"
    for path in raw:
        if path.exists() and (found := describe_path(path, ignored_reader=reader)):
            return f"; {path} {found}"
    return ""


def describe_path(path: Path, ignored_reader: str = "") -> str:
    """Describe a path: `is a run folder`, or the data set and the command that converts it.

    Returns "" if the content is unknown or belongs to `ignored_reader`.
    """
    kind = kind_of_folder(path)
    if kind is not None and kind.name != "sample":  # a sample folder is raw data
        return f"is {kind.words}"
    try:
        diagnoses = [found for found in doctor(path, limit=_MAX_NAMES).diagnoses if found.command]
    except (FashionkitError, OSError):  # an unreadable path is reported elsewhere
        return ""
    if not diagnoses or any(found.reader == ignored_reader for found in diagnoses):
        return ""
    return f"looks like {diagnoses[0].reader}; use that reader: {diagnoses[0].command}"
