"""Folders with names that are patterns, URLs or escapes in some library: every command uses them literally."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from tests.shard_sets import write_label_set
from typer.testing import CliRunner

import fprep.cli
import ftrain.cli
from ftrain.data.remote import open_shards

NAME = "a[1] #b?*::c%20{0..1}"

_VALUES = (
    "model.backbone=test_efficientnet",
    "model.weights=none",
    "model.input_size=64",
    "fit.batch_size=4",
    "fit.epochs=1",
)
SMALL = [word for value in _VALUES for word in ("--set", value)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / NAME).mkdir()
    return tmp_path / NAME


def call(app: object, *words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)  # type: ignore[arg-type]
    assert result.exit_code == 0, (words, result.output)
    return result.output


def write_photos(folder: Path) -> Path:
    generator = np.random.default_rng(0)
    for number in range(12):
        path = folder / ("dress", "coat")[number % 2] / f"{number}{NAME}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(simplejpeg.encode_jpeg(generator.integers(0, 255, (64, 64, 3), dtype=np.uint8)))
    return folder


@pytest.mark.slow
def test_every_command_of_fprep(home: Path) -> None:
    raw, table, shards = write_photos(home / "raw"), home / f"table{NAME}", home / f"set{NAME}"
    call(fprep.cli.app, "doctor", raw)
    call(fprep.cli.app, "convert", "folders", raw, table, "-q", "--group-split")
    call(fprep.cli.app, "shard", table, shards, "-q")
    call(fprep.cli.app, "lint", shards, "-q")
    call(fprep.cli.app, "audit", table, "-q")
    call(fprep.cli.app, "report", table, home / f"{NAME}.html", "-q")
    call(fprep.cli.app, "export", table, home / f"coco{NAME}", "--to", "coco", "-q")
    call(fprep.cli.app, "sample", "fashionai-keypoints", home / f"sample{NAME}", "--num-images", "6")
    assert not [path for path in home.parent.iterdir() if path.name != NAME and not path.name.startswith(".")]


@pytest.mark.slow
def test_every_command_of_ftrain(home: Path) -> None:
    shards = write_label_set(home / f"set{NAME}", {"train": 8, "val": 4, "test": 4}, items=3)
    photo = next(write_photos(home / "photos").rglob("*.jpg"))
    run, index = home / f"run{NAME}", home / f"index{NAME}"
    trackers = ["--tracker", "dvclive", "--tracker", "tensorboard", "--tracker", "mlflow"]
    call(
        ftrain.cli.app,
        "category",
        shards,
        "--run",
        run,
        *SMALL,
        "--set",
        "model.targets=[category]",
        "--workers",
        0,
        "-q",
        *trackers,
    )
    call(ftrain.cli.app, "evaluate", run, shards, "--workers", 0, "-q", "--allow-collapse")
    call(ftrain.cli.app, "predict", run, photo.parent, "--out", home / f"predictions{NAME}", "-q")
    call(ftrain.cli.app, "describe", photo, run, "--out", home / f"description{NAME}")
    call(ftrain.cli.app, "summary", run)
    call(ftrain.cli.app, "export", run, home / f"model{NAME}", "--to", "onnx", "-q")
    search = home / f"search{NAME}"
    call(
        ftrain.cli.app,
        "retrieval",
        shards,
        "--run",
        search,
        *SMALL,
        "--set",
        "model.embedding_dim=8",
        "--workers",
        0,
        "-q",
        "--tracker",
        "none",
    )
    call(ftrain.cli.app, "compare", run, search, "--out", home / f"comparison{NAME}")
    call(ftrain.cli.app, "index", search, shards, index, "--workers", 0, "-q")
    call(ftrain.cli.app, "query", index, photo, "--out", home / f"answers{NAME}", "-q")
    assert (run / "mlflow").is_dir()
    assert (run / "tensorboard").is_dir()
    assert [path.name for path in home.parent.iterdir()] == [NAME]
    assert not [path for path in Path.cwd().iterdir() if "%20" in path.name]


def test_a_url_is_no_pattern(home: Path) -> None:
    """`::` chains file systems in an fsspec URL, and is therefore left out."""
    shards = write_label_set(home / "set[1] #?*%20{0..1}", {"train": 4, "val": 2})
    (link := home.parent / "b[1] #?*%20{0..1}").symlink_to(shards)
    opened = open_shards(f"file://{link}", cache=home / "cache")
    assert len(opened) == 6
    opened.read(5)
