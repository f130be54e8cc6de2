"""Average precision by object keypoint similarity (OKS-AP) of DeepFashion2, through pycocotools.

Protocol and constants are those of the data set's evaluation code (`deepfashion2_api`, `COCOeval.computeOks`; Ge et
al., CVPR 2019): 294 keypoints, one range per category, a category per prediction, the area of the box as the scale of a
garment, at most 20 predictions per image, OKS thresholds from .50 to .95. A run predicts each annotated garment once,
with its own category and score: nothing is detected, so that the figures are those of a given box, not of a detector.
"""

import contextlib
import io
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from fschemas.extras import not_installed
from fschemas.landmarks import LandmarkSet, Visibility
from ftrain.data.types import Results
from ftrain.metrics.normalized_error import box_sides

# Standard deviation of each keypoint, as a share of the square root of the garment's area, by category.
SIGMAS = {
    "short sleeve top": (
        .012, .0158, .0169, .0165, .0169, .0158, .0298, .0329, .0321, .0323, .034, .0388, .0452, .0574, .0492, .0352, .0492,
        .0574, .0452, .0388, .034, .0323, .0321, .0329, .0298,
    ),
    "long sleeve top": (
        .0194, .017, .0185, .0193, .0185, .017, .0286, .0471, .0547, .0526, .043, .0392, .0513, .0566, .0509, .0564, .0542,
        .0604, .0599, .052, .0599, .0604, .0542, .0564, .0509, .0566, .0513, .0392, .043, .0526, .0547, .0471, .0286,
    ),
    "short sleeve outwear": (
        .0074, .0085, .0165, .0248, .0165, .0085, .0156, .0231, .0296, .0137, .0195, .025, .0347, .038, .0257, .037, .0257,
        .038, .0347, .025, .0195, .0137, .0296, .0231, .0156, .0248, .0469, .0632, .037, .0469, .0632,
    ),
    "long sleeve outwear": (
        .0137, .0153, .0243, .0377, .0243, .0153, .0203, .0366, .0467, .0433, .0393, .0329, .0418, .0477, .0399, .0331, .042,
        .0492, .0436, .0478, .0436, .0492, .042, .0331, .0399, .0477, .0418, .0329, .0393, .0433, .0467, .0366, .0203, .0377,
        .0645, .0573, .0478, .0645, .0573,
    ),
    "vest": (
        .0352, .0158, .021, .0214, .021, .0158, .0196, .05, .0489, .0404, .0401, .0404, .0489, .05, .0196,
    ),
    "sling": (
        .0276, .0548, .0283, .0204, .0283, .0548, .0369, .0726, .0677, .064, .0251, .064, .0677, .0726, .0369,
    ),
    "shorts": (.0308, .0216, .0308, .0506, .0494, .0463, .0477, .0463, .0494, .0506),
    "trousers": (.0275, .0202, .0275, .0651, .0451, .035, .028, .0392, .0362, .0392, .028, .035, .0451, .0651),
    "skirt": (.0253, .0195, .0253, .0513, .0543, .0415, .0543, .0513),
    "short sleeve dress": (
        .0153, .023, .0167, .0145, .0167, .023, .0332, .0391, .0391, .0396, .044, .0452, .0498, .0514, .0585, .0655, .0635,
        .0602, .0635, .0655, .0585, .0514, .0498, .0452, .044, .0396, .0391, .0391, .0332,
    ),
    "long sleeve dress": (
        .0121, .0134, .0158, .0162, .0158, .0134, .0246, .0406, .047, .0404, .0463, .0466, .0435, .0499, .0455, .044, .0411,
        .049, .0576, .0685, .0618, .0483, .0618, .0685, .0576, .049, .0411, .044, .0486, .0499, .0435, .0466, .0463, .0404,
        .047, .0406, .0246,
    ),
    "vest dress": (
        .0116, .0167, .016, .018, .016, .0167, .0196, .0385, .0421, .0497, .0562, .0528, .0428, .0528, .0562, .0497, .0421,
        .0385, .0196,
    ),
    "sling dress": (
        .0244, .0297, .0244, .0208, .0244, .0297, .0173, .0616, .0659, .0712, .0707, .0685, .0339, .0685, .0707, .0712, .0659,
        .0616, .0173,
    ),
}  # fmt: skip
MISSING = not_installed("pycocotools") if find_spec("pycocotools") is None else None
_LEAST_SEEN = {"oks_ap": Visibility.OCCLUDED, "oks_ap_visible": Visibility.VISIBLE}  # the two columns of its table
_THRESHOLDS = {"": slice(None), "_50": slice(0, 1), "_75": slice(5, 6)}  # of .50, .55, …, .95


