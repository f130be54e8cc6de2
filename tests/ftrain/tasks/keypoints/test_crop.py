"""Crops from keypoints: around the annotated ones in training, around predicted ones in two passes at inference."""

import json
import os

import numpy as np
import pytest
import simplejpeg
import torch
from pydantic import ValidationError
from tests.ftrain.category_runs import write_run as write_category_run
from tests.ftrain.keypoint_runs import tiny_task, write_run
from tests.shard_sets import draw_sample, write_label_set, write_shard_set
from typer.testing import CliRunner

from fschemas.failures import UsageError
from fschemas.landmarks import DEEPFASHION_8, FASHIONAI_24, Visibility
from fschemas.shard_set import ShardSet
from ftrain.cli import app
from ftrain.data.image import decode, transform_points
from ftrain.data.stream import RawSample
from ftrain.data.view import SEEN
from ftrain.fit.distributed import processes
from ftrain.inference.detector import Detector
from ftrain.layers.heatmap import gaussian_targets
from ftrain.tasks.keypoints.config import KeypointsConfig
from ftrain.tasks.keypoints.crop import found_crop, training_crop
from ftrain.tasks.keypoints.task import KeypointEncoder, Keypoints
from ftrain.tasks.task import task_function
from ftrain.use import evaluate
from ftrain.use.describe import describe_image
from ftrain.use.evaluate import evaluate_run, summary_lines
from ftrain.use.predict import PredictOptions, predict_images, predict_samples
from ftrain.use.submit import write_submission

STILL = {"rotation": 0.0, "scale": (1.0, 1.0), "translate": 0.0, "color_jitter": 0.0, "flip": 0.0}
QUICK = {"workers": 0, "device": "cpu"}


def annotation_of(points, seen, width=200, height=100):
    x, y = np.asarray(points, float).T
    return {"width": width, "height": height, "landmark_x": x, "landmark_y": y, "landmark_visibility": seen}


def test_a_crop_contains_the_keypoints_with_coordinates():
    note = annotation_of([(20, 30), (80, 10), (199, 99), (0, 0)], [2, 1, -1, 0])
    assert training_crop(KeypointsConfig(crop="keypoints"), note, None) == [20, 10, 80, 30]


@pytest.mark.parametrize(
    "note",
    [
        annotation_of([(20, 30), (0, 0)], [2, 0]),
        annotation_of([(20, 30), (25, 31)], [2, 2]),
        annotation_of([(0, 0), (0, 0)], [0, -1]),
    ],
)
def test_too_few_or_too_close_keypoints_show_the_whole_image(note):
    assert training_crop(KeypointsConfig(crop="keypoints"), note, np.random.default_rng(0)) is None


def test_training_crops_jitter_by_their_own_size_and_sometimes_show_the_whole_image():
    note = annotation_of([(20, 30), (80, 10)], [2, 2])
    config = KeypointsConfig(crop="keypoints", crop_jitter=0.1, whole_image_ratio=0.25)
    generator = np.random.default_rng(0)
    crops = [training_crop(config, note, generator) for _ in range(800)]
    moved = np.array([crop for crop in crops if crop is not None]) - [20, 10, 80, 30]
    assert 0.2 < np.mean([crop is None for crop in crops]) < 0.3
    assert np.abs(moved).max() <= 6
    assert (np.ptp(moved, axis=0) > 11).all()


def test_opposite_sides_of_a_crop_cannot_change_places():
    """Half of the longer side on both would leave nothing; more would show the image upside down."""
    note = annotation_of([(20, 30), (80, 10)], [2, 2])
    generator, config = np.random.default_rng(0), KeypointsConfig(crop="keypoints", crop_jitter=0.49)
    crops = [training_crop(config, note, generator) for _ in range(400)]
    assert min(crop[2] - crop[0] for crop in crops if crop is not None) > 0
    with pytest.raises(ValidationError, match=r"less than 0\.5"):
        KeypointsConfig(crop_jitter=0.5)


