"""Arguments and options shared by several commands of `ftrain`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

Run = Annotated[Path, typer.Argument(help="Run folder of a trained model.")]
Shards = Annotated[str, typer.Argument(help="Folder of a finished shard set, or its URL (any fsspec scheme).")]
Checkpoint = Annotated[str, typer.Option(help="best, latest, or the name of a checkpoint.")]
Workers = Annotated[int, typer.Option(min=0, help="Data worker processes.")]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Detector = Annotated[
    Path | None,
    typer.Option(help="Run of category that finds the garment's box, for a run trained with model.crop=box."),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images at a time.")]
Tta = Annotated[
    bool | None,
    typer.Option(
        "--tta/--no-tta",
        help="Test-time augmentation: every view of the task, or the plain image alone; as the run says if not given.",
    ),
]


def command_line() -> tuple[str, ...]:
    """Command line of this process, with the program reduced to its name."""
    return (Path(sys.argv[0]).name, *sys.argv[1:])
