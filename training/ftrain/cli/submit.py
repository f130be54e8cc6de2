"""The command `ftrain submit`."""

from pathlib import Path
from typing import Annotated

import typer

from fschemas.command_line import print_result
from fschemas.landmarks import FASHIONAI_24
from fschemas.preflight import check_file, check_run, check_run_or_runs
from fschemas.progress import Reporter
from fschemas.wording import count
from ftrain.cli.options import BatchSize, Checkpoint, Detector, Device, Quiet

_RUN = "Run folder, or a folder of runs named after their garment (trained with --garment)."
_TTA = "Test-time augmentation: all views of the task, or the plain image only."


def submit(
    run: Annotated[Path, typer.Argument(help=_RUN)],
    test: Annotated[Path, typer.Argument(help="test.csv of the challenge, with Images/ next to it.")],
    out: Annotated[Path, typer.Argument(help="CSV file to write.")],
    checkpoint: Checkpoint = "best",
    tta: Annotated[bool, typer.Option("--tta/--no-tta", help=_TTA)] = True,
    device: Device = "auto",
    detector: Detector = None,
    quiet: Quiet = False,
    batch_size: BatchSize = 16,
) -> None:
    """Write the 26-column file of the FashionAI challenge.

    Uses the checkpoint with the best validation NE.
    """
    check_run_or_runs(run, FASHIONAI_24.garments)
    check_run(detector)
    check_file(test, "no such file", "pass the test.csv of the challenge")

    from ftrain.use.submit import write_submission

    with Reporter(quiet=quiet):
        rows = write_submission(
            run, test, out, checkpoint=checkpoint, tta=tta, device=device, batch_size=batch_size, detector=detector
        )
    print_result(rows, f"{out}: {count(rows, 'row')}", as_json=False)
