"""Runs that use boxes: from the shard set, predicted by another run, and messages without any."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.ftrain.category_runs import tiny_task, write_run
from tests.shard_sets import write_label_set
from typer.testing import CliRunner

from fschemas.failures import UsageError
from fschemas.shard_set import ShardSet
from ftrain.cli import app
from ftrain.fit.distributed import processes
from ftrain.fit.evaluation import results_of_split
from ftrain.fit.run_folder import RunFolder
from ftrain.fit.train import TrainOptions, train
from ftrain.inference.detector import Detector
from ftrain.use.describe import describe_image
from ftrain.use.evaluate import evaluate_run
from ftrain.use.predict import PredictOptions, predict_images, predict_samples
from ftrain.use.predictor import SEEN

COUNTS = {"train": 12, "val": 4, "test": 8}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = write_label_set(tmp_path_factory.mktemp("boxes") / "set", COUNTS)
    return ShardSet.open(folder)


@pytest.fixture(scope="module")
def runs(shards, tmp_path_factory):
    """`whole` predicts boxes on whole images, `close` uses boxes."""
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "whole", shards)
    write_run(folder / "close", shards, crop="box")
    return folder


@pytest.fixture
def photo(shards, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(shards.read(int(shards.rows("test")[0]))[0])
    return path


def quick(**options):
    return PredictOptions(device="cpu", overlays=False, **options)


def test_samples_are_shown_their_own_box_as_an_evaluation_shows_it(shards, runs, tmp_path):
    answers = predict_samples(runs / "close", str(shards.location), tmp_path / "out", options=quick())
    task, _, _ = RunFolder(runs / "close").load()
    with processes("cpu") as alone:
        evaluated = results_of_split(task, shards, shards.rows("test"), alone, 4, workers=0)
    for answer, row, scores in zip(answers, evaluated["row"], evaluated["category_scores"], strict=True):
        assert answer[SEEN] == pytest.approx(shards.read_annotation(int(row))["box"], abs=0.01)
        assert answer["category_score"] == pytest.approx(scores.max(), abs=1e-3)
    close, whole = (
        evaluate_run(runs / name, str(shards.location), tmp_path / name, device="cpu", workers=0, allow_collapse=True)
        for name in ("close", "whole")
    )
    assert "box_iou" in whole["model"]
    assert "box_iou" not in close["model"]  # a model that is given the box has none to predict
    plain = predict_samples(runs / "whole", str(shards.location), tmp_path / "plain", options=quick())
    assert not any(SEEN in answer for answer in plain)


def test_another_run_reports_where_the_garment_is(shards, runs, photo, tmp_path):
    (found,) = predict_images(runs / "whole", [photo], tmp_path / "whole", quick())
    (near,) = predict_images(runs / "close", [photo], tmp_path / "near", quick(detector=runs / "whole"))
    (far,) = predict_images(runs / "close", [photo], tmp_path / "far", quick())
    assert near[SEEN] == pytest.approx(found["box"], abs=0.02)
    assert far[SEEN] is None
    assert near["categories"] != far["categories"]
    three = predict_samples(
        runs / "whole", str(shards.location), tmp_path / "all", split="train+val+test", options=quick()
    )
    assert len({answer["key"] for answer in three}) == sum(COUNTS.values())
    samples = predict_samples(
        runs / "close", str(shards.location), tmp_path / "samples", options=quick(detector=runs / "whole")
    )
    assert samples[0][SEEN] == pytest.approx(found["box"], abs=0.02)  # not the box of the sample
    described = describe_image(photo, [runs / "whole", runs / "close"], detector=runs / "whole", device="cpu")
    assert described["answers"][1]["answer"]["categories"] == near["categories"]


def test_what_does_not_fit_is_refused(shards, runs, photo, tmp_path):
    whole, close = tiny_task(shards), tiny_task(shards, crop="box")
    with pytest.raises(UsageError, match="uses whole images"):
        Detector(runs / "whole", whole, CPU)
    with pytest.raises(UsageError, match="needs boxes itself"):
        Detector(runs / "close", close, CPU)
    bare = ShardSet.open(write_label_set(tmp_path / "bare", COUNTS, without=("box",)))
    write_run(tmp_path / "boxless", bare)
    with pytest.raises(UsageError, match="predicts no boxes"):
        Detector(tmp_path / "boxless", close, CPU)
    with pytest.raises(UsageError, match="all of the runs use whole images"):
        describe_image(photo, [runs / "whole"], detector=runs / "whole", device="cpu")
    for number, task in enumerate(("category", "retrieval", "style", "fashionnet", "keypoints")):
        options = TrainOptions(
            str(bare.location), tmp_path / str(number), device="cpu", overrides=("model.crop=box",), workers=0
        )
        with pytest.raises(UsageError, match="needs box"):
            train(task, options)


def test_the_command_reports_that_whole_images_were_shown(runs, photo, tmp_path):
    call = ["predict", str(runs / "close"), str(photo), "--device", "cpu", "--no-overlays", "--out"]
    without = CliRunner().invoke(app, [*call, str(tmp_path / "without")])
    assert "got whole images; choose a run that predicts boxes with --detector" in without.output
    result = CliRunner().invoke(app, [*call, str(tmp_path / "with"), "--detector", str(runs / "whole")])
    assert (result.exit_code, "whole images" in result.output) == (0, False)
    answer = json.loads((tmp_path / "with/predictions.jsonl").read_text())
    assert np.asarray(answer[SEEN]).shape == (4,)
    assert Path(answer["image"]) == photo