def test_the_encoder_fills_its_input_with_the_keypoints_and_moves_the_truth_along():
    sample = draw_sample(4, "train", FASHIONAI_24)
    config = KeypointsConfig(crop="keypoints", input_size=128, box_margin=0.0, **STILL)
    encoded = KeypointEncoder(config, FASHIONAI_24)(RawSample(0, sample.image, sample.annotation), None)
    inside = encoded["keypoints"][encoded["visibility"] >= Visibility.OCCLUDED]
    extent = np.ptp(inside, axis=0).max()
    assert 128 * 0.9 < extent < 128
    np.testing.assert_allclose(transform_points(encoded["target"], encoded["matrix"]), encoded["keypoints"], atol=1e-3)
    whole = KeypointEncoder(config.model_copy(update={"crop": "image"}), FASHIONAI_24)
    shown = {**sample.annotation, SEEN: None}  # a first pass that found nothing
    again = KeypointEncoder(config, FASHIONAI_24)(RawSample(0, sample.image, shown), None)
    plain = whole(RawSample(0, sample.image, sample.annotation), None)
    np.testing.assert_array_equal(again["image"], plain["image"])


def test_crops_draw_nothing_unless_they_come_from_keypoints():
    sample = draw_sample(4, "train", FASHIONAI_24)
    views = [
        KeypointEncoder(KeypointsConfig(crop_jitter=jitter, whole_image_ratio=ratio), FASHIONAI_24)(
            RawSample(0, sample.image, sample.annotation), np.random.default_rng(0)
        )["image"]
        for jitter, ratio in ((0.1, 0.25), (0.4, 0.9))
    ]
    np.testing.assert_array_equal(*views)


def test_predicted_keypoints_without_a_peak_do_not_widen_the_crop():
    points = np.array([[20.0, 30.0], [80.0, 10.0], [199.0, 99.0]])
    assert found_crop(points, np.array([0.9, 0.5, 0.02]), 200, 100) == [20, 10, 80, 30]
    assert found_crop(points, np.array([0.9, 0.02, 0.02]), 200, 100) == [0, 0, 199, 99]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_shard_set(tmp_path_factory.mktemp("crop") / "set", {"train": 12, "test": 6}, FASHIONAI_24)


@pytest.fixture(scope="module")
def runs(folder, tmp_path_factory):
    """`own` finds the garment itself; `finder` is a run on whole images."""
    runs = tmp_path_factory.mktemp("runs")
    for name, crop in (("own", "keypoints"), ("finder", "image")):
        write_run(runs / name, ShardSet.open(folder), crop=crop)
    return runs


def test_predict_evaluate_and_submit_find_the_garment_first(folder, runs, tmp_path, monkeypatch):
    """Every command crops to the first pass, which sees the whole image and is told the garment where it is known."""
    shards = ShardSet.open(folder)
    task = tiny_task(shards.metadata, crop="keypoints")
    rows = shards.rows("test").tolist()
    detector = Detector(None, task, torch.device("cpu"))
    answers = predict_samples(
        runs / "own", str(folder), tmp_path / "out", options=PredictOptions(device="cpu", overlays=False)
    )
    seen = []
    encoded = KeypointEncoder.__call__

    def spy(self, sample, generator):
        seen.append((sample.row, sample.annotation[SEEN]))
        return encoded(self, sample, generator)

    monkeypatch.setattr(KeypointEncoder, "__call__", spy)
    metrics = evaluate_run(runs / "own", str(folder), tmp_path / "evaluated", allow_collapse=True, **QUICK)
    assert metrics["crops"] == "the boxes that the run itself predicts"
    assert "NOTE: cropped to the boxes that the run itself predicts" in summary_lines(metrics)
    lines = ["image_id,image_category"]
    for row, answer in zip(rows, answers, strict=True):
        image, note = shards.read(row)
        pixels = decode(image)
        assert answer[SEEN] == pytest.approx(detector(pixels), abs=0.01)
        told = detector(pixels, note["garment"])
        assert dict(seen)[row] == pytest.approx(told, abs=0.01)
        (tmp_path / note["image"]).write_bytes(image)
        lines.append(f"{note['image']},{note['garment']}")
    (tmp_path / "test.csv").write_text("\n".join([*lines, ""]))
    task.set_tta(False)
    assert write_submission(runs / "own", tmp_path / "test.csv", tmp_path / "answer.csv", tta=False, device="cpu") == 6
    last = (tmp_path / "answer.csv").read_text().split("\n")[6].split(",")
    image, note = shards.read(rows[-1])
    pixels = decode(image)
    inputs = task.encode_image(pixels, detector(pixels, note["garment"]))
    with torch.inference_mode():
        found = task.predict({name: torch.from_numpy(value[None]) for name, value in inputs.items()})
    for point in FASHIONAI_24.valid_landmarks(note["garment"]):
        assert [int(part) for part in last[2 + point].split("_")[:2]] == np.rint(
            found["points"][0, point].numpy()
        ).tolist()


