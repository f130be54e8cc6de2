"""Rows for training and evaluation: held-out groups, samplers, and the splits that they refuse."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.ftrain.tiny.task import Tiny, TinyConfig
from tests.shard_sets import write_label_set

from fschemas.failures import UsageError
from fschemas.shard_set import ShardSet
from ftrain.data.config import FitConfig, RunConfig
from ftrain.data.plan import ClassBalanced, Identities, shuffled
from ftrain.fit.distributed import Processes
from ftrain.fit.splits import Splits, positions_of_rank, sampler_of


class ByItem(Tiny):
    @classmethod
    def sampling_labels(cls, config: Any, columns: dict[str, np.ndarray]) -> np.ndarray:
        return columns["item"]


def splits_of(folder: Path, counts: dict[str, int], items: int = 8, **config: Any) -> Splits:
    shards = ShardSet.open(write_label_set(folder, counts, items=items))
    return Splits(ByItem(TinyConfig(), shards.metadata), RunConfig(task="tiny", model={}, **config), shards)


def test_without_a_validation_split_groups_of_training_are_held_out(tmp_path: Path) -> None:
    splits = splits_of(tmp_path, {"train": 80, "query": 8, "gallery": 8}, items=40, hold_out=0.25)
    groups, training, held = splits.shards.columns["group"], splits.training(), splits.evaluated("val")
    assert splits.holds_out
    assert sorted([*training, *held]) == splits.shards.rows("train").tolist()
    assert not set(groups[training]) & set(groups[held])
    assert 4 <= len(set(groups[held])) <= 16
    assert splits.training_images().tolist() == training.tolist()


def test_a_split_of_the_set_is_taken_as_it_is(tmp_path: Path) -> None:
    splits = splits_of(tmp_path, {"train": 16, "val": 8})
    assert not splits.holds_out
    assert splits.evaluated("val").tolist() == splits.shards.rows("val").tolist()
    assert len(splits.training()) == 16
    with pytest.raises(UsageError, match="the split 'test' has no samples; there are train"):
        splits.evaluated("test")


def test_too_small_a_share_reports_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"hold_out=0\.001 selects no group"):
        splits_of(tmp_path, {"train": 16}, hold_out=0.001).evaluated("val")


@pytest.mark.parametrize(("sampler", "kind"), [("balanced", ClassBalanced), ("identities", Identities)])
def test_samplers_go_by_the_labels_of_the_task(tmp_path: Path, sampler: str, kind: type) -> None:
    splits = splits_of(tmp_path, {"train": 18, "val": 4}, items=16)  # two items have two images
    fit = FitConfig(batch_size=4, sampler=sampler, samples_per_identity=2)
    chosen, rows = sampler_of(splits.task, fit, splits.shards, splits.training())
    assert isinstance(chosen, kind)
    assert len(rows) == (4 if sampler == "identities" else 18)


def test_identities_need_pairs(tmp_path: Path) -> None:
    splits = splits_of(tmp_path, {"train": 18, "val": 4}, items=18)
    with pytest.raises(UsageError, match="no item has two training images"):
        sampler_of(splits.task, FitConfig(sampler="identities", batch_size=8), splits.shards, splits.training())


@pytest.mark.parametrize(
    ("batch_size", "micro_batches", "world_size", "per_identity", "sentence"),
    [
        (6, 1, 1, 4, "cannot be divided into 1 micro-batch on 1 process of whole identities (fit.samples_per_identity=4); use fit.batch_size=4 or 8"),
        (8, 4, 1, 4, "4 micro-batches on 1 process of whole identities (fit.samples_per_identity=4); use fit.batch_size=16"),
        (24, 1, 4, 4, "4 micro-batches on 4 processes of whole identities (fit.samples_per_identity=4); use fit.batch_size=16 or 32"),
        (24, 6, 4, 2, "fit.micro_batches=6 cannot be divided among 4 processes; use fit.micro_batches=8"),
    ],
)  # fmt: skip
def test_identities_are_not_divided(
    batch_size: int, micro_batches: int, world_size: int, per_identity: int, sentence: str
) -> None:
    fit = FitConfig(
        sampler="identities", batch_size=batch_size, micro_batches=micro_batches, samples_per_identity=per_identity
    )
    with pytest.raises(UsageError, match=re.escape(sentence) + "$"):
        positions_of_rank(fit, Processes(0, world_size, torch.device("cpu")))


def test_a_task_without_classes_cannot_be_balanced(tmp_path: Path) -> None:
    shards = ShardSet.open(write_label_set(tmp_path, {"train": 8}))
    task = Tiny(TinyConfig(), shards.metadata)
    with pytest.raises(UsageError, match="neither classes nor identities"):
        sampler_of(task, FitConfig(sampler="balanced"), shards, shards.rows("train"))
    assert sampler_of(task, FitConfig(), shards, shards.rows("train"))[0] is shuffled
