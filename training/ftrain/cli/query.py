"""The command `ftrain query`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from fschemas.command_line import print_results
from fschemas.folders import claim_output
from fschemas.preflight import check_index, check_paths, check_run, check_shards
from fschemas.progress import Reporter
from fschemas.wording import count
from ftrain.cli.options import AsJson, BatchSize, Detector, Device, Quiet

_COLOR_WEIGHT = "Weight of color similarity, relative to the embedding."
_RERANK = "Re-rank the top results by k-reciprocal neighbors."


def query(
    index: Annotated[Path, typer.Argument(help="Folder of an index.")],
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    out: Annotated[Path, typer.Option(help="Folder for results.jsonl and the contact sheets.")],
    metric: Annotated[Literal["cosine", "euclidean"], typer.Option(help="Similarity metric.")] = "cosine",
    color_weight: Annotated[float, typer.Option(min=0.0, help=_COLOR_WEIGHT)] = 0.0,
    top: Annotated[int, typer.Option(min=1, help="Results per query.")] = 10,
    rerank: Annotated[bool, typer.Option("--rerank", help=_RERANK)] = False,
    run: Annotated[Path | None, typer.Option(help="Run folder of the index, if it was moved.")] = None,
    shards: Annotated[str | None, typer.Option(help="Shard set of the index, if it was moved.")] = None,
    detector: Detector = None,
    item: Annotated[str | None, typer.Option(help="Item shown in the images, to mark hits.")] = None,
    device: Device = "auto",
    batch_size: BatchSize = 16,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Find the most similar images: JSON Lines and contact sheets.

    Exit code 3 if some images cannot be read.
    """
    check_index(index)
    check_run(run)
    check_run(detector)
    check_shards(shards)
    check_paths(images, "no such image or folder")
    claim_output(out, "query")

    from ftrain.data.user_images import check_images

    check_images(images)

    from ftrain.inference.prediction_file import refuse_unreadable
    from ftrain.search.query import RESULTS_FILE, query_index

    with Reporter(quiet=quiet):
        results = query_index(
            index, images, out,
            metric=metric, color_weight=color_weight, top=top, rerank=rerank, run=run, shards=shards, detector=detector,
            item=item, device=device, batch_size=batch_size,
        )  # fmt: skip
    text = f"{count(len(results), 'image')}: {out}/results.jsonl and {out}/sheets/"
    print_results(results, text, as_json=as_json)
    refuse_unreadable(results, out / RESULTS_FILE)
