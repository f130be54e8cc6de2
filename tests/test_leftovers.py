"""Leftovers of a killed command are removed by the next one: in its output, in all subfolders, and next to it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.ftrain import keypoint_runs, search_runs
from tests.ftrain.known_tasks import use_tasks
from tests.shard_sets import write_shard_set
from tests.small_tables import write_small_table
from tests.trees import tree_of

from fprep.audit.command import audit
from fprep.convert.command import convert
from fprep.export.command import export
from fprep.report.command import write_page
from fprep.shard.command import shard
from fprep.synthetic.command import find_sample
from fschemas.landmarks import FASHIONAI_24
from fschemas.publish import exclusive, is_being_written, publish_bytes, remove_leftovers, temporary_of
from fschemas.shard_set import ShardSet
from ftrain.data.remote import RemoteFiles
from ftrain.fit import splits as splits_module
from ftrain.fit.train import TrainOptions, train
from ftrain.search.build import build_index
from ftrain.search.query import query_index
from ftrain.use import export as export_module
from ftrain.use.describe import describe_image
from ftrain.use.evaluate import evaluate_run
from ftrain.use.export import export_run
from ftrain.use.predict import PredictOptions, predict_images
from ftrain.use.submit import write_submission

RAW = tree_of("folders")


@dataclass(frozen=True)
class Inputs:
    """Inputs of the commands, created once."""

    folder: Path

    def __getattr__(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    given = Inputs(tmp_path_factory.mktemp("inputs"))
    write_small_table(given.folder, {"train": 4, "val": 2})
    write_shard_set(given.points, {"train": 3, "test": 4}, FASHIONAI_24)
    keypoint_runs.write_run(given.run, ShardSet.open(given.points))
    search_runs.write_items(given.items)
    with pytest.MonkeyPatch.context() as patch:
        use_tasks(patch, search_runs.find)
        search_runs.write_run(given.likes, given.items)
        build_index(given.likes, str(given.items), given.index, workers=0, device="cpu")
    opened = ShardSet.open(given.points)
    image, note = opened.read(int(opened.rows("test")[0]))
    (given.folder / "photos").mkdir()
    (given.photos / "a.jpg").write_bytes(image)
    (given.photos / "test.csv").write_text(f"image_id,image_category\na.jpg,{note['garment']}\n")
    return given


def _train(given: Inputs, out: Path) -> None:
    overrides = ("fit.epochs=1", "fit.batch_size=4", "fit.sampler=shuffled", "validation_split=none")
    train(
        "likes", TrainOptions(str(given.items), out, overrides=overrides, workers=0, device="cpu", trackers=("none",))
    )


def _export(given: Inputs, out: Path) -> None:
    """Skip tracing, which takes a minute: the model itself replaces the exported one."""
    traced: list[Any] = []

    def answers(batch: Any) -> dict[str, Any]:
        return {name: tensor.numpy() for name, tensor in traced[-1](batch).items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_module, "traced", lambda module, example, name: traced.append(module))
        patch.setattr(export_module, "as_archive", lambda program: b"an archive")
        patch.setattr(export_module, "archive_predictor", lambda content: answers)
        export_run(given.run, out, to="torch-export")


CPU = PredictOptions(device="cpu")
FOLDERS: dict[str, Callable[[Inputs, Path], object]] = {
    "sample": lambda given, out: find_sample("deepfashion-landmarks")(out, images=4, seed=0, workers=1),
    "sample of key points": lambda given, out: find_sample("fashionai-keypoints")(out, images=4, seed=0, workers=1),
    "convert": lambda given, out: convert("folders", [RAW], out, check_images="none", max_rejected=1.0, workers=1),
    "audit": lambda given, out: audit([given.table], out=out, lock=True, near=False),
    "shard": lambda given, out: shard(given.table, out, shard_samples=3, workers=1),
    "fprep export": lambda given, out: export(given.table, out, "coco"),
    "train": _train,
    "evaluate": lambda given, out: evaluate_run(
        given.run, str(given.points), out, workers=0, device="cpu", allow_collapse=True
    ),
    "predict": lambda given, out: predict_images(given.run, [given.photos], out, CPU),
    "describe": lambda given, out: describe_image(given.photos / "a.jpg", [given.run], out, device="cpu"),
    "ftrain export": _export,
    "index": lambda given, out: build_index(given.likes, str(given.items), out, workers=0, device="cpu"),
    "query": lambda given, out: query_index(given.index, [given.photos], out, device="cpu", top=3),
}  # fmt: skip
REFUSE_FULL_FOLDERS = ("sample", "sample of key points", "fprep export")


@pytest.fixture(autouse=True)
def _the_small_task_is_known(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if any(name in request.node.name for name in ("train]", "index]", "query]")) and "ftrain" not in request.node.name:
        use_tasks(monkeypatch, search_runs.find)
        monkeypatch.setattr(splits_module, "find_task", search_runs.find)


def snapshot(folder: Path) -> dict[str, str]:
    """Relative paths and digests of all files except those that contain times."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "training.csv")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def plant(folder: Path) -> None:
    """Create temporary files and folders of a dead process, and one of an earlier version."""
    for name in (f"x.json.elsewhere.{os.getpid()}", f"y.{dead_process()}"):
        (folder / f".tmp.{name}").write_bytes(b"half")
    (folder / ".tmp.tree.elsewhere.77/below").mkdir(parents=True)
    (folder / ".tmp.tree.elsewhere.77/below/leaf").write_bytes(b"half")


