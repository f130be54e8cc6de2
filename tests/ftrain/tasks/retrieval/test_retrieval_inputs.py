"""Inputs of the retrieval task from a shard set, and sets that it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.ftrain.retrieval_runs import TINY, trainer_of
from tests.shard_sets import write_label_set

from fschemas.failures import UsageError
from fschemas.shard_set import ShardSet
from ftrain.fit.run_folder import RunFolder
from ftrain.fit.train import TrainOptions, train
from ftrain.tasks.retrieval.task import Retrieval


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """Six items, each in training, query and gallery: search results depend on the roles only."""
    counts = {"train": 24, "query": 12, "gallery": 18}
    return ShardSet.open(write_label_set(tmp_path_factory.mktemp("set") / "set", counts, items=6))


@pytest.mark.parametrize(
    ("model", "without", "said"),
    [
        (
            {},
            ("item",),
            "model.identity=item: no training image of the shard set has a known item; choose another set, or category",
        ),
        (
            {"identity": "category", "classify": "none"},
            ("category",),
            "no training image of the shard set has a known category",
        ),
        ({"classify": "category"}, ("category",), "model.classify=category: the shard set has no categories"),
        ({"identity": "category", "classify": "item"}, ("item",), "model.classify=item needs items to learn"),
        ({"triplet_loss_weight": 0.0, "classify": "none"}, (), "every loss has the weight 0"),
        ({"backbone": "resnet5"}, (), "timm has no backbone 'resnet5'"),
    ],
)
def test_what_cannot_be_learned_is_reported(
    tmp_path: Path, model: dict[str, Any], without: tuple[str, ...], said: str
) -> None:
    folder = write_label_set(tmp_path / "set", {"train": 12, "val": 12}, items=6, without=without)
    overrides = tuple(f"model.{name}={value}" for name, value in {**TINY, **model}.items())
    options = TrainOptions(
        str(folder), tmp_path / "run", overrides=(*overrides, "fit.batch_size=4"), workers=0, device="cpu", trackers=()
    )
    with pytest.raises(UsageError, match=said):
        train("retrieval", options)


def test_items_with_one_photograph_are_left_out_and_none_with_two_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ShardSet.open(write_label_set(tmp_path / "few", {"train": 20, "val": 36}, items=18))
    trainer = trainer_of(few, tmp_path / "run", batch_size=4)
    assert sorted(trainer.plan.rows.tolist()) == sorted(
        int(row) for row in few.rows("train") if few.columns["item"][row] in ("item-0", "item-1")
    )
    assert "16 of 20 training images have no label or no partner" in capsys.readouterr().err
    lone = ShardSet.open(write_label_set(tmp_path / "lone", {"train": 18, "val": 36}, items=18))
    with pytest.raises(UsageError, match="no item has two training images"):
        trainer_of(lone, tmp_path / "other", batch_size=4)


def test_an_unknown_part_of_a_split_is_named() -> None:
    with pytest.raises(UsageError, match="no split 'exam'; there are train, test"):
        Retrieval.splits_of("test+exam", ["train", "test"])


def test_items_to_classify_are_those_of_training_and_stay_in_the_run(shards: ShardSet, tmp_path: Path) -> None:
    chosen = {**{f"model.{name}": value for name, value in TINY.items()}, "model.classify": "item", "model.proxy_loss_weight": 0.5,
              "fit.batch_size": 8, "fit.sampler": "identities", "fit.samples_per_identity": 2, "fit.epochs": 1, "hold_out": 0.4}  # fmt: skip
    options = TrainOptions(
        str(shards.location), tmp_path / "run", overrides=tuple(f"{name}={value}" for name, value in chosen.items()), workers=0,
        device="cpu", trackers=(),
    )  # fmt: skip
    train("retrieval", options)
    task, config, _ = RunFolder(tmp_path / "run").load()
    items = RunFolder(tmp_path / "run").dataset()["names"]["item"]
    assert isinstance(task, Retrieval)
    assert config.hold_out == 0.4
    assert items == sorted(items)
    assert 2 <= len(items) < 6, "held-out items are no classes"
    assert task.classifier is not None
    assert task.classifier.weight.shape == (len(items), 16)
    assert list(task.encoder.items) == items