def oks_metrics(results: Results, images: Sequence[str], landmarks: LandmarkSet) -> dict[str, float]:
    """Compute OKS-AP as shares: "oks_ap", "oks_ap_50", "oks_ap_75", and the same with "oks_ap_visible".

    `results` are the predictions of N garments with their `box`; `images` N names the image of each. "oks_ap" counts all
    keypoints with coordinates, "oks_ap_visible" only those that are visible. The category of a prediction is its most
    probable garment, its score that probability times the mean peak height of the garment's keypoints.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    found: dict[str, float] = {}
    numbers = {name: number for number, name in enumerate(dict.fromkeys(images), 1)}
    ids = [numbers[name] for name in images]
    for name, least in _LEAST_SEEN.items():
        with contextlib.redirect_stdout(io.StringIO()):  # it reports its progress there
            truth: Any = COCO()
            categories = [{"id": number, "name": garment} for number, garment in enumerate(landmarks.garments, 1)]
            truth.dataset = {"images": [{"id": number} for number in numbers.values()], "categories": categories}
            truth.dataset["annotations"] = _annotations(results, ids, least)
            truth.createIndex()
            evaluation = COCOeval(truth, truth.loadRes(_predictions(results, ids, landmarks)), "keypoints")
            evaluation.params.kpt_oks_sigmas = np.concatenate(list(SIGMAS.values()))
            evaluation.evaluate()
            evaluation.accumulate()
        precision: Any = evaluation.eval["precision"][..., 0, 0]  # thresholds, recalls, categories; all areas
        for suffix, chosen in _THRESHOLDS.items():
            known = precision[chosen][precision[chosen] > -1]
            found[f"{name}{suffix}"] = float(known.mean()) if len(known) else float("nan")
    return found


def _annotations(results: Results, images: Sequence[int], least: int) -> list[dict[str, Any]]:
    """The ground truth in COCO's form; keypoints with less than the visibility `least` are not labeled."""
    seen = (results["visibility"] >= least)[..., None]
    points = np.concatenate([results["target"], seen], axis=2) * seen
    corners, sides = results["box"][:, :2], box_sides(results["box"]) - 1
    return [
        {
            "id": number, "image_id": image, "category_id": int(garment) + 1, "iscrowd": 0, "keypoints": keypoints,
            "num_keypoints": int(keypoints[2::3].sum()), "area": float(width * height), "bbox": [*corner, width, height],
        }
        for number, (image, garment, keypoints, corner, (width, height))
        in enumerate(zip(images, results["garment"], points.reshape(len(points), -1), corners, sides, strict=True), 1)
    ]  # fmt: skip


def _predictions(results: Results, images: Sequence[int], landmarks: LandmarkSet) -> list[dict[str, Any]]:
    points = np.concatenate([results["points"], np.ones_like(results["points"][..., :1])], axis=2)
    garments = results["garment_scores"].argmax(axis=1)
    scores = results["garment_scores"].max(axis=1)
    valid = [list(indices) for indices in landmarks.garments.values()]
    return [
        {
            "image_id": image, "category_id": int(garment) + 1, "keypoints": keypoints,
            "score": float(score * peaks[valid[garment]].mean()),
        }
        for image, garment, keypoints, score, peaks
        in zip(images, garments, points.reshape(len(points), -1), scores, results["scores"], strict=True)
    ]  # fmt: skip
