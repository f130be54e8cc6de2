"""Several shard sets as one: rows, names and vocabularies, the mixture, and a run on them that is killed and resumed."""

from __future__ import annotations

import copy
import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.ftrain.category_runs import TINY as TINY_CATEGORY
from tests.ftrain.forks import ForkServer
from tests.ftrain.retrieval_runs import TINY
from tests.ftrain.tiny.task import Tiny, TinyConfig
from tests.shard_sets import CATEGORIES, LABELS, write_label_set, write_shard_set

from fschemas.failures import IntegrityError, UsageError
from fschemas.landmarks import FASHIONAI_24
from fschemas.publish import publish_sealed
from fschemas.shard_set import ShardSet
from ftrain.data.config import FitConfig, RunConfig
from ftrain.data.joined_shards import JoinedShards, join_sets, open_sets
from ftrain.data.plan import Mixture, TrainingPlan, shuffled
from ftrain.data.remote import open_shards
from ftrain.fit.checkpoint import newest
from ftrain.fit.config import resolve
from ftrain.fit.run_folder import RunFolder
from ftrain.fit.splits import Splits, names_to_learn, sampler_of
from ftrain.fit.train import TrainOptions, train
from ftrain.tasks.label_checks import lost_in_joining

FASHIONNET = {"backbone": "test_efficientnet", "input_size": 64}


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like in-shop: items, without a validation split."""
    return write_label_set(tmp_path_factory.mktemp("items") / "set", {"train": 32, "query": 8, "gallery": 8})


@pytest.fixture(scope="module")
def categories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like the category benchmark: no items, but a validation split."""
    return write_label_set(
        tmp_path_factory.mktemp("categories") / "set", {"train": 24, "val": 6}, without=("item", "shop")
    )


