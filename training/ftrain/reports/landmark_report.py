"""Shared parts of landmark reports: errors next to the mean pose, per garment and per landmark, and slices."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fschemas.failures import UsageError
from fschemas.landmarks import LandmarkSet, Visibility
from fschemas.publish import publish_bytes
from fschemas.shard_set import ShardSet
from ftrain.data.csv_text import csv_bytes, csv_table
from ftrain.data.types import EvaluatedSplit
from ftrain.metrics.bootstrap import ratio_interval
from ftrain.metrics.mean_pose import MeanPose
from ftrain.metrics.normalized_error import (
    PCK_PERCENTS,
    UNITS,
    PointErrors,
    detection_curve,
    diluted_error,
    errors_by_unit,
    mean_error,
    overall,
    own_unit,
    with_unit,
)
from ftrain.metrics.slices import slices
from ftrain.plots.figures import plot_detection_curve, plot_errors
from ftrain.reports import label_report

_MIN_FOR_SPREAD, _STILL = 5, 0.1  # images per landmark; share of the true spread
_EXTENTS = ("below 40%", "40 to 70%", "above 70%")  # of the long side, spanned by the landmarks
_UNITS_SHOWN = ("", "box")  # of tables; reports also have those of the image


@dataclass(frozen=True)
class _Evaluation:
    """Errors of the model and of the mean pose on the same images; `baseline` is None without training annotations."""

    landmarks: LandmarkSet
    evaluated: EvaluatedSplit
    model: PointErrors  # in the unit of the landmark set
    baseline: PointErrors | None
    numbers: dict[str, dict[str, float]]  # `model` and `mean_pose` in all units
    majority: float | None  # accuracy of always predicting the most frequent training garment


def landmark_metrics(
    landmarks: LandmarkSet, evaluated: EvaluatedSplit, out: Path, *, knows_box: bool = False
) -> tuple[dict[str, Any], PointErrors, str]:
    """Return the metrics of a split, its errors and a subtitle; write `plots/` into `out`.

    The task must predict `points`; one that also classifies garments predicts `garment_scores`. `knows_box` says that
    its input is cropped to the annotated box; then the mean pose is relative to the box, too (`mean_pose_in`). In the
    result, `unit` is that of metrics without a unit in their name. Raises `UsageError` if the split has no visible
    landmarks.
    """
    evaluation = _evaluate(landmarks, evaluated, knows_box)
    if not evaluation.model.counted.any():
        split = f"{evaluated.shards.location}: the split {evaluated.split!r}"
        raise UsageError(f"{split} has no visible landmarks to evaluate; choose another --split")
    numbers: dict[str, Any] = {**_numbers(evaluation), "mean_pose_in": "box" if knows_box else "image"}
    curve = _curve(evaluation)
    garments, points, model = numbers["garments"], numbers["points"], numbers["model"]
    low, high, unit = 100 * model["ne_low"], 100 * model["ne_high"], UNITS[numbers["unit"]]
    subtitle = label_report.subtitle(evaluated, f"NE {100 * model['ne']:.2f}% of {unit} ({low:.2f} to {high:.2f})")
    publish_bytes(out / "plots/detection_curve.csv", csv_bytes(curve[0], curve[1:]))
    publish_bytes(out / "plots/points.csv", csv_table("point", ("ne", "mean_pose", "count"), points))
    columns = ("ne", "ne_low", "ne_high", "mean_pose", "count", "images")
    publish_bytes(out / "plots/garments.csv", csv_table("garment", columns, garments))
    publish_bytes(out / "plots/detection_curve.png", plot_detection_curve(curve[1:], subtitle, unit))
    publish_bytes(out / "plots/points.png", plot_errors(garments, points, subtitle, unit))
    return numbers, evaluation.model, subtitle


def landmark_labels(metrics: dict[str, Any], points: str = "landmarks") -> dict[str, str]:
    """Names of landmark metrics in text tables, with the unit of each, in the order of the rows."""
    found: dict[str, str] = {}
    for unit in _UNITS_SHOWN:
        whole = UNITS[unit or metrics["unit"]]
        labels = {"ne": f"NE, of {whole}"}
        labels |= {f"pck_{percent}": f"{points} within {percent}% of {whole}" for percent in PCK_PERCENTS}
        labels |= {"ne_mean_of_points": f"NE, of {whole}, mean of {points}"}
        found |= {name: label for name, label in with_unit(labels, unit).items() if name in metrics["model"]}
    return found


def pose_name(metrics: dict[str, Any]) -> str:
    """Name of the baseline in text tables."""
    return "mean pose in the box" if metrics.get("mean_pose_in") == "box" else "mean pose"


def _evaluate(landmarks: LandmarkSet, evaluated: EvaluatedSplit, knows_box: bool) -> _Evaluation:
    results = evaluated.results
    model = errors_by_unit(results["points"], results, landmarks)
    numbers = {"model": _overall(landmarks, model)}
    if not len(evaluated.training_rows):
        return _Evaluation(landmarks, evaluated, model[""], None, numbers, None)
    pose, commonest = _learn_baseline(landmarks, evaluated.shards, evaluated.training_rows, knows_box)
    boxes = results["box"] if knows_box else None
    guess = pose.predict(results["garment"], results["size"][:, 0], results["size"][:, 1], boxes)
    baseline = errors_by_unit(guess, results, landmarks)
    numbers["mean_pose"] = _overall(landmarks, baseline)
    majority = float(np.mean(results["garment"] == commonest))
    return _Evaluation(landmarks, evaluated, model[""], baseline[""], numbers, majority)


def _learn_baseline(
    landmarks: LandmarkSet, shards: ShardSet, rows: NDArray[np.int64], knows_box: bool
) -> tuple[MeanPose, int]:
    """Return the mean pose of the training rows N, from their annotations only, and their most frequent garment."""
    annotations = [shards.read_annotation(int(row)) for row in rows]
    points = np.array(
        [[annotation["landmark_x"], annotation["landmark_y"]] for annotation in annotations], np.float32
    ).transpose(0, 2, 1)
    visibility = np.array([annotation["landmark_visibility"] for annotation in annotations], np.int8)
    kinds = [list(landmarks.garments).index(annotation["garment"]) for annotation in annotations]
    width, height = (
        [annotation["width"] for annotation in annotations],
        [annotation["height"] for annotation in annotations],
    )
    boxes = [annotation["box"] for annotation in annotations] if knows_box else None
    pose = MeanPose.fit(points, visibility, np.array(kinds), width, height, landmarks, boxes)
    return pose, int(np.bincount(kinds).argmax())


def _numbers(evaluation: _Evaluation) -> dict[str, Any]:
    results, model, baseline = evaluation.evaluated.results, evaluation.model, evaluation.baseline
    names_garments = "garment_scores" in results
    numbers: dict[str, Any] = {**evaluation.numbers, "unit": own_unit(evaluation.landmarks)}
    if names_garments:
        named = results["garment_scores"].argmax(axis=1)
        numbers["model"]["garment_accuracy"] = float(np.mean(named == results["garment"]))
    if baseline is not None:
        low, high = ratio_interval(error_sums(model), error_sums(baseline))
        if names_garments:
            numbers["mean_pose"]["garment_accuracy"] = evaluation.majority
        numbers["ratio_to_mean_pose"] = numbers["model"]["ne"] / max(numbers["mean_pose"]["ne"], 1e-9)
        numbers |= {"ratio_to_mean_pose_low": low, "ratio_to_mean_pose_high": high}
    for kind, names in (("garments", evaluation.landmarks.garments), ("points", evaluation.landmarks.names)):
        indices = model.garments[:, None] if kind == "garments" else np.arange(len(evaluation.landmarks))
        among = {name: np.broadcast_to(indices == index, model.counted.shape) for index, name in enumerate(names)}
        used = {name: mask for name, mask in among.items() if model.counted[mask].any()}
        numbers[kind] = {name: _part(evaluation, mask, interval=kind == "garments") for name, mask in used.items()}
    if sliced := _slices(evaluation):
        numbers["slices"] = sliced
    numbers["collapse"] = _collapse(evaluation)
    numbers |= {
        "counted_points": int(model.counted.sum()),
        "excluded_images": int(model.excluded.sum()),
        "excluded_points": int(model.excluded_points.sum()),
    }
    return numbers


def _slices(evaluation: _Evaluation) -> dict[str, dict[str, dict[str, float]]]:
    """NE by occlusion, by the share of the image that the landmarks span, and by variation and pose if annotated."""
    results, model = evaluation.evaluated.results, evaluation.model
    seen = results["visibility"] >= Visibility.OCCLUDED.value
    low = np.where(seen[..., None], results["target"], np.inf).min(axis=1)
    high = np.where(seen[..., None], results["target"], -np.inf).max(axis=1)
    span = np.where(seen.any(axis=1), (high - low).max(axis=1) / results["size"].max(axis=1), 0.0)
    occluded = (results["visibility"] == Visibility.OCCLUDED.value).any(axis=1)
    columns = evaluation.evaluated.shards.columns
    by = {
        "occlusion": np.where(occluded, "some points occluded", "all points visible"),
        "extent": np.array(_EXTENTS)[np.digitize(span, (0.4, 0.7))],
        **{name: columns[name][results["row"]] for name in ("variation", "pose") if name in columns},
    }
    return slices(error_sums(model), model.counted.sum(axis=1), by)


def _collapse(evaluation: _Evaluation) -> dict[str, Any]:
    """Check whether the predictions barely vary over images, compared with the ground truth."""
    results, counted = evaluation.evaluated.results, evaluation.model.counted
    enough = counted.sum(axis=0) >= _MIN_FOR_SPREAD
    if not enough.any():
        return {"collapsed": False}
    spreads: list[float] = []
    for points in (results["points"], results["target"]):
        relative = np.where(counted[..., None], points / results["size"][:, None], np.nan)[:, enough]
        spreads.append(float(np.sqrt(np.nanvar(relative, axis=0).mean())))
    spread = spreads[0] / max(spreads[1], 1e-9)
    sentence = f"its landmarks hardly move whatever the image shows: their spread is {spread:.0%} of the true one"
    return {"collapsed": spread < _STILL, "spread": spread, "sentence": sentence}


def _overall(landmarks: LandmarkSet, by_unit: dict[str, PointErrors]) -> dict[str, float]:
    found = {
        name: value for unit, errors in by_unit.items() for name, value in with_unit(overall(errors), unit).items()
    }
    if not landmarks.normalizer_pairs:
        found["ne_diluted"] = diluted_error(by_unit[""])
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _part(evaluation: _Evaluation, among: NDArray[np.bool_], *, interval: bool = False) -> dict[str, float | int]:
    """Compute the metrics of the landmarks in the mask `among` N, K."""
    model, baseline = evaluation.model, evaluation.baseline
    part: dict[str, float | int] = {"ne": mean_error(model, among)}
    if interval:
        counted = model.counted & among
        part["ne_low"], part["ne_high"] = ratio_interval(np.where(counted, model.distances, 0).sum(1), counted.sum(1))
        part["images"] = int(counted.any(axis=1).sum())
    if baseline is not None:
        part["mean_pose"] = mean_error(baseline, among)
    return part | {"count": int((model.counted & among).sum())}


def error_sums(errors: PointErrors) -> NDArray[np.float64]:
    """Exact sum of the distances of each image: N."""
    return np.array([math.fsum(row) for row in errors.distances.tolist()])


def _curve(evaluation: _Evaluation) -> tuple[list[str], *tuple[list[float], ...]]:
    """Return the column names, then rows of threshold, model and (if available) mean pose."""
    thresholds, model = detection_curve(evaluation.model.distances, evaluation.model.counted)
    columns = {"threshold": thresholds, "model": model}
    if evaluation.baseline is not None:
        columns["mean_pose"] = detection_curve(evaluation.baseline.distances, evaluation.baseline.counted)[1]
    return list(columns), *np.stack(list(columns.values()), axis=1).tolist()
