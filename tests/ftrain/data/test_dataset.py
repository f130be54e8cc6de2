"""`ftrain.ShardDataset`: the batches of the training stream, for any number of DataLoader workers and ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import torch
from tests.ftrain.streams import training_batches
from tests.ftrain.tiny.task import TinyEncoder

import ftrain
from fschemas.failures import UsageError
from fschemas.shard_set import ShardSet
from ftrain.data.plan import TrainingPlan, Windowed

# A small machine has fewer cores than workers here; Python 3.12 warns of forks while threads run.
pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:This process"),
]

STEPS = 5  # full batches of 8 in an epoch of 45 samples


def streamed(shards: ShardSet, epoch: int, positions: np.ndarray | None = None) -> list[dict[str, torch.Tensor]]:
    """The batches of an epoch as in the training loop."""
    batches = training_batches(
        shards, TinyEncoder(), TrainingPlan(shards.rows("train"), 8, 3), positions=np.arange(8) if positions is None else positions,
        start=epoch * STEPS, stop=(epoch + 1) * STEPS, workers=0,
    )  # fmt: skip
    return [{name: tensor.clone() for name, tensor in batch.items()} for batch in batches]


def assert_same(found: list[Any], expected: list[dict[str, torch.Tensor]]) -> None:
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in other)


def rows_of(dataset: ftrain.ShardDataset, workers: int = 0) -> list[int]:
    return [sample["row"] for batch in dataset.loader(workers, collate_fn=list) for sample in batch]


@pytest.mark.parametrize("workers", [0, 2, 3])
@pytest.mark.parametrize("epoch", [0, 2])
def test_batches_are_those_of_the_stream(shards: ShardSet, shard_folder: Path, epoch: int, workers: int) -> None:
    dataset = ftrain.ShardDataset(shard_folder, batch_size=8, seed=3, encoder=TinyEncoder())
    dataset.set_epoch(epoch)
    assert_same(list(dataset.loader(workers)), streamed(shards, epoch))


def test_persistent_workers_follow_the_epoch(shards: ShardSet, shard_folder: Path) -> None:
    dataset = ftrain.ShardDataset(shard_folder, batch_size=8, seed=3, encoder=TinyEncoder())
    loader = dataset.loader(2, persistent_workers=True)
    for epoch in (0, 1, 5):
        dataset.set_epoch(epoch)
        assert_same(list(loader), streamed(shards, epoch))


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_share_every_batch(shards: ShardSet, shard_folder: Path, workers: int) -> None:
    for rank in range(2):
        dataset = ftrain.ShardDataset(
            shard_folder, batch_size=8, seed=3, encoder=TinyEncoder(), rank=rank, world_size=2
        )
        assert (dataset.batch_size, len(dataset), len(dataset.loader(workers))) == (4, 20, STEPS)
        assert_same(list(dataset.loader(workers)), streamed(shards, 0, np.arange(4 * rank, 4 * rank + 4)))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world_size", [1, 3])
def test_without_shuffle_every_sample_comes_once(
    shards: ShardSet, shard_folder: Path, world_size: int, workers: int
) -> None:
    parts = [
        ftrain.ShardDataset(
            shard_folder, "val", batch_size=2 * world_size, shuffle=False, rank=rank, world_size=world_size
        )
        for rank in range(world_size)
    ]
    rows = [rows_of(part, workers) for part in parts]
    assert sorted(row for part in rows for row in part) == shards.rows("val").tolist()
    assert [len(part) for part in parts] == [len(part) for part in rows]
    if world_size == 1:
        assert rows[0] == shards.rows("val").tolist()


def test_samples_as_they_are_stored(shards: ShardSet, shard_folder: Path) -> None:
    for decode in (True, False):
        dataset = ftrain.ShardDataset(shard_folder, "val", shuffle=False, decode=decode)
        for sample in dataset:
            jpeg, annotation = shards.read(sample["row"])
            assert (sample["key"], sample["annotation"]) == (annotation["key"], annotation)
            if decode:
                assert sample["image"].shape == (annotation["height"], annotation["width"], 3)
                assert np.array_equal(sample["image"], simplejpeg.decode_jpeg(jpeg, "RGB", fastupsample=True))
            else:
                assert sample["image"] == jpeg


def test_other_rows_and_samplers(shards: ShardSet, shard_folder: Path) -> None:
    rows, sampler = shards.rows("train")[::3], Windowed(shards.columns["shard"], 2)
    dataset = ftrain.ShardDataset(shard_folder, batch_size=5, seed=1, sampler=sampler, rows=rows)
    plan = TrainingPlan(rows, 5, 1, sampler)
    assert rows_of(dataset) == np.concatenate([plan.batch(step) for step in range(plan.steps_per_epoch)]).tolist()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "must divide among 1 rank,"),
        ({"batch_size": 9, "rank": 0, "world_size": 2}, "batch_size=9 must divide among 2 ranks"),
        ({"rank": 2, "world_size": 2}, "of which this is 2"),
        ({"split": "dev"}, "the split 'dev' has no samples; there are train"),
        ({"batch_size": 64}, "45 samples, fewer than"),
    ],
)
def test_what_cannot_be_is_reported_at_once(shard_folder: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ftrain.ShardDataset(shard_folder, **options)
