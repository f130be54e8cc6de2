"""The command `fprep doctor`. Heavy modules are imported inside it to keep `--help` fast."""

from pathlib import Path
from typing import Annotated

import typer

from fprep.cli.options import AsJson, FollowLinks, Quiet
from fschemas.command_line import print_result
from fschemas.failures import UsageError
from fschemas.preflight import check_paths

_TRY = "Convert 200 rows of each data set found, without writing anything."


def doctor(
    path: Annotated[Path, typer.Argument(help="Folder, archive or annotation file to inspect.")],
    trial: Annotated[bool, typer.Option("--try", help=_TRY)] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Read at most this many file names.")] = None,
    follow_links: FollowLinks = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Identify a data set and its problems; print the convert command."""
    check_paths([path], "no such file or folder; choose the folder that the archive was unpacked into")

    from fprep.doctor.command import doctor as run_doctor
    from fschemas.progress import Reporter

    rows = 200 if trial else 0
    with Reporter(unit="entries", quiet=quiet) as report:
        checkup = run_doctor(path, limit=limit, try_rows=rows, follow_links=follow_links, progress=report)
    print_result(checkup.to_json(), checkup.to_text(), as_json=as_json)
    if not checkup.commands:
        raise UsageError(f"{path}: nothing here can be converted yet")
