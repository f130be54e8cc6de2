"""The command `fprep doctor`. Heavy imports stand inside, so that `--help` answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fschemas.command_line import say
from fschemas.failures import UsageError
from fschemas.preflight import check_paths


def doctor(
    path: Annotated[Path, typer.Argument(help="Folder, archive or annotation file to look at.")],
    trial: Annotated[
        bool, typer.Option("--try", help="Convert 200 rows of what is found, without writing anything.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Look at so many names at most.")] = None,
    follow_links: Annotated[
        bool,
        typer.Option("--follow-links", help="Look behind links that leave the folder, as convert with this option."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Say which data set lies in a folder, what is wrong with it, and the line that converts it."""
    check_paths([path], "no such file or folder; name the folder that the archive was unpacked into")

    from fprep.doctor.command import doctor as run_doctor
    from fschemas.progress import Reporter

    with Reporter(unit="entries", quiet=quiet) as report:
        checkup = run_doctor(
            path, limit=limit, try_rows=200 if trial else 0, follow_links=follow_links, progress=report
        )
    say(checkup.to_json(), checkup.to_text(), as_json=as_json)
    if not checkup.commands:
        raise UsageError(f"{path}: nothing here can be converted as it lies")
