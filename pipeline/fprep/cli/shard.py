"""The command `fprep shard`. Heavy modules are imported inside it to keep `--help` fast."""

from pathlib import Path
from typing import Annotated

import typer

from fprep.cli.options import AsJson, DryRun, FollowLinks, Quiet, RawRoot, Table, Workers
from fschemas.command_line import print_result
from fschemas.preflight import check_tables
from fschemas.wording import count

_AUGMENT = "Augmentation of the copies: light, geometric, strong, or a YAML file."
_BOXES = "predictions.jsonl of `ftrain predict`; its boxes replace those of the table. Repeatable."
_LOCK = "Split lock of `fprep audit --write-lock`; a table that violates it is rejected."
_SIZE = "Resize images to this long side, in pixels; 0 keeps the original bytes."


def shard(
    table: Table,
    out: Annotated[Path, typer.Argument(help="Folder to write the shard set into.")],
    images: RawRoot = None,
    follow_links: FollowLinks = False,
    size: Annotated[int, typer.Option(min=0, help=_SIZE)] = 0,
    quality: Annotated[int, typer.Option(min=1, max=100, help="JPEG quality of resized and augmented images.")] = 90,
    copies: Annotated[int, typer.Option(min=0, help="Augmented copies of each training image.")] = 0,
    augment: Annotated[str | None, typer.Option(help=_AUGMENT)] = None,
    shard_samples: Annotated[int, typer.Option(min=1, help="Samples per shard.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed for sample order and augmentation.")] = 0,
    workers: Workers = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use at most this many images per split.")] = None,
    boxes: Annotated[list[Path] | None, typer.Option(help=_BOXES)] = None,
    lock: Annotated[Path | None, typer.Option(help=_LOCK)] = None,
    leave_out: Annotated[bool, typer.Option("--leave-out", help="Leave out images that violate the lock.")] = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write a table and its images as WebDataset shards."""
    check_tables([table])

    from fprep.shard.command import shard as run_shard
    from fschemas.progress import Reporter

    with Reporter(quiet=quiet) as report:
        summary = run_shard(
            table, out, images=images, follow_links=follow_links, size=size or None, quality=quality, copies=copies, augment=augment,
            shard_samples=shard_samples, seed=seed, workers=workers or 0, limit=limit, boxes=boxes or (), lock=lock, leave_out=leave_out,
            dry_run=dry_run,
            progress=lambda done, total: report("sharding", done, total),
        )  # fmt: skip
    splits = ", ".join(f"{number} {split}" for split, number in summary["splits"].items())
    state = "nothing to do: " if summary["unchanged"] else ""
    size_of_set = f"{count(summary['shards'], 'shard')} ({summary['reused']} kept), {summary['bytes'] / 1e6:.1f} MB"
    print_result(summary, f"{out}: {state}{size_of_set}, {splits}", as_json=as_json)
