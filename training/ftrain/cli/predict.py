"""The command `ftrain predict`."""

from pathlib import Path
from typing import Annotated

import typer

from fschemas.command_line import print_results
from fschemas.folders import claim_output
from fschemas.preflight import check_checkpoint, check_paths, check_run, is_shard_set
from fschemas.progress import Reporter
from fschemas.wording import count
from ftrain.cli.options import AsJson, BatchSize, Checkpoint, Detector, Device, Garment, Quiet, Run, Tta

_OVERLAYS = "Draw each prediction on its image."


def predict(
    run: Run,
    images: Annotated[list[str], typer.Argument(help="Images, folders of images, or one finished shard set.")],
    out: Annotated[Path, typer.Option(help="Folder for predictions.jsonl and the overlays.")],
    split: Annotated[str, typer.Option(help="Split of a shard set, or several: train+val+test.")] = "test",
    garment: Garment = None,
    overlays: Annotated[bool, typer.Option("--overlays/--no-overlays", help=_OVERLAYS)] = True,
    checkpoint: Checkpoint = "best",
    tta: Tta = None,
    device: Device = "auto",
    detector: Detector = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Predict only the first N images.")] = None,
    batch_size: BatchSize = 16,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Predict images; write JSON Lines and one overlay per image.

    Exit code 3 if some images cannot be read.
    """
    check_run(run)
    check_checkpoint(run, checkpoint)
    check_run(detector)
    from_shards = len(images) == 1 and is_shard_set(images[0])
    paths = [Path(image) for image in images]
    if not from_shards:
        check_paths(paths, "no such image or folder")
        from ftrain.data.user_images import check_images

        check_images(paths)
    claim_output(out, "predictions")

    from ftrain.lazy_imports import defer_unused

    defer_unused()
    from ftrain.inference.prediction_file import refuse_unreadable
    from ftrain.use.predict import PREDICTIONS_FILE, PredictOptions, predict_images, predict_samples
    from ftrain.use.predictor import SEEN

    options = PredictOptions(garment, checkpoint, tta, device, limit, batch_size, overlays, detector)
    with Reporter(quiet=quiet):
        if from_shards:
            predictions = predict_samples(run, images[0], out, split=split, options=options)
        else:
            predictions = predict_images(run, paths, out, options)
    text = f"{count(len(predictions), 'image')}: {out}/predictions.jsonl{f' and {out}/overlays/' if overlays else ''}"
    if any(prediction.get(SEEN, "") is None for prediction in predictions):
        text += f"\n{run} was trained on boxes but got whole images; choose a run that predicts boxes with --detector"
    print_results(predictions, text, as_json=as_json)
    refuse_unreadable(predictions, out / PREDICTIONS_FILE)
