"""The command `ftrain join`."""

from pathlib import Path
from typing import Annotated

import typer

from fschemas.command_line import print_result
from fschemas.folders import claim_output
from fschemas.preflight import check_run, check_shards
from fschemas.progress import Reporter
from fschemas.wording import count
from ftrain.cli.options import AsJson, BatchSize, Checkpoint, Device, Quiet, Shards, Workers, command_line


def join(
    shards: Shards,
    runs: Annotated[list[Path], typer.Argument(help="Keypoints runs, or a retrieval run and any others.")],
    run: Annotated[Path, typer.Option(help="Run folder to create.")],
    dim: Annotated[int, typer.Option(min=1, help="Dimension of the joined embedding.")] = 512,
    checkpoint: Checkpoint = "best",
    workers: Workers = None,
    device: Device = "auto",
    batch_size: BatchSize = 64,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Combine several runs into one search model or keypoints ensemble, without training."""
    check_shards(shards)
    for joined in runs:
        check_run(joined)
    claim_output(run, "run")

    from ftrain.search.join import join_runs

    with Reporter(quiet=quiet):
        metadata = join_runs(
            shards, runs, run,
            dim=dim, checkpoint=checkpoint, workers=workers, device=device, batch_size=batch_size, command=command_line(),
        )  # fmt: skip
    text = f"{run}: {count(metadata['runs'], 'run')}, "
    if "input_size" in metadata:
        text += f"heat maps averaged at {metadata['input_size']} pixels"
    else:
        text += f"{count(metadata['parts'], 'part')} in {metadata['dimensions']} dimensions, "
        text += f"fitted on {count(metadata['images'], 'training image')}"
    print_result(metadata, text, as_json=as_json)
