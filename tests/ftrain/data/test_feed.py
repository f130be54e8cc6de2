"""Batches on a device, with a fake one whose copies run as late as possible."""

from __future__ import annotations

from collections.abc import Generator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.ftrain.tiny.task import TinyEncoder

from fschemas.failures import EnvironmentProblem
from fschemas.shard_set import ShardSet
from ftrain.data.feed import NUM_BUFFERS, Batch, device_batches, pinned
from ftrain.data.plan import TrainingPlan
from ftrain.data.stream import HELD, BatchPool, training_stream

NUM_BATCHES = 7


class LateBuffer:
    """A buffer that copies only when something waits for it, and logs what is called."""

    def __init__(self, log: list[tuple[str, int]]) -> None:
        self.log, self.number, self.in_use = log, -1, False
        self.source: Batch = {}
        self.batch: Batch = {}

    def fill(self, batch: Batch) -> None:
        assert not self.in_use, "filled while it is used"
        self.number, self.source, self.in_use = sum(what == "fill" for what, _ in self.log), batch, True
        self.log.append(("fill", self.number))

    def _copy(self) -> None:
        if self.source:
            self.batch = {name: tensor.clone() for name, tensor in self.source.items()}
            self.source = {}

    def take(self) -> Batch:
        self._copy()
        self.log.append(("take", self.number))
        return self.batch

    def release(self) -> None:
        assert self.in_use
        self.in_use = False

    def wait(self) -> None:
        self._copy()
        self.log.append(("wait", self.number))


def buffers(log: list[tuple[str, int]]) -> list[LateBuffer]:
    return [LateBuffer(log) for _ in range(NUM_BUFFERS)]


def source(log: list[tuple[str, int]], count: int, error: Exception | None = None) -> Generator[Batch]:
    try:
        for number in range(count):
            log.append(("request", number))
            yield {"row": torch.tensor([number])}
        if error:
            raise error
    finally:
        log.append(("close", count))


@pytest.mark.parametrize("count", [0, 1, 2, 3, NUM_BATCHES])
def test_two_batches_are_copied_ahead_and_no_slot_is_returned_before_its_copy(count: int) -> None:
    log: list[tuple[str, int]] = []
    yielded = [int(batch["row"]) for batch in device_batches(source(log, count), buffers(log), HELD)]
    assert yielded == list(range(count))
    for number in range(count):
        taken = log.index(("take", number))
        assert all(("fill", ahead) in log[:taken] for ahead in range(number, min(number + 3, count)))
        if number >= HELD:  # this request lets the workers overwrite the slot
            assert ("wait", number - HELD) in log[: log.index(("request", number))]
    assert [number for what, number in log if what == "wait"] == list(range(count))


def test_an_error_of_the_source_leaves_no_copy_in_progress() -> None:
    log: list[tuple[str, int]] = []
    batches = device_batches(source(log, 4, ValueError("broken")), buffers(log), HELD)
    with pytest.raises(ValueError, match="broken"):
        list(batches)
    assert [number for what, number in log if what == "wait"] == [0, 1, 2, 3]


def test_a_caller_that_stops_leaves_no_copy_in_progress() -> None:
    log: list[tuple[str, int]] = []
    batches = device_batches(source(log, 9), buffers(log), HELD)
    next(batches)
    batches.close()
    assert [number for what, number in log if what in ("fill", "wait")] == [0, 1, 0, 2, 1, 2]
    assert log[-1] == ("close", 9), "after the last copy"


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_on_the_device_are_those_of_the_slots(shards: ShardSet, workers: int) -> None:
    plan = TrainingPlan(shards.rows("train"), 8, 3)
    with BatchPool([training_stream(shards, TinyEncoder(), plan, np.arange(8))], workers) as pool:
        expected = [{name: tensor.clone() for name, tensor in batch.items()} for batch in pool.batches(0, range(12))]
        found = device_batches(pool.slots(0, range(12)), buffers([]), HELD)
        for batch, other in zip(found, expected, strict=True):
            assert all(torch.equal(batch[name], other[name]) for name in other)


@pytest.mark.parametrize("fails_at", [None, 0, 2])
def test_memory_is_pinned_and_unpinned(monkeypatch: pytest.MonkeyPatch, fails_at: int | None) -> None:
    arrays = [np.zeros(size) for size in (3, 0, 1, 2)]
    addresses: list[Any] = [array.ctypes.data for array in arrays if array.size]
    now: list[int] = []

    def register(address: int, size: int, flags: int) -> int:
        if fails_at is not None and len(now) == fails_at:
            return 2
        assert size == next(array.nbytes for array in arrays if array.size and array.ctypes.data == address)
        now.append(address)
        return flags

    monkeypatch.setattr(
        "torch.cuda.cudart", lambda: SimpleNamespace(cudaHostRegister=register, cudaHostUnregister=now.remove)
    )
    if fails_at is None:
        with pinned(arrays):
            assert now == addresses
    else:
        with pytest.raises(EnvironmentProblem, match=r"cannot pin 0 MiB.*CUDA error 2.*ulimit -l"), pinned(arrays):
            pass
    assert now == []