def test_workers_of_both_passes_are_forked_before_the_process_group(folder, runs, tmp_path, monkeypatch):
    """They learn the boxes of the first pass through shared memory."""
    events, fork = [], os.fork
    monkeypatch.setattr(os, "fork", lambda: events.append("fork") or fork())
    monkeypatch.setattr(evaluate, "processes", lambda *given: events.append("group") or processes(*given))
    options = {**QUICK, "allow_collapse": True}
    alone = evaluate_run(runs / "own", str(folder), tmp_path / "alone", **{**options, "workers": 0})
    events.clear()
    assert evaluate_run(runs / "own", str(folder), tmp_path / "two", **{**options, "workers": 2}) == alone
    assert events == ["fork", "fork", "group"]


def test_a_run_on_whole_images_finds_the_garment_for_another(folder, runs, tmp_path):
    image, _ = ShardSet.open(folder).read(0)
    (tmp_path / "photo.jpg").write_bytes(image)
    photo, options = tmp_path / "photo.jpg", {"device": "cpu", "overlays": False}
    (found,) = predict_images(runs / "finder", [photo], tmp_path / "found", PredictOptions(**options))
    with_finder = PredictOptions(detector=runs / "finder", **options)
    (near,) = predict_images(runs / "own", [photo], tmp_path / "near", with_finder)
    assert near[SEEN] == pytest.approx(found["box"], abs=0.01)
    described = describe_image(photo, [runs / "own"], detector=runs / "finder", device="cpu")
    assert described["answers"][0]["answer"]["points"] == near["points"]
    arguments = [str(runs / "own"), str(folder), "--out", str(tmp_path / "out"), "--device", "cpu", "--workers", "0"]
    done = CliRunner().invoke(
        app,
        ["evaluate", *arguments, "--detector", str(runs / "finder"), "--allow-collapse", "--json"],
        catch_exceptions=False,
    )
    assert json.loads(done.stdout)["crops"] == "the boxes that finder predicts"
    with pytest.raises(UsageError, match="uses whole images"):
        evaluate_run(runs / "finder", str(folder), tmp_path / "no", detector=runs / "own", **QUICK)


def test_a_box_that_a_run_finds_for_itself_is_not_shown_to_the_next(folder, runs, tmp_path):
    image, _ = ShardSet.open(folder).read(0)
    (tmp_path / "photo.jpg").write_bytes(image)
    write_run(tmp_path / "boxed", ShardSet.open(folder), crop="box")
    alone, after = (
        describe_image(tmp_path / "photo.jpg", [*before, tmp_path / "boxed"], device="cpu")["answers"][-1]
        for before in ([], [runs / "own"])
    )
    assert after == alone


def test_submissions_take_a_detector_too(folder, runs, tmp_path, monkeypatch):
    image, note = ShardSet.open(folder).read(0)
    (tmp_path / "photo.jpg").write_bytes(image)
    (tmp_path / "test.csv").write_text(f"image_id,image_category\nphoto.jpg,{note['garment']}\n")
    seen = []
    encode = Keypoints.encode_image
    monkeypatch.setattr(Keypoints, "encode_image", lambda self, *given: seen.append(given[1:]) or encode(self, *given))
    arguments = [
        "submit",
        str(runs / "own"),
        str(tmp_path / "test.csv"),
        str(tmp_path / "answer.csv"),
        "--device",
        "cpu",
    ]
    done = CliRunner().invoke(app, [*arguments, "--detector", str(runs / "finder")], catch_exceptions=False)
    assert done.exit_code == 0
    (found,) = predict_images(
        runs / "finder", [tmp_path / "photo.jpg"], tmp_path / "out", PredictOptions(device="cpu", overlays=False)
    )
    assert any(box and box[0] == pytest.approx(found["box"], abs=0.01) for box in seen if box != (None,))
    with pytest.raises(UsageError, match="uses whole images"):
        write_submission(
            runs / "finder", tmp_path / "test.csv", tmp_path / "no.csv", device="cpu", detector=runs / "own"
        )


