"""`ftrain evaluate`: results compared with the metric itself, the baseline, files, bytes, ranks, and errors."""

import csv
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.ftrain.keypoint_runs import tiny_task, write_run
from tests.shard_sets import write_label_set, write_shard_set
from typer.testing import CliRunner

from fschemas.failures import EnvironmentProblem, RejectedError, UsageError
from fschemas.json_file import seal
from fschemas.landmarks import DEEPFASHION_8, FASHIONAI_24, Visibility
from fschemas.publish import exclusive, publish_json
from fschemas.shard_set import ShardSet
from ftrain.cli import app
from ftrain.data.stream import RawSample
from ftrain.data.types import EvaluatedSplit
from ftrain.fit import checkpoint
from ftrain.metrics.mean_pose import MeanPose
from ftrain.metrics.normalized_error import normalized_distances, summarize
from ftrain.metrics.slices import slices
from ftrain.tasks.keypoints.config import KeypointsConfig
from ftrain.tasks.keypoints.report import report
from ftrain.use.evaluate import SYNTHETIC_NOTE, evaluate_run, summary_lines
from ftrain.use.key_metrics import MAX_METRICS

FILES = {"summary.txt", "training_curve.csv", "validation_curve.csv", "report.json",
    "metrics.json", "images.csv", "predictions.png", "plots/detection_curve.csv", "plots/detection_curve.png",
    "plots/garments.csv", "plots/points.csv", "plots/points.png",
}  # fmt: skip

KEYPOINTS: Any = SimpleNamespace(landmarks=FASHIONAI_24, config=KeypointsConfig())  # what a report uses


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Synthetic squares with FashionAI's keypoints: 30 training, 5 validation and 21 test images."""
    return write_shard_set(
        tmp_path_factory.mktemp("evaluate") / "set", {"train": 30, "val": 5, "test": 21}, FASHIONAI_24
    )


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("evaluate") / "run", ShardSet.open(folder))


@pytest.fixture(scope="module")
def evaluated(folder, run, tmp_path_factory):
    """Metrics of the run on the test split, and the output folder; computed on one thread, like the forked runs."""
    out, threads = tmp_path_factory.mktemp("evaluate") / "out", torch.get_num_threads()
    torch.set_num_threads(1)
    metrics = evaluate_run(run, str(folder), out, workers=1, device="cpu", batch_size=8)
    torch.set_num_threads(threads)
    return metrics, out


def truth_of(shards, rows, landmarks=FASHIONAI_24):
    notes = [shards.read(int(row))[1] for row in rows]
    return {
        "target": np.array([[note["landmark_x"], note["landmark_y"]] for note in notes], np.float32).transpose(0, 2, 1),
        "visibility": np.array([note["landmark_visibility"] for note in notes], np.int8),
        "garment": np.array([list(landmarks.garments).index(note["garment"]) for note in notes]),
        "size": np.array([[note["width"], note["height"]] for note in notes], np.float32),
        "row": rows,
    }


def oracle(shards, split="test", error=0.0):
    """Results of a model that is off by `error` pixels to the right."""
    results = truth_of(shards, shards.rows(split))
    named = np.eye(len(FASHIONAI_24.garments))[results["garment"]]
    points = results["target"] + np.float32([error, 0])
    results |= {"points": points, "scores": np.ones(points.shape[:2], np.float32), "garment_scores": named}
    return EvaluatedSplit(results, shards, split, shards.rows("train"))


