"""Batches: the same for any number of workers, verified on every read; workers that crash, hang or receive signals."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.ftrain.streams import evaluated_batches, training_batches
from tests.ftrain.tiny.task import TinyEncoder

from fschemas.failures import EnvironmentProblem, IntegrityError
from fschemas.publish import exclusive
from fschemas.shard_set import ShardSet
from ftrain.data.plan import (
    ClassBalanced,
    Sampler,
    TrainingPlan,
    Windowed,
    evaluation_batches,
    micro_batches_of_rank,
    shuffled,
)
from ftrain.data.stream import SLOTS, Batch, BatchPool, Generators, RawSample, shared_zeros, training_stream

NUM_STEPS = 12  # an epoch has 5


def read(
    shards: ShardSet, *, workers: int = 0, start: int = 0, stop: int = NUM_STEPS, positions: np.ndarray | None = None,
    sampler: Sampler = shuffled, encoder: Any = None,
) -> list[Batch]:  # fmt: skip
    plan = TrainingPlan(shards.rows("train"), 8, 3, sampler)
    batches = training_batches(
        shards, encoder or TinyEncoder(), plan, positions=np.arange(8) if positions is None else positions,
        start=start, stop=stop, workers=workers,
    )  # fmt: skip
    return [{name: tensor.clone() for name, tensor in batch.items()} for batch in batches]


def assert_equal(found: list[Batch], expected: list[Batch]) -> None:
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in other)


@pytest.fixture(scope="module")
def alone(shards: ShardSet) -> list[Batch]:
    """The batches without workers."""
    return read(shards)


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("kind", ["shuffled", "class-balanced", "windowed"])
def test_batches_do_not_depend_on_workers(shards: ShardSet, kind: str, workers: int) -> None:
    balanced, windowed = ClassBalanced(shards.columns["garment"]), Windowed(shards.columns["shard"], 2)
    sampler: Sampler = {"shuffled": shuffled, "class-balanced": balanced, "windowed": windowed}[kind]
    assert_equal(read(shards, workers=workers, sampler=sampler), read(shards, sampler=sampler))


@pytest.mark.parametrize(("piece", "workers"), [(1, 2), (3, 0), (3, 3), (5, 1), (8, 2), (9, 3)])
def test_batches_do_not_depend_on_the_size_of_the_pieces(
    shards: ShardSet, alone: list[Batch], piece: int, workers: int
) -> None:
    stream = training_stream(shards, TinyEncoder(), TrainingPlan(shards.rows("train"), 8, 3), np.arange(8))
    stream.piece, stream.pieces = piece, -(-8 // piece)
    with BatchPool([stream], workers) as pool:
        found = [
            {name: tensor.clone() for name, tensor in batch.items()} for batch in pool.batches(0, range(NUM_STEPS))
        ]
    assert_equal(found, alone)


def test_every_worker_has_pieces_though_the_slots_are_few(shards: ShardSet) -> None:
    rows = np.resize(shards.rows("train"), 512)
    for batch_size in (24, 64, 128, 512):
        stream = training_stream(shards, TinyEncoder(), TrainingPlan(rows, batch_size, 3), np.arange(batch_size))
        assert {len(view) for view in stream.views.values()} == {SLOTS} == {5}
        assert 2 * 16 <= 3 * stream.pieces <= 3 * 64


def test_a_slow_sample_delays_only_its_own_worker(shards: ShardSet) -> None:
    plan = TrainingPlan(shards.rows("train"), 8, 3)
    done, slow = shared_zeros((len(shards),), np.dtype(bool)), int(plan.batch(0)[0])

    def wait_for_the_others(sample: RawSample, encoded: dict[str, np.ndarray]) -> None:
        done[sample.row] = True
        for _ in range(500) if sample.row == slow else ():
            if done.sum() >= 24:  # all others of the first three steps, and the first piece of the fourth
                return
            time.sleep(0.01)
        assert sample.row != slow, f"only {done.sum()} samples are done"

    encoder = Meddling(None, wait_for_the_others)
    batches = training_batches(shards, encoder, plan, positions=np.arange(8), start=0, stop=5, workers=2)
    assert len(list(batches)) == 5


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_share_the_global_batch(shards: ShardSet, alone: list[Batch], workers: int) -> None:
    positions = [micro_batches_of_rank(8, 2, rank, 2).reshape(-1) for rank in range(2)]
    by_rank = [read(shards, workers=workers, positions=places) for places in positions]
    order = np.argsort(np.concatenate(positions))
    joined = [
        {name: torch.cat([one[name], other[name]])[order] for name in one} for one, other in zip(*by_rank, strict=True)
    ]
    assert_equal(joined, alone)


def test_any_start_gives_the_tail(shards: ShardSet, alone: list[Batch]) -> None:
    for start in range(NUM_STEPS):
        assert_equal(read(shards, start=start, workers=start % 4), alone[start:])
    assert read(shards, start=NUM_STEPS, workers=2) == []


def test_augmentation_is_drawn_anew_in_each_epoch(alone: list[Batch]) -> None:
    noise = torch.cat([batch["noise"].reshape(-1) for batch in alone])
    assert len(noise.unique()) == len(noise)
    assert abs(float(noise.mean())) < 0.3


def test_evaluation_is_not_augmented_and_pads_with_a_real_sample(shards: ShardSet) -> None:
    rows = shards.rows("val")
    (batch,) = evaluated_batches(shards, TinyEncoder(), rows[:2], batch_size=50, rank=0, world_size=1, workers=0)
    assert batch["row"].tolist() == rows[:2].tolist()
    assert not batch["noise"].any()
    (padded,) = evaluated_batches(shards, TinyEncoder(), rows[:2], batch_size=4, rank=1, world_size=2, workers=0)
    assert padded["row"].tolist() == [-1, -1]
    assert torch.equal(padded["image"], batch["image"][[0, 0]])


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_batch_stays_valid_until_the_next_but_one(shards: ShardSet, alone: list[Batch], workers: int) -> None:
    """Workers that run far ahead must not overwrite batches still held by the caller."""
    plan = TrainingPlan(shards.rows("train"), 8, 3)
    batches = training_batches(
        shards, TinyEncoder(), plan, positions=np.arange(8), start=0, stop=NUM_STEPS, workers=workers
    )
    previous: Batch | None = None
    for step, batch in enumerate(batches):
        time.sleep(0.02)
        assert_equal([batch], [alone[step]])
        if previous is not None:
            assert_equal([previous], [alone[step - 1]])
        previous = batch


# --- invalid data -----------------------------------------------------------------------------------------------------


@pytest.fixture
def damaged(shard_folder: Path, tmp_path: Path) -> tuple[Path, str]:
    """A copy of the set with one flipped bit in the pixels of training sample 20, and its key."""
    copy = Path(shutil.copytree(shard_folder, tmp_path / "set"))
    columns = ShardSet.open(copy).columns
    shard = copy / f"train-{columns['shard'][20]:06d}.tar"
    content = bytearray(shard.read_bytes())
    content[columns["image_offset"][20] + columns["image_size"][20] // 2] ^= 4
    shard.write_bytes(content)
    return copy, str(columns["key"][20])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_flipped_bit_names_shard_and_sample(damaged: tuple[Path, str], workers: int) -> None:
    folder, key = damaged
    with pytest.raises(IntegrityError, match=rf"train-000002\.tar: sample {key} is damaged \(CRC differs\)"):
        read(ShardSet.open(folder), workers=workers)


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_missing_or_cut_shard_is_found_before_the_first_step(damaged: tuple[Path, str], damage: str) -> None:
    shard = damaged[0] / "train-000004.tar"
    shard.unlink() if damage == "missing" else os.truncate(shard, 1000)
    with pytest.raises(IntegrityError, match=r"train-000004\.tar: (missing|1000 bytes instead of)"):
        ShardSet.open(damaged[0])


@dataclass(frozen=True)
class Meddling:
    """Modify one sample, or all, in the process that encodes it."""

    row: int | None  # None: every sample
    what: Callable[[RawSample, dict[str, np.ndarray]], Any]

    def __call__(self, sample: RawSample, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        encoded = TinyEncoder()(sample, generator)
        if self.row in (sample.row, None):
            self.what(sample, encoded)
        return encoded


def fail(error: BaseException) -> Callable[[RawSample, dict[str, np.ndarray]], None]:
    def raise_it(sample: RawSample, encoded: dict[str, np.ndarray]) -> None:
        raise error

    return raise_it


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ValueError("bad garment"), IntegrityError, r"sample s00020 cannot be used \(bad garment\)"),
        (TypeError("not a number"), IntegrityError, r"sample s00020 cannot be used \(not a number\)"),
        (ZeroDivisionError("a bug"), (ZeroDivisionError, RuntimeError), "a bug"),
        (MemoryError("of memory"), (MemoryError, EnvironmentProblem), "of memory"),
        (PermissionError(13, "no", "x.tar"), (PermissionError, EnvironmentProblem), "x.tar"),
    ],
)
def test_errors_keep_their_kind_across_processes(
    shards: ShardSet, workers: int, error: Exception, kind: Any, words: str
) -> None:
    with pytest.raises(kind, match=words):
        read(shards, workers=workers, encoder=Meddling(20, fail(error)))


def test_the_first_damaged_sample_is_reported_though_others_are_found_sooner(shards: ShardSet) -> None:
    plan = TrainingPlan(shards.rows("train"), 8, 3)
    first, *later = plan.batch(1)

    def damage(sample: RawSample, encoded: dict[str, np.ndarray]) -> None:
        if sample.row == first:
            time.sleep(0.2)
        if sample.row == first or sample.row in later:
            raise ValueError("bad")

    with pytest.raises(IntegrityError, match=f"sample {shards.columns['key'][first]} cannot be used"):
        read(shards, workers=3, encoder=Meddling(None, damage))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "change",
    [
        lambda sample, encoded: encoded.update(noise=np.zeros(1, np.float32)),  # would be broadcast
        lambda sample, encoded: encoded.pop("noise"),  # would keep that of an older sample
        lambda sample, encoded: encoded.update(more=np.zeros(1)),
    ],
)
def test_encoders_must_keep_their_shapes(shards: ShardSet, workers: int, change: Any) -> None:
    with pytest.raises((AssertionError, RuntimeError), match="the encoder gave"):
        read(shards, workers=workers, encoder=Meddling(20, change))


# --- workers that crash, hang or receive signals ----------------------------------------------------------------------


def children() -> list[int]:
    """Child processes, running or not yet waited for."""
    return [int(pid) for pid in Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()]


def signal_itself(number: int) -> Callable[[RawSample, dict[str, np.ndarray]], None]:
    main = os.getpid()

    def send(sample: RawSample, encoded: dict[str, np.ndarray]) -> None:
        if os.getpid() != main:
            os.kill(os.getpid(), number)

    return send


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGKILL, r"was killed \(SIGKILL\), perhaps out of memory.*run the same command again"),
        (signal.SIGSEGV, "died of SIGSEGV"),
        (signal.SIGSTOP, "has not responded for 0.5 seconds"),
    ],
)
def test_a_dead_or_hung_worker_is_noticed(
    shards: ShardSet, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    monkeypatch.setattr("ftrain.data.stream.WORKER_TIMEOUT", 0.5 if number == signal.SIGSTOP else 60)
    before, start = children(), time.monotonic()
    with pytest.raises(EnvironmentProblem, match=words):
        read(shards, workers=2, encoder=Meddling(20, signal_itself(number)))
    assert time.monotonic() - start < 5
    assert children() == before, "no worker is left, not even the stopped one"


def test_a_worker_that_ends_in_silence_is_noticed(shards: ShardSet) -> None:
    main = os.getpid()
    leave = Meddling(20, lambda sample, encoded: os.getpid() != main and os._exit(0))
    with pytest.raises(EnvironmentProblem, match="ended with code 0"):
        read(shards, workers=1, encoder=leave)


def test_signals_to_the_group_do_not_reach_workers(shards: ShardSet, alone: list[Batch]) -> None:
    """Ctrl-C or a scheduler's SIGTERM reaches every process; data must keep coming until the current step is saved."""
    for number in (signal.SIGINT, signal.SIGTERM):
        assert_equal(read(shards, workers=2, encoder=Meddling(20, signal_itself(number))), alone)


