"""Arguments and options shared by several commands of `ftrain`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

Run = Annotated[Path, typer.Argument(help="Run folder of a trained model.")]
Shards = Annotated[str, typer.Argument(help="Folder of a finished shard set, or its URL (any fsspec scheme).")]
ShardSets = Annotated[
    list[str],
    typer.Argument(metavar="SHARDS...", help="Shard sets to train on (fit.mixture); the first one validates."),
]
Checkpoint = Annotated[str, typer.Option(help="best, latest, or a checkpoint name.")]

_MAX_WORKERS = 1024


def _parse_workers(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) > _MAX_WORKERS:
        raise typer.BadParameter(f"{text!r} is neither a number up to {_MAX_WORKERS} nor auto")
    return int(text)


Workers = Annotated[
    int | None,
    typer.Option(
        parser=_parse_workers, metavar="N|auto", show_default="auto", help="Data worker processes, per process."
    ),
]
Threads = Annotated[int | None, typer.Option(min=1, max=1024, help="CPU threads of the model.")]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Device to run on.")]
Transforms = Annotated[
    Literal["auto", "workers", "device"],
    typer.Option(help="Where images are warped and colored; auto: on a GPU, else in the data workers."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Do not show progress.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout; several as JSON Lines.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images per batch.")]
_DETECTOR = "Category or keypoints run that predicts the bounding box, for a run trained with model.crop."
Detector = Annotated[Path | None, typer.Option(help=_DETECTOR)]
Garment = Annotated[str | None, typer.Option(help="Garment in the images; by default predicted by the model.")]
_DIM = "First dimensions of the embedding to use, of a run trained with model.nested_dims; by default all."
Dim = Annotated[int | None, typer.Option(min=2, help=_DIM)]
_TTA = "Test-time augmentation: all views of the task, or the plain image only; by default the setting of the run."
Tta = Annotated[bool | None, typer.Option("--tta/--no-tta", help=_TTA)]

Params = Annotated[Path | None, typer.Option(help="params.yaml; by default the one in the current directory, if any.")]
Profile = Annotated[str | None, typer.Option(help="Profile of params.yaml, or a built-in one.")]
Section = Annotated[
    str | None, typer.Option(help="Section of params.yaml with the profiles; by default the task's name.")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", "-s", metavar="A.B=C", help="Override a parameter; repeatable.")
]


def command_line() -> tuple[str, ...]:
    """Command line of this process, with the program reduced to its name."""
    return (Path(sys.argv[0]).name, *sys.argv[1:])
