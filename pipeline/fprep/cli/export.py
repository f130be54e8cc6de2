"""The command `fprep export`. Heavy modules are imported inside it to keep `--help` fast."""

from pathlib import Path
from typing import Annotated

import typer

from fprep.cli.options import AsJson, DryRun, Limit, Quiet, RawRoot, Table
from fschemas.command_line import print_result
from fschemas.preflight import check_tables

_INCLUDE = "hf: include images even if their license does not permit redistribution."
_PREDICTIONS = "label-studio: labels are predictions to be corrected, not ground truth."


def export(
    table: Table,
    out: Annotated[Path, typer.Argument(help="Folder to write; must not contain other files.")],
    to: Annotated[str, typer.Option(help="Format: coco, yolo-pose, label-studio, hf or croissant.")],
    images: RawRoot = None,
    copy: Annotated[bool, typer.Option("--copy", help="yolo-pose: copy images instead of linking them.")] = False,
    include_images: Annotated[bool, typer.Option("--include-images", help=_INCLUDE)] = False,
    predictions: Annotated[bool, typer.Option("--predictions", help=_PREDICTIONS)] = False,
    limit: Limit = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Export a table to the format of another tool."""
    check_tables([table])

    from fprep.export.command import describe
    from fprep.export.command import export as run_export
    from fschemas.progress import Reporter

    with Reporter(quiet=quiet) as report:
        summary = run_export(
            table, out, to, images=images, copy=copy, include_images=include_images, predictions=predictions,
            limit=limit, dry_run=dry_run, progress=lambda done, total: report("exporting", done, total),
        )  # fmt: skip
    print_result(summary, describe(summary, out, dry_run=dry_run), as_json=as_json)
