"""Commands of `ftrain` that use trained models: predict, describe, export, summary, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from fschemas.command_line import print_result, print_results
from fschemas.failures import UsageError
from fschemas.folders import claim_output
from fschemas.preflight import check_checkpoint, check_image_file, check_paths, check_run, check_shards, is_shard_set
from fschemas.progress import Reporter
from fschemas.wording import count
from ftrain.cli.options import BatchSize, Checkpoint, Detector, Device, Quiet, Run, Tta


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the app."""
    for command in (predict, describe, export, summary, compare):
        app.command(rich_help_panel="Use")(command)


def predict(
    run: Run,
    images: Annotated[list[str], typer.Argument(help="Images, folders of images, or one finished shard set.")],
    out: Annotated[Path, typer.Option(help="Folder for predictions.jsonl and the overlays.")],
    split: Annotated[str, typer.Option(help="Split of a shard set, or several: train+val+test.")] = "test",
    category: Annotated[
        str | None, typer.Option(help="Garment in all images; named by the model if not given.")
    ] = None,
    overlays: Annotated[bool, typer.Option("--overlays/--no-overlays", help="Draw each answer on its image.")] = True,
    checkpoint: Checkpoint = "best",
    tta: Tta = None,
    device: Device = "auto",
    detector: Detector = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Predict only the first images.")] = None,
    batch_size: BatchSize = 16,
    quiet: Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the predictions as JSON lines.")] = False,
) -> None:
    """Predict images: one JSON line and one overlay image each.

    Exit code 3 if some images cannot be read.
    """
    check_run(run)
    check_checkpoint(run, checkpoint)
    check_run(detector)
    from_shards = len(images) == 1 and is_shard_set(images[0])
    if not from_shards:
        check_paths([Path(image) for image in images], "no such image or folder")
        from ftrain.data.user_images import check_images

        check_images([Path(image) for image in images])
    claim_output(out, "predictions")

    from ftrain.layers.lazy_packages import defer_unused

    defer_unused()
    from ftrain.use.predict import PredictOptions, predict_images, predict_samples, refuse_broken
    from ftrain.use.predictor import SEEN

    options = PredictOptions(category, checkpoint, tta, device, limit, batch_size, overlays, detector)
    with Reporter(quiet=quiet):
        if from_shards:
            answers = predict_samples(run, images[0], out, split=split, options=options)
        else:
            answers = predict_images(run, [Path(image) for image in images], out, options)
    text = f"{count(len(answers), 'image')}: {out}/predictions.jsonl{f' and {out}/overlays/' if overlays else ''}"
    if any(answer.get(SEEN, "") is None for answer in answers):
        text = (
            f"{text}\n{run} was trained on boxes and was shown whole images; name a run that finds them with --detector"
        )
    print_results(answers, text, as_json=as_json)
    refuse_broken(answers, out)


def describe(
    image: Annotated[Path, typer.Argument(help="An image.")],
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders of trained models.")],
    out: Annotated[Path | None, typer.Option(help="Folder for description.json and description.jpg.")] = None,
    category: Annotated[str | None, typer.Option(help="Garment in the image, for models that can be told.")] = None,
    detector: Detector = None,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the description as JSON.")] = False,
) -> None:
    """Predict one image with several models: one JSON document and one image."""
    check_image_file(image)
    for one in (*runs, detector):
        check_run(one)
    if out is not None:
        claim_output(out, "description")

    from ftrain.use.describe import describe_image, description_lines

    description = describe_image(image, runs, out, category=category, boxes=detector, device=device)
    lines = [*description_lines(description), *([f"written to {out}"] if out else [])]
    print_result(description, "\n".join(lines), as_json=as_json)


def export(
    run: Run,
    out: Annotated[Path, typer.Argument(help="Folder for the model and export.json.")],
    to: Annotated[Literal["onnx", "torch-export"], typer.Option(help="Format.")],
    checkpoint: Checkpoint = "best",
    tolerance: Annotated[
        float, typer.Option(min=0, help="Largest difference allowed, as a share of the largest number.")
    ] = 1e-3,
    seed: Annotated[int, typer.Option(min=0, help="Of the random images that the comparison is made with.")] = 0,
    quiet: Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what export.json holds.")] = False,
) -> None:
    """Export a model that runs without this package.

    Its outputs are first compared with those of the checkpoint.
    """
    check_run(run)
    check_checkpoint(run, checkpoint)
    claim_output(out, "model")

    from ftrain.use.export import difference_lines, export_run

    with Reporter(unit="parts", quiet=quiet):
        note = export_run(run, out, to=to, checkpoint=checkpoint, tolerance=tolerance, seed=seed)
    print_result(note, "\n".join([*difference_lines(note), f"written to {out}"]), as_json=as_json)


def summary(
    run: Annotated[Path | None, typer.Argument(help="Run folder; or name a --task.")] = None,
    task: Annotated[str | None, typer.Option(help="Name of a task, where there is no run yet.")] = None,
    profile: Annotated[str | None, typer.Option(help="Profile of params.yaml, or of ftrain itself.")] = None,
    params: Annotated[Path | None, typer.Option(help="params.yaml; the one here if there is one.")] = None,
    shards: Annotated[
        str | None,
        typer.Option(
            help="Shard set whose classes and landmarks count; without it those of the data set that the task was published on."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", "-s", metavar="A.B=C", help="Override a parameter.")
    ] = None,
    depth: Annotated[int, typer.Option(min=1, help="How far to go into modules.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Print parameters, multiply-adds per image and output shapes by module."""
    from ftrain.fit.config_values import check_config
    from ftrain.fit.profiles import params_here

    if (run is None) == (task is None):
        raise UsageError("give either a run folder or a --task")
    check_run(run)
    check_shards(shards)
    check_paths([params], "no such file")
    if task is not None:
        check_config(task, params_here(params), profile, overrides or [])

    from ftrain.use.summary import network_of, summarize, summary_lines

    network, config = network_of(run, task, profile, params, shards, overrides or [])
    found = summarize(network, config, depth=depth)
    lines = list(summary_lines(found))
    if run is None and shards is None:
        lines.append(
            "for the classes and landmarks of the data set that the task was published on; give --shards for yours"
        )
    print_result(found, "\n".join(lines), as_json=as_json)


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, two or more.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for comparison.csv, comparison.json and comparison.png.")
    ] = None,
    evaluations: Annotated[
        Path | None, typer.Option(help="Folder with the evaluations, named like the runs, as dvc.yaml writes them.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Compare runs: differing parameters, and metrics with their intervals."""
    for run in runs:
        check_run(run)
    check_paths([evaluations], "no such folder of evaluations")
    if out is not None:
        claim_output(out, "comparison")

    from ftrain.use.compare import compare_runs, comparison_lines

    found = compare_runs(runs, out, reports=evaluations)
    lines = [*comparison_lines(found), *([f"written to {out}"] if out else [])]
    print_result(found, "\n".join(lines), as_json=as_json)
