"""The command `fprep audit`. Heavy imports stand inside, so that `--help` answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from fschemas.command_line import say
from fschemas.preflight import check_tables


def audit(
    tables: Annotated[list[Path], typer.Argument(help="Tables (table.parquet, or the folder) to look at together.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for audit.parquet and audit.txt; that of the first table.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Raw root, if it is no longer where convert found it.")] = None,
    follow_links: Annotated[
        bool,
        typer.Option("--follow-links", help="Open images behind links that leave the raw root; as convert, if it did."),
    ] = False,
    near: Annotated[bool, typer.Option("--near/--no-near", help="Look at the images for near-identical ones.")] = True,
    distance: Annotated[
        int, typer.Option(min=0, max=10, help="Bits of 64 by which near-identical images may differ.")
    ] = 10,
    write_lock: Annotated[
        bool, typer.Option("--write-lock", help="Write splits.lock.json, which shard and ftrain check.")
    ] = False,
    fail_on: Annotated[
        Literal["leak", "error"] | None, typer.Option(help="Exit with code 3 for a leak, or for any error.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes; one per core by default.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Take only so many rows of each table, evenly spread.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look and tell, write nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Find duplicates, leaks between splits and benchmarks, conflicting and implausible labels, and the majority baseline."""
    check_tables(tables)

    from fprep.audit.command import audit as run_audit
    from fprep.audit.command import refuse_findings
    from fschemas.progress import Reporter

    with Reporter(quiet=quiet) as report:
        result = run_audit(
            tables, out=out, images=images, follow_links=follow_links, near=near, distance=distance, lock=write_lock, workers=workers or 0, limit=limit,
            dry_run=dry_run, progress=report,
        )  # fmt: skip
    say(result.to_json(), result.text.removesuffix("\n"), as_json=as_json)
    refuse_findings(result, fail_on)
