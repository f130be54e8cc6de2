"""The command `ftrain evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from fschemas.command_line import print_result
from fschemas.folders import claim_output
from fschemas.preflight import check_checkpoint, check_run, check_shards
from fschemas.progress import Reporter
from ftrain.cli.options import AsJson, BatchSize, Checkpoint, Detector, Device, Dim, Quiet, Run, Shards, Tta, Workers

_ALLOW_COLLAPSE = "Do not fail (exit code 3) if a single class dominates the predictions."
_LOCK = "Split lock that the shards must match, in addition to that of the run."


def evaluate(
    run: Run,
    shards: Shards,
    out: Annotated[Path | None, typer.Option(help="Folder for metrics and plots; RUN/evaluation by default.")] = None,
    split: Annotated[str, typer.Option(help="Split to evaluate.")] = "test",
    checkpoint: Checkpoint = "best",
    workers: Workers = None,
    device: Device = "auto",
    detector: Detector = None,
    batch_size: BatchSize = 32,
    tta: Tta = None,
    dim: Dim = None,
    allow_collapse: Annotated[bool, typer.Option(help=_ALLOW_COLLAPSE)] = False,
    lock: Annotated[Path | None, typer.Option(help=_LOCK)] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Evaluate a run on a split: metrics, plots and baselines."""
    from ftrain.data.split_lock import lock_digest

    check_run(run)
    check_checkpoint(run, checkpoint)
    check_run(detector)
    check_shards(shards)
    digest, target = lock_digest(str(lock or "")), claim_output(out or run / "evaluation", "evaluation")

    from ftrain.use.evaluate import evaluate_run, refuse_collapse, summary_lines

    with Reporter(quiet=quiet):
        metrics = evaluate_run(
            run, shards, target,
            split=split, checkpoint=checkpoint, workers=workers, device=device, batch_size=batch_size, tta=tta,
            allow_collapse=True,  # refused below, after the output is printed
            lock=digest, dim=dim, detector=detector,
        )  # fmt: skip
    if metrics:  # only the main process of torchrun has metrics
        print_result(metrics, "\n".join([*summary_lines(metrics), f"written to {target}"]), as_json=as_json)
    if not allow_collapse:
        refuse_collapse(run, metrics)
