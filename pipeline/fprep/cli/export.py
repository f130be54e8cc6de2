"""The command `fprep export`. Heavy imports stand inside, so that `--help` answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fschemas.command_line import say
from fschemas.preflight import check_tables


def export(
    table: Annotated[Path, typer.Argument(help="table.parquet, or the folder that holds it.")],
    out: Annotated[Path, typer.Argument(help="Folder to write; it must not hold anything else.")],
    to: Annotated[str, typer.Option(help="Format: coco, yolo-pose, label-studio, hf or croissant.")],
    images: Annotated[Path | None, typer.Option(help="Raw root, if it is no longer where convert found it.")] = None,
    copy: Annotated[bool, typer.Option("--copy", help="yolo-pose: copy images instead of linking them.")] = False,
    include_images: Annotated[
        bool,
        typer.Option("--include-images", help="hf: also images whose license does not say that they may be passed on."),
    ] = False,
    predictions: Annotated[
        bool, typer.Option("--predictions", help="label-studio: labels are guesses to be corrected, not ground truth.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Take only so many rows, evenly spread.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written, write nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Write a table in the format of another tool."""
    check_tables([table])

    from fprep.export.command import describe
    from fprep.export.command import export as run_export
    from fschemas.progress import Reporter

    with Reporter(quiet=quiet) as report:
        summary = run_export(
            table, out, to, images=images, copy=copy, include_images=include_images, predictions=predictions,
            limit=limit, dry_run=dry_run, progress=lambda done, total: report("exporting", done, total),
        )  # fmt: skip
    say(summary, describe(summary, out, dry_run=dry_run), as_json=as_json)