def table(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_it_writes_its_files_and_returns_what_report_json_holds(evaluated):
    metrics, out = evaluated
    assert set(contents(out)) == FILES
    text = (out / "report.json").read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in report.json")) == seal(metrics)
    assert (metrics["task"], metrics["dataset"], metrics["split"]) == ("keypoints", "squares", "test")
    assert (metrics["samples"], metrics["checkpoint_step"]) == (21, 7)
    assert list(metrics["garments"]) == list(FASHIONAI_24.garments)
    for part in metrics["garments"].values():
        assert set(part) == {"ne", "ne_low", "ne_high", "mean_pose", "images", "count"}
    assert set(metrics["points"]) <= set(FASHIONAI_24.names)


def test_metrics_json_is_small_and_flat(evaluated):
    report, out = evaluated
    metrics = json.loads((out / "metrics.json").read_text())
    assert list(metrics)[:5] == ["samples", "ne", "ne_low", "ne_high", "mean_pose_ne"]
    assert 8 <= len(metrics) <= MAX_METRICS
    assert all(isinstance(value, int | float) for value in metrics.values())
    assert metrics["ne"] == pytest.approx(report["model"]["ne"], abs=1e-6)
    assert metrics["mean_pose_ne"] == pytest.approx(report["mean_pose"]["ne"], abs=1e-6)


def test_its_metrics_are_those_of_the_task_and_of_the_mean_pose_of_train(evaluated, folder, run):
    metrics, _ = evaluated
    shards = ShardSet.open(folder)
    task = tiny_task(shards.metadata)
    rows = shards.rows("test").tolist()
    encoded = [task.encoder(RawSample(row, *shards.read(row)), None) for row in rows]
    with torch.no_grad():
        answer = task.predict({name: torch.from_numpy(np.stack([one[name] for one in encoded])) for name in encoded[0]})
    known = {name: values.numpy() for name, values in answer.items()}
    errors = normalized_distances(
        known["points"], known["target"], known["visibility"], known["garment"], *known["size"].T, FASHIONAI_24
    )
    expected = summarize(errors, FASHIONAI_24)
    for name in ("ne", "ne_low", "ne_high", "pck_auc", "ne_mean_of_points"):
        assert metrics["model"][name] == pytest.approx(expected[name], abs=1e-4)
    for garment, part in metrics["garments"].items():
        assert part["ne"] == pytest.approx(expected[f"ne_garment/{garment}"], abs=1e-4)
    for point, part in metrics["points"].items():
        assert part["ne"] == pytest.approx(expected[f"ne_point/{point}"], abs=1e-4)
    train, test = truth_of(shards, shards.rows("train")), truth_of(shards, shards.rows("test"))
    pose = MeanPose.fit(train["target"], train["visibility"], train["garment"], *train["size"].T, FASHIONAI_24)
    guess = pose.predict(test["garment"], *test["size"].T)
    baseline = normalized_distances(
        guess, test["target"], test["visibility"], test["garment"], *test["size"].T, FASHIONAI_24
    )
    assert metrics["mean_pose"]["ne"] == pytest.approx(summarize(baseline, FASHIONAI_24)["ne"])
    assert metrics["ratio_to_mean_pose"] == pytest.approx(metrics["model"]["ne"] / metrics["mean_pose"]["ne"])
    assert metrics["ratio_to_mean_pose_low"] <= metrics["ratio_to_mean_pose"] <= metrics["ratio_to_mean_pose_high"]
    parts = metrics["garments"].values()
    weighted = sum(part["ne"] * part["count"] for part in parts) / sum(part["count"] for part in parts)
    assert weighted == pytest.approx(metrics["model"]["ne"])


def test_tables_agree_with_the_metrics(evaluated):
    metrics, out = evaluated
    curve = table(out / "plots/detection_curve.csv")
    assert list(curve[0]) == ["threshold", "model", "mean_pose"]
    assert len(curve) == 101
    at = {round(float(row["threshold"]), 4): row for row in curve}
    for percent in (5, 10, 20):
        assert float(at[percent / 100]["model"]) == pytest.approx(metrics["model"][f"pck_{percent}"], abs=1e-6)
    points = table(out / "plots/points.csv")
    assert {row["point"]: float(row["ne"]) for row in points} == pytest.approx(
        {name: part["ne"] for name, part in metrics["points"].items()}, abs=1e-6
    )
    assert sum(int(row["count"]) for row in points) == metrics["counted_points"]
    images = table(out / "images.csv")
    assert len(images) == 21
    evaluated_ones = [row for row in images if row["ne"]]
    errors = [float(row["ne"]) for row in evaluated_ones]
    assert errors == sorted(errors, reverse=True)
    total = sum(error * int(row["points"]) for error, row in zip(errors, evaluated_ones, strict=True))
    assert total / metrics["counted_points"] == pytest.approx(metrics["model"]["ne"], abs=1e-5)
    assert images[len(evaluated_ones) :] == [row for row in images if int(row["points"]) == 0]


def test_plots_are_images_without_dates_or_versions(evaluated):
    _, out = evaluated
    for name in ("predictions.png", "plots/detection_curve.png", "plots/points.png"):
        with Image.open(out / name) as image:
            assert min(image.size) > 500
            assert set(image.info) <= {"dpi"}


@pytest.mark.slow
def test_two_processes_write_the_same_bytes_as_one(evaluated, folder, run, tmp_path, forks):
    metrics, out = evaluated
    options = ["--out", str(tmp_path / "two"), "--workers", "0", "--device", "cpu", "--batch-size", "16"]
    children = forks.start_group("cli", 2, arguments=["evaluate", str(run), str(folder), *options])
    assert [child.wait(180) for child in children] == [0, 0], [child.text() for child in children]
    progress, *said = children[0].text().splitlines()
    assert progress.startswith("evaluating: 21/21")  # a slow machine prints its rate as well
    assert said == [*summary_lines(metrics), f"written to {tmp_path / 'two'}"]
    assert children[1].text() == ""
    assert contents(tmp_path / "two") == contents(out)


def test_a_second_evaluation_replaces_the_first_with_the_same_bytes(evaluated, folder, run, one_thread, rendered):
    _, out = evaluated
    before = contents(out)
    (out / ".tmp.metrics.json.1").write_text("left by a killed evaluation")
    (out / "plots/points.csv").write_text("stale")
    evaluate_run(run, str(folder), out, workers=0, device="cpu", batch_size=8)
    assert contents(out) == before


def test_a_perfect_model_has_no_error_and_a_small_error_is_measured(folder, tmp_path):
    shards = ShardSet.open(folder)
    perfect = report(KEYPOINTS, oracle(shards), tmp_path / "perfect")
    assert perfect["model"]["ne"] == 0
    assert perfect["model"]["pck_5"] == perfect["model"]["garment_accuracy"] == 1
    assert perfect["ratio_to_mean_pose_high"] == 0
    shifted = report(KEYPOINTS, oracle(shards, error=2.0), tmp_path / "shifted")
    test = truth_of(shards, shards.rows("test"))
    pairs = np.array([FASHIONAI_24.normalizer_pairs[name] for name in FASHIONAI_24.garments])[test["garment"]]
    ends = np.take_along_axis(test["target"], pairs[:, :, None], axis=1).astype(float)
    lengths = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
    counts = (test["visibility"] == Visibility.VISIBLE).sum(axis=1)
    assert shifted["model"]["ne"] == pytest.approx((2 / lengths * counts).sum() / counts.sum())


def test_images_without_normalizer_are_left_out_and_counted(folder, tmp_path):
    evaluated = oracle(ShardSet.open(folder), error=1.0)
    skirts = np.flatnonzero(evaluated.results["garment"] == list(FASHIONAI_24.garments).index("skirt"))
    chosen = skirts[0]
    evaluated.results["visibility"][chosen, 15] = Visibility.ABSENT
    lost = int((evaluated.results["visibility"][chosen] == Visibility.VISIBLE).sum())
    metrics = report(KEYPOINTS, evaluated, tmp_path)
    assert (metrics["excluded_images"], metrics["excluded_points"]) == (1, lost)
    last = table(tmp_path / "images.csv")[-1]
    assert (last["garment"], last["ne"], last["points"]) == ("skirt", "", "0")


def test_without_training_images_there_is_no_baseline(tmp_path):
    shards = ShardSet.open(write_shard_set(tmp_path / "set", {"test": 6}, FASHIONAI_24))
    run = write_run(tmp_path / "run", shards)
    metrics = evaluate_run(run, str(tmp_path / "set"), tmp_path / "out", workers=0, device="cpu")
    assert not {"mean_pose", "ratio_to_mean_pose"} & set(metrics)
    assert list(table(tmp_path / "out/plots/detection_curve.csv")[0]) == ["threshold", "model"]
    assert "mean pose" not in "\n".join(summary_lines(metrics))


def test_augmented_copies_do_not_enter_the_baseline(folder, run, evaluated, tmp_path, monkeypatch):
    import ftrain.use.evaluate

    shards = ShardSet.open(folder)
    shards.columns["copy"] = np.where(np.arange(len(shards)) < 10, 1, 0)
    monkeypatch.setattr(ftrain.use.evaluate, "open_shards", lambda place: shards)
    seen = []
    monkeypatch.setattr(
        "ftrain.tasks.keypoints.report.report",
        lambda task, evaluated, out: seen.append(evaluated) or {"model": {}, "unit": "image"},
    )
    evaluate_run(run, str(folder), tmp_path / "out", workers=0, device="cpu")
    assert seen[0].training_rows.tolist() == list(range(10, 30))


def test_a_model_of_one_garment_is_evaluated_on_it_alone(folder, tmp_path):
    run = write_run(tmp_path / "run", ShardSet.open(folder), garment="skirt")
    metrics = evaluate_run(run, str(folder), tmp_path / "out", workers=0, device="cpu")
    assert list(metrics["garments"]) == ["skirt"]
    assert metrics["samples"] == len(table(tmp_path / "out/images.csv")) == 4
    assert metrics["mean_pose"]["garment_accuracy"] == 1


def test_points_of_deepfashion_are_evaluated_by_the_size_of_the_image(shard_folder, tmp_path):
    run = write_run(tmp_path / "run", ShardSet.open(shard_folder))
    metrics = evaluate_run(run, str(shard_folder), tmp_path / "out", split="val", workers=0, device="cpu", tta=True)
    assert set(metrics["garments"]) == set(DEEPFASHION_8.garments)
    assert metrics["model"]["ne_diluted"] < metrics["model"]["ne"]
    assert metrics["excluded_images"] == 0


@pytest.mark.parametrize("crop", ["image", "box"])
def test_errors_are_also_in_units_of_the_box_and_every_line_names_its_unit(crop, tmp_path):
    folder = write_label_set(tmp_path / "set", {"train": 12, "val": 3, "test": 9})
    shards, split = ShardSet.open(folder), {"split": "test", "workers": 0, "device": "cpu"}
    metrics = evaluate_run(write_run(tmp_path / "run", shards, crop=crop), str(folder), tmp_path / "out", **split)
    model = metrics["model"]
    assert metrics["unit"] == "image"
    assert model["ne"] == model["ne_image"] < model["ne_box"]
    assert model["pck_box_10"] <= model["pck_image_10"] == model["pck_10"]
    for name in ("ne_box_low", "ne_box_high", "ne_box_mean_of_points", "pck_box_auc"):
        assert name in model
        assert name in metrics["mean_pose"]
    assert json.loads((tmp_path / "out/metrics.json").read_text())["ne_box"] == pytest.approx(model["ne_box"], abs=1e-6)
    lines = [line for line in summary_lines(metrics) if "NE" in line or "within" in line or "hardest" in line]
    assert len(lines) == 5 + 5 + 1 + 1  # of the image, of the box, garments, hardest
    assert all("of the image" in line or "of the box" in line for line in lines)
    assert any("mean pose in the box" in line for line in summary_lines(metrics)) == (crop == "box")
    train, test = (truth_of(shards, shards.rows(name), DEEPFASHION_8) for name in ("train", "test"))
    boxes = [[shards.read_annotation(row)["box"] for row in shards.rows(name).tolist()] for name in ("train", "test")]
    known = boxes if crop == "box" else (None, None)
    pose = MeanPose.fit(
        *(train[name] for name in ("target", "visibility", "garment")), *train["size"].T, DEEPFASHION_8, known[0]
    )
    guess = pose.predict(test["garment"], *test["size"].T, known[1])
    sides = np.diff(np.reshape(boxes[1], (-1, 2, 2)), axis=1)[:, 0] + 1
    difference = np.linalg.norm((guess - test["target"]) / sides[:, None], axis=2)[
        test["visibility"] == Visibility.VISIBLE
    ]
    assert metrics["mean_pose"]["ne_box"] == pytest.approx(difference.mean())


def test_the_summary_is_for_a_person(evaluated):
    metrics, out = evaluated
    text = "\n".join(summary_lines(metrics))
    assert "keypoints at step 7: 21 samples of test of squares" in text
    assert f"{100 * metrics['model']['ne']:.2f}% ({100 * metrics['model']['ne_low']:.2f} to " in text
    assert all(name in text for name in ("mean pose", "trousers", "hardest points: "))
    assert (out / "summary.txt").read_text() == text + "\n"
    assert "WARNING: not clearly better" in text  # initial weights
    better = {**metrics, "ratio_to_mean_pose_high": 0.4, "excluded_images": 3, "excluded_points": 9}
    text = "\n".join(summary_lines(better))
    assert "WARNING" not in text
    assert "left out: 3 images without a reference length, with 9 visible landmarks" in text


@pytest.mark.parametrize("synthetic", [True, False])
def test_metrics_on_synthetic_garments_say_so(folder, run, tmp_path, synthetic, monkeypatch):
    import ftrain.use.evaluate

    shards = ShardSet.open(folder)
    shards.metadata["synthetic"] = synthetic
    monkeypatch.setattr(ftrain.use.evaluate, "open_shards", lambda place: shards)
    monkeypatch.setattr("ftrain.tasks.keypoints.report.report", lambda *_: {"model": {"ne": 0.1}, "unit": "reference"})
    metrics = evaluate_run(run, str(folder), tmp_path / "out", workers=0, device="cpu")
    assert ("note" in metrics) == synthetic
    assert (SYNTHETIC_NOTE in "\n".join(summary_lines(metrics))) == synthetic


def test_the_best_checkpoint_is_evaluated_unless_another_is_named(folder, run, tmp_path):
    shards = ShardSet.open(folder)
    mine = write_run(tmp_path / "run", shards)
    state = checkpoint.check(mine / "checkpoints/step-00000007")
    state.step = 9
    later = tiny_task(shards.metadata, seed=5)
    checkpoint.save_checkpoint(mine / "checkpoints", state, {"model": later.state_dict()}, keep=3)
    steps = {}
    for which in ("best", "latest", "step-00000009"):
        metrics = evaluate_run(mine, str(folder), tmp_path / which, checkpoint=which, workers=0, device="cpu")
        steps[which] = (metrics["checkpoint_step"], metrics["model"]["ne"])
    assert steps["best"][0] == 7
    assert steps["latest"] == steps["step-00000009"]
    assert steps["latest"][0] == 9
    assert steps["best"][1] != steps["latest"][1]


def test_a_split_that_selected_the_checkpoint_is_reported(folder, run, tmp_path):
    """In text and in JSON; the checkpoint was the best on these very samples."""
    own = evaluate_run(run, str(folder), tmp_path / "own", split="val", workers=0, device="cpu")
    assert own["selection"] == {"split": "val", "metric": "ne", "evaluated_samples": 5}
    warning = "WARNING: 5 of the 5 samples selected the checkpoint (by ne on val), so these metrics are too good"
    assert warning in (tmp_path / "own/summary.txt").read_text()
    other = evaluate_run(run, str(folder), tmp_path / "other", workers=0, device="cpu")
    assert other["selection"] == {"split": "val", "metric": "ne", "evaluated_samples": 0}
    assert "selected" not in (tmp_path / "other/summary.txt").read_text()
    assert own["trained_samples"] == other["trained_samples"] == 0
    trained = evaluate_run(run, str(folder), tmp_path / "trained", split="train", workers=0, device="cpu")
    assert trained["trained_samples"] == trained["samples"] > 0
    warning = f"WARNING: the run was trained on {trained['samples']} of the {trained['samples']} samples"
    assert warning in (tmp_path / "trained/summary.txt").read_text()
    strange = ShardSet.open(folder)
    strange.metadata["dataset"] = "other squares"
    unselected = write_run(tmp_path / "run", strange)
    elsewhere = evaluate_run(unselected, str(folder), tmp_path / "elsewhere", split="val", workers=0, device="cpu")
    assert elsewhere["selection"]["evaluated_samples"] == 0


def test_a_run_without_validation_is_evaluated_at_its_last_checkpoint(folder, run, tmp_path):
    shards = ShardSet.open(folder)
    mine = write_run(tmp_path / "run", shards)
    state = checkpoint.check(mine / "checkpoints/step-00000007")
    state.step, state.best = 9, {}
    checkpoint.save_checkpoint(mine / "checkpoints", state, {"model": tiny_task(shards.metadata).state_dict()}, keep=1)
    checkpoint.mark_best(mine / "checkpoints", state)
    metrics = evaluate_run(mine, str(folder), tmp_path / "out", split="val", workers=0, device="cpu")
    assert (metrics["selection"], metrics["checkpoint_step"]) == (None, 9)
    assert (
        "NOTE: validation did not select this checkpoint, the last one of the run"
        in (tmp_path / "out/summary.txt").read_text()
    )


def _refusals(folder, shard_folder, run, tmp_path):
    strange = tmp_path / "strange"
    strange.mkdir()
    publish_json(strange / "dataset.json", {})
    return {
        "another landmark set": (
            run,
            shard_folder,
            {},
            "trained with landmark_set fashionai-24, but .* has deepfashion-8",
        ),
        "no such split": (run, folder, {"split": "gallery"}, "the split 'gallery' has no samples; there are train"),
        "no such checkpoint": (run, folder, {"checkpoint": "step-99"}, "no checkpoint 'step-99'"),
        "not a run": (tmp_path, folder, {}, "not a run folder"),
        "half a run": (strange, folder, {}, "not a run folder"),
        "no shard set": (run, tmp_path, {}, "no finished shard set here"),
    }


@pytest.mark.parametrize(
    "case", ["another landmark set", "no such split", "no such checkpoint", "not a run", "half a run", "no shard set"]
)
def test_what_cannot_be_evaluated_is_refused_in_a_sentence(case, folder, shard_folder, run, tmp_path):
    chosen_run, chosen_set, options, message = _refusals(folder, shard_folder, run, tmp_path)[case]
    with pytest.raises(UsageError, match=message):
        evaluate_run(chosen_run, str(chosen_set), tmp_path / "out", workers=0, device="cpu", **options)
    assert not (tmp_path / "out/metrics.json").exists()


def test_a_split_without_visible_points_is_refused(folder, tmp_path):
    evaluated = oracle(ShardSet.open(folder))
    evaluated.results["visibility"][:] = Visibility.ABSENT
    with pytest.raises(UsageError, match="no visible landmarks to evaluate"):
        report(KEYPOINTS, evaluated, tmp_path)


def test_two_evaluations_do_not_write_into_one_folder(folder, run, tmp_path):
    with exclusive(tmp_path / "out"), pytest.raises(EnvironmentProblem, match="is writing here"):
        evaluate_run(run, str(folder), tmp_path / "out", workers=0, device="cpu")


def test_points_that_stand_still_are_a_collapse_and_fail_after_everything_is_written(
    folder, run, tmp_path, monkeypatch
):
    from ftrain.tasks.keypoints.task import Keypoints

    still = report(KEYPOINTS, oracle(ShardSet.open(folder), error=2.0), tmp_path / "moving")
    assert not still["collapse"]["collapsed"]
    predict = Keypoints.predict

    def stand_still(self, batch):
        answers = predict(self, batch)
        return {**answers, "points": (0.5 * batch["size"][:, None]).expand_as(answers["points"])}

    monkeypatch.setattr(Keypoints, "predict", stand_still)
    options = {"workers": 0, "device": "cpu"}
    with pytest.raises(RejectedError, match="the model collapsed: its landmarks hardly move"):
        evaluate_run(run, str(folder), tmp_path / "out", **options)
    assert "WARNING: the model collapsed" in (tmp_path / "out/summary.txt").read_text()
    line = ["evaluate", str(run), str(folder), "--out", str(tmp_path / "out"), "--workers", "0", "--device", "cpu"]
    refused, allowed = (CliRunner().invoke(app, [*line, *more]) for more in ([], ["--allow-collapse"]))
    assert isinstance(refused.exception, RejectedError)
    assert (allowed.exit_code, refused.stdout) == (0, allowed.stdout), "a refusal says all that success says"
    assert f"written to {tmp_path}/out" in refused.stdout
    assert evaluate_run(run, str(folder), tmp_path / "out", allow_collapse=True, **options)["collapse"]["collapsed"]


@pytest.mark.parametrize("least", [1, 20])
def test_slices_part_the_images(folder, tmp_path, least, monkeypatch):
    monkeypatch.setattr("ftrain.reports.landmark_report.slices", lambda *given: slices(*given, least=least))
    evaluated = oracle(ShardSet.open(folder), error=3.0)
    parts = report(KEYPOINTS, evaluated, tmp_path).get("slices", {})
    occluded = (evaluated.results["visibility"] == Visibility.OCCLUDED).any(axis=1)
    if least == 1:
        assert parts["occlusion"]["some points occluded"]["count"] == occluded.sum()
        assert sum(part["count"] for part in parts["extent"].values()) == 21
    else:
        assert all(part["count"] >= 20 for kind in parts.values() for part in kind.values())
