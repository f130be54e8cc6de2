"""The command `fprep sample`. Heavy modules are imported inside it to keep `--help` fast."""

from pathlib import Path
from typing import Annotated

import typer

from fprep.cli.options import AsJson, DryRun, Quiet, Workers
from fschemas.command_line import print_result

_DEFECTS = "Insert the defects found in real archives, and list them in defects.json."
_NUM_IMAGES = "Number of images: 1000, or the published number with --no-images."
_WITH_IMAGES = "Render images, or write annotations only."


def sample(
    dataset: Annotated[str, typer.Argument(help="Data set whose raw layout to write, such as fashionai-keypoints.")],
    out: Annotated[Path, typer.Argument(help="Folder to write the raw tree into.")],
    num_images: Annotated[int | None, typer.Option(min=1, help=_NUM_IMAGES)] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the garments.")] = 0,
    defects: Annotated[bool, typer.Option("--defects", help=_DEFECTS)] = False,
    with_images: Annotated[bool, typer.Option("--with-images/--no-images", help=_WITH_IMAGES)] = True,
    workers: Workers = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Render a synthetic data set in the raw layout of a real one."""
    from fprep.synthetic.command import find_sample, published_images
    from fschemas.cores import available_cores
    from fschemas.progress import Reporter

    writer = find_sample(dataset)
    images = num_images or (1000 if with_images else published_images(dataset))
    if dry_run:
        what = "images and their annotations" if with_images else "rows of annotation"
        text = f"{out}: would get {images} {what} of {dataset}"
        print_result({"dataset": dataset, "images": images}, text, as_json=as_json)
        return
    with Reporter(quiet=quiet) as report:
        counts = writer(
            out, images=images, seed=seed, workers=workers or available_cores(), defects=defects, with_images=with_images,
            progress=lambda done: report.advance("rendering", done, images),
        )  # fmt: skip
    text = ", ".join(f"{value} {name}" for name, value in counts.items())
    print_result(counts, f"{out}: {text}", as_json=as_json)
