"""A run killed anywhere and resumed ends with the bits of the uninterrupted run, for any number of workers.

`FASHIONKIT_KILLS` is the number of kills of the campaign (25); a failure prints the seed that repeats it:
`FASHIONKIT_KILLS=1000 FASHIONKIT_SEED=7 pytest tests/ftrain/fit/test_resume.py -k campaign`.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.ftrain.forks import Child, ForkServer
from tests.ftrain.tiny_task import make_trainer
from tests.shard_sets import write_shard_set

from fschemas.failures import ExitCode
from fschemas.shard_set import ShardSet
from ftrain.data.plan import EMPTY_LEDGER, extend_ledger
from ftrain.fit import checkpoint
from ftrain.fit.checkpoint_state import TrainingState

RUN: dict[str, Any] = {"epochs": 8, "checkpoint_every_steps": 2, "keep_checkpoints": 3}  # 40 steps
FILES = ("model", "ema", "optimizer")


def state_of(run: Path) -> tuple[Path, TrainingState]:
    found = checkpoint.newest(run / "checkpoints")
    assert found is not None
    return found[0], found[1]


def assert_same_end(run: Path, whole: Path) -> None:
    """Compare every tensor bit by bit, and the ledger, which proves that no sample was lost, repeated or reordered."""
    (found, state), (expected, wanted) = state_of(run), state_of(whole)
    assert state == wanted
    for file in FILES:
        one, other = checkpoint.load_tensors(found, file), checkpoint.load_tensors(expected, file)
        assert one.keys() == other.keys()
        assert len(one) > 3
        different = [name for name in other if not torch.equal(one[name], other[name])]
        assert not different, (file, different)


@pytest.fixture(scope="module")
def whole(forks: ForkServer, shard_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    run = tmp_path_factory.mktemp("whole") / "run"
    forks.run("tiny", shards=str(shard_folder), run=str(run), **RUN)
    return run


def test_the_uninterrupted_run_consumed_the_plan(whole: Path, shards: ShardSet) -> None:
    plan, ledger = make_trainer(shards, whole.parent / "other", **RUN).plan, EMPTY_LEDGER
    for step in range(40):
        ledger = extend_ledger(ledger, plan.batch(step))
    assert state_of(whole)[1].ledger == ledger
    assert state_of(whole)[1].step == 40


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_kill_campaign(forks: ForkServer, shard_folder: Path, whole: Path, tmp_path: Path) -> None:
    """SIGKILL after random delays, to the whole group or only the main process; each time with 0 to 3 workers."""
    wanted = int(os.environ.get("FASHIONKIT_KILLS", "25"))
    seed = int(os.environ.get("FASHIONKIT_SEED", "0"))
    draw = random.Random(seed)
    kills = finished = 0
    while kills < wanted or finished == 0:
        run, killed_here = tmp_path / f"run-{finished}", 0
        while True:
            child = forks.start("tiny", shards=str(shard_folder), run=str(run), workers=draw.randrange(4), **RUN)
            if killed_here < 15:
                time.sleep(draw.uniform(0.0, 0.7))
                child.send(signal.SIGKILL, group=draw.random() < 0.7)
            code = child.wait()
            if code == 0:
                break
            assert code == -signal.SIGKILL, (seed, child.text())
            kills, killed_here = kills + 1, killed_here + 1
        try:
            assert_same_end(run, whole)
            assert not list(run.rglob(".tmp.*"))
        except AssertionError as error:
            raise AssertionError(f"after {kills} kills: repeat with FASHIONKIT_SEED={seed}") from error
        finished += 1
        shutil.rmtree(run)
    print(f"{kills} kills in {finished} runs, seed {seed}: 0 lost or repeated samples, weights bit-identical")


def test_two_kills_in_one_epoch_with_other_worker_counts(
    forks: ForkServer, shard_folder: Path, whole: Path, tmp_path: Path
) -> None:
    """litData repeats and loses samples here: a second kill after the number of workers has changed."""
    run, positions = tmp_path / "run", [0]
    arguments: dict[str, Any] = {"shards": str(shard_folder), "run": str(run), **RUN}
    for step, workers in ((7, 3), (9, 1)):
        child = forks.start("tiny", workers=workers, model={"delay": 0.002}, **arguments)
        child.wait_for(f"step {step}/40")
        child.send(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        positions.append(state_of(run)[1].step)
    assert 5 <= positions[1] <= 8
    assert positions[2] > positions[1], "the second leg began where the first was killed"
    forks.run("tiny", workers=2, model={"delay": 0.002}, **arguments)
    found, state = state_of(run)
    assert state.ledger == state_of(whole)[1].ledger
    for file in FILES:
        one, other = checkpoint.load_tensors(found, file), checkpoint.load_tensors(state_of(whole)[0], file)
        assert all(torch.equal(one[name], other[name]) for name in other)


def test_killed_while_workers_hang_the_run_can_be_taken_up_at_once(
    forks: ForkServer, shard_folder: Path, tmp_path: Path
) -> None:
    """Orphaned workers do not hold the lock or anything else, and exit on their own."""
    arguments: dict[str, Any] = {"shards": str(shard_folder), "run": str(tmp_path / "run"), **RUN}
    child = forks.start("tiny", workers=3, model={"delay": 0.05}, **arguments)
    child.wait_for("step 2/40")
    workers = [int(pid) for pid in Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()]
    assert len(workers) == 3
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    child.send(signal.SIGKILL, group=False)
    assert child.wait() == -signal.SIGKILL
    again = forks.start("tiny", workers=0, limit_steps=4, model={"delay": 0.05}, **arguments)
    assert again.wait() == 0, again.text()
    end = time.monotonic() + 5
    while any(
        Path(f"/proc/{pid}").exists() and "State:\tZ" not in Path(f"/proc/{pid}/status").read_text() for pid in workers
    ):
        assert time.monotonic() < end
        time.sleep(0.01)


# --- through the command line -----------------------------------------------------------------------------------------

SMALL = (
    "-s", "fit.epochs=2", "-s", "fit.batch_size=4", "-s", "fit.ema_decay=0.9", "-s", "fit.log_every_steps=1",
    "-s", "fit.checkpoint_every_steps=50", "-s", "model.backbone=test_resnet", "-s", "model.input_size=32", "-s", "model.channels=8",
    "--tracker", "none", "--threads", "1", "--device", "cpu",
)  # fmt: skip
NUM_STEPS = 8


@pytest.fixture(scope="module")
def command_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shard_set(tmp_path_factory.mktemp("set") / "set", {"train": 18, "val": 5})


def command(forks: ForkServer, shards: Path, run: Path, *more: str) -> Child:
    return forks.start("cli", arguments=["keypoints", str(shards), "--run", str(run), *SMALL, *more])


@pytest.fixture(scope="module")
def command_whole(forks: ForkServer, command_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("command") / "run"
    child = command(forks, command_set, run)
    assert child.wait(120) == 0, child.text()
    assert state_of(run)[1].step == NUM_STEPS
    return run


@pytest.mark.parametrize(("number", "group", "code", "words"), [
    (signal.SIGTERM, True, ExitCode.TERMINATED, "stopped by a signal after step"),
    (signal.SIGTERM, False, ExitCode.TERMINATED, "stopped by a signal after step"),
    (signal.SIGINT, True, ExitCode.INTERRUPTED, "interrupted; run the same command again to continue"),
])  # fmt: skip
def test_a_signal_to_the_command_saves_its_step(
    forks: ForkServer,
    command_set: Path,
    command_whole: Path,
    tmp_path: Path,
    number: int,
    group: bool,
    code: int,
    words: str,
) -> None:
    """As sent by a scheduler, to all processes of the group or only to the main one, or by Ctrl-C."""
    run = tmp_path / "run"
    child = command(forks, command_set, run, "--workers", "2")
    child.wait_for(f"step 2/{NUM_STEPS}  loss")
    child.send(number, group=group)
    assert child.wait() == code, child.text()
    assert child.text().splitlines()[-1].startswith(f"ftrain: {words}")
    assert "Traceback" not in child.text()
    logged = [line.split("/")[0].removeprefix("step ") for line in child.text().splitlines() if " loss " in line]
    step = state_of(run)[1].step
    assert 2 <= step < NUM_STEPS
    assert step == int(logged[-1]), "the step that it was in is saved"
    again = command(forks, command_set, run, "--workers", "1", "--resume", "required")
    assert again.wait() == 0, again.text()
    assert f"resumed at step {step} of {NUM_STEPS}" in again.text()
    assert_same_end(run, command_whole)


@pytest.mark.slow
def test_the_installed_command_ends_with_143(command_set: Path, tmp_path: Path) -> None:
    """Once without the fork server: the console script as started by a user."""
    script = [Path(sys.executable).parent / "ftrain", "keypoints", command_set, "--run", tmp_path / "run", *SMALL]
    with subprocess.Popen(
        [*map(str, script), "-s", "fit.epochs=1000"], stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("step 2/"):
                process.terminate()
                break
        rest = process.stderr.read()
        assert process.wait(60) == ExitCode.TERMINATED, rest
    assert "ftrain: stopped by a signal after step" in rest
    assert state_of(tmp_path / "run")[1].step >= 2


def test_a_second_trainer_is_refused(forks: ForkServer, command_set: Path, tmp_path: Path) -> None:
    first = command(forks, command_set, tmp_path / "run", "-s", "fit.epochs=1000")
    first.wait_for("step 1/")
    second = command(forks, command_set, tmp_path / "run")
    assert second.wait() == ExitCode.ENVIRONMENT, second.text()
    assert f"process {first.pid} on " in second.text()
    assert "is writing here; wait for it or choose another folder" in second.text()
    first.send(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL


def test_a_finished_run_is_left_alone(forks: ForkServer, command_set: Path, command_whole: Path) -> None:
    before = {path: path.read_bytes() for path in command_whole.rglob("*") if path.is_file()}
    again = command(forks, command_set, command_whole)
    assert again.wait() == 0, again.text()
    assert {path: path.read_bytes() for path in command_whole.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_damaged_shard_ends_the_command_with_5(
    forks: ForkServer, command_set: Path, tmp_path: Path, damage: str
) -> None:
    copy = Path(shutil.copytree(command_set, tmp_path / "set"))
    shard, columns = copy / "train-000001.tar", ShardSet.open(copy).columns
    if damage == "missing":
        shard.unlink()
    else:
        content = bytearray(shard.read_bytes())
        content[columns["json_offset"][9] + 3] ^= 1
        shard.write_bytes(content)
    child = command(forks, copy, tmp_path / "run")
    assert child.wait() == ExitCode.INTEGRITY, child.text()
    last = child.text().splitlines()[-1]
    assert str(shard) in last
    assert (
        "missing; run `fprep shard` again" in last
        if damage == "missing"
        else f"sample {columns['key'][9]} is damaged" in last
    )
    assert ("  loss " in child.text()) <= (damage == "flipped"), "a missing shard is found before the first step"


def test_a_killed_worker_ends_the_command_with_4(
    forks: ForkServer, command_set: Path, command_whole: Path, tmp_path: Path
) -> None:
    child = command(
        forks,
        command_set,
        tmp_path / "run",
        "--workers",
        "2",
        "-s",
        "fit.epochs=1000",
        "-s",
        "fit.checkpoint_every_steps=1",
    )
    child.wait_for("step 2/")
    worker = int(Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()[0])
    os.kill(worker, signal.SIGKILL)
    assert child.wait() == ExitCode.ENVIRONMENT, child.text()
    assert "ftrain: a data worker was killed (SIGKILL), perhaps out of memory" in child.text()
    assert state_of(tmp_path / "run")[1].step >= 2


def test_an_exploding_run_ends_with_6_twice(forks: ForkServer, command_set: Path, tmp_path: Path) -> None:
    sentences: list[str] = []
    for _ in range(2):
        child = command(
            forks, command_set, tmp_path / "run", "-s", "fit.learning_rate=1e30", "-s", "fit.checkpoint_every_steps=1"
        )
        assert child.wait() == ExitCode.NON_FINITE, child.text()
        sentences.append(child.text().splitlines()[-1])
    assert sentences[0] == sentences[1]
    assert "is not finite" in sentences[0]
    assert "Traceback" not in child.text()
