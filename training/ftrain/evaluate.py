"""`ftrain evaluate RUN SHARDS`: predictions of a split on any number of processes, judged by the task; the main one writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from fschemas.publish import exclusive, publish_bytes, publish_json, remove_leftovers
from fschemas.shard_set import ShardSet
from ftrain.distributed import Processes, processes
from ftrain.evaluation import results_of_split
from ftrain.remote import open_shards
from ftrain.run_folder import RunFolder
from ftrain.task import Judged, Task

METRICS_FILE = "metrics.json"
SUMMARY_FILE = "summary.txt"
DRAWN_NOTE = "drawn garments: these numbers say little about photographs"


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
) -> dict[str, Any]:
    """Judge a run on a split and return what `out/metrics.json` holds (on the main process; the others return {}).

    `tta` adds turned views, False leaves them out, None does as the run's configuration says. The floors are learnt from
    the training split of the same shard set, and left out where it has none. Raises `UsageError` for a run folder of
    another landmark set or vocabulary and for a split without samples, `EnvironmentProblem` when another process writes.
    """
    folder, opened = RunFolder(Path(run)), open_shards(shards)
    folder.check_agreement(opened)
    cv2.setNumThreads(0)
    with processes(device) as group:
        if not group.is_main:
            _judge(folder, opened, group, split, checkpoint, workers, batch_size, tta)
            return {}
        with exclusive(out):
            remove_leftovers(out)
            remove_leftovers(out / "plots")
            task, judged, header = _judge(folder, opened, group, split, checkpoint, workers, batch_size, tta)
            metrics = {**header, **task.report(judged, out)}
            publish_bytes(out / SUMMARY_FILE, "".join(f"{line}\n" for line in summary_lines(metrics)).encode())
            publish_json(out / METRICS_FILE, metrics)
            return metrics


def _judge(
    folder: RunFolder, shards: ShardSet, group: Processes, split: str, checkpoint: str, workers: int, batch_size: int,
    tta: bool | None,
) -> tuple[Task, Judged, dict[str, Any]]:  # fmt: skip
    task, config, state = folder.load(checkpoint)
    shards.require(task.needs)
    task.use_turned_views(tta)
    task.to(group.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    rows = task.rows_of_interest(task.config, shards.columns, shards.rows(split))
    results = results_of_split(task, shards, rows, group, batch_size, workers)
    plain = np.flatnonzero((shards.columns["split"] == config.train_split) & (shards.columns["copy"] == 0))
    training = task.rows_of_interest(task.config, shards.columns, plain) if len(plain) else plain
    header: dict[str, Any] = {
        "task": task.name,
        "dataset": shards.metadata.get("dataset"),
        "split": split,
        "samples": len(rows),
        "checkpoint_step": state.step,
    }
    if shards.metadata.get("drawn"):
        header["note"] = DRAWN_NOTE
    return task, Judged(results, shards, split, training), header


def summary_lines(metrics: dict[str, Any]) -> Iterator[str]:
    """The metrics as a short table for a person."""
    if not metrics:
        return
    model, floor = metrics["model"], metrics.get("mean_pose", {})
    yield (
        f"{metrics['task']} at step {metrics['checkpoint_step']}: "
        f"{metrics['samples']} samples of {metrics['split']} of {metrics['dataset']}"
    )
    columns = ["model", *(["mean pose"] if floor else [])]
    yield _line("", columns)
    for name in ("ne", "pck_5", "pck_10", "pck_20", "garment_accuracy"):
        if name in model:
            yield _line(_LABELS[name], [_share(part, name) for part in (model, floor) if part])
    for garment, part in metrics.get("garments", {}).items():
        yield _line(f"  {garment}", [_share(part, name) for name in ("ne", "mean_pose") if name in part])
    if points := metrics.get("points"):
        hardest = sorted(points, key=lambda point: -points[point]["ne"])[:3]
        yield "hardest points: " + ", ".join(f"{name} {100 * points[name]['ne']:.1f} %" for name in hardest)
    if metrics.get("excluded_pictures"):
        pictures, lost = metrics["excluded_pictures"], metrics["excluded_points"]
        yield f"left out: {pictures} pictures without normaliser, with {lost} visible points"
    if metrics.get("ratio_to_mean_pose_high", 0) >= 1:
        yield "WARNING: not clearly better than a model that never looks at the picture"
    if "note" in metrics:
        yield f"NOTE: {metrics['note']}"


_LABELS = {
    "ne": "NE, with 95 % interval",
    "pck_5": "points within 5 %",
    "pck_10": "points within 10 %",
    "pck_20": "points within 20 %",
    "garment_accuracy": "garments named right",
}


def _share(part: dict[str, Any], name: str) -> str:
    value = f"{100 * part[name]:.2f} %"
    interval = name == "ne" and "ne_low" in part
    return f"{value} ({100 * part['ne_low']:.2f} to {100 * part['ne_high']:.2f})" if interval else value


def _line(label: str, cells: list[str]) -> str:
    return f"{label:<24}" + "".join(f"{cell:<28}" for cell in cells).rstrip()