def changed(source: Path, folder: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of a set with another dataset.json."""
    shutil.copytree(source, folder)
    metadata = json.loads((folder / "dataset.json").read_text())
    edit(metadata)
    metadata.pop("digest", None)
    metadata["plan_id"] = folder.name
    publish_sealed(folder / "dataset.json", metadata)
    return folder


def test_rows_of_both_sets_follow_each_other(items: Path, categories: Path) -> None:
    parts = ShardSet.open(items), ShardSet.open(categories)
    joined = join_sets(parts)
    assert len(joined) == 78
    assert joined.metadata["splits"]["train"]["samples"] == 56 == len(joined.rows("train"))
    assert joined.plan_id not in (parts[0].plan_id, parts[1].plan_id)
    assert join_sets(parts[::-1]).plan_id != joined.plan_id
    assert joined.metadata["column_groups"] == ["category", "attributes", "box", "landmarks", "style"]
    for row in (0, 47, 48, 77):
        part, own = (parts[0], row) if row < 48 else (parts[1], row - 48)
        (image, annotation), (expected, note) = joined.read(row), part.read(own)
        assert image == expected
        assert joined.read_annotation(row) == annotation
        assert annotation["category"] == note["category"] == joined.columns["category"][row]
        assert joined.columns["group"][row] == part.columns["group"][own]  # held out alike, alone or joined
        assert joined.columns["key"][row] == f"{1 + (row >= 48)}/{part.columns['key'][own]}"
    assert set(joined.columns["item"][48:]) == {""}
    assert len(np.unique(joined.columns["shard"])) == sum(len(part.metadata["shards"]) for part in parts)


def test_items_of_different_sets_are_never_the_same(items: Path, tmp_path: Path) -> None:
    other = write_label_set(tmp_path / "other", {"train": 16})
    joined = open_sets([str(items), str(other)])
    mine, theirs = set(joined.columns["item"][:48]), set(joined.columns["item"][48:])
    assert len(mine) == len(theirs) == 8
    assert not mine & theirs
    assert joined.read_annotation(50)["item"] == joined.columns["item"][50] == "2/item-2"


def test_vocabularies_are_united_by_name(items: Path, tmp_path: Path) -> None:
    def edit(metadata: dict[str, Any]) -> None:
        vocabularies = metadata["vocabularies"] = copy.deepcopy(LABELS)
        vocabularies["category"] |= {
            "name": "other",
            "values": ["Dress", "Skirt"],
            "groups": {"full": [0], "lower": [1]},
        }
        vocabularies["attributes"] |= {
            "values": ["silk", "plain", "lace"],
            "groups": {"fabric": [0, 2], "texture": [1]},
        }

    other = changed(items, tmp_path / "other", edit)
    joined = join_sets([ShardSet.open(items), ShardSet.open(other)])
    categories, attributes = joined.metadata["vocabularies"]["category"], joined.metadata["vocabularies"]["attributes"]
    assert categories["values"] == [*CATEGORIES, "Skirt"]
    assert categories["groups"] == {"upper": [0, 3], "lower": [1, 4], "full": [2]}
    assert attributes["values"] == ["plain", "striped", "short", "long", "silk", "denim", "cotton", "lace"]
    own, common = ShardSet.open(other).read_annotation(0), joined.read_annotation(48)
    ids = {0: 4, 1: 0, 2: 7}  # silk, plain, lace; the file has further ids, of attributes that this set does not name
    assert common["attributes_positive"] == [ids[one] for one in own["attributes_positive"] if one in ids]
    assert set(common["attributes_unknown"]) >= {1, 2, 3, 5, 6}
    assert (
        joined.read_annotation(0)["attributes_positive"]
        == ShardSet.open(items).read_annotation(0)["attributes_positive"]
    )
    assert "attributes_unknown" in joined.read_annotation(0)


@pytest.mark.parametrize(
    ("group", "change", "said"),
    [
        (
            "category",
            {"groups": {"upper": [0, 1, 3], "full": [2]}},
            "category 'Jeans' belongs to 'upper', but to 'lower'",
        ),
        ("attributes", {"exclusive": True}, "exactly one value of attributes per group"),
    ],
)
def test_incompatible_vocabularies_stop_only_a_task_that_needs_them(
    items: Path, tmp_path: Path, group: str, change: dict[str, Any], said: str
) -> None:
    other = changed(items, tmp_path / "other", lambda metadata: metadata["vocabularies"][group].update(change))
    joined = join_sets([ShardSet.open(items), ShardSet.open(other)])
    joined.require(("item", "landmarks"))
    assert group not in joined.metadata["column_groups"]
    with pytest.raises(UsageError, match=said):
        joined.require((group,))


def test_landmark_sets_must_be_the_same(shard_folder: Path, tmp_path: Path) -> None:
    other = write_shard_set(tmp_path / "other", {"train": 8}, FASHIONAI_24)
    options = TrainOptions(
        (str(shard_folder), str(other)), tmp_path / "run", workers=0, device="cpu", trackers=("none",)
    )
    with pytest.raises(UsageError, match=r"different landmarks \(deepfashion-8, fashionai-24\)"):
        train("keypoints", options)
    assert not (tmp_path / "run/config.yaml").exists()


def test_each_set_is_named_in_its_own_errors(items: Path, categories: Path, tmp_path: Path) -> None:
    joined = join_sets([ShardSet.open(items), ShardSet.open(categories)])
    with pytest.raises(UsageError, match=f"^{categories}: the task needs item"):
        joined.require(("item",))
    with pytest.raises(UsageError, match="list it once"):
        open_sets([str(items), str(items)])
    damaged = tmp_path / "damaged"
    shutil.copytree(categories, damaged)
    parts = ShardSet.open(items), ShardSet.open(damaged)
    shard = damaged / parts[1].metadata["shards"][0]["name"]
    content = bytearray(shard.read_bytes())
    content[int(parts[1].columns["image_offset"][0]) + 40] ^= 255
    shard.write_bytes(content)
    with pytest.raises(IntegrityError, match=f"^{damaged}/train-000000.tar: sample s00000 is damaged"):
        join_sets(parts).read(48)


def mixture_of(joined: ShardSet, **fit: Any) -> TrainingPlan:
    class ByItem(Tiny):
        @classmethod
        def sampling_labels(cls, config: Any, columns: dict[str, np.ndarray]) -> np.ndarray:
            return columns["item"]

    settings = FitConfig(**{"batch_size": 8, "samples_per_identity": 2, **fit})
    config = RunConfig(task="tiny", model={}, fit=settings, validation_split="none")
    task = ByItem(TinyConfig(), joined.metadata)
    sampler, rows = sampler_of(task, settings, joined, Splits(task, config, joined).training())
    return TrainingPlan(rows, settings.batch_size, settings.seed, sampler)


def test_the_mixture_is_a_pure_function_of_seed_and_step(items: Path, categories: Path) -> None:
    joined = join_sets([ShardSet.open(items), ShardSet.open(categories)])
    plan = mixture_of(joined)
    assert isinstance(plan.sampler, Mixture)
    epoch = np.concatenate([plan.batch(step) for step in range(7)])
    assert sorted(epoch) == sorted(joined.rows("train"))  # in proportion to their size: every image once
    shares = [(plan.batch(step) < 48).sum() for step in range(7)]
    assert set(shares) <= {4, 5}  # 32 of 56 images, in every batch
    weighted = mixture_of(joined, mixture=(1, 3))
    assert {(weighted.batch(step) < 48).sum() for step in range(20)} == {2}
    again = mixture_of(joined, mixture=(1, 3))
    assert [again.batch(step).tolist() for step in (9, 3)] == [weighted.batch(step).tolist() for step in (9, 3)]
    other = mixture_of(joined, mixture=(1, 3), seed=1)
    assert other.batch(0).tolist() != weighted.batch(0).tolist()


def test_a_small_set_is_repeated_in_another_order() -> None:
    mixture = Mixture((shuffled, shuffled), (np.arange(3), np.arange(3, 30)), (1, 1))
    order = mixture(np.arange(30), np.random.default_rng(0))
    small = order[order < 3]
    assert np.bincount(small).tolist() == [5, 5, 5]
    assert all(set(small[start : start + 3]) == {0, 1, 2} for start in range(0, 15, 3))
    assert len({tuple(small[start : start + 3]) for start in range(0, 15, 3)}) > 1


def test_identities_of_one_set_stay_together_and_the_other_is_shuffled(items: Path, categories: Path) -> None:
    """As in the second seed: items from one set, categories from the other, in the same batch."""
    joined = join_sets([ShardSet.open(items), ShardSet.open(categories)])
    plan = mixture_of(joined, sampler="identities", mixture=(3, 1))
    for step in range(7):
        rows = plan.batch(step)
        assert (rows >= 48).sum() == 2
        pairs = [pair for pair in rows.reshape(-1, 2) if pair[0] < 48]
        assert len(pairs) == 3
        assert all(len(set(joined.columns["item"][pair])) == 1 and pair[0] != pair[1] for pair in pairs)


@pytest.mark.parametrize(("weights", "said"), [((1.0,), "1 weight for 2 shard sets"), ((1.0, 1, 1), "3 weights for 2")])
def test_weights_and_sets_must_agree(items: Path, categories: Path, weights: tuple[float, ...], said: str) -> None:
    joined = join_sets([ShardSet.open(items), ShardSet.open(categories)])
    with pytest.raises(UsageError, match=said):
        mixture_of(joined, mixture=weights)


def test_identities_in_no_set_are_refused(categories: Path, tmp_path: Path) -> None:
    other = write_label_set(tmp_path / "other", {"train": 8}, without=("item",))
    joined = join_sets([ShardSet.open(categories), ShardSet.open(other)])
    joined.columns["item"] = np.full(len(joined), "")
    with pytest.raises(UsageError, match="no item has two training images"):
        mixture_of(joined, sampler="identities")


def test_the_first_set_validates_and_every_set_holds_out(items: Path, tmp_path: Path) -> None:
    other = write_label_set(tmp_path / "other", {"train": 40}, items=20)
    sets = ShardSet.open(items), ShardSet.open(other)
    config = RunConfig(task="tiny", model={}, hold_out=0.4)
    splits = Splits(Tiny(TinyConfig(), sets[0].metadata), config, join_sets(sets))
    alone = [Splits(splits.task, config, one) for one in sets]
    assert splits.validation().tolist() == alone[0].validation().tolist()
    assert 0 < len(alone[1].validation()) < 40
    assert splits.training().tolist() == [*alone[0].training(), *(alone[1].training() + len(sets[0]))]


RETRIEVAL = [f"model.{name}={value}" for name, value in TINY.items()] + [
    "hold_out=0.4", "fit.epochs=2", "fit.batch_size=8", "fit.sampler=identities", "fit.samples_per_identity=2",
    "fit.checkpoint_every_steps=2", "fit.keep_checkpoints=9", "fit.mixture=[3, 1]",
]  # fmt: skip


def options_of(sets: tuple[Path, ...], run: Path, **changes: Any) -> TrainOptions:
    overrides = tuple(RETRIEVAL if len(sets) > 1 else RETRIEVAL[:-1])
    given = {"overrides": overrides, "workers": 0, "device": "cpu", "trackers": ("none",), **changes}
    return TrainOptions(tuple(map(str, sets)), run, **given)


def test_labels_that_get_lost_in_joining_are_refused_or_noted(
    items: Path, categories: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Category learned its other labels, without a word about the attributes that the sets contradicted each other in."""
    exclusive = {"exclusive": True}
    other = changed(
        items, tmp_path / "other", lambda metadata: metadata["vocabularies"]["attributes"].update(exclusive)
    )
    sets = str(items), str(other)
    for task in ("category", "fashionnet"):
        with pytest.raises(UsageError, match="exactly one value of attributes per group"):
            train(task, TrainOptions(sets, tmp_path / "run", overrides=("model.targets=[category, attributes]",)))
    config = resolve({"task": "category", "model": {"targets": ["category"]}}, "the test")
    assert names_to_learn(config, open_sets(sets))
    lacking = lost_in_joining(open_sets([str(items), str(categories)]), ("item", "category"))
    assert lacking == [f"nothing is learned for item: {categories} has none"]
    assert lost_in_joining(ShardSet.open(categories), ("item",)) == []
    small = (*(f"model.{name}={json.dumps(value)}" for name, value in FASHIONNET.items()), "fit.batch_size=8")
    pair = str(items), str(categories)
    train("fashionnet", TrainOptions(
        pair, tmp_path / "two", workers=0, device="cpu", trackers=("none",), limit_steps=1, overrides=small,
    ))  # fmt: skip
    assert lacking[0] in capfd.readouterr().err


def assert_same_end(run: Path, whole: Path) -> None:
    found, expected = (newest(folder / "checkpoints") for folder in (run, whole))
    assert found is not None
    assert expected is not None
    assert found[1] == expected[1]
    for file in ("model", "optimizer"):
        name = f"{file}.safetensors"
        assert (found[0] / name).read_bytes() == (expected[0] / name).read_bytes()


def test_a_resumed_run_on_two_sets_ends_with_the_same_bits(items: Path, categories: Path, tmp_path: Path) -> None:
    """Retrieval with items from one set and categories from both; the run folder records both plans."""
    sets, run = (items, categories), tmp_path / "run"
    train("retrieval", options_of(sets, tmp_path / "whole"))
    train("retrieval", options_of(sets, run, limit_steps=3))
    train("retrieval", options_of(sets, run, workers=2, resume="required"))
    assert_same_end(run, tmp_path / "whole")
    known = RunFolder(run).dataset()["sets"]
    assert [one["plan_id"] for one in known] == [ShardSet.open(one).plan_id for one in sets]
    assert RunFolder(run).load()[0].dataset["vocabularies"]["category"]["values"] == list(CATEGORIES)


@pytest.mark.slow
def test_a_killed_run_on_two_sets_ends_with_the_same_bits(
    items: Path, categories: Path, tmp_path: Path, forks: ForkServer, one_thread: None
) -> None:
    sets = items, categories
    train("retrieval", options_of(sets, tmp_path / "whole"))
    arguments = ["retrieval", *map(str, sets), "--run", str(tmp_path / "run"), "--workers", "1", "--device", "cpu"]
    arguments += ["--tracker", "none", *(part for one in RETRIEVAL for part in ("--set", one))]
    child = forks.start("cli", arguments=arguments)
    child.wait_for("step 5/")
    child.send(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    train("retrieval", options_of(sets, tmp_path / "run", workers=2, resume="required"))
    assert_same_end(tmp_path / "run", tmp_path / "whole")


def test_a_changed_or_missing_set_is_refused(items: Path, categories: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train("retrieval", options_of((items, categories), run, limit_steps=1))
    other = write_label_set(tmp_path / "other", {"train": 16}, without=("item", "shop"))
    with pytest.raises(UsageError, match="other; choose another --run"):
        train("retrieval", options_of((items, other), run, resume="required"))
    with pytest.raises(UsageError, match="was trained on 2 shard sets and gets 1"):
        train("retrieval", options_of((items,), run, resume="required"))
    swapped = options_of((categories, items), run, resume="required")
    with pytest.raises(UsageError, match="in another order"):
        train("retrieval", replace(swapped, overrides=(*swapped.overrides, "validation_split=none")))
    with pytest.raises(UsageError, match="gone: no finished shard set here"):
        train("retrieval", options_of((items, tmp_path / "gone"), run, resume="required"))


def test_the_first_set_must_be_able_to_validate(items: Path, categories: Path, tmp_path: Path) -> None:
    said = f"^{categories}: validation cannot be measured: no image has a known item; list the shard set to validate on first"
    with pytest.raises(UsageError, match=said):
        train("retrieval", options_of((categories, items), tmp_path / "run"))


def test_sets_at_a_url_are_joined(
    items: Path, categories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASHIONKIT_CACHE", str(tmp_path / "cache"))
    joined = open_sets([str(items), f"file://{categories}"])
    assert isinstance(joined, JoinedShards)
    assert joined.read(60)[0] == open_shards(str(categories)).read(12)[0]


@pytest.mark.parametrize("task", ["category", "fashionnet", "style", "keypoints"])
def test_every_task_trains_on_two_sets(task: str, items: Path, categories: Path, tmp_path: Path) -> None:
    small = {"category": TINY_CATEGORY, "fashionnet": FASHIONNET}
    model = {
        "backbone": "test_resnet" if task == "keypoints" else "test_efficientnet",
        "input_size": 64,
        **small.get(task, {}),
    }
    overrides = [f"model.{name}={json.dumps(value)}" for name, value in model.items()]
    options = TrainOptions(
        (str(categories), str(items)), tmp_path / "run", workers=0, device="cpu", trackers=("none",), limit_steps=2,
        overrides=(*overrides, "fit.batch_size=8", "hold_out=0.4"),
    )  # fmt: skip
    assert train(task, options)["step"] == 2
