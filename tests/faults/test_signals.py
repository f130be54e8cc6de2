"""SIGTERM and Ctrl-C at the command line: one message, exit code 143 or 130, nothing half-written, no process left."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
from tests.faults.harness import Forge, leftovers
from tests.faults.jobs import snapshot
from tests.faults.layer import SLOW
from tests.small_tables import write_small_table
from tests.trees import tree_of

from fprep.engine.local import shielded
from fschemas.failures import Terminated, explain
from fschemas.shard_set import ShardSet

RAW = tree_of("deepfashion-fine")
ENDS = {signal.SIGTERM: (143, "fprep: stopped by SIGTERM; "), signal.SIGINT: (130, "fprep: interrupted; ")}
COUNTS = {"train": 36, "val": 4}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_table(tmp_path_factory.mktemp("table"), COUNTS)


@pytest.fixture(scope="module")
def whole(forge: Forge, table: Path) -> dict[str, str]:
    """Digests of the set of a run that nothing stops."""
    out = table.parent / "whole"
    assert forge.cli(*shard_arguments(table, out, 1)).code == 0
    return snapshot(out)


def shard_arguments(table: Path, out: Path, workers: int) -> list[object]:
    return ["shard", table, out, "--shard-samples", 1, "--workers", workers, "--quiet"]


def convert_arguments(out: Path) -> list[object]:
    return ["convert", "deepfashion-fine", RAW, out, "--workers", 2, "--max-rejected", 1, "--quiet"]


def check_end(number: signal.Signals, code: int | None, err: str) -> None:
    expected, words = ENDS[number]
    assert code == expected, err
    assert err.startswith(words)
    assert len(err.splitlines()) == 1, err


@pytest.mark.parametrize(("number", "workers", "group"), [
    (signal.SIGTERM, 1, False), (signal.SIGTERM, 2, False), (signal.SIGTERM, 2, True), (signal.SIGINT, 2, True),
])  # fmt: skip
def test_shard_is_stopped_in_the_middle(
    forge: Forge, table: Path, scratch: Path, whole: dict[str, str], number: signal.Signals, workers: int, group: bool
) -> None:
    """As soon as the first of 40 shards is finished, far from the end."""
    out = scratch / "out"
    when = {"folder": str(out), "pattern": "meta/train-*.json"}
    stop = {"signal": number, "when": when, "group": group}
    disk = {"root": str(out), "kind": SLOW, "at": 0}
    outcome = forge.cli(*shard_arguments(table, out, workers), stop=stop, fault=disk)
    check_end(number, outcome.code, outcome.err)
    assert leftovers(out) == []
    assert 0 < len(list(out.glob("*.tar"))) < sum(COUNTS.values())
    assert not (out / "dataset.json").exists()
    again = forge.cli(*shard_arguments(table, out, 1))
    assert again.code == 0
    assert "(0 kept)" not in again.out
    assert snapshot(out) == whole
    sound_set(out)


def sound_set(out: Path) -> None:
    assert len(ShardSet.open(out, digests=True)) == sum(COUNTS.values())


@pytest.mark.slow
@pytest.mark.parametrize("number", ENDS)
@pytest.mark.parametrize("command", ["convert", "shard"])
def test_at_random_moments(forge: Forge, table: Path, scratch: Path, number: signal.Signals, command: str) -> None:
    """During imports, worker start-up or native code, or after everything is done: same exit codes, same message."""
    seed = int(os.environ.get("FASHIONKIT_SEED", "1"))
    generator, stopped = random.Random(seed), 0

    def arguments(out: Path, workers: int = 2) -> list[object]:
        return shard_arguments(table, out, workers) if command == "shard" else convert_arguments(out)

    whole = forge.cli(*arguments(scratch / "whole"))
    assert whole.code == 0, whole.err
    for trial in range(12):  # on a busy machine, a job may end before its signal; retry until one was stopped
        if trial >= 2 and stopped:
            break
        out = scratch / str(trial)
        stop = {"signal": number, "delay": generator.uniform(0.02, whole.seconds), "group": trial % 2 == 0}
        outcome = forge.cli(*arguments(out), stop=stop)
        place = f"FASHIONKIT_SEED={seed}, trial {trial}: {stop}"
        if outcome.code != 0:
            check_end(number, outcome.code, outcome.err)
            stopped += 1
        assert leftovers(scratch) == [], place
        assert forge.cli(*arguments(out, 1)).code == 0, place
        assert snapshot(out) == snapshot(scratch / "whole"), place
    assert stopped > 0


@pytest.mark.parametrize("number", ENDS)
def test_a_signal_waits_until_a_process_is_started(number: signal.Signals) -> None:
    """A native library's thread receives a signal that the main thread blocks; Python handles it in the main thread."""
    came, ended = [], threading.Event()
    before = signal.signal(number, lambda number, _: came.append(number))
    thread = threading.Thread(target=ended.wait)  # started outside, so that it blocks nothing
    thread.start()
    try:
        with shielded():
            os.kill(os.getpid(), number)
            for _ in range(1000):
                time.sleep(0)
            assert came == []
        assert came == [number]
    finally:
        ended.set()
        thread.join()
        signal.signal(number, before)


@pytest.mark.parametrize("number", ENDS)
def test_a_sample_is_stopped_in_the_middle(forge: Forge, scratch: Path, number: signal.Signals) -> None:
    """To the whole group, like Ctrl-C in a terminal; workers print nothing."""
    when = {"folder": str(scratch), "pattern": "**/*.jpg"}
    arguments = ["sample", "fashionai-keypoints", scratch / "out", "--num-images", 400, "--workers", 2, "--quiet"]
    outcome = forge.cli(*arguments, stop={"signal": number, "when": when, "group": True})
    check_end(number, outcome.code, outcome.err)


def test_workers_die_with_their_parent(forge: Forge, table: Path, scratch: Path) -> None:
    """SIGKILL to the leader only, like the out-of-memory killer; `Forge.run` checks that no worker is left."""
    out = scratch / "out"
    stop = {"signal": signal.SIGKILL, "when": {"folder": str(out), "pattern": "meta/train-*.json"}, "group": False}
    outcome = forge.cli(*shard_arguments(table, out, 2), stop=stop)
    assert outcome.code == -signal.SIGKILL
    assert not (out / "dataset.json").exists()
    assert forge.cli(*shard_arguments(table, out, 2)).code == 0
    assert leftovers(out) == []
    sound_set(out)


def test_ignored_signals_stay_ignored(forge: Forge, table: Path, scratch: Path) -> None:
    """A background job of a script ignores Ctrl-C."""
    out = scratch / "out"
    stop = {"signal": signal.SIGINT, "when": {"folder": str(out), "pattern": "meta/train-*.json"}, "group": True}
    outcome = forge.cli(*shard_arguments(table, out, 1), stop=stop, ignored=[signal.SIGINT])
    assert outcome.stopped
    assert outcome.code == 0
    sound_set(out)


def test_handlers_of_bad_data_do_not_swallow_a_stop() -> None:
    """Code that catches `ValueError` or `Exception` for damaged data must not swallow a signal."""
    assert not issubclass(Terminated, Exception)
    assert explain(Terminated("stopped")) == (143, "stopped")
