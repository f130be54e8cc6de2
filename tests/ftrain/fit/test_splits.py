"""Rows for training and evaluation: held-out groups, samplers, and the splits that they refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.ftrain.tiny.task import Tiny, TinyConfig
from tests.shard_sets import write_label_set

from fschemas.failures import UsageError
from fschemas.shard_set import ShardSet
from ftrain.data.config import FitConfig, RunConfig
from ftrain.data.plan import ClassBalanced, Identities, Mixture, shuffled
from ftrain.fit.config import load_config
from ftrain.fit.splits import Splits, positions_of_rank, sampler_of
from ftrain.tasks.task import find_task


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


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"train": 40, "val": 4}, "holdout"),  # K-Fashion
        ({"train": 40, "val": 4, "test": 4}, "val"),
        ({"train": 40, "test": 4}, "val"),  # which is held out, too
        ({"train": 40}, "holdout"),
    ],
)
def test_auto_validates_on_val_beside_a_test_split(tmp_path: Path, counts: dict[str, int], expected: str) -> None:
    splits = splits_of(tmp_path, counts, items=40, validation_split="auto", hold_out=0.3)
    assert splits.validation_split == expected
    assert splits.holds_out == (expected == "holdout" or "val" not in counts)
    assert set(splits.validation()) <= set(splits.shards.rows("train" if splits.holds_out else "val"))
    assert not set(splits.validation()) & set(splits.training())
    if "val" in counts:
        assert splits.evaluated("val").tolist() == splits.shards.rows("val").tolist()
    else:
        assert splits.evaluated("val").tolist() == splits.validation().tolist()


ROOT = Path(__file__).parents[3]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())


@pytest.mark.parametrize(
    ("model", "profile"),
    [(model, profile) for model in PARAMS["models"] for profile, value in PARAMS[model].items() if isinstance(value, dict)],
)  # fmt: skip
def test_no_profile_selects_on_the_split_that_evaluates_it(tmp_path: Path, model: str, profile: str) -> None:
    """`style full` chose its checkpoint on K-Fashion's `val`, which was then its evaluation split."""
    entry = PARAMS["models"][model]
    config = load_config(entry["task"], ROOT / "params.yaml", profile, [], section=model)
    tree = ROOT / "tests/raw" / entry["dataset"].replace("-", "_")
    known = json.loads((tree / "expected.json").read_text()).get("splits") or {
        "train": 1,
        "val": 1,
        "test": 1,
    }  # cut by share
    counts = {split: 40 if split == "train" else 4 for split in known}
    shards = ShardSet.open(write_label_set(tmp_path / "set", counts, items=40))
    splits = Splits(find_task(entry["task"]), config, shards)
    training, selecting, evaluated = splits.training(), splits.validation(), splits.evaluated(entry["split"])
    assert len(evaluated)
    for one, other in ((training, selecting), (training, evaluated), (selecting, evaluated)):
        assert not set(one.tolist()) & set(other.tolist())


def test_the_final_retrieval_run_trains_on_all_items(tmp_path: Path) -> None:
    """Published in-shop results come from all 3,997 training items; `full` holds some of them out."""
    full, final = (load_config("retrieval", ROOT / "params.yaml", profile, []) for profile in ("full", "final"))
    assert (final.model, final.fit) == (full.model, full.fit)
    shards = ShardSet.open(write_label_set(tmp_path / "set", {"train": 40, "query": 4, "gallery": 4}, items=40))
    chosen, all_items = (Splits(find_task("retrieval"), config, shards) for config in (full, final))
    assert all_items.training().tolist() == shards.rows("train").tolist()
    assert len(all_items.validation()) == 0
    assert 0 < len(chosen.validation()) == 40 - len(chosen.training())


def test_the_category_benchmark_gives_the_box(tmp_path: Path) -> None:
    """The literature crops to the given box (Liu et al., CVPR 2016); the other profile is another protocol."""
    full, whole = (load_config("category", ROOT / "params.yaml", profile, []) for profile in ("full", "whole_image"))
    assert full.model == {**whole.model, "crop": "box"}
    assert (whole.model["crop"], whole.fit) == ("image", full.fit)


def test_too_small_a_share_reports_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"hold_out=0\.001 selects no group"):
        splits_of(tmp_path, {"train": 16}, hold_out=0.001).evaluated("val")


