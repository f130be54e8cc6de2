"""`ftrain.load(run).predict(images)`: the output of `ftrain predict`, for paths, Pillow images and arrays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.ftrain.keypoint_runs import write_run

import ftrain
from fschemas.failures import UsageError
from fschemas.shard_set import ShardSet
from ftrain.use.predict import PredictOptions, predict_images


@pytest.fixture(scope="module")
def run(shards: ShardSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("predictor") / "run", shards)


@pytest.fixture(scope="module")
def model(run: Path) -> ftrain.Predictor:
    return ftrain.load(str(run), device="cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three lossless images of different sizes, and a damaged one."""
    (tmp_path / "images").mkdir()
    for number, size in enumerate(((40, 56), (64, 64), (90, 31))):
        pixels = np.random.default_rng(number).integers(0, 255, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
    (tmp_path / "images" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing more")
    return tmp_path / "images"


def without(answers: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    return [{name: value for name, value in answer.items() if name not in names} for answer in answers]


def test_answers_are_those_of_the_command(model: ftrain.Predictor, run: Path, folder: Path, tmp_path: Path) -> None:
    written = predict_images(run, [folder], tmp_path / "out", PredictOptions(device="cpu"))
    assert model.predict(folder) == without(written, "overlay")
    assert "not a JPEG, PNG" in model.predict([str(folder / "3.png")])[0]["error"]


def test_images_and_arrays_are_answered_like_their_files(model: ftrain.Predictor, folder: Path) -> None:
    paths = [folder / f"{number}.png" for number in range(3)]
    images = [Image.open(path) for path in paths]
    arrays = [np.asarray(image) for image in images]
    expected = without(model.predict(paths), "image")
    mixed = model.predict([paths[0], images[1], arrays[2]])
    assert [answer["image"] for answer in mixed] == [str(paths[0]), 1, 2]
    for answers in (model.predict(images), model.predict(arrays), mixed):
        assert without(answers, "image") == expected
    assert without(model.predict(images[0]), "image") == expected[:1]
    assert model.predict(np.stack([arrays[1], arrays[1]]), batch_size=1)[1] == {**expected[1], "image": 1}
    gray = np.asarray(images[0].convert("L"))
    assert model.predict(gray) == model.predict(Image.fromarray(gray)) == model.predict(np.dstack([gray] * 3))


def test_a_flipped_view_of_an_array_is_taken_as_it_is(model: ftrain.Predictor, folder: Path) -> None:
    pixels = np.asarray(Image.open(folder / "0.png"))
    assert model.predict(pixels[:, ::-1]) == model.predict(pixels[:, ::-1].copy())


def test_options_are_those_of_the_command(model: ftrain.Predictor, folder: Path) -> None:
    assert {answer["garment"] for answer in model.predict(folder / "0.png", category="upper")} == {"upper"}
    with pytest.raises(UsageError, match="uper"):
        model.predict(folder, category="uper")


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (
            np.zeros((4, 4, 3), np.float32),
            r"image 0 is float32 \(4, 4, 3\); pass a path, a Pillow image, or a uint8 array",
        ),
        (np.zeros((4, 4, 4), np.uint8), r"uint8 \(4, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"uint8 \(0, 4, 3\)"),
        ([3], "image 0 is int"),
        ("no/such.png", "no such image or folder"),
    ],
)
def test_what_is_no_image_is_refused(model: ftrain.Predictor, image: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        model.predict(image)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, run: Path) -> None:
    with pytest.raises(UsageError, match="not a run folder"):
        ftrain.load(tmp_path)
    with pytest.raises(UsageError, match="bst"):
        ftrain.load(run, checkpoint="bst")


def test_the_api_is_imported_when_it_is_asked_for_and_reports_what_it_lacks() -> None:
    code = (
        "import sys, ftrain; assert {'torch', 'numpy'}.isdisjoint(sys.modules), 'not lazy'; sys.modules['torch'] = None\n"
        "assert {'load', 'ShardDataset'} <= set(dir(ftrain))\n"
        "try: ftrain.load\nexcept ImportError as error: print(error)\n"
        "try: ftrain.lod\nexcept AttributeError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        'torch is not installed; pip install "fashionkit[train]"', "module 'ftrain' has no attribute 'lod'",
    ]  # fmt: skip
