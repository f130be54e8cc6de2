"""The command `fprep lint`. Heavy modules are imported inside it to keep `--help` fast."""

from pathlib import Path
from typing import Annotated

import typer

from fprep.cli.options import AsJson, Quiet
from fschemas.command_line import print_result
from fschemas.failures import IntegrityError
from fschemas.preflight import check_shards
from fschemas.wording import count

_LIMIT = "Check at most this many images per split."


def lint(
    shards: Annotated[Path, typer.Argument(help="Folder of a finished shard set.")],
    loaders: Annotated[bool, typer.Option(help="Also read the set with `datasets` and `webdataset`.")] = True,
    limit: Annotated[int | None, typer.Option(min=1, help=_LIMIT)] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Check a finished shard set, including that loaders can read it."""
    check_shards(shards)

    from fprep.lint.command import lint as run_lint
    from fschemas.progress import Reporter

    with Reporter(unit="shards", quiet=quiet) as report:
        findings = run_lint(
            shards, loaders=loaders, sample_limit=limit, progress=lambda done, total: report("linting", done, total)
        )
    values = [
        {"severity": finding.severity, "location": finding.location, "problem": finding.problem} for finding in findings
    ]
    lines = [f"{finding.severity}: {finding.location}: {finding.problem}" for finding in findings]
    print_result(values, "\n".join(lines) or f"{shards}: sound", as_json=as_json)
    if num_errors := sum(finding.severity == "error" for finding in findings):
        errors = count(num_errors, "error")
        raise IntegrityError(f"{shards}: {errors}; delete the damaged files and run `fprep shard` again")
