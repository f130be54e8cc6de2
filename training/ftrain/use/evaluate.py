"""`ftrain evaluate RUN SHARDS`: predict a split on any number of processes; the main process evaluates and writes."""

from collections.abc import Iterator
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fschemas.failures import RejectedError, UsageError
from fschemas.folders import claim_output
from fschemas.publish import exclusive, publish_bytes, publish_json, publish_sealed
from fschemas.shard_set import ShardSet
from fschemas.wording import count
from ftrain.data.remote import open_shards
from ftrain.data.split_lock import check_lock, lock_digest
from ftrain.data.stream import Encoder, usable_annotations
from ftrain.data.types import EvaluatedSplit, Rows
from ftrain.fit.distributed import Processes, processes
from ftrain.fit.evaluation import results_of_split
from ftrain.fit.run_folder import CURVE_FILES, RunFolder
from ftrain.fit.splits import Splits
from ftrain.inference.detector import Box, CroppedEncoder, detector_for
from ftrain.inference.label_mapping import agree, unknown_labels, unknown_lines
from ftrain.inference.trained_task import to_device
from ftrain.tasks.task import Task, find_task, task_function
from ftrain.use.key_metrics import key_metrics, publish_curves

REPORT_FILE = "report.json"  # all metrics
METRICS_FILE = "metrics.json"  # about ten of them, for `dvc metrics diff` and `dvc exp show`; written last
SUMMARY_FILE = "summary.txt"
SYNTHETIC_NOTE = "synthetic garments: these numbers say little about photographs"


def evaluate_run(
    run: Path,
    shards: str,
    out: Path,
    *,
    split: str = "test",
    checkpoint: str = "best",
    workers: int = 2,
    device: str = "auto",
    batch_size: int = 32,
    tta: bool | None = None,
    allow_collapse: bool = False,
    lock: str = "",
    dim: int | None = None,
    detector: Path | None = None,
) -> dict[str, Any]:
    """Evaluate a run on a split and return the content of `out/report.json` ({} on all processes but the main one).

    `tta` is passed to `Task.set_tta`, `dim` to `Task.set_dim`. Baselines are fitted on the training split of the same
    shard set, and left out if it has none. The shards must carry the split lock that the run was trained under, and
    `lock` (a file or a digest) if given. `detector` is a run that predicts the bounding boxes of a run with
    `model.crop`, instead of the annotated ones.

    `selection` in the report has the split and metric that selected the checkpoint, and how many of the evaluated
    samples did; it is null if the checkpoint was not selected.

    Raises `UsageError` for a run with another landmark set or vocabulary and for a split without samples,
    `IntegrityError` for shards with another lock, `EnvironmentProblem` if another process is writing, and, unless
    `allow_collapse`, `RejectedError` (after everything is written) if one class dominates the predictions.
    """
    out = claim_output(Path(out), "evaluation")
    folder, opened = RunFolder(Path(run)), open_shards(shards)
    for expected in (lock_digest(lock), folder.config().split_lock):
        check_lock(expected, opened)
    for name in CURVE_FILES:
        folder.check_curve(name)
    cv2.setNumThreads(0)
    with processes(device, workers) as group, exclusive(out) if group.is_main else nullcontext():
        options: Any = {"processes": group, "batch_size": batch_size, "workers": workers}
        task, evaluated, header = _evaluate(folder, opened, group, split, checkpoint, tta, dim, detector, options)
        if not group.is_main:
            return {}
        metrics = {**header, **task_function(task, "report")(task, evaluated, out)}
        publish_bytes(out / SUMMARY_FILE, "".join(f"{line}\n" for line in summary_lines(metrics)).encode())
        publish_curves(folder.path, out, task.selected_by[0])
        publish_sealed(out / REPORT_FILE, metrics)
        publish_json(out / METRICS_FILE, key_metrics(metrics, task.key_metrics))
    if not allow_collapse:
        refuse_collapse(run, metrics)
    return metrics


def refuse_collapse(run: Path, metrics: dict[str, Any]) -> None:
    """Raise `RejectedError` (exit code 3) if one class dominates the predictions of a report."""
    if collapse := _collapsed(metrics):
        raise RejectedError(f"{run}: {collapse}")


