"""Saves in the background: one at a time, isolated from training, with errors and stops as of a save that blocks."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.ftrain.small_checkpoints import save, steps, tensors
from tests.ftrain.tiny_task import make_trainer, saved

from fschemas.failures import EnvironmentProblem, ExitCode, NonFiniteError, Terminated, explain
from fschemas.shard_set import ShardSet
from ftrain.fit import checkpoint
from ftrain.fit.checkpoint import check, load_tensors, newest
from ftrain.fit.checkpoint_state import TrainingState, step_folder
from ftrain.fit.checkpoint_writer import CheckpointWriter
from ftrain.fit.tensor_file import TensorFile

CPU = torch.device("cpu")


def full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Gate:
    """Holds back the files of the background thread until it is opened."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.open, self.reached = threading.Event(), threading.Event()
        self.error: Exception | None = None
        write = TensorFile.write

        def held(file: TensorFile, path: Path) -> str:
            self.reached.set()
            assert self.open.wait(20)
            if self.error is not None:
                raise self.error
            return write(file, path)

        patch.setattr(TensorFile, "write", held)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.open.set()


def state_of(step: int) -> TrainingState:
    return TrainingState(step=step, plan_id="p", config_digest="c", learning_rate=0.1 + step)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_files_are_those_of_a_save_that_blocks(tmp_path: Path) -> None:
    """For several saves, over which the optimizer gets more moments."""
    for folder in ("run", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.yaml").write_text("task: tiny\n")
    state = state_of(0)
    with CheckpointWriter(tmp_path / "run/checkpoints", CPU, keep=2) as writer:
        for step in (1, 2, 3):
            named = tensors(step / 7)
            if step == 3:
                named["optimizer"]["bias|exp_avg"] = torch.ones(4)
            state.step = step
            checkpoint.save_checkpoint(tmp_path / "other/checkpoints", state_of(step), named, keep=2)
            state.learning_rate = 0.1 + step
            writer.save(state, named)
    assert contents(tmp_path / "run") == contents(tmp_path / "other")
    assert set(state.files) == {"config.yaml"}, "the digests stay with the run"


def test_what_training_changes_next_is_not_saved(tmp_path: Path, gate: Gate) -> None:
    state, named = state_of(1), tensors(0.5)
    with CheckpointWriter(tmp_path, CPU, keep=3) as writer:
        writer.save(state, named)
        assert gate.reached.wait(20)
        state.step, state.ledger, state.best = 2, "00" * 32, {"metric": "ne", "value": 0.5, "step": 2}
        for tensor in (tensor for file in named.values() for tensor in file.values()):
            tensor.zero_()
        assert steps(tmp_path) == []
        gate.open.set()
    assert check(tmp_path / step_folder(1)) == state_of(1)
    for file, expected in tensors(0.5).items():
        found = load_tensors(tmp_path / step_folder(1), file)
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_save_waits_for_the_one_before(tmp_path: Path, gate: Gate) -> None:
    with CheckpointWriter(tmp_path, CPU, keep=3) as writer:
        writer.save(state_of(1), tensors(0.25))
        timer = threading.Timer(0.2, gate.open.set)
        timer.start()
        writer.save(state_of(2), tensors(0.5))  # into the same memory
        assert gate.open.is_set()
        assert steps(tmp_path)[0] == 1
        timer.join()
    assert steps(tmp_path) == [1, 2]
    for step, value in ((1, 0.25), (2, 0.5)):
        assert load_tensors(tmp_path / step_folder(step), "model")["weight"].unique().tolist() == [value]


@pytest.mark.parametrize("through", ["save", "wait", "exit"])
def test_an_error_is_raised_once_by_the_next_call(tmp_path: Path, gate: Gate, through: str) -> None:
    gate.open.set()
    save(tmp_path, 1)
    gate.error = full()
    writer = CheckpointWriter(tmp_path, CPU, keep=3)
    writer.save(state_of(2), tensors())
    following = {
        "save": lambda: writer.save(state_of(3), tensors()), "wait": writer.wait, "exit": lambda: writer.__exit__(None)
    }  # fmt: skip
    with pytest.raises(OSError, match="No space left") as caught:
        following[through]()
    code, sentence = explain(caught.value) or (None, "")
    assert code == ExitCode.ENVIRONMENT
    assert sentence.startswith(f"{tmp_path}/step-00000002/")
    assert steps(tmp_path) == [1]
    assert (tmp_path / "LATEST").read_text() == "step-00000001\n"
    assert not list(tmp_path.glob(".tmp.*"))
    writer.wait()


def test_an_error_of_the_caller_waits_and_comes_first(tmp_path: Path, gate: Gate) -> None:
    def fail(step: int) -> None:
        with CheckpointWriter(tmp_path, CPU, keep=3) as writer:
            writer.save(state_of(step), tensors())
            raise KeyError

    threading.Timer(0.1, gate.open.set).start()
    with pytest.raises(KeyError):
        fail(1)
    check(tmp_path / step_folder(1))
    gate.error = full()
    with pytest.raises(KeyError):
        fail(2)
    assert steps(tmp_path) == [1]


def test_nothing_is_saved_for_a_nan(tmp_path: Path) -> None:
    save(tmp_path, 1, keep=1)
    poisoned = tensors()
    poisoned["ema"]["module.weight"][2, 1] = float("nan")
    writer = CheckpointWriter(tmp_path, CPU, keep=1)
    writer.save(state_of(2), poisoned)
    with pytest.raises(NonFiniteError, match=r"^step 2: ema module\.weight is not finite; the last good checkpoint is"):
        writer.wait()
    assert steps(tmp_path) == [1]
    check(tmp_path / step_folder(1))


def test_copies_from_a_gpu_are_awaited_in_the_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a fake one, whose copies run as late as possible: when an event after them is awaited."""
    empty, copy, queue = torch.empty, TensorFile.copy, []
    threads: list[threading.Thread] = []

    class Event:
        def record(self, stream: object) -> None:
            assert stream == "the stream of training"
            self.before = list(queue)

        def synchronize(self) -> None:
            threads.append(threading.current_thread())
            for run in self.before:
                run()

    def unpinned(size: int, dtype: torch.dtype, pin_memory: bool) -> torch.Tensor:
        assert pin_memory
        return empty(size, dtype=dtype)

    monkeypatch.setattr(torch, "empty", unpinned)
    monkeypatch.setattr(TensorFile, "copy", lambda file, named: queue.append(lambda: copy(file, named)))
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "the stream of training")
    with CheckpointWriter(tmp_path, torch.device("cuda"), keep=1) as writer:
        writer.save(state_of(1), tensors(0.5))
        assert all(file.pinned for file in writer.files.values())
    assert load_tensors(tmp_path / step_folder(1), "model")["weight"].unique().tolist() == [0.5]
    assert len(queue) == 3
    assert threads
    assert threads[0] is not threading.current_thread()


# --- in training ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("one_thread")
def test_training_goes_on_while_a_checkpoint_is_written(
    shards: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps 4 to 6 while step 3 is written, and the validation of step 5 (saved) waits only at its end."""
    make_trainer(shards, tmp_path / "whole").train()
    gate, trainer = Gate(monkeypatch), make_trainer(shards, tmp_path / "run", validate_every_epochs=4)
    forward, seen = trainer.forward, []

    def watched(batch: Any) -> Any:
        seen.append(trainer.state.step)
        if trainer.state.step == 5:
            assert gate.reached.is_set()
            assert steps(tmp_path / "run/checkpoints") == []
            gate.open.set()
        return forward(batch)

    trainer.forward = watched
    trainer.train()
    assert seen == list(range(20))
    for file in ("model", "ema", "optimizer"):
        one, other = saved(tmp_path / "whole", 20, file), saved(tmp_path / "run", 20, file)
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.usefixtures("one_thread")
def test_validation_runs_while_its_checkpoint_is_written(
    shards: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    trainer = make_trainer(shards, tmp_path, ema_decay=0, limit_steps=5, checkpoint_every_steps=5)
    predict = trainer.task.predict

    def watched(batch: Any) -> Any:
        if not gate.open.is_set():
            assert steps(tmp_path / "checkpoints") == []
            gate.open.set()
        return predict(batch)

    trainer.task.predict = watched  # type: ignore[method-assign]
    state = trainer.train()
    found = newest(tmp_path / "checkpoints")
    assert found is not None
    assert found[1] == state
    assert state.best["step"] == 5
    assert not state.validation_due


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("stopped", [False, True])
def test_a_failed_save_ends_training(shards: ShardSet, tmp_path: Path, gate: Gate, stopped: bool) -> None:
    """At the next save, or in place of the message that a signal stopped the run and that its step is saved."""
    gate.error = EnvironmentProblem("the disk is full")
    gate.open.set()
    trainer = make_trainer(shards, tmp_path)
    if stopped:
        trainer.signals.number = 15
    with pytest.raises(EnvironmentProblem, match="the disk is full"):
        trainer.train()
    assert trainer.state.step == (1 if stopped else 5)
    assert steps(tmp_path / "checkpoints") == []
    gate.error = None
    trainer = make_trainer(shards, tmp_path)
    trainer.signals.number = 15
    with pytest.raises(Terminated):
        trainer.train()
    assert steps(tmp_path / "checkpoints") == [1]