def test_a_category_run_finds_the_garment_in_an_evaluation_and_errors_stay_those_of_the_annotated_box(tmp_path):
    shards = ShardSet.open(write_label_set(tmp_path / "set", {"train": 8, "val": 2, "test": 4}))
    write_category_run(tmp_path / "boxes", shards)
    run = write_run(tmp_path / "run", shards, crop="box")
    with_truth, found = (
        evaluate_run(run, shards.location, tmp_path / str(number), allow_collapse=True, detector=detector, **QUICK)
        for number, detector in enumerate((None, tmp_path / "boxes"))
    )
    assert "crops" not in with_truth
    assert found["crops"] == "the boxes that boxes predicts"
    assert found["model"]["ne_box"] != with_truth["model"]["ne_box"]
    assert found["mean_pose"] == with_truth["mean_pose"]


def test_an_error_of_the_network_counts_less_the_second_time(monkeypatch):
    """A network that is off by one cell is off by 4 pixels of its input: 16 of an image of 256, about 5 of the crop."""
    task = tiny_task(
        {"landmark_set": DEEPFASHION_8.to_json(), "vocabularies": {}}, crop="keypoints", tta={"flip": False}
    )
    generator = np.random.default_rng(0)
    samples, boxes, errors = [small_garment(number, generator) for number in range(8)], [None] * 8, []
    for _ in range(2):
        shown = [RawSample(s.row, s.image, {**s.annotation, SEEN: box}) for s, box in zip(samples, boxes, strict=True)]
        encoded = [task.encoder(sample, None) for sample in shown]
        batch = {name: torch.from_numpy(np.stack([one[name] for one in encoded])) for name in encoded[0]}
        maps = gaussian_targets(
            batch["keypoints"] + torch.tensor([4.0, 0.0]), batch["visibility"] >= 1, (16, 16), 4, 1.4
        )
        monkeypatch.setattr(task, "heat_maps", lambda image, maps=maps: (maps, torch.zeros(8, 3)))
        results = {name: value.numpy() for name, value in task.predict(batch).items()}
        errors.append(np.linalg.norm(results["points"] - results["target"], axis=2)[results["visibility"] == 2])
        describe = task_function(task, "describe")
        boxes = [describe(task, results, number, "full")["box"] for number in range(8)]
    assert np.median(errors[0]) == pytest.approx(16, abs=1)
    assert np.median(errors[1]) < 6


def small_garment(number, generator):
    """A "full" garment of 64 x 64 pixels somewhere in an image of 256 x 256."""
    plain = draw_sample(3 * number + 2, "train", DEEPFASHION_8, size=64)
    garment = simplejpeg.decode_jpeg(plain.image, "RGB")
    image = generator.integers(0, 60, (256, 256, 3), dtype=np.uint8)
    x, y = generator.integers(0, 192, 2)
    image[y : y + garment.shape[0], x : x + garment.shape[1]] = garment
    note = dict(plain.annotation)
    note |= {
        "width": 256,
        "height": 256,
        "landmark_x": np.add(note["landmark_x"], x),
        "landmark_y": np.add(note["landmark_y"], y),
    }
    return RawSample(number, simplejpeg.encode_jpeg(image, quality=95), note)


@pytest.mark.slow
def test_two_processes_crop_to_the_same_boxes_as_one(folder, runs, tmp_path, forks, one_thread):
    options = ["--workers", "1", "--device", "cpu", "--batch-size", "4", "--allow-collapse"]
    evaluate_run(runs / "own", str(folder), tmp_path / "one", allow_collapse=True, batch_size=2, **QUICK)
    arguments = ["evaluate", str(runs / "own"), str(folder), "--out", str(tmp_path / "two"), *options]
    children = forks.start_group("cli", 2, arguments=arguments)
    assert [child.wait(180) for child in children] == [0, 0], [child.text() for child in children]
    assert (tmp_path / "two/report.json").read_bytes() == (tmp_path / "one/report.json").read_bytes()