def _evaluate(
    folder: RunFolder, shards: ShardSet, group: Processes, split: str, checkpoint: str, tta: bool | None,
    dim: int | None, detector: Path | None, options: dict[str, Any],
) -> tuple[Task, EvaluatedSplit, dict[str, Any]]:  # fmt: skip
    task, config, state = folder.load(checkpoint)
    given, shards = shards, agree(task, folder.path, shards)
    task.set_tta(tta)
    if dim is not None:
        task.set_dim(dim)
    to_device(task, group.device)
    splits = Splits(task, config, shards)
    rows = splits.evaluated(split)
    try:
        with usable_annotations(shards):
            task.check_validation(Rows(shards, rows))
    except UsageError as error:
        raise UsageError(
            f"{shards.location}: the split {split!r} cannot be evaluated: {error}; choose another --split"
        ) from None
    predict: Any = partial(results_of_split, shards=shards, rows=rows, **options)
    finder, boxes = detector_for(task, detector, group.device), None
    if finder is not None:
        find: Any = partial(predict, stage="finding the garment")
        boxes = finder.boxes_of_split(shards, lambda model, whole: find(model, encoder=whole))
    results, baseline = predict(task, stage="evaluating", encoder=_encoder(task, boxes)), task.untrained()
    untrained = None
    if baseline is not None:
        model = to_device(baseline, group.device)
        untrained = predict(model, stage="baseline", encoder=_encoder(model, boxes))
    header: dict[str, Any] = {
        "task": task.name,
        "dataset": shards.metadata.get("dataset"),
        "split": split,
        "samples": len(rows),
        "checkpoint_step": state.step,
        **({"dim": dim} if dim is not None else {}),
        "selection": None,
    }
    if state.best.get("step") == state.step:
        trained_on, chosen = folder.dataset(), np.empty(0, np.int64)
        first = trained_on.get("sets", [trained_on])[0]  # the set that validated; several have united vocabularies
        if given.metadata.get("dataset") == first.get("dataset") and (
            "sets" in trained_on or given.metadata["vocabularies"] == trained_on["vocabularies"]
        ):
            with suppress(UsageError):  # a set without the split that validated
                chosen = splits.validation()
        shared = len(np.intersect1d(rows, chosen))
        header["selection"] = {
            "split": splits.validation_split, "metric": state.best["metric"], "evaluated_samples": shared,
        }  # fmt: skip
    if finder is not None:
        header["crops"] = f"the boxes that {detector.name if detector else 'the run itself'} predicts"
    if unknown := unknown_labels(task, given, split):
        header["unknown_labels"] = unknown
    if shards.metadata.get("synthetic"):
        header["note"] = SYNTHETIC_NOTE
    return task, EvaluatedSplit(results, shards, split, splits.training_images(), untrained), header


def _encoder(task: Task, boxes: dict[int, Box] | None) -> Encoder:
    """Return the encoder of a task, shown the boxes that a detector found."""
    return task.encoder if boxes is None else CroppedEncoder(task.encoder, boxes)


def summary_lines(metrics: dict[str, Any]) -> Iterator[str]:
    """Format the metrics as a short text table."""
    if not metrics:
        return
    yield (
        f"{metrics['task']} at step {metrics['checkpoint_step']}: "
        f"{count(metrics['samples'], 'sample')} of {metrics['split']} of {metrics['dataset']}"
    )
    yield from task_function(find_task(metrics["task"]), "summary")(metrics)
    if collapse := _collapsed(metrics):
        yield f"WARNING: {collapse}"
    selection = metrics["selection"]
    if selection is None:
        yield "NOTE: validation did not select this checkpoint, the last one of the run unless --checkpoint chose another"
    elif number := selection["evaluated_samples"]:
        yield (
            f"WARNING: {number} of the {count(metrics['samples'], 'sample')} selected the checkpoint (by {selection['metric']} on "
            f"{selection['split']}), so these metrics are too good; evaluate another split, or train with validation_split=holdout"
        )
    for line in unknown_lines(metrics.get("unknown_labels", {})):
        yield f"NOTE: {line}"
    if "crops" in metrics:
        yield f"NOTE: cropped to {metrics['crops']}"
    if "note" in metrics:
        yield f"NOTE: {metrics['note']}"


def _collapsed(metrics: dict[str, Any]) -> str:
    """Return a message if the `collapse` section of a report shows that the model collapsed, else ""."""
    found = metrics.get("collapse")
    if not found or not found["collapsed"]:
        return ""
    what = found.get("sentence") or (
        f"it predicts {found['answer']!r} for {found['share']:.0%} of the images, but only {found['true_share']:.0%} are"
    )
    return f"the model collapsed: {what}; train longer, balance the classes (fit.sampler=balanced) or lower the learning rate"
