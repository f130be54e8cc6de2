"""The command `fprep report`. Heavy modules are imported inside it to keep `--help` fast."""

from pathlib import Path
from typing import Annotated

import typer

from fprep.cli.options import AsJson, DryRun, FollowLinks, Limit, Quiet, RawRoot, Table
from fschemas.command_line import print_result
from fschemas.preflight import check_tables
from fschemas.wording import count

_MAX_IMAGES = "Maximum number of images; determines the size of the page."


def report(
    table: Table,
    out: Annotated[Path, typer.Argument(metavar="OUT.html", help="The page to write.")],
    audit: Annotated[Path | None, typer.Option(help="audit.parquet, if it is not next to the table.")] = None,
    images: RawRoot = None,
    no_images: Annotated[bool, typer.Option("--no-images", help="Make a page without images.")] = False,
    max_images: Annotated[int, typer.Option(min=0, max=2000, help=_MAX_IMAGES)] = 60,
    follow_links: FollowLinks = False,
    limit: Limit = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write an HTML report of a table, with images and problems."""
    check_tables([table])

    from fprep.report.command import write_page
    from fschemas.progress import Reporter

    with Reporter(quiet=quiet) as reporter:
        values = write_page(
            table, out, audit=audit, images="none" if no_images else images and str(images), max_images=max_images, limit=limit, follow_links=follow_links, dry_run=dry_run,
            progress=reporter,
        )  # fmt: skip
    missing = f", {len(values['missing'])} could not be shown" if values["missing"] else ""
    size = f"{values['bytes'] / 1e6:.1f} MB"
    verb = "would be written: " if dry_run else ""
    lines = [f"{out}: {verb}{count(values['rows'], 'row')}, {count(values['images'], 'image')}{missing}, {size}"]
    lines += [f"note: {remark}" for remark in values["remarks"]]
    print_result(values, "\n".join(lines), as_json=as_json)