@pytest.mark.parametrize(
    ("items", "kind", "grouped"), [(9, Identities, 18), (16, Mixture, 4), (18, None, 0)]
)  # fmt: skip
def test_auto_groups_the_items_with_partners_and_keeps_the_others(
    tmp_path: Path, items: int, kind: type | None, grouped: int
) -> None:
    """P x K needs pairs, but landmarks, categories and attributes learn from single images, too."""
    splits = splits_of(tmp_path, {"train": 18, "val": 4}, items=items)
    rows, fit = splits.training(), FitConfig(batch_size=6, sampler="auto", samples_per_identity=2)
    sampler, kept = sampler_of(splits.task, fit, splits.shards, rows)
    assert kept.tolist() == rows.tolist()
    assert sampler is shuffled if kind is None else isinstance(sampler, kind)
    order = sampler(rows, np.random.default_rng(0))
    assert set(order.tolist()) == set(rows.tolist())
    labels = splits.shards.columns["item"]
    pairs = labels[order[: len(order) // 2 * 2]].reshape(-1, 2)
    assert 2 * (pairs[:, 0] == pairs[:, 1]).sum() >= grouped
    odd = fit.model_copy(update={"batch_size": 9})
    if kind is None:  # nothing has to stay together
        assert positions_of_rank(odd, 0, 1, sampler).shape == (1, 9)
    else:
        with pytest.raises(UsageError, match="whole identities"):
            positions_of_rank(odd, 0, 1, sampler)


def test_auto_needs_no_items(tmp_path: Path) -> None:
    shards = ShardSet.open(write_label_set(tmp_path, {"train": 8}, without=("item",)))
    task = Tiny(TinyConfig(), shards.metadata)
    assert sampler_of(task, FitConfig(sampler="auto"), shards, shards.rows("train"))[0] is shuffled


@pytest.mark.parametrize(
    ("sampler", "kind"), [("balanced", ClassBalanced), ("square_root", ClassBalanced), ("identities", Identities)]
)  # fmt: skip
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
        positions_of_rank(fit, 0, world_size, Identities(np.empty(0, dtype=str), per_identity))


def test_a_task_without_classes_cannot_be_balanced(tmp_path: Path) -> None:
    shards = ShardSet.open(write_label_set(tmp_path, {"train": 8}))
    task = Tiny(TinyConfig(), shards.metadata)
    with pytest.raises(UsageError, match="neither classes nor identities"):
        sampler_of(task, FitConfig(sampler="balanced"), shards, shards.rows("train"))
    assert sampler_of(task, FitConfig(), shards, shards.rows("train"))[0] is shuffled


def domains_of(folder: Path) -> Splits:
    """16 images of 4 items; items 0 to 2 have consumer and shop images, item 3 has shop images only."""
    splits = splits_of(folder, {"train": 16}, items=4)
    number = np.arange(16)
    splits.shards.columns["domain"] = np.where((number % 4 == 3) | (number < 12), "shop", "consumer")
    return splits


def test_every_identity_of_a_batch_has_images_of_both_domains(tmp_path: Path) -> None:
    splits = domains_of(tmp_path)
    columns, rows = splits.shards.columns, splits.shards.rows("train")
    fit = FitConfig(batch_size=8, sampler="identities", samples_per_identity=4, across_domains=True)
    sampler, usable = sampler_of(splits.task, fit, splits.shards, rows)
    assert set(columns["item"][usable]) == {"item-0", "item-1", "item-2"}
    assert len(usable) == 12
    order = sampler(usable, np.random.default_rng(0))
    for group in order.reshape(-1, 4):
        assert len(set(columns["item"][group])) == 1
        assert sorted(columns["domain"][group]) == ["consumer", "consumer", "shop", "shop"]  # item 0 has 3 shop images
    assert len({row for row in order if columns["domain"][row] == "shop"}) > 3


def test_domains_are_needed_to_cross_them(tmp_path: Path) -> None:
    splits = domains_of(tmp_path)
    rows = splits.shards.rows("train")
    with pytest.raises(UsageError, match=r"across_domains needs fit\.sampler=identities, not shuffled"):
        sampler_of(splits.task, FitConfig(across_domains=True), splits.shards, rows)
    del splits.shards.columns["domain"]
    with pytest.raises(UsageError, match="no item has images of two domains"):
        sampler_of(splits.task, FitConfig(sampler="identities", across_domains=True), splits.shards, rows)
