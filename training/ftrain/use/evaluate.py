"""`ftrain evaluate RUN SHARDS`: predict a split on any number of processes; the main process evaluates and writes."""

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from fschemas.failures import RejectedError, UsageError
from fschemas.folders import claim_output
from fschemas.publish import exclusive, publish_bytes, publish_json, publish_sealed
from fschemas.shard_set import ShardSet
from fschemas.wording import count
from ftrain.data.remote import open_shards
from ftrain.data.split_lock import check_lock, lock_digest
from ftrain.data.stream import BatchPool, Encoder, evaluation_stream, shared_zeros, usable_annotations
from ftrain.data.types import EvaluatedSplit, Results, Rows
from ftrain.fit.checkpoint_state import TrainingState
from ftrain.fit.distributed import Processes, processes, rank_and_world_size, workers_or_default
from ftrain.fit.evaluation import predict_batches
from ftrain.fit.run_folder import CURVE_FILES, RunFolder
from ftrain.fit.splits import HOLDOUT, Splits
from ftrain.inference.detector import CroppedEncoder, Detector, WholeImages, detector_for
from ftrain.inference.label_mapping import agree, unknown_labels, unknown_lines
from ftrain.inference.trained_task import task_to_device
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
    workers: int | None = None,
    device: str = "auto",
    batch_size: int = 32,
    tta: bool | None = None,
    allow_collapse: bool = False,
    lock: str = "",
    dim: int | None = None,
    detector: Path | None = None,
) -> dict[str, Any]:
    """Evaluate a run on a split and return the content of `out/report.json` ({} on all processes but the main one).

    `workers` are data workers; by default as many as suit the cores. `tta` is passed to `Task.set_tta`, `dim` to
    `Task.set_dim`. Baselines are fitted on the training split of the same shard set, and left out if it has none. The
    shards must carry the split lock that the run was trained under, and `lock` (a file or a digest) if given. `detector`
    is a run that predicts the bounding boxes of a run with `model.crop`, instead of the annotated ones.

    `selection` in the report has the split and metric that selected the checkpoint, and how many of the evaluated
    samples did; it is null if the checkpoint was not selected. `trained_samples` counts those the run was trained on.

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
    evaluation = _load(folder, opened, split, checkpoint, tta, dim, detector)
    workers = workers_or_default(workers, device)
    with ExitStack() as stack:
        passes = stack.enter_context(_Passes(evaluation, batch_size, workers))
        passes.start()  # before the process group and CUDA, which do not survive a fork
        group = stack.enter_context(processes(device, workers))
        if group.is_main:
            stack.enter_context(exclusive(out))
        results, untrained = passes.predict(group)
        if not group.is_main:
            return {}
        task, splits = evaluation.task, evaluation.splits
        evaluated = EvaluatedSplit(results, splits.shards, split, splits.training_images(), untrained)
        header = _header(folder, evaluation, split, dim, detector)
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


@dataclass(frozen=True)
class _Evaluation:
    """A trained task and what it is evaluated on, before anything is predicted."""

    task: Task
    state: TrainingState
    splits: Splits  # of the shard set in the vocabularies of the task
    given: ShardSet  # the shard set in its own
    rows: np.ndarray
    baseline: Task | None  # `Task.untrained`
    finder: Detector | None


def _load(
    folder: RunFolder, shards: ShardSet, split: str, checkpoint: str, tta: bool | None, dim: int | None, detector: Path | None
) -> _Evaluation:  # fmt: skip
    """Load everything on the CPU, so that workers can still be forked."""
    task, config, state = folder.load(checkpoint)
    given, shards = shards, agree(task, folder.path, shards)
    task.set_tta(tta)
    task.set_dim(dim)
    splits = Splits(task, config, shards)
    rows = splits.evaluated(split)
    try:
        with usable_annotations(shards):
            task.check_validation(Rows(shards, rows))
    except UsageError as error:
        raise UsageError(
            f"{shards.location}: the split {split!r} cannot be evaluated: {error}; choose another --split"
        ) from None
    finder = detector_for(task, detector, torch.device("cpu"))
    return _Evaluation(task, state, splits, given, rows, task.untrained(), finder)


class _Passes(BatchPool):
    """The passes over a split, whose batches one pool of workers prepares: detector, task and baseline.

    With a detector, the others see the boxes it found, which are in shared memory.
    """

    def __init__(self, evaluation: _Evaluation, batch_size: int, workers: int) -> None:
        self.evaluation, shards, rows = evaluation, evaluation.splits.shards, evaluation.rows
        tasks = [task for task in (evaluation.task, evaluation.baseline) if task is not None]
        encoders: list[Encoder] = [task.encoder for task in tasks]
        if evaluation.finder is not None:
            self.boxes = shared_zeros((len(shards), 4), np.dtype(np.float64))
            cropped = (CroppedEncoder(encoder, self.boxes) for encoder in encoders)
            encoders = [*cropped, WholeImages(evaluation.finder.task)]
        rank, world_size = rank_and_world_size()
        options: Any = {"batch_size": batch_size, "rank": rank, "world_size": world_size}
        streams, (self.steps, *_) = zip(
            *(evaluation_stream(shards, one, rows, **options) for one in encoders), strict=True
        )
        super().__init__(streams, workers)

    def predict(self, group: Processes) -> tuple[Results, Results | None]:
        """Return the predictions of the task and, if there is one, of the baseline, on all processes."""
        evaluation = self.evaluation
        if finder := evaluation.finder:
            found = self._pass(len(self.streams) - 1, finder.task, group, "finding the garment")
            self.boxes[found["row"]] = finder.boxes_of_split(evaluation.splits.shards, found)
        results = self._pass(0, evaluation.task, group, "evaluating")
        if evaluation.baseline is None:
            return results, None
        return results, self._pass(1, evaluation.baseline, group, "baseline")

    def _pass(self, stream: int, task: Task, group: Processes, stage: str) -> Results:
        batches = self.batches(stream, self.steps, group.device)
        return predict_batches(task_to_device(task, group.device), batches, self.evaluation.rows, group, stage=stage)


def _header(
    folder: RunFolder, evaluation: _Evaluation, split: str, dim: int | None, detector: Path | None
) -> dict[str, Any]:
    """Return what a report says of any task."""
    task, state, splits, given = evaluation.task, evaluation.state, evaluation.splits, evaluation.given
    header: dict[str, Any] = {
        "task": task.name,
        "dataset": given.metadata.get("dataset"),
        "split": split,
        "samples": len(evaluation.rows),
        "checkpoint_step": state.step,
        **({"dim": dim} if dim is not None else {}),
        "trained_samples": 0,
        "selection": None,
    }
    trained_on, chosen = folder.dataset(), np.empty(0, np.int64)
    sets = [one.get("dataset") for one in trained_on.get("sets", [trained_on])]  # the first one validated
    own = given.metadata.get("dataset")
    # Several sets have united vocabularies; a single one with others is another set of the same name.
    same = "sets" in trained_on or given.metadata["vocabularies"] == trained_on["vocabularies"]
    if same and own in sets:
        header["trained_samples"] = len(np.intersect1d(evaluation.rows, splits.training_images()))
    if state.best.get("step") == state.step:
        if same and own == sets[0]:
            with suppress(UsageError):  # a set without the split that validated
                chosen = splits.validation()
        shared = len(np.intersect1d(evaluation.rows, chosen))
        header["selection"] = {
            "split": splits.validation_split, "metric": state.best["metric"], "evaluated_samples": shared,
        }  # fmt: skip
    if evaluation.finder is not None:
        header["crops"] = f"the boxes that {detector.name if detector else 'the run itself'} predicts"
    if unknown := unknown_labels(task, given, split):
        header["unknown_labels"] = unknown
    if given.metadata.get("synthetic"):
        header["note"] = SYNTHETIC_NOTE
    return header


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
    if number := metrics["trained_samples"]:
        yield f"WARNING: the run was trained on {number} of the {count(metrics['samples'], 'sample')}; evaluate another split"
    selection = metrics["selection"]
    if selection is None:
        yield "NOTE: validation did not select this checkpoint, the last one of the run unless --checkpoint chose another"
    elif number := selection["evaluated_samples"]:
        other = "" if selection["split"] == HOLDOUT else ", or train with validation_split=holdout"
        yield (
            f"WARNING: {number} of the {count(metrics['samples'], 'sample')} selected the checkpoint (by {selection['metric']} on "
            f"{selection['split']}), so these metrics are too good; evaluate another split{other}"
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
