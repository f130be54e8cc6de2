"""Each sample of a split is predicted exactly once, with equal predictions on any number of processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.ftrain.forks import ForkServer
from tests.ftrain.streams import evaluated_batches
from tests.ftrain.tiny.task import Tiny, TinyConfig, TinyEncoder
from tests.ftrain.tiny_task import ALONE

from fschemas.failures import IntegrityError
from fschemas.shard_set import ShardSet
from ftrain.data.stream import Batch, BatchPool, RawSample
from ftrain.fit.distributed import Processes
from ftrain.fit.evaluation import _Gathered, results_of_split


@pytest.fixture
def task(shards: ShardSet) -> Tiny:
    torch.manual_seed(0)
    return Tiny(TinyConfig(), shards.metadata)


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("num_rows", [1, 2, 13])
def test_ranks_together_read_every_sample_once(shards: ShardSet, num_rows: int, world_size: int) -> None:
    """This includes more ranks than samples: idle ranks process padding in the same number of batches."""
    rows = shards.rows("val")[:num_rows]
    by_rank = [
        [batch["row"].tolist() for batch in evaluated_batches(
            shards, TinyEncoder(), rows, batch_size=3 * world_size, rank=rank, world_size=world_size, workers=rank
        )]
        for rank in range(world_size)
    ]  # fmt: skip
    assert len({len(batches) for batches in by_rank}) == 1
    visited = [row for batches in by_rank for batch in batches for row in batch if row >= 0]
    assert sorted(visited) == rows.tolist()


@pytest.mark.parametrize("num_rows", [1, 7, 8, 9, 45])
def test_results_hold_each_row_once_in_index_order(shards: ShardSet, task: Tiny, num_rows: int) -> None:
    rows = np.arange(num_rows)[::-1]
    results = results_of_split(task, shards, rows, ALONE, batch_size=8, workers=0)
    assert results["row"].tolist() == sorted(rows.tolist())
    assert {name: len(values) for name, values in results.items()} == dict.fromkeys(results, num_rows)
    for row in range(num_rows):  # the prediction of a row is that of its own image
        image, annotation = shards.read(row)
        expected = TinyEncoder()(RawSample(row, image, annotation), None)
        assert np.array_equal(results["image"][row], expected["image"])
        assert results["garment"][row] == expected["garment"]
    assert not task.training


@pytest.mark.parametrize(("num_rows", "world_size"), [(13, 2), (1, 2), (10, 3)])
def test_processes_gather_what_one_process_predicts(
    forks: ForkServer, shard_folder: Path, shards: ShardSet, task: Tiny, tmp_path: Path, num_rows: int, world_size: int,
    one_thread: None,
) -> None:  # fmt: skip
    children = forks.start_group(
        "evaluate",
        world_size,
        shards=str(shard_folder),
        out=str(tmp_path / "out"),
        rows=num_rows,
        batch_size=6,
        workers=1,
    )
    assert [child.wait() for child in children] == [0] * world_size, [child.text() for child in children]
    expected = results_of_split(task, shards, np.arange(num_rows), ALONE, batch_size=6, workers=0)
    for rank in range(world_size):
        found = np.load(tmp_path / f"out-{rank}.npz")
        assert set(found.files) == set(expected)
        for name in ("row", "garment", "is_wide", "image"):  # int64, bool, uint8: dtypes must not change
            assert found[name].dtype == expected[name].dtype
            assert np.array_equal(found[name], expected[name])
        np.testing.assert_allclose(found["scores"], expected["scores"], rtol=1e-5, atol=1e-6)  # other batch sizes


@pytest.mark.parametrize(
    "change", [lambda batches: batches[1:], lambda batches: [*batches, batches[0]]], ids=["lost", "repeated"]
)
def test_a_lost_or_repeated_sample_is_an_error(
    shards: ShardSet, task: Tiny, monkeypatch: pytest.MonkeyPatch, change: object
) -> None:
    read = BatchPool.batches

    def meddle(pool: BatchPool, *arguments: Any) -> Iterator[Batch]:
        batches = [{name: tensor.clone() for name, tensor in batch.items()} for batch in read(pool, *arguments)]
        yield from change(batches)  # type: ignore[operator]

    monkeypatch.setattr(BatchPool, "batches", meddle)
    with pytest.raises(IntegrityError, match=r"predicted \d+ samples instead of 13"):
        results_of_split(task, shards, shards.rows("val"), ALONE, batch_size=4, workers=0)


def test_stopping_between_batches_leaves_no_worker(shards: ShardSet, task: Tiny) -> None:
    calls: list[int] = []

    def stop() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        results_of_split(task, shards, shards.rows("val"), ALONE, batch_size=4, workers=2, after_batch=stop)
    assert len(calls) == 2


def test_predictions_of_a_gpu_are_read_when_the_next_batch_is_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[tuple[str, int]] = []

    class Event:
        def record(self) -> None:
            self.number = sum(what == "queued" for what, _ in log)
            log.append(("queued", self.number))

        def synchronize(self) -> None:
            log.append(("read", self.number))

    monkeypatch.setattr(torch.cuda, "Event", Event)
    gathered = _Gathered(Processes(0, 1, torch.device("cuda")))
    for number in range(3):
        gathered.add({"row": torch.tensor([number]), "score": torch.tensor([number / 2]).bfloat16()})
    results = gathered.results()
    assert log == [("queued", 0), ("queued", 1), ("read", 0), ("queued", 2), ("read", 1), ("read", 2)]
    assert results["row"].tolist() == [0, 1, 2]
    assert results["score"].tolist() == [0, 0.5, 1]
