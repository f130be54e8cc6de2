"""The command `ftrain describe`."""

from pathlib import Path
from typing import Annotated

import typer

from fschemas.command_line import print_result
from fschemas.folders import claim_output
from fschemas.preflight import check_image_file, check_run
from ftrain.cli.options import AsJson, Detector, Device, Garment


def describe(
    image: Annotated[Path, typer.Argument(help="An image.")],
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders of trained models.")],
    out: Annotated[Path | None, typer.Option(help="Folder for description.json and description.jpg.")] = None,
    garment: Garment = None,
    detector: Detector = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Predict one image with several models, as JSON and an image."""
    check_image_file(image)
    for run in (*runs, detector):
        check_run(run)
    if out is not None:
        claim_output(out, "description")

    from ftrain.use.describe import describe_image, description_lines

    description = describe_image(image, runs, out, category=garment, detector=detector, device=device)
    lines = [*description_lines(description), *([f"written to {out}"] if out else [])]
    print_result(description, "\n".join(lines), as_json=as_json)
