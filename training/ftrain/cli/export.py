"""The command `ftrain export`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from fschemas.command_line import print_result
from fschemas.folders import claim_output
from fschemas.preflight import check_checkpoint, check_run
from fschemas.progress import Reporter
from ftrain.cli.options import AsJson, Checkpoint, Quiet, Run

_TOLERANCE = "Largest allowed difference, relative to the largest output."


def export(
    run: Run,
    out: Annotated[Path, typer.Argument(help="Folder for the model and export.json.")],
    to: Annotated[Literal["onnx", "torch-export"], typer.Option(help="Format.")],
    checkpoint: Checkpoint = "best",
    tolerance: Annotated[float, typer.Option(min=0, help=_TOLERANCE)] = 1e-3,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random test images.")] = 0,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Export a model that runs without this package.

    Its outputs are first compared with those of the checkpoint.
    """
    check_run(run)
    check_checkpoint(run, checkpoint)
    claim_output(out, "model")

    from ftrain.use.export import difference_lines, export_run

    with Reporter(unit="parts", quiet=quiet):
        metadata = export_run(run, out, to=to, checkpoint=checkpoint, tolerance=tolerance, seed=seed)
    print_result(metadata, "\n".join([*difference_lines(metadata), f"written to {out}"]), as_json=as_json)
