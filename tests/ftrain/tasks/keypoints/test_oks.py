"""OKS-AP of DeepFashion2: the published constants, hand-worked cases, and a plain implementation."""

import numpy as np
import pytest
from tests.ftrain.keypoint_runs import write_run
from tests.shard_sets import draw_sample, write_samples

from fschemas.landmarks import DEEPFASHION2_294, Visibility
from fschemas.shard_set import ShardSet
from ftrain.tasks.keypoints import oks
from ftrain.tasks.keypoints.oks import SIGMAS, oks_metrics
from ftrain.use.evaluate import evaluate_run, summary_lines

GARMENTS = list(DEEPFASHION2_294.garments)
OF_ALL = np.concatenate(list(SIGMAS.values()))


def skirts(count, seed=0):
    """Ground truth of `count` skirts, each in its own image, with perfect predictions."""
    generator = np.random.default_rng(seed)
    points, seen = np.zeros((count, 294, 2), np.float32), np.full((count, 294), Visibility.NOT_APPLICABLE.value)
    skirt = list(DEEPFASHION2_294.garments["skirt"])
    points[:, skirt] = generator.uniform(20, 80, (count, 8, 2))
    seen[:, skirt] = Visibility.VISIBLE.value
    garments = np.full(count, GARMENTS.index("skirt"))
    results = {
        "target": points, "visibility": seen, "garment": garments, "box": np.tile([10.0, 10.0, 90.0, 110.0], (count, 1)),
        "points": points.copy(), "scores": generator.uniform(0.5, 1, (count, 294)), "garment_scores": np.eye(13)[garments],
    }  # fmt: skip
    return results, [f"{number}.jpg" for number in range(count)]


def test_there_is_a_sigma_for_every_keypoint_and_sides_have_the_same():
    assert list(SIGMAS) == GARMENTS
    assert [len(part) for part in SIGMAS.values()] == [len(points) for points in DEEPFASHION2_294.garments.values()]
    assert len(OF_ALL) == 294
    flipped = OF_ALL[list(DEEPFASHION2_294.flip_index)]
    uneven = np.flatnonzero(flipped != OF_ALL)
    # As published: one pair of sleeve keypoints of the long sleeve dress, and the front of the open outwear.
    assert len(uneven) <= 16
    assert {DEEPFASHION2_294.names[k].partition("/")[2] for k in uneven} <= {
        "short sleeve outwear", "long sleeve outwear", "long sleeve dress",
    }  # fmt: skip


def test_perfect_keypoints_have_an_average_precision_of_one():
    found = oks_metrics(*skirts(3), DEEPFASHION2_294)
    assert found == pytest.approx(
        {f"oks_ap{kind}{end}": 1.0 for kind in ("", "_visible") for end in ("", "_50", "_75")}
    )


def test_by_hand_an_error_of_known_similarity_counts_up_to_its_threshold():
    """Every keypoint is off by d with d^2 / (2 area (2 sigma)^2) = -ln .72: OKS .72 passes .50 to .70, five of ten."""
    results, images = skirts(2)
    off = np.sqrt(-np.log(0.72) * 2 * 80 * 100) * 2 * OF_ALL
    results["points"][..., 0] += off
    found = oks_metrics(results, images, DEEPFASHION2_294)
    assert found["oks_ap"] == pytest.approx(0.5)
    assert (found["oks_ap_50"], found["oks_ap_75"]) == pytest.approx((1.0, 0.0))


def test_occluded_keypoints_count_in_one_of_the_two_columns():
    results, images = skirts(2)
    hidden = DEEPFASHION2_294.garments["skirt"][0]
    results["visibility"][:, hidden] = Visibility.OCCLUDED.value
    results["points"][:, hidden] += 1000  # its similarity is 0, so that of a skirt of eight is 7 / 8
    found = oks_metrics(results, images, DEEPFASHION2_294)
    assert found["oks_ap_visible"] == pytest.approx(1.0)
    assert found["oks_ap"] == pytest.approx(0.8)  # .50 to .85


def test_a_wrong_category_is_missed_and_a_garment_of_the_same_image_is_matched_by_its_keypoints():
    results, images = skirts(4)
    results["garment_scores"][0] = np.eye(13)[GARMENTS.index("shorts")]
    results["points"][[2, 3]] = results["points"][[3, 2]]
    found = oks_metrics(results, [*images[:2], "same.jpg", "same.jpg"], DEEPFASHION2_294)
    assert found["oks_ap"] == pytest.approx(76 / 101)  # recall .75 of skirts: precision 1 at 0, .01, …, .75


def plain_precision(results, threshold):
    """AP at one threshold of skirts in images of their own: one prediction each, the highest score first."""
    skirt = list(DEEPFASHION2_294.garments["skirt"])
    area = np.prod(results["box"][:, 2:] - results["box"][:, :2], axis=1)[:, None]
    squares = ((results["points"] - results["target"])[:, skirt] ** 2).sum(axis=2)
    similarity = np.exp(-squares / (2 * area * (2 * OF_ALL[skirt]) ** 2)).mean(axis=1)
    order = np.argsort(-results["scores"][:, skirt].mean(axis=1))
    right = np.cumsum(similarity[order] >= threshold)
    recall, precision = right / len(order), right / np.arange(1, len(order) + 1)
    wanted = np.linspace(0, 1, 101)
    return np.mean([precision[recall >= least - 1e-12].max(initial=0) for least in wanted])


def test_agrees_with_a_plain_implementation():
    results, images = skirts(30, seed=4)
    generator = np.random.default_rng(1)
    results["points"] += generator.normal(0, 1, (30, 294, 2)) * generator.uniform(1, 12, (30, 1, 1))
    found = oks_metrics(results, images, DEEPFASHION2_294)
    assert 0.1 < found["oks_ap"] < 0.9
    assert found["oks_ap_50"] == pytest.approx(plain_precision(results, 0.5))
    levels = [plain_precision(results, 0.5 + 0.05 * step) for step in range(10)]
    assert found["oks_ap"] == pytest.approx(np.mean(levels))


@pytest.mark.parametrize("installed", [True, False])
def test_an_evaluation_reports_it_or_what_is_missing(installed, tmp_path, monkeypatch):
    if not installed:
        monkeypatch.setattr(oks, "MISSING", 'pycocotools is not installed; pip install "fashionkit[coco]"')
    by_split = {"train": range(13), "test": range(13, 17)}
    samples = {
        split: [draw_sample(number, split, DEEPFASHION2_294) for number in some] for split, some in by_split.items()
    }
    for sample in (sample for some in samples.values() for sample in some):
        sample.annotation["box"] = [2.0, 2.0, 50.0, 50.0]
    folder = write_samples(tmp_path / "set", samples, DEEPFASHION2_294, ["landmarks", "box"], {})
    run = write_run(tmp_path / "run", ShardSet.open(folder))
    metrics = evaluate_run(run, str(folder), tmp_path / "out", workers=0, device="cpu")
    assert ("oks_ap" in metrics["model"]) == installed
    note = 'NOTE: OKS-AP is left out: pycocotools is not installed; pip install "fashionkit[coco]"'
    assert (note in summary_lines(metrics)) != installed
    assert any("OKS-AP, visible" in line for line in summary_lines(metrics)) == installed
