"""The command `fprep report`. Heavy imports stand inside, so that `--help` answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fschemas.command_line import say
from fschemas.preflight import check_tables
from fschemas.wording import count


def report(
    table: Annotated[Path, typer.Argument(help="table.parquet, or the folder that holds it.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.html", help="The page to write.")],
    audit: Annotated[Path | None, typer.Option(help="audit.parquet, if it does not lie beside the table.")] = None,
    images: Annotated[Path | None, typer.Option(help="Raw root, if it is no longer where convert found it.")] = None,
    no_images: Annotated[bool, typer.Option("--no-images", help="Make a page without images.")] = False,
    max_images: Annotated[
        int, typer.Option(min=0, max=2000, help="At most so many images, which decide the size of the page.")
    ] = 60,
    follow_links: Annotated[
        bool,
        typer.Option("--follow-links", help="Open images behind links that leave the raw root; as convert, if it did."),
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Take only so many rows, evenly spread.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Make the page, but write nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Show a table as one page of HTML: counts, images with their labels drawn, and what is wrong."""
    check_tables([table])

    from fprep.report.command import write_page
    from fschemas.progress import Reporter

    with Reporter(quiet=quiet) as reporter:
        values = write_page(
            table, out, audit=audit, images="none" if no_images else images and str(images), max_images=max_images, limit=limit, follow_links=follow_links, dry_run=dry_run,
            progress=reporter,
        )  # fmt: skip
    gone = f", {len(values['missing'])} could not be shown" if values["missing"] else ""
    size = f"{values['bytes'] / 1e6:.1f} MB"
    verb = "would be written: " if dry_run else ""
    lines = [f"{out}: {verb}{count(values['rows'], 'row')}, {count(values['images'], 'image')}{gone}, {size}"]
    lines += [f"note: {remark}" for remark in values["remarks"]]
    say(values, "\n".join(lines), as_json=as_json)
