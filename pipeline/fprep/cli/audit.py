"""The command `fprep audit`. Heavy modules are imported inside it to keep `--help` fast."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from fprep.cli.options import AsJson, DryRun, FollowLinks, Limit, Quiet, RawRoot, Workers
from fschemas.command_line import print_result
from fschemas.preflight import check_tables

_OUT = "Folder for audit.parquet and audit.txt; by default that of the first table."
_DISTANCE = "Maximum Hamming distance of near-identical images, in bits of 64."
_WRITE_LOCK = "Write splits.lock.json, which `fprep shard` and ftrain check."
_FAIL_ON = "Exit with code 3 for a leak, or for any error."


def audit(
    tables: Annotated[list[Path], typer.Argument(help="Tables (table.parquet, or the folder) to audit together.")],
    out: Annotated[Path | None, typer.Option(help=_OUT)] = None,
    images: RawRoot = None,
    follow_links: FollowLinks = False,
    near: Annotated[bool, typer.Option("--near/--no-near", help="Find near-identical images.")] = True,
    distance: Annotated[int, typer.Option(min=0, max=10, help=_DISTANCE)] = 10,
    write_lock: Annotated[bool, typer.Option("--write-lock", help=_WRITE_LOCK)] = False,
    fail_on: Annotated[Literal["leak", "error"] | None, typer.Option(help=_FAIL_ON)] = None,
    workers: Workers = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Find duplicates, leaks and label errors; compute the baseline."""
    check_tables(tables)

    from fprep.audit.command import audit as run_audit
    from fprep.audit.command import refuse_findings
    from fschemas.progress import Reporter

    with Reporter(quiet=quiet) as report:
        result = run_audit(
            tables, out=out, images=images, follow_links=follow_links, near=near, distance=distance, lock=write_lock, workers=workers or 0, limit=limit,
            dry_run=dry_run, progress=report,
        )  # fmt: skip
    print_result(result.to_json(), result.text.removesuffix("\n"), as_json=as_json)
    refuse_findings(result, fail_on)