def test_workers_go_at_once_when_nobody_reads_on(shards: ShardSet) -> None:
    before = children()
    plan = TrainingPlan(shards.rows("train"), 8, 3)
    batches = training_batches(
        shards, TinyEncoder(delay=0.1), plan, positions=np.arange(8), start=0, stop=10**6, workers=3
    )
    next(batches)
    assert len(children()) == len(before) + 3
    start = time.monotonic()
    batches.close()  # type: ignore[attr-defined]
    assert time.monotonic() - start < 0.5
    assert children() == before


def test_workers_keep_nothing_of_the_parent_open(shards: ShardSet, tmp_path: Path) -> None:
    """Otherwise the lock of a killed run would be held until its last worker has exited."""

    def check(sample: RawSample, encoded: dict[str, np.ndarray]) -> None:
        targets = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        encoded["noise"][0] = sum(target.endswith(".lock") for target in targets)

    with exclusive(tmp_path / "run"):
        held = [read(shards, workers=workers, encoder=Meddling(20, check), stop=5) for workers in (0, 1)]
    locks = [
        [float(batch["noise"][batch["row"] == 20][0, 0]) for batch in batches if 20 in batch["row"]] for batches in held
    ]
    assert locks == [[1.0], [0.0]]


def test_evaluation_batches_are_read_in_order_by_workers(shards: ShardSet) -> None:
    rows = shards.rows("val")
    for workers in (0, 2):
        stream = evaluated_batches(shards, TinyEncoder(), rows, batch_size=4, rank=0, world_size=1, workers=workers)
        assert [batch["row"].tolist() for batch in stream] == [
            rows.tolist() for rows in evaluation_batches(rows, 4, 0, 1)
        ]


def test_seeds_draw_different_numbers() -> None:
    """numpy converts a Philox key given as a list of large integers to doubles: seeds 5 and 6 were equal."""
    draws = {
        Generators(seed, 4, np.arange(4)).of(step, place).random()
        for seed in (5, 6)
        for step in (0, 1)
        for place in (0, 3)
    }
    assert len(draws) == 8
    again = Generators(5, 4, np.arange(4))
    again.of(1, 2).random(7)
    fresh = np.random.Generator(np.random.Philox(key=np.array([5 + 2**63, 3], dtype=np.uint64)))
    assert again.of(0, 3).random(3).tolist() == fresh.random(3).tolist()
