"""Keypoints runs joined to an ensemble: averaged maps, use in every command, and runs that cannot be joined."""

import json

import numpy as np
import pytest
import torch
from tests.ftrain.keypoint_runs import tiny_task, write_run
from tests.shard_sets import write_shard_set
from typer.testing import CliRunner

from fschemas.failures import UsageError
from fschemas.landmarks import DEEPFASHION_8, FASHIONAI_24
from fschemas.shard_set import ShardSet
from ftrain.cli import app
from ftrain.data.image import decode
from ftrain.data.stream import RawSample
from ftrain.inference.trained_task import as_batch, load_task
from ftrain.layers.heatmap import decode as decode_maps
from ftrain.search.join import join_runs
from ftrain.tasks.joined_keypoints.task import JoinedKeypoints
from ftrain.use.evaluate import evaluate_run
from ftrain.use.export import LOCAL_PATHS
from ftrain.use.predict import PredictOptions, predict_images
from ftrain.use.submit import write_submission

CPU = torch.device("cpu")
QUICK = {"workers": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return ShardSet.open(
        write_shard_set(tmp_path_factory.mktemp("set") / "set", {"train": 10, "test": 5}, FASHIONAI_24)
    )


@pytest.fixture(scope="module")
def runs(shards, tmp_path_factory):
    """Three runs of different weights, sizes and backbones; `same` joins two of one size, `joined` all."""
    folder = tmp_path_factory.mktemp("runs")
    for seed, (name, model) in enumerate({
        "one": {}, "two": {"backbone": "test_resnet", "tta": {"flip": False}}, "large": {"input_size": 96, "blur_sigma": 0.0},
    }.items()):  # fmt: skip
        write_run(folder / name, shards, tiny_task(shards.metadata, seed=seed, **model), **model)
    assert join(shards, folder, "same", "one", "two") == {"runs": 2, "input_size": 64}
    assert join(shards, folder, "joined", "one", "two", "large") == {"runs": 3, "input_size": 96}
    return folder


def join(shards, folder, out, *names):
    return join_runs(str(shards.location), [folder / name for name in names], folder / out, **QUICK)


def test_maps_of_one_size_are_averaged_exactly_and_each_run_keeps_its_views(shards, runs):
    joined, one, two = (load_task(runs / name, "best", None, CPU) for name in ("same", "one", "two"))
    assert isinstance(joined, JoinedKeypoints)
    assert [task.views.flip for task in joined.tasks] == [True, False]
    image = decode(shards.read(0)[0])
    batch = as_batch([joined.encode_image(image)], CPU)
    with torch.inference_mode():
        maps = [task.heat_maps(batch["image"])[0] for task in (one, two)]
        scores = [task.predict(batch)["garment_scores"] for task in (one, two)]
        found = joined.predict(batch)
        points, peaks = decode_maps((maps[0] + maps[1]) / 2, 4, joined.config.blur_sigma, joined.config.subpixel_offset)
    torch.testing.assert_close(found["garment_scores"], (scores[0] + scores[1]) / 2)
    torch.testing.assert_close(found["scores"], peaks)
    size = batch["size"][:, None]
    scale = size.max() / 64
    inside = ((points > 2) & (points < 61)).all(dim=2) & ((found["points"] > 0) & (found["points"] < size - 1)).all(
        dim=2
    )
    expected = (points[inside] - 31.5) * scale + (size - 1)[0] / 2
    torch.testing.assert_close(found["points"][inside], expected, atol=1e-3, rtol=0)
    joined.set_tta(False)
    assert not any(task.views.flip for task in joined.tasks)


def test_the_encoder_is_that_of_the_largest_run_and_smaller_ones_see_the_same_image(shards, runs, monkeypatch):
    joined = load_task(runs / "joined", "best", False, CPU)
    image, annotation = shards.read(0)
    encoded = joined.encoder(RawSample(0, image, annotation), None)
    assert encoded["image"].shape == (96, 96, 3)
    small = joined.tasks[0]
    seen = []
    plain = small.heat_maps
    monkeypatch.setattr(small, "heat_maps", lambda shown: seen.append(shown) or plain(shown))
    with torch.inference_mode():
        joined.predict(as_batch([encoded], CPU))
    direct = torch.from_numpy(small.encoder(RawSample(0, image, annotation), None)["image"]).float()
    assert seen[0].shape == (1, 64, 64, 3)
    assert (seen[0][0] - direct)[8:-8, 8:-8].abs().mean() < 12  # of 256: noise, resized once or twice


def test_enlarged_maps_keep_their_peaks_in_place(shards, runs, monkeypatch):
    from ftrain.layers.heatmap import gaussian_targets

    joined = load_task(runs / "joined", "best", False, CPU)
    points = torch.tensor([[[30.0, 40.0], [60.2, 20.0]]]).repeat(1, 12, 1)  # in 96 pixels
    for task in joined.tasks:
        size = task.config.input_size
        own = (points + 0.5) * size / 96 - 0.5
        maps = gaussian_targets(own, torch.ones(1, 24), (size // 4, size // 4), 4, 1.4)
        monkeypatch.setattr(task, "heat_maps", lambda image, maps=maps: (maps, torch.zeros(1, 5)))
    maps, _ = joined.heat_maps(torch.zeros(1, 96, 96, 3))
    found, _ = decode_maps(maps, 4, 0.0)
    assert (found - points).abs().max() < 0.4


def test_every_command_takes_the_ensemble(shards, runs, tmp_path):
    metrics = evaluate_run(runs / "joined", str(shards.location), tmp_path / "out", allow_collapse=True, **QUICK)
    assert metrics["task"] == "joined_keypoints"
    image, note = shards.read(int(shards.rows("test")[0]))
    (tmp_path / "photo.jpg").write_bytes(image)
    (answer,) = predict_images(
        runs / "joined", [tmp_path / "photo.jpg"], tmp_path / "found", PredictOptions(device="cpu")
    )
    assert len(answer["points"]) == len(FASHIONAI_24.garments[answer["garment"]])
    assert (tmp_path / "found" / answer["overlay"]).exists()
    (tmp_path / "test.csv").write_text(f"image_id,image_category\nphoto.jpg,{note['garment']}\n")
    assert write_submission(runs / "joined", tmp_path / "test.csv", tmp_path / "answer.csv", device="cpu") == 1
    worst = np.mean([json.loads((tmp_path / "out/report.json").read_text())["model"]["ne"]])
    assert np.isfinite(worst)


def test_an_export_leaves_out_the_places_of_the_weights(runs):
    config = load_task(runs / "joined", "best", None, CPU).config
    described = config.model_dump(mode="json", exclude=LOCAL_PATHS)
    assert [member["input_size"] for member in described["members"]] == [64, 64, 96]
    assert "weights" in config.model_dump_json()
    assert "weights" not in json.dumps(described)


def test_what_cannot_be_joined(shards, runs, tmp_path):
    with pytest.raises(UsageError, match="one keypoints run cannot be joined"):
        join(shards, runs, "alone", "one")
    with pytest.raises(UsageError, match="cannot be joined again"):
        join(shards, runs, "twice", "same", "one")
    for key, value, words in (("garment", "skirt", "None, skirt"), ("crop", "keypoints", "image, keypoints")):
        write_run(runs / key, shards, **{key: value})
        with pytest.raises(UsageError, match=rf"different model.{key} \({words}\)"):
            join(shards, runs, "no", "one", key)
    other = ShardSet.open(write_shard_set(tmp_path / "other", {"train": 4}, DEEPFASHION_8))
    write_run(runs / "eight", other)
    with pytest.raises(UsageError, match="trained with landmark_set"):
        join(shards, runs, "no", "one", "eight")
    joined = load_task(runs / "same", "best", None, CPU)
    with pytest.raises(UsageError, match="joined runs are not trained"):
        joined({})


def test_the_command_reports_what_it_made(shards, runs, tmp_path):
    arguments = [
        str(shards.location),
        str(runs / "one"),
        str(runs / "large"),
        "--run",
        str(tmp_path / "run"),
        "--device",
        "cpu",
    ]
    done = CliRunner().invoke(app, ["join", *arguments], catch_exceptions=False)
    assert done.stdout.strip() == f"{tmp_path / 'run'}: 2 runs, heat maps averaged at 96 pixels"
    assert load_task(tmp_path / "run", "best", None, CPU).config.members[1].input_size == 96
