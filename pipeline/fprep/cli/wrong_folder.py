"""What to say when a conversion was pointed at something else: another data set, a folder of ours, or arguments in another order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fprep.doctor.command import doctor
from fprep.readers.registry import readers
from fschemas.failures import FashionkitError, UsageError
from fschemas.folder_kinds import kind_of_folder

_LOOK_AT = 20_000  # names


def not_a_reader(name: str) -> None:
    """Raise `UsageError` if a path is in the place of the reader."""
    if name in readers() or not ("/" in name or Path(name).exists()):
        return
    found = what_it_is(Path(name))
    raise UsageError(
        f"{name}: the reader comes first, as in `fprep convert READER RAW... OUT`{f'; {name} {found}' if found else ''}"
    )


def look_around(reader: str, raw: Sequence[Path], out: Path) -> str:
    """An addition to an error: what the raw folders are, where they are nothing for this reader; else "".

    A reader of a user's own files takes nearly anything, so that another data set is no surprise there.
    """
    missing = [path for path in raw if not path.exists()]
    if missing and out.is_dir() and any(out.iterdir()):
        return f" (or swap the arguments: {out} exists, and the folder to write comes last)"
    for path in raw:
        if path.exists() and (found := what_it_is(path, but=reader)):
            return f"; {path} {found}"
    return ""


def what_it_is(path: Path, but: str = "") -> str:
    """In words, such as `is a run folder`, or a data set with the line that converts it; "" for what is unknown or `but`."""
    kind = kind_of_folder(path)
    if kind is not None and kind.name != "sample":  # which is raw data
        return f"is {kind.words}"
    try:
        diagnoses = [found for found in doctor(path, limit=_LOOK_AT).diagnoses if found.command]
    except (FashionkitError, OSError):  # what cannot be looked at has an error of its own already
        return ""
    if not diagnoses or any(found.reader == but for found in diagnoses):
        return ""
    return f"looks like {diagnoses[0].reader}; use that reader: {diagnoses[0].command}"
