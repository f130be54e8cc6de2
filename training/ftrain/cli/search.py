"""`ftrain join`, `ftrain index` and `ftrain query`: combine runs, index a shard set, search for similar images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from fschemas.command_line import print_result, print_results
from fschemas.failures import UsageError
from fschemas.folders import claim_output
from fschemas.preflight import check_checkpoint, check_index, check_paths, check_run, check_shards
from fschemas.progress import Reporter
from fschemas.wording import count
from ftrain.cli.options import BatchSize, Checkpoint, Detector, Device, Quiet, Run, Shards, Workers, command_line


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the app."""
    app.command(rich_help_panel="Use")(join)
    app.command(rich_help_panel="Use")(index)
    app.command(rich_help_panel="Use")(query)


def join(
    shards: Shards,
    runs: Annotated[list[Path], typer.Argument(help="Runs to search with together; one at least of retrieval.")],
    run: Annotated[Path, typer.Option(help="Run folder to write.")],
    dim: Annotated[int, typer.Option(min=1, help="Length of the joined embedding.")] = 512,
    checkpoint: Checkpoint = "best",
    workers: Workers = 2,
    device: Device = "auto",
    batch_size: BatchSize = 64,
    quiet: Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Combine several runs into one search model, without training."""
    check_shards(shards)
    for one in runs:
        check_run(one)
    claim_output(run, "run")

    from ftrain.search.join import join_runs

    with Reporter(quiet=quiet):
        made = join_runs(
            shards, runs, run,
            dim=dim, checkpoint=checkpoint, workers=workers, device=device, batch_size=batch_size, command=command_line(),
        )  # fmt: skip
    text = (
        f"{run}: {count(made['runs'], 'run')}, {count(made['parts'], 'part')} in {made['dimensions']} dimensions, "
        f"fitted on {count(made['images'], 'training image')}"
    )
    print_result(made, text, as_json=as_json)


def index(
    run: Run,
    shards: Shards,
    out: Annotated[Path, typer.Argument(help="Folder of the index; an existing one is replaced.")],
    kind: Annotated[
        Literal["exact", "ivf", "hnsw"],
        typer.Option(help="Exact search, or lists or a graph (faiss) that a sweep tunes."),
    ] = "exact",
    recall: Annotated[float, typer.Option(help="Recall@20 that approximate search shall reach.")] = 0.98,
    split: Annotated[
        str | None, typer.Option(help="Split, or several as in query+gallery; the gallery if there is one, or all.")
    ] = None,
    color: Annotated[bool, typer.Option("--color/--no-color", help="Index colors too.")] = True,
    checkpoint: Checkpoint = "best",
    workers: Workers = 2,
    device: Device = "auto",
    batch_size: BatchSize = 64,
    quiet: Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what index.json holds.")] = False,
) -> None:
    """Index the images of a shard set by embedding and color, for `ftrain query`."""
    check_run(run)
    check_checkpoint(run, checkpoint)
    check_shards(shards)
    if not 0 < recall <= 1:
        raise UsageError(f"--recall {recall:g}: take a share above 0 and not above 1")
    claim_output(out, "index")

    from ftrain.search.approximate import Approximation
    from ftrain.search.build import build_index

    with Reporter(quiet=quiet):
        note = build_index(
            run, shards, out, splits=split.split("+") if split else None, kind=kind, recall=recall, color=color, checkpoint=checkpoint, workers=workers,
            device=device, batch_size=batch_size,
        )  # fmt: skip
    lines = Approximation.from_json(note["approximate"]).lines() if note["approximate"] else []
    colors = f", colors of the {note['color']}" if note["color"] != "none" else ""
    text = f"{out}: {count(note['samples'], 'image')} of {', '.join(note['splits'])}, {note['dimensions']} dimensions{colors}"
    print_result(note, "\n".join([*lines, text]), as_json=as_json)


def query(
    folder: Annotated[Path, typer.Argument(metavar="INDEX", help="Folder of an index.")],
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    out: Annotated[Path, typer.Option(help="Folder for results.jsonl and the contact sheets.")],
    metric: Annotated[Literal["cosine", "euclidean"], typer.Option(help="How alike two features are.")] = "cosine",
    color_weight: Annotated[
        float, typer.Option(min=0.0, help="Weight of the similarity of colors; that of deep features is 1.")
    ] = 0.0,
    top: Annotated[int, typer.Option(min=1, help="Results per query.")] = 10,
    rerank: Annotated[bool, typer.Option("--rerank", help="Re-rank the best by k-reciprocal neighbors.")] = False,
    run: Annotated[Path | None, typer.Option(help="Run folder of the index, if it is not where it was.")] = None,
    shards: Annotated[str | None, typer.Option(help="Shard set of the index, if it is not where it was.")] = None,
    detector: Detector = None,
    item: Annotated[str | None, typer.Option(help="Item that the images show, to mark hits.")] = None,
    device: Device = "auto",
    batch_size: BatchSize = 16,
    quiet: Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON lines.")] = False,
) -> None:
    """Find the most similar images of an index: JSON lines and contact sheets.

    Exit code 3 if images cannot be read.
    """
    check_index(folder)
    check_run(run)
    check_run(detector)
    check_shards(shards)
    check_paths(images, "no such image or folder")
    claim_output(out, "query")

    from ftrain.data.user_images import check_images

    check_images(images)

    from ftrain.search.query import query_index, refuse_broken

    with Reporter(quiet=quiet):
        answers = query_index(
            folder, images, out, metric=metric, color_weight=color_weight, top=top, rerank=rerank, run=run, shards=shards, boxes=detector,
            item=item, device=device, batch_size=batch_size,
        )  # fmt: skip
    print_results(answers, f"{count(len(answers), 'image')}: {out}/results.jsonl and {out}/sheets/", as_json=as_json)
    refuse_broken(answers, out)
