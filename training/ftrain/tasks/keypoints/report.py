"""Report of the keypoints task: metrics with the mean-pose baseline, tables, plots and a contact sheet."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fschemas.landmarks import DEEPFASHION2_294, LandmarkSet
from fschemas.publish import publish_bytes
from fschemas.wording import count
from ftrain.data.csv_text import csv_bytes
from ftrain.data.types import EvaluatedSplit
from ftrain.metrics.normalized_error import UNITS, PointErrors
from ftrain.reports.label_report import finite, notes_of
from ftrain.reports.landmark_report import error_sums, landmark_labels, landmark_metrics, pose_name
from ftrain.reports.text_table import aligned
from ftrain.tasks.keypoints import oks
from ftrain.tasks.keypoints.sheet import contact_sheet
from ftrain.tasks.keypoints.task import Keypoints

_LABELS = {
    "garment_accuracy": "garment accuracy",
    "oks_ap": "OKS-AP, visible and occluded",
    "oks_ap_visible": "OKS-AP, visible",
}


def report(task: Keypoints, evaluated: EvaluatedSplit, out: Path) -> dict[str, Any]:
    """Return the metrics of a split; write `plots/`, `images.csv` (worst first) and `predictions.png` into `out`.

    Raises `UsageError` if no visible point of the split can be evaluated.
    """
    landmarks = task.landmarks
    numbers, errors, subtitle = landmark_metrics(landmarks, evaluated, out, knows_box=task.config.crop == "box")
    if landmarks.name == DEEPFASHION2_294.name and "box" in evaluated.results:
        if oks.MISSING:
            numbers["oks_left_out"] = oks.MISSING
        else:
            images = [annotation["image"] for annotation in notes_of(evaluated)]
            numbers["model"] |= finite(oks.oks_metrics(evaluated.results, images, landmarks))
    rows = _image_rows(landmarks, evaluated, errors)
    publish_bytes(out / "images.csv", csv_bytes(("key", "garment", "ne", "points"), rows))
    publish_bytes(out / "predictions.png", contact_sheet(landmarks, evaluated, errors, subtitle))
    return numbers


def summary(metrics: dict[str, Any]) -> Iterator[str]:
    """Yield the results of `report` as text lines."""
    model, baseline = metrics["model"], metrics.get("mean_pose", {})
    columns = ["model", *([pose_name(metrics)] if baseline else [])]
    rows = [["metric, with 95% interval", *columns]]
    for name, label in {**landmark_labels(metrics, "keypoints"), **_LABELS}.items():
        if name in model:
            rows.append([label, *(_share(part, name) for part in (model, baseline) if name in part)])
    if metrics.get("garments"):
        rows.append([f"NE of each garment, of {UNITS[metrics['unit']]}", *columns])
    for garment, part in metrics.get("garments", {}).items():
        rows.append([f"  {garment}", *(_share(part, name) for name in ("ne", "mean_pose") if name in part)])
    yield from aligned(rows)
    if points := metrics.get("points"):
        hardest = sorted(points, key=lambda point: -points[point]["ne"])[:3]
        yield (
            "hardest points: "
            + ", ".join(f"{name} {100 * points[name]['ne']:.1f}%" for name in hardest)
            + f" of {UNITS[metrics['unit']]}"
        )
    if metrics.get("excluded_images"):
        images, lost = metrics["excluded_images"], metrics["excluded_points"]
        yield f"left out: {count(images, 'image')} without a reference length, with {count(lost, 'visible landmark')}"
    if "oks_left_out" in metrics:
        yield f"NOTE: OKS-AP is left out: {metrics['oks_left_out']}"
    if metrics.get("ratio_to_mean_pose_high", 0) >= 1:
        yield "WARNING: not clearly better than a model that ignores the image"


def _image_rows(landmarks: LandmarkSet, evaluated: EvaluatedSplit, errors: PointErrors) -> list[tuple[object, ...]]:
    """Return key, garment, NE and number of counted points per image, worst first, images without NE last."""
    garments, keys = list(landmarks.garments), evaluated.shards.columns["key"]
    counts = errors.counted.sum(axis=1)
    rows: list[tuple[object, ...]] = []
    means = np.where(counts > 0, error_sums(errors) / np.maximum(counts, 1), -1.0)
    for number in np.argsort(-means, kind="stable"):
        key = str(keys[evaluated.results["row"][number]])
        error = f"{means[number]:.6f}" if counts[number] else ""
        rows.append((key, garments[errors.garments[number]], error, int(counts[number])))
    return rows


def _share(part: dict[str, Any], name: str) -> str:
    value = f"{100 * part[name]:.2f}%"
    if f"{name}_low" not in part:
        return value
    return f"{value} ({100 * part[f'{name}_low']:.2f} to {100 * part[f'{name}_high']:.2f})"
