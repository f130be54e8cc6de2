"""Run folders: created, resumed, moved aside or refused; sufficient to use a model without its training data."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.ftrain.known_tasks import use_tasks
from tests.ftrain.tiny.task import Tiny, TinyConfig
from tests.ftrain.tiny_task import ALONE, make_trainer
from tests.shard_sets import write_shard_set

from fschemas.failures import EnvironmentProblem, IntegrityError, UsageError
from fschemas.publish import exclusive
from fschemas.shard_set import ShardSet
from ftrain.data.config import FitConfig, RunConfig
from ftrain.fit import config as config_module
from ftrain.fit.checkpoint import load_weights
from ftrain.fit.run_folder import RunFolder
from ftrain.fit.tracking import CsvTracker
from ftrain.use.evaluate import evaluate_run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _tiny_is_a_known_task(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tasks(monkeypatch, lambda name: {"tiny": Tiny}[name])


def config(**fit: Any) -> RunConfig:
    return RunConfig(
        task="tiny", model=TinyConfig().model_dump(mode="json"), fit=FitConfig(**{"epochs": 4, "batch_size": 8, **fit})
    )


def trained(shards: ShardSet, path: Path, **fit: Any) -> RunFolder:
    """A run folder as written by `ftrain`."""
    run = RunFolder(path)
    run.start(make_trainer(shards, path, **fit).config, shards, "auto")
    make_trainer(shards, path, **fit).train()
    return run


@pytest.fixture(scope="module")
def finished(shards: ShardSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("finished") / "run"
    run = RunFolder(path)
    trainer = make_trainer(shards, path, epochs=2)
    run.start(trainer.config, shards, "auto")
    run.write_receipt(trainer.train(), ("ftrain", "keypoints", "shards", "--run", "run", "-s", "fit.epochs=2"))
    return path


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(finished, tmp_path / "run")))


def same_config(run: RunFolder) -> RunConfig:
    return config_module.read_config(run.path / "config.yaml")


def test_a_new_run(shards: ShardSet, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert run.start(config(), shards, "auto") == f"new run in {run.path}"
    assert same_config(run) == config()
    assert run.dataset()["plan_id"] == shards.plan_id
    assert "shards" not in run.dataset(), "the description, not the data"
    with pytest.raises(UsageError, match="no checkpoint to resume from"):
        RunFolder(tmp_path / "other").start(config(), shards, "required")
    assert RunFolder(tmp_path / "third").start(config(), shards, "never").startswith("new run")


def test_a_lock_that_is_let_go_within_a_second_is_waited_for(tmp_path: Path) -> None:
    with exclusive(tmp_path):
        start = time.monotonic()
        with pytest.raises(EnvironmentProblem, match="is writing here"), RunFolder(tmp_path).hold():
            pass
        assert 0.9 < time.monotonic() - start < 3
    dying = exclusive(tmp_path)
    dying.__enter__()
    timer = threading.Timer(0.3, dying.__exit__, (None, None, None))
    timer.start()
    with RunFolder(tmp_path).hold(), pytest.raises(EnvironmentProblem), exclusive(tmp_path):
        pass
    timer.join()


def test_the_same_run_is_taken_up(shards: ShardSet, copy: RunFolder) -> None:
    for resume in ("auto", "required"):
        assert copy.start(same_config(copy), shards, resume) == f"resuming the run in {copy.path}"  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="already contains a run; choose another --run"):
        copy.start(same_config(copy), shards, "never")


def test_another_run_is_set_aside_whole(shards: ShardSet, copy: RunFolder) -> None:
    before = {path.relative_to(copy.path): path.read_bytes() for path in copy.path.rglob("*") if path.is_file()}
    wanted = config(learning_rate=0.5, epochs=2)
    with pytest.raises(
        UsageError, match=r"fit\.checkpoint_every_steps was 3 and is 100 and \d more; choose another --run"
    ):
        copy.start(wanted, shards, "required")
    assert {path.relative_to(copy.path): path.read_bytes() for path in copy.path.rglob("*") if path.is_file()} == before
    decision = copy.start(wanted, shards, "auto")
    aside = copy.path.with_name("run.superseded-1")
    assert decision.endswith(f"starting a new run, the old one was moved to {aside}")
    assert {path.relative_to(aside): path.read_bytes() for path in aside.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in copy.path.iterdir()) == ["config.yaml", "dataset.json"]
    (copy.path / "checkpoints" / "step-00000001").mkdir(parents=True)
    copy.start(config(learning_rate=0.25), shards, "auto")
    assert copy.path.with_name("run.superseded-2").is_dir()


def test_another_shard_set_is_another_run(copy: RunFolder, tmp_path: Path) -> None:
    other = ShardSet.open(write_shard_set(tmp_path / "set", {"train": 44, "val": 13}))
    with pytest.raises(UsageError, match="the shard set differs"):
        copy.start(same_config(copy), other, "required")


def test_a_model_can_be_used_without_its_data(finished: Path, shards: ShardSet, tmp_path: Path) -> None:
    run = RunFolder(Path(shutil.copytree(finished, tmp_path / "run")))
    task, loaded_config, state = run.load("latest")
    assert (state.step, loaded_config.fit.epochs, task.training) == (10, 2, False)
    trainer = make_trainer(shards, run.path, epochs=2)
    trainer.resume()
    assert trainer.ema is not None
    expected = trainer.ema.module.state_dict()
    assert task.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in task.state_dict().items()), (
        "averaged weights where there are some"
    )
    assert run.load("best")[2].step == state.best["step"]
    assert run.load("step-00000010")[2].step == 10
    with pytest.raises(UsageError, match="no checkpoint 'step-7'"):
        run.load("step-7")
    shutil.rmtree(run.checkpoints)
    with pytest.raises(UsageError, match="no checkpoint; train the run first"):
        run.load()
    with pytest.raises(UsageError, match="not a run folder"):
        RunFolder(tmp_path).load()


def test_weights_without_average(shards: ShardSet, tmp_path: Path) -> None:
    run = trained(shards, tmp_path / "run", ema_decay=0.0, epochs=1)
    task, _, _ = run.load()
    trainer = make_trainer(shards, run.path, ema_decay=0.0, epochs=1)
    trainer.resume()
    assert all(torch.equal(tensor, trainer.task.state_dict()[name]) for name, tensor in task.state_dict().items())


def test_a_damaged_checkpoint_is_not_loaded(copy: RunFolder) -> None:
    for path in copy.checkpoints.glob("step-*/model.safetensors"):
        path.write_bytes(b"rot")
    with pytest.raises(IntegrityError, match=r"model\.safetensors: missing or changed"):
        copy.load("best")


def test_weights_of_another_model_are_named(shards: ShardSet, tmp_path: Path) -> None:
    task = Tiny(TinyConfig(), shards.metadata)
    wide = Tiny(TinyConfig(channels=7), shards.metadata).state_dict()
    with pytest.raises(
        IntegrityError, match=r"tensor backbone\.0\.weight has shape \(7, 3, 3, 3\) instead of \(6, 3, 3, 3\)"
    ):
        load_weights(task, wide, tmp_path)
    state = task.state_dict()
    with pytest.raises(IntegrityError, match=r"tensor head\.bias is missing"):
        load_weights(task, {name: tensor for name, tensor in state.items() if name != "head.bias"}, tmp_path)
    with pytest.raises(IntegrityError, match="tensor more is unknown to this model"):
        load_weights(task, {**state, "more": torch.zeros(1)}, tmp_path)


def test_the_receipt_names_origins_and_the_command_line(finished: Path) -> None:
    receipt = json.loads((finished / "receipt.json").read_text())
    assert receipt["command"] == ["ftrain", "keypoints", "shards", "--run", "run", "-s", "fit.epochs=2"]
    assert receipt["step"] == 10
    assert len(receipt["ledger"]) == len(receipt["plan_id"]) == len(receipt["config_digest"]) == 64
    assert "torch" in receipt["packages"]


@pytest.mark.parametrize("name", ["training.csv", "validation.csv"])
def test_one_wrong_bit_in_a_curve_is_no_other_curve(
    copy: RunFolder, shards: ShardSet, tmp_path: Path, name: str
) -> None:
    path = copy.path / name
    copy.check_curve(name)
    path.write_bytes(bytes([*path.read_bytes()[:-2], path.read_bytes()[-2] ^ 1]) + b"\n")
    with pytest.raises(IntegrityError, match=rf"{name}: changed since the run was trained"):
        copy.check_curve(name)
    with pytest.raises(IntegrityError, match=rf"{name}: changed since the run was trained"):
        evaluate_run(copy.path, shards.location, tmp_path / "out", workers=0, device="cpu")
    assert copy.start(same_config(copy), shards, "auto").startswith("resuming"), "from here on the curve gets longer"
    copy.check_curve(name)


def test_csv_columns_may_come_later(tmp_path: Path) -> None:
    """A stage can have other losses; values must not move to the wrong column."""
    tracker = CsvTracker(tmp_path)
    tracker.log("training", 1, {"loss": 1.0, "a": 2.0})
    tracker.log("training", 2, {"a": 3.0, "loss": 4.0})
    tracker.log("training", 3, {"loss": 5.0, "b": 6.0})
    tracker.log("training", 4, {"loss": 7.0})
    assert (tmp_path / "training.csv").read_text() == "step,loss,a,b\n1,1,2,\n2,4,3,\n3,5,,6\n4,7,,\n"
    tracker.rewind(2)
    assert (tmp_path / "training.csv").read_text() == "step,loss,a,b\n1,1,2,\n2,4,3,\n"
    tracker.rewind(0)
    assert not (tmp_path / "training.csv").exists()


def test_dvclive_files_are_rewound_too(tmp_path: Path, shards: ShardSet) -> None:
    from ftrain.fit.tracking import DvcliveTracker

    tracker = DvcliveTracker(tmp_path)
    for step in (1, 2, 3):
        tracker.log("training", step, {"loss": 1.0 / step})
    tracker.rewind(2)
    tracker.log("training", 3, {"loss": 9.0})
    (path,) = (tmp_path / "dvclive").rglob("*.tsv")
    assert [line.split("\t")[0] for line in path.read_text().splitlines()] == ["step", "1", "2", "3"]
    assert path.read_text().splitlines()[-1].endswith("9.0")
    assert ALONE.is_main
