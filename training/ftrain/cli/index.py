"""The command `ftrain index`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from fschemas.command_line import print_result
from fschemas.failures import UsageError
from fschemas.folders import claim_output
from fschemas.preflight import check_checkpoint, check_run, check_shards
from fschemas.progress import Reporter
from fschemas.wording import count
from ftrain.cli.options import AsJson, BatchSize, Checkpoint, Device, Dim, Quiet, Run, Shards, Workers

_KIND = "Exact search, or approximate search with faiss: inverted lists or a graph, tuned by a sweep."
_SPLIT = "Split, or several: query+gallery; by default the gallery, or all splits if there is none."


def index(
    run: Run,
    shards: Shards,
    out: Annotated[Path, typer.Argument(help="Folder of the index; an existing one is replaced.")],
    kind: Annotated[Literal["exact", "ivf", "hnsw"], typer.Option(help=_KIND)] = "exact",
    recall: Annotated[float, typer.Option(help="Target recall@20 of approximate search.")] = 0.98,
    split: Annotated[str | None, typer.Option(help=_SPLIT)] = None,
    color: Annotated[bool, typer.Option("--color/--no-color", help="Also index colors.")] = True,
    dim: Dim = None,
    checkpoint: Checkpoint = "best",
    workers: Workers = None,
    device: Device = "auto",
    batch_size: BatchSize = 64,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Index a shard set by embedding and color for `ftrain query`."""
    check_run(run)
    check_checkpoint(run, checkpoint)
    check_shards(shards)
    if not 0 < recall <= 1:
        raise UsageError(f"--recall {recall:g}: must be above 0 and at most 1")
    claim_output(out, "index")

    from ftrain.search.approximate import Approximation
    from ftrain.search.build import build_index

    with Reporter(quiet=quiet):
        metadata = build_index(
            run, shards, out,
            splits=split.split("+") if split else None, kind=kind, recall=recall, color=color, dim=dim,
            checkpoint=checkpoint, workers=workers, device=device, batch_size=batch_size,
        )  # fmt: skip
    lines = Approximation.from_json(metadata["approximate"]).lines() if metadata["approximate"] else []
    colors = f", colors of the {metadata['color']}" if metadata["color"] != "none" else ""
    images = f"{count(metadata['samples'], 'image')} of {', '.join(metadata['splits'])}"
    lines.append(f"{out}: {images}, {metadata['dimensions']} dimensions{colors}")
    print_result(metadata, "\n".join(lines), as_json=as_json)
