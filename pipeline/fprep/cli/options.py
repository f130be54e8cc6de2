"""Options and arguments shared by several commands."""

from pathlib import Path
from typing import Annotated

import typer

Table = Annotated[Path, typer.Argument(help="table.parquet, or the folder that holds it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Do not show progress.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Worker processes; one per core by default.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Use at most this many rows, evenly spaced.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be written; write nothing.")]
RawRoot = Annotated[Path | None, typer.Option("--images", help="Raw root, if it has moved since `fprep convert`.")]
_FOLLOW = "Follow links out of the raw folder; only for folders you trust."
FollowLinks = Annotated[bool, typer.Option("--follow-links", help=_FOLLOW)]
