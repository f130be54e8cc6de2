"""`ftrain describe`: several models, one image; predictions as overlays and as text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from tests.ftrain.keypoint_runs import write_run
from tests.shard_sets import write_shard_set

from fschemas.failures import UsageError
from fschemas.landmarks import FASHIONAI_24
from fschemas.shard_set import ShardSet
from ftrain.tasks.keypoints import answer as keypoints
from ftrain.use.describe import describe_image, description_lines, prediction_lines
from ftrain.use.predict import PredictOptions, predict_images


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return ShardSet.open(
        write_shard_set(tmp_path_factory.mktemp("describe") / "set", {"train": 3, "test": 2}, FASHIONAI_24)
    )


@pytest.fixture(scope="module")
def runs(shards: ShardSet, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("describe")
    return [write_run(folder / "all", shards), write_run(folder / "dresses", shards, garment="dress")]


@pytest.fixture
def photo(shards: ShardSet, tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(shards.read(int(shards.rows("test")[0]))[0])
    return path


def test_answers_are_those_of_predict_and_stand_side_by_side(runs: list[Path], photo: Path, tmp_path: Path) -> None:
    description = describe_image(photo, runs, tmp_path / "out", device="cpu")
    assert json.loads((tmp_path / "out/description.json").read_text()) == description
    assert [part["run"] for part in description["answers"]] == [str(run) for run in runs]
    for run, part in zip(runs, description["answers"], strict=True):
        (alone,) = predict_images(run, [photo], tmp_path / run.name, PredictOptions(device="cpu", overlays=False))
        assert part["task"] == "keypoints"
        assert {"image": str(photo), **part["answer"]} == alone
    assert description["answers"][1]["answer"]["garment"] == "dress"
    sheet = simplejpeg.decode_jpeg((tmp_path / "out/description.jpg").read_bytes())
    one = describe_image(photo, runs[:1], tmp_path / "one", device="cpu")
    half = simplejpeg.decode_jpeg((tmp_path / "one/description.jpg").read_bytes())
    assert one["answers"] == description["answers"][:1]
    assert half.shape[0] == sheet.shape[0]
    assert sheet.shape[1] > 1.9 * half.shape[1]
    lines = list(description_lines(description))
    assert lines[0] == f"keypoints ({runs[0]}, step 7)"
    assert sum(line.startswith("  points: ") for line in lines) == 2


def test_another_name_of_an_image_is_another_input(runs: list[Path], photo: Path, tmp_path: Path) -> None:
    (tmp_path / "link.jpg").symlink_to(photo)
    (tmp_path / "hard.jpg").hardlink_to(photo)
    names = [photo, tmp_path / "link.jpg", tmp_path / "hard.jpg"]
    found = [describe_image(name, runs[:1], tmp_path / "out" / name.stem, device="cpu") for name in names]
    assert [description["image"] for description in found] == [str(name) for name in names]
    assert found[0]["answers"] == found[1]["answers"] == found[2]["answers"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == ["hard", "link", "photo"]


def test_an_answer_that_cannot_be_drawn_is_text(
    runs: list[Path], photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keypoints, "draw", lambda task, image, answer: image)
    long_answer = {
        "style": "retro",
        "score": 0.25,
        "embedding": [0.5] * 512,
        "others": [{"name": "a_b", "x": 1.0}] * 90,
    }
    monkeypatch.setattr(keypoints, "describe", lambda task, results, index, category=None: long_answer)
    describe_image(photo, runs[:1], tmp_path / "words", device="cpu")
    words = simplejpeg.decode_jpeg((tmp_path / "words/description.jpg").read_bytes())
    below = words[52 + 12 + 380 :].astype(int)
    share = np.mean(below < 128)
    assert 0.02 < share < 0.3, "letters below the photograph"
    assert prediction_lines(long_answer)[:3] == ["style: retro", "score: 0.25", "embedding: 512 numbers"]
    assert prediction_lines(long_answer)[3].startswith("others: a b (x 1); a b (x 1)")


def test_a_category_is_reported_to_those_that_can_be_told(runs: list[Path], photo: Path) -> None:
    description = describe_image(photo, runs, category="skirt", device="cpu")
    assert [part["answer"]["garment"] for part in description["answers"]] == ["skirt", "dress"]


@pytest.mark.parametrize(
    ("given", "category", "words"),
    [
        ("photo.jpg", "sock", "none of the runs has the garment"),
        ("none.jpg", None, "no such image"),
        ("empty.jpg", None, "is empty"),
    ],
)
def test_what_cannot_be_described_is_one_sentence(
    given: str, category: str | None, words: str, runs: list[Path], photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(UsageError, match=words):
        describe_image(tmp_path / given, runs, tmp_path / "out", category=category, device="cpu")
    with pytest.raises(UsageError, match="no run"):
        describe_image(photo, [], device="cpu")
    assert not (tmp_path / "out").exists()
