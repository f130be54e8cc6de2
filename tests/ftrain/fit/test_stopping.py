"""Runs stopped by a signal, a NaN or damage, and resumed as if uninterrupted."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.ftrain.tiny_task import make_trainer, rows_of, saved
from tests.shard_sets import write_shard_set

from fschemas.failures import IntegrityError, NonFiniteError, Terminated
from fschemas.shard_set import ShardSet
from ftrain.fit import checkpoint, loop
from ftrain.fit.checkpoint_state import step_folder
from ftrain.fit.loop import Trainer
from ftrain.fit.step_values import MOST_PENDING
from ftrain.fit.tracking import CsvTracker

pytestmark = pytest.mark.usefixtures("one_thread")

# --- non-finite values ------------------------------------------------------------------------------------------------


def test_a_nan_stops_the_run_and_the_last_good_checkpoint_stays(shards: ShardSet, tmp_path: Path) -> None:
    row = int(make_trainer(shards, tmp_path).plan.batch(4)[2])
    sentences: list[str] = []
    for _ in range(2):  # rerunning gives the same error
        trainer = make_trainer(shards, tmp_path, model={"poison": row})
        with pytest.raises(NonFiniteError) as caught:
            trainer.train()
        sentences.append(str(caught.value))
        note = json.loads((tmp_path / "non_finite.json").read_text())
        assert note["step"] == 4
        assert note["keys"] == [str(key) for key in shards.columns["key"][trainer.plan.batch(4)]]
        assert note["values"]["loss"] == "nan"
        assert math.isfinite(float(note["values"]["wide"]))
        assert all(torch.isfinite(tensor).all() for tensor in saved(tmp_path, 3).values())
        assert [path.name for path in (tmp_path / "checkpoints").glob("step-*")] == [step_folder(3)]
        assert all(torch.isfinite(parameter).all() for parameter in trainer.task.parameters()), (
            "stopped before the step"
        )
    assert sentences[0] == sentences[1]
    assert sentences[0].startswith("step 4: gradient_norm, loss, garment is not finite; the samples are listed in")


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("poisoned_term", [False, True])
def test_a_nan_is_noticed_steps_later_and_changes_nothing_until_then(
    shards: ShardSet, tmp_path: Path, optimizer: str, poisoned_term: bool
) -> None:
    """Without logs and checkpoints in between. A term whose gradient is finite counts, too."""
    options: dict[str, Any] = {
        "log_every_steps": 99, "checkpoint_every_steps": 99, "validate_every_epochs": 4, "optimizer": optimizer,
    }  # fmt: skip
    before = make_trainer(shards, tmp_path / "before", limit_steps=4, **options)
    before.train()
    poison = {"poison": int(before.plan.batch(4)[2]), "poisoned_term": poisoned_term}
    trainer = make_trainer(shards, tmp_path / "run", model=poison, **options)
    with pytest.raises(NonFiniteError, match=r"^step 4: "):
        trainer.train()
    assert trainer.state.step == 4 + 1 + MOST_PENDING
    assert json.loads((tmp_path / "run/non_finite.json").read_text())["step"] == 4
    assert not list((tmp_path / "run/checkpoints").glob("step-*"))
    for name, parameter in before.task.named_parameters():
        assert torch.equal(trainer.task.get_parameter(name), parameter)
    states = (checkpoint.pack_optimizer(one.optimizer, one.task) for one in (before, trainer))
    expected, found = (*states,)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert before.ema is not None
    assert trainer.ema is not None
    for (average, _), (expected_average, _) in zip(trainer.ema.averages, before.ema.averages, strict=True):
        assert torch.equal(average, expected_average)


def test_an_exploded_run_stops_too(shards: ShardSet, tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match="is not finite"):
        make_trainer(shards, tmp_path, learning_rate=1e30, warmup_ratio=0, checkpoint_every_steps=1).train()
    for path in (tmp_path / "checkpoints").glob("step-*"):
        assert all(torch.isfinite(tensor).all() for tensor in checkpoint.load_tensors(path, "model").values())


def test_the_note_of_an_old_nan_goes_with_the_next_run(shards: ShardSet, tmp_path: Path) -> None:
    (tmp_path / "non_finite.json").write_text("{}")
    make_trainer(shards, tmp_path, limit_steps=1).train()
    assert not (tmp_path / "non_finite.json").exists()


# --- stopping and resuming --------------------------------------------------------------------------------------------


def raise_signal_at(trainer: Trainer, step: int, number: int, times: int = 1) -> None:
    """Send this process a signal while the model runs a step."""
    forward = trainer.forward

    def signalled(batch: Any) -> Any:
        if trainer.state.step == step:
            for _ in range(times):
                os.kill(os.getpid(), number)
        return forward(batch)

    trainer.forward = signalled


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
@pytest.mark.parametrize("step", [6, 9, 19])
def test_a_signal_ends_the_run_after_its_step(
    shards: ShardSet, tmp_path: Path, number: int, error: type[BaseException], step: int
) -> None:
    """Even if the step is one with validation (10) or the last one (20): the validation runs on resuming."""
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    trainer = make_trainer(shards, tmp_path / "stopped")
    raise_signal_at(trainer, step, number)
    with pytest.raises(error):
        trainer.train()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    found = checkpoint.newest(tmp_path / "stopped" / "checkpoints")
    assert found is not None
    assert found[1].step == step + 1
    assert found[1].validation_due == (step in (9, 19))
    state = make_trainer(shards, tmp_path / "stopped").train()
    whole = make_trainer(shards, tmp_path / "whole").train()
    assert state == whole, "the best figure too"
    for file in ("model", "ema", "optimizer"):
        one, other = saved(tmp_path / "whole", 20, file), saved(tmp_path / "stopped", 20, file)
        assert all(torch.equal(one[name], other[name]) for name in one)
    for series in ("training", "validation"):
        steps = [row["step"] for row in rows_of(tmp_path / "stopped", series)]
        assert steps == [row["step"] for row in rows_of(tmp_path / "whole", series)]


def test_a_second_interrupt_does_not_wait(shards: ShardSet, tmp_path: Path) -> None:
    trainer = make_trainer(shards, tmp_path)
    raise_signal_at(trainer, 4, signal.SIGINT, times=2)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert trainer.state.step == 4


def test_a_signal_stops_a_validation_at_once(shards: ShardSet, tmp_path: Path) -> None:
    """Validation may take longer than a scheduler waits: save the trained step first, and validate after resuming."""
    trainer = make_trainer(shards, tmp_path, ema_decay=0)
    predict, calls = trainer.task.predict, []

    def signalled(batch: Any) -> Any:
        calls.append(1)
        os.kill(os.getpid(), signal.SIGTERM)
        return predict(batch)

    trainer.task.predict = signalled  # type: ignore[method-assign]
    with pytest.raises(Terminated, match="after step 5, which is saved"):
        trainer.train()
    assert len(calls) == 1
    found = checkpoint.newest(tmp_path / "checkpoints")
    assert found is not None
    assert found[1].validation_due
    make_trainer(shards, tmp_path, ema_decay=0, limit_steps=5).train()
    found = checkpoint.newest(tmp_path / "checkpoints")
    assert found is not None
    assert not found[1].validation_due
    assert found[1].best["step"] == 5
    assert [row["step"] for row in rows_of(tmp_path, "validation")] == ["5"]


@pytest.mark.parametrize("limit", [19, 20])
def test_going_on_at_the_end(shards: ShardSet, tmp_path: Path, limit: int) -> None:
    """Resumed before and after the last step: a finished run is left unchanged."""
    first = make_trainer(shards, tmp_path, limit_steps=limit).train()
    assert first.step == limit
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    last = make_trainer(shards, tmp_path).train()
    whole = make_trainer(shards, tmp_path.with_name(f"{tmp_path.name}-whole")).train()
    assert last == whole
    if limit == 20:
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_another_configuration_is_not_taken_up(shards: ShardSet, tmp_path: Path) -> None:
    make_trainer(shards, tmp_path, limit_steps=3).train()
    with pytest.raises(IntegrityError, match="belongs to another configuration or shard set"):
        make_trainer(shards, tmp_path, learning_rate=0.02).train()


def test_a_damaged_checkpoint_is_reported_and_the_one_before_used(
    shards: ShardSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = make_trainer(shards, tmp_path / "whole").train()
    make_trainer(shards, tmp_path / "run", limit_steps=12, keep_checkpoints=3).train()
    for step in (12, 10):
        (tmp_path / "run/checkpoints" / step_folder(step) / "optimizer.safetensors").write_bytes(b"rot")
    capsys.readouterr()
    assert make_trainer(shards, tmp_path / "run", keep_checkpoints=3).train().ledger == whole.ledger
    said = capsys.readouterr().err
    assert "skipped step-00000012" in said
    assert "skipped step-00000010" in said
    assert "resumed at step 9 of 20" in said
    one, other = saved(tmp_path / "whole", 20), saved(tmp_path / "run", 20)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_logs_of_steps_that_are_done_again_are_forgotten(shards: ShardSet, tmp_path: Path) -> None:
    """Killed before the first checkpoint, and between two; a torn last line is removed too."""
    (tmp_path / "training.csv").write_text("step,loss\n1,0.5\n2,0.")
    make_trainer(shards, tmp_path, limit_steps=4).train()
    assert [row["step"] for row in rows_of(tmp_path, "training")] == ["1", "2", "3", "4"]
    with open(tmp_path / "training.csv", "a", encoding="utf-8") as file:
        file.write("5,0,0,0,0,0,0,0,0\n6,0")
    make_trainer(shards, tmp_path, limit_steps=6).train()
    assert [row["step"] for row in rows_of(tmp_path, "training")] == ["1", "2", "3", "4", "5", "6"]
    assert all(float(row["loss"]) > 0 for row in rows_of(tmp_path, "training"))


def test_a_missing_validation_split_is_cut_out_of_training_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_shard_set(tmp_path / "set", {"train": 40})
    trainer = make_trainer(folder, tmp_path / "run")
    held, trained = set(trainer.validation_rows.tolist()), set(trainer.plan.rows.tolist())
    assert held
    assert not held & trained
    assert len(held | trained) == 40
    assert f"{len(held)} training images held out for validation (validation_split=val)" in capsys.readouterr().err


def test_a_run_can_do_without_validation(tmp_path: Path) -> None:
    folder = write_shard_set(tmp_path / "set", {"train": 40})
    trainer = make_trainer(folder, tmp_path / "run", validation_split="none")
    assert sorted(trainer.plan.rows.tolist()) == list(range(40))  # nothing is held out
    state = trainer.train()
    assert (state.step, state.best, state.validation_due) == (trainer.num_steps, {}, False)
    assert not (tmp_path / "run/validation.csv").exists()
    assert checkpoint.best(tmp_path / "run/checkpoints") is None  # `best` is then the newest
    newest = checkpoint.newest(tmp_path / "run/checkpoints")
    assert newest is not None
    assert newest[0].name == step_folder(trainer.num_steps)


def test_other_surroundings_are_reported(shards: ShardSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_trainer(shards, tmp_path, limit_steps=3).train()
    torch.set_num_threads(2)
    make_trainer(shards, tmp_path, limit_steps=4).train()
    assert "environment changed since the last checkpoint (threads 1 -> 2)" in capsys.readouterr().err


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", ["log", "amend_state", "mark_best"])
def test_a_validation_has_one_row_wherever_it_was_killed(
    shards: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, when: str
) -> None:
    make_trainer(shards, tmp_path / "whole", epochs=2).train()
    place = {"log": CsvTracker, "amend_state": loop, "mark_best": checkpoint}[call]
    real, calls = getattr(place, call), [0]

    def killed(*arguments: Any) -> None:
        is_it = call != "log" or arguments[1] == "validation"
        calls[0] += is_it
        if is_it and calls[0] == 1 and when == "before":
            raise _Killed
        real(*arguments)
        if is_it and calls[0] == 1:
            raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(place, call, killed)
        with pytest.raises(_Killed):
            make_trainer(shards, tmp_path / "killed", epochs=2).train()
    make_trainer(shards, tmp_path / "killed", epochs=2).train()
    rows = rows_of(tmp_path / "whole", "validation")
    assert len(rows) == 2
    assert rows_of(tmp_path / "killed", "validation") == rows