def dead_process() -> int:
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


def temporaries(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".tmp.*"))


@pytest.mark.slow
@pytest.mark.parametrize("command", FOLDERS)
def test_the_next_run_of_a_command_leaves_nothing_of_a_killed_one(inputs: Inputs, tmp_path: Path, command: str) -> None:
    run, out = FOLDERS[command], tmp_path / "work/out"
    run(inputs, out)
    expected = snapshot(out)
    assert temporaries(tmp_path) == []
    if command in REFUSE_FULL_FOLDERS:
        shutil.rmtree(out)
    else:
        for folder in [out, *(path for path in out.rglob("*") if path.is_dir())]:
            plant(folder)
    (temporary_of(out).with_name(f".tmp.out.elsewhere.{dead_process()}") / "below").mkdir(parents=True)
    run(inputs, out)
    assert temporaries(tmp_path) == []
    assert snapshot(out) == expected
    assert [path.name for path in sorted(out.parent.iterdir()) if path.name != ".out.lock"] == ["out"]


FILES: dict[str, Callable[[Inputs, Path], object]] = {
    "report": lambda given, out: write_page(given.table, out),
    "submit": lambda given, out: write_submission(given.run, given.photos / "test.csv", out, device="cpu"),
    "a cache": lambda given, out: RemoteFiles(given.items.as_uri(), out.parent, 1 << 30).path("dataset.json"),
}  # fmt: skip


@pytest.mark.parametrize("command", FILES)
def test_the_next_run_leaves_nothing_beside_a_file(inputs: Inputs, tmp_path: Path, command: str) -> None:
    cached = hashlib.sha256(inputs.items.as_uri().encode()).hexdigest()
    out = tmp_path / (f"{cached}.json" if command == "a cache" else "out.html")
    mine = temporary_of(out)
    host, process = mine.name.rsplit(".", 2)[1:]
    mine.with_name(mine.name.replace(f".{process}", f".{dead_process()}")).write_bytes(b"half")
    old = mine.with_name(f".tmp.{out.name}.elsewhere.12")
    old.write_bytes(b"half")
    os.utime(old, (0, 0))
    alive = [mine.with_name(f".tmp.{out.name}.{host}.{os.getppid()}"), mine.with_name(f".tmp.{out.name}.elsewhere.13")]
    for path in alive:
        path.write_bytes(b"another process, or another host, still writes this")
    FILES[command](inputs, out)
    assert temporaries(tmp_path) == sorted(path.name for path in alive)
    assert out.stat().st_size > 0


def test_what_a_living_process_writes_below_a_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "out/below").mkdir(parents=True)
    mine = temporary_of(tmp_path / "out/below/a.json")
    other = mine.with_name(mine.name.replace(f".{os.getpid()}", f".{os.getppid()}"))
    for path in (mine, other):
        path.write_bytes(b"half")
    assert is_being_written(other)
    assert not is_being_written(mine)  # no process may be writing when a folder is swept
    assert remove_leftovers(tmp_path / "out") == [f"out/below/{mine.name}"]
    assert other.exists()


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/.tmp.a.77").write_bytes(b"not ours")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "out/.tmp.link.77").symlink_to(tmp_path / "elsewhere")
    with exclusive(tmp_path / "out"):
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["link"]
    assert (tmp_path / "elsewhere/.tmp.a.77").exists()


def test_a_name_of_any_length_can_be_published(tmp_path: Path) -> None:
    for name in ("é" * 127, "a" * 255):
        publish_bytes(tmp_path / name, b"whole")
        assert (tmp_path / name).read_bytes() == b"whole"
    assert temporaries(tmp_path) == []
