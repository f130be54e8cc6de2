"""Trackers: their output files."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.ftrain.tiny_task import make_trainer, rows_of

from fschemas.failures import EnvironmentProblem, UsageError
from fschemas.shard_set import ShardSet
from ftrain.data.workers import WorkerPool
from ftrain.fit.clock import Clock
from ftrain.fit.trackers import MlflowTracker, TensorboardTracker, default_trackers
from ftrain.fit.tracking import DvcliveTracker
from ftrain.fit.train import TrainOptions, train


def test_dvclive_leaves_no_pack_of_git_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVCLive reads the commit of the repository; in a fresh clone, it is in a pack (warnings are errors)."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").touch()
    identity = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "one"], ["gc", "-q"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    assert list(tmp_path.glob(".git/objects/pack/*.pack"))
    monkeypatch.chdir(tmp_path)
    tracker = DvcliveTracker(tmp_path / "run")
    tracker.log("training", 1, {"loss": 1.0})
    del tracker
    gc.collect()


def test_dvclive_takes_a_figure_and_its_parts(tmp_path: Path) -> None:
    """Attribute-specific search has `map` over all queries and `map/ATTRIBUTE` for each attribute."""
    tracker = DvcliveTracker(tmp_path)
    for step in (1, 2):
        tracker.log("validation", step, {"map": 0.5, "map/skirt_length": 0.25 * step})
    summary = json.loads((tmp_path / "dvclive" / "metrics.json").read_text())
    assert summary["validation"] == {"map": 0.5, "map.skirt_length": 0.5}
    tracker.rewind(1)
    rows = (tmp_path / "dvclive/plots/metrics/validation/map.skirt_length.tsv").read_text().splitlines()
    assert rows[1:] == ["1\t0.25"]


def test_tensorboard_shows_every_step_once_after_a_resume(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = TensorboardTracker(tmp_path)
    first.rewind(0)
    for step in (1, 2, 3):
        first.log("training", step, {"loss": float(step)})
    second = TensorboardTracker(tmp_path)
    second.rewind(1)
    second.log("training", 2, {"loss": 20.0})
    second.log("validation", 2, {"ne": 0.5})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("training/loss")] == [(1, 1.0), (2, 20.0)]
    assert [(event.step, event.value) for event in events.Scalars("validation/ne")] == [(2, 0.5)]


@pytest.fixture
def without_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_ALLOW_FILE_STORE", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def history(tracker: MlflowTracker, name: str) -> list[tuple[int, float]]:
    return [(entry.step, entry.value) for entry in tracker.client.get_metric_history(tracker.run, name)]


@pytest.mark.usefixtures("without_server")
def test_mlflow_goes_on_with_the_same_run(tmp_path: Path) -> None:
    first = MlflowTracker(tmp_path / "run", {"fit.epochs": 3, "model.backbone": "resnet18"})
    first.rewind(0)
    for step in (1, 2, 3):
        first.log("training", step, {"loss": float(step)})
    second = MlflowTracker(tmp_path / "run", {"fit.epochs": 3})
    assert second.run == first.run == json.loads((tmp_path / "run/mlflow.json").read_text())["run"]
    second.rewind(1)
    for step in (2, 3, 4):
        second.log("training", step, {"loss": 10.0 * step, "new": 1.0})
    assert history(second, "training/loss") == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 40.0)]
    assert history(second, "training/new") == [(2, 1.0), (3, 1.0), (4, 1.0)]
    known = second.client.get_run(second.run)
    assert known.data.params == {"fit.epochs": "3", "model.backbone": "resnet18"}
    assert known.info.run_name == "run"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == os.environ["DO_NOT_TRACK"] == "true"
    assert (tmp_path / "run/mlflow").is_dir()
    run, client = second.run, second.client
    del first, second
    gc.collect()
    assert client.get_run(run).info.status == "FINISHED"


@pytest.mark.usefixtures("without_server")
def test_mlflow_writes_where_it_is_configured_and_starts_anew_where_its_run_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "elsewhere").as_uri())
    first = MlflowTracker(tmp_path / "run")
    assert (tmp_path / "elsewhere").is_dir()
    assert not (tmp_path / "run/mlflow").exists()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "another").as_uri())
    assert MlflowTracker(tmp_path / "run").run != first.run
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://place")
    with pytest.raises(EnvironmentProblem, match="nonsense://place: MLflow cannot write here"):
        MlflowTracker(tmp_path / "run")


@pytest.mark.parametrize(
    ("tracker", "extra"), [("dvclive", "chain"), ("tensorboard", "tracking"), ("mlflow", "tracking")]
)
def test_a_missing_package_is_one_sentence(
    tracker: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, tracker, None)
    with pytest.raises(EnvironmentProblem, match=rf'^{tracker} is not installed; pip install "fashionkit\[{extra}\]"$'):
        train("keypoints", TrainOptions("no-set", tmp_path / "run", trackers=(tracker,)))
    assert not list(tmp_path.iterdir())


def test_without_dvclive_the_csv_files_of_the_run_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_trackers() == ("dvclive",)
    monkeypatch.setitem(sys.modules, "dvclive", None)
    assert default_trackers() == ("none",)


@pytest.mark.parametrize(
    ("trackers", "words"), [(("dvclve",), "did you mean dvclive"), (("mlflow", "none"), "none cannot be combined")]
)  # fmt: skip
def test_unknown_trackers_are_refused_before_anything_is_written(
    trackers: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words):
        train("keypoints", TrainOptions("no-set", tmp_path / "run", trackers=trackers))
    assert not list(tmp_path.iterdir())


def test_the_log_splits_a_step_into_waiting_and_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps: 1 s and 3 s of waiting, 2 s and 4 s of computing; 10 s of saving in between count as neither."""
    times = iter([0.0, 1.0, 3.0, 16.0, 20.0, 20.0, 20.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    pool = WorkerPool([], 0, lambda: None)
    pool.waited = 100.0
    clock = Clock(pool)
    pool.waited += 1
    clock.data_arrived()
    clock.step_done(8)
    pool.waited += 3
    clock.data_arrived()
    clock.step_done(8)
    assert clock.rates() == {
        "images_per_second": 16 / 20,
        "waiting_share": 4 / 20,
        "data_seconds": 2.0,
        "compute_seconds": 3.0,
    }


def test_a_run_logs_both_times_of_its_steps(shards: ShardSet, tmp_path: Path) -> None:
    make_trainer(shards, tmp_path, limit_steps=2, model={"delay": 0.01}).train()
    for row in rows_of(tmp_path, "training"):
        assert float(row["data_seconds"]) >= 0.08, "eight samples of 10 ms in this process"
        assert float(row["compute_seconds"]) > 0
        share = float(row["data_seconds"]) * float(row["images_per_second"]) / 8
        assert float(row["waiting_share"]) == pytest.approx(share, rel=1e-3)
