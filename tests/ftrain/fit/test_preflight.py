"""Impossible runs of every task are refused before the first step, with one message and exit code 2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.shard_sets import label_sample, write_samples

from fschemas.failures import EnvironmentProblem, ExitCode, IntegrityError, UsageError
from fschemas.landmarks import DEEPFASHION_8, FASHIONAI_24, LandmarkSet, Visibility
from fschemas.shard import Sample
from fschemas.shard_set import ShardSet
from ftrain.data.config import RunConfig
from ftrain.fit.config import resolve
from ftrain.fit.preflight import check_data, check_network
from ftrain.fit.run_data import RunData
from ftrain.fit.splits import names_to_learn
from ftrain.fit.train import TrainOptions, train
from ftrain.tasks.task import Task, build_task

TINY = {"backbone": "test_efficientnet", "input_size": 64}
Change = Callable[[dict[str, Any]], None]
GROUPS = ["category", "attributes", "box", "landmarks", "item", "style"]


def vocabularies(**changed: Any) -> dict[str, Any]:
    from tests.shard_sets import LABELS

    return {name: {**LABELS[name], **changed.get(name, {})} for name in LABELS}


def label_set(
    folder: Path, change: Change | None = None, *, landmarks: LandmarkSet = DEEPFASHION_8, without: tuple[str, ...] = (),
    train: int = 12, val: int = 6, items: int = 3, **labels: Any,
) -> str:  # fmt: skip
    """Write a set with changed annotations; `change` receives all of them, with their split."""
    numbers = iter(range(1000))
    samples: dict[str, list[Sample]] = {}
    for split, count in (("train", train), ("val", val)):
        samples[split] = [label_sample(next(numbers), split, landmarks, items) for _ in range(count)]
        for sample in samples[split]:
            if change is not None:
                change(sample.annotation)
    groups = [group for group in GROUPS if group not in without]
    named = {name: value for name, value in vocabularies(**labels).items() if name in groups}
    return str(write_samples(folder, samples, landmarks if "landmarks" in groups else None, groups, named))


def preflight(task: str, place: str, model: dict[str, Any] | None = None, **rest: Any) -> list[str]:
    values = {"task": task, "model": {**TINY, **(model or {})}, "fit": {"batch_size": 4, **rest.pop("fit", {})}, **rest}
    config, shards = resolve(values, "the test"), ShardSet.open(place)
    names = names_to_learn(config, shards)
    torch.manual_seed(0)
    return checked(build_task(config, {**shards.metadata, "names": names}), config, shards)


def checked(task: Task, config: RunConfig, shards: ShardSet) -> list[str]:
    data = RunData(task, config, shards, 0, 1)
    notes = check_data(config, data)
    check_network(config, data, torch.device("cpu"))
    return notes


def unlabeled(split: str, *names: str) -> Change:
    """No category, item or style, no attributes, no visible landmark in a split."""

    def change(note: dict[str, Any]) -> None:
        if note["split"] != split:
            return
        for name in names:
            note[name] = ""
        if not names or "attributes" in names:
            note["attributes_positive"] = []
        if not names or "landmarks" in names:
            note["landmark_visibility"] = [Visibility.ABSENT.value] * len(note["landmark_visibility"])

    return change


def everything(split: str) -> Change:
    return unlabeled(split, "category", "item", "style", "attributes", "landmarks")


def one_of_each(split: str) -> Change:
    """Give every image its own item."""

    def change(note: dict[str, Any]) -> None:
        if note["split"] == split:
            note["item"] = note["key"]

    return change


def alike(note: dict[str, Any]) -> None:
    """Give every image the same category, style, item and attribute."""
    note |= {
        "category": "Jeans",
        "style": "casual",
        "item": "one",
        "attributes_positive": [0],
        "attributes_unknown": [],
    }


ITEMS = {"classify": "none", "embedding_dim": 32}
STYLE = {"embedding_dim": 32, "attribute_dim": 16}
NO_BOX = {"without": ("box",)}

# task, its model, change of the annotations, arguments of the set, expected words
IMPOSSIBLE: dict[str, tuple[str, dict[str, Any], Change | None, dict[str, Any], str]] = {
    "keypoints: nothing visible to validate": ("keypoints", {}, unlabeled("val", "landmarks"), {}, "visible landmark"),
    "keypoints: no normalizing distance": (
        "keypoints", {}, unlabeled("val", "landmarks"), {"landmarks": FASHIONAI_24}, "visible landmark",
    ),
    "keypoints: nothing located to learn": ("keypoints", {}, unlabeled("train", "landmarks"), {}, "landmark with coordinates"),
    "category: no label to validate": ("category", {}, everything("val"), NO_BOX, "no image has a label"),
    "category: one class": ("category", {"targets": ["category"]}, alike, NO_BOX, "have the category 'Jeans'"),
    "category: no attribute": (
        "category", {"targets": ["attributes"]}, unlabeled("train", "attributes"), NO_BOX, "for attributes: no training image has one",
    ),
    "category: no names": (
        "category", {"targets": ["category"]}, None, {**NO_BOX, "category": {"values": []}}, "needs category",
    ),
    "fashionnet: nothing to validate": ("fashionnet", {}, everything("val"), {}, "visible landmark or a label"),
    "fashionnet: nothing to learn": ("fashionnet", {}, everything("train"), {}, "landmark with coordinates, and there are no labels"),
    "retrieval: no pairs to validate": ("retrieval", ITEMS, one_of_each("val"), {}, "every item has only one image"),
    "retrieval: no pairs to learn": ("retrieval", ITEMS, one_of_each("train"), {}, "no item has two training images"),
    "retrieval: one item": ("retrieval", ITEMS, alike, {}, "have the item 'one'"),
    "retrieval: one category": ("retrieval", {"triplet_loss_weight": 0.0, "embedding_dim": 32}, alike, {}, "have the category 'Jeans'"),
    "retrieval: no item at all": ("retrieval", ITEMS, unlabeled("train", "item"), {}, "has a known item"),
    "retrieval: no names": ("retrieval", {"embedding_dim": 32}, None, {"category": {"values": []}}, "has no categories"),
    "style: no style to validate": ("style", STYLE, unlabeled("val", "style"), {}, "has a style"),
    "style: one style": ("style", STYLE, alike, {}, "have one style at most"),
    "style: one name": ("style", STYLE, None, {"style": {"values": ["casual"]}}, "no styles, or one only"),
    "style: attributes without pairs": (
        "style", {**STYLE, "target": "attributes"}, unlabeled("val", "attributes"), {}, "share a value of an attribute",
    ),
    "style: one value": ("style", {**STYLE, "target": "attributes"}, alike, {}, "one value of each attribute at most"),
}  # fmt: skip


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_data_that_teach_or_measure_nothing_are_refused(name: str, tmp_path: Path) -> None:
    task, model, change, written, words = IMPOSSIBLE[name]
    if name == "style: one name":
        change = lambda note: note.update(style="casual")  # noqa: E731
    place = label_set(tmp_path / "set", change, **written)
    with pytest.raises(UsageError, match=words) as refusal:
        preflight(task, place, model)
    assert refusal.value.exit_code == ExitCode.USAGE
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("task", "model"),
    [
        ("keypoints", {}),
        ("category", {}),
        ("fashionnet", {}),
        ("retrieval", ITEMS),
        ("style", STYLE),
        ("style", {**STYLE, "target": "attributes"}),
    ],
)
def test_without_validation_nothing_has_to_be_measured(task: str, model: dict[str, Any], tmp_path: Path) -> None:
    place = label_set(tmp_path / "set", everything("val"), without=("box",))  # category could evaluate boxes
    with pytest.raises(UsageError):
        preflight(task, place, model)
    assert preflight(task, place, model, validation_split="none") == []


def test_what_a_part_of_the_run_cannot_learn_is_noted(tmp_path: Path) -> None:
    single = label_set(tmp_path / "single", one_of_each("train"))
    assert [note.partition(":")[0] for note in preflight("retrieval", single, {"embedding_dim": 32})] == [
        "model.triplet_loss_weight"
    ]
    assert preflight("fashionnet", single) == ["nothing is learned for embedding: no item has two training images"]
    same = label_set(tmp_path / "same", alike)
    assert preflight("category", same, {"targets": ["category"]})[0].startswith(
        "nothing is learned for category: all training"
    )


SMALL = {"model": {"backbone": "resnet18", "input_size": 32}}
NETWORKS: dict[str, tuple[str, dict[str, Any], str]] = {
    "one image": ("category", {"model": {"backbone": "resnet18", "input_size": 32}, "fit": {"batch_size": 1}}, "batch normalization one value"),
    "parts of one image": (
        "retrieval", {"model": {**TINY, **ITEMS, "bn_neck": True}, "fit": {"micro_batches": 4}}, "lower fit.micro_batches",
    ),
    "one image after thawing": (
        "category",
        {
            "model": {"backbone": "resnet18", "input_size": 32},
            "fit": {"batch_size": 1, "stages": [{"until": 0.5, "freeze": ["network.backbone"]}, {}]},
        },
        "batch normalization one value",
    ),
    "unknown backbone": ("category", {"model": {"backbone": "resnet19", "input_size": 64}}, "timm has no backbone 'resnet19'; did you mean resnet1"),
    "no such strides": ("keypoints", {"model": {"backbone": "efficientvit_m0", "input_size": 64}}, r"strides \[16, 32, 64\], none at \[4, 8\]"),
    "a size between patches": (
        "retrieval", {"model": {"backbone": "vit_small_patch14_dinov2", "input_size": 96, **ITEMS}}, "not a multiple of the 14 pixels.* choose 224",
    ),
    "stages that are no chain": (
        "fashionnet", {"model": {"backbone": "selecsls42", "input_size": 64}}, r"'selecsls42' cannot take images of 64 x 64 pixels",
    ),
    "a fixed size": (
        "retrieval", {"model": {"backbone": "efficientformer_l1", "input_size": 64, **ITEMS}}, r"cannot take images of 64 x 64 pixels",
    ),
    "no such loss": ("category", {"fit": {"stages": [{"loss_weights": {"triplets": 2}}]}}, "the task has no loss 'triplets'"),
    "no such parameter": ("category", {"fit": {"stages": [{"freeze": ["backbon"]}]}}, "no parameter's name starts with 'backbon'"),
    "nothing thawed": ("category", {"fit": {"stages": [{"until": 0.5}, {"freeze": [""]}]}}, "leaves nothing to train"),
    "a batch that is no number of parts": ("category", {"fit": {"micro_batches": 3}}, r"cannot be divided into 3 micro-batches on 1 process; use fit\.batch_size="),
    "more than there is": ("category", {"fit": {"batch_size": 64}}, "fewer than fit.batch_size=64"),
    "weights that are not there": ("category", {"model": {**TINY, "weights": "nowhere.pt"}}, "nowhere.pt: no such weight file"),
}  # fmt: skip


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> str:
    return label_set(tmp_path_factory.mktemp("labels") / "set")


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_and_settings_that_do_not_fit_are_refused(name: str, labels: str) -> None:
    task, settings, words = NETWORKS[name]
    with pytest.raises(UsageError, match=words):
        preflight(task, labels, **settings)


def test_a_batch_of_one_passes_where_statistics_have_more_than_one_value(labels: str) -> None:
    assert preflight("category", labels, fit={"batch_size": 1}) == []


def test_splits_that_share_images_or_leave_none_are_refused(tmp_path: Path) -> None:
    place = label_set(tmp_path / "set")
    with pytest.raises(UsageError, match="validation_split=train has images of train_split=train"):
        preflight("category", place, validation_split="train")
    with pytest.raises(UsageError, match=r"hold_out=0\.999 leaves no group to train on; decrease it"):
        preflight("category", place, validation_split="holdout", hold_out=0.999)


SILENT = "of the anchors of the triplet loss have a positive in their batch"


@pytest.mark.parametrize(
    ("task", "model", "fit", "silent"),
    [
        ("retrieval", {"classify": "none"}, {}, True),  # 2 of 40 items have two images, and batches have 4
        ("retrieval", {"classify": "none"}, {"sampler": "identities", "samples_per_identity": 2}, False),
        ("retrieval", {"triplet_loss_weight": 0, "classify": "category"}, {}, False),
        ("fashionnet", {}, {}, True),
        ("fashionnet", {"targets": ["category"]}, {}, False),
        ("style", {}, {}, False),  # three styles
        ("style", {"target": "attributes"}, {}, False),
    ],
)  # fmt: skip
def test_a_triplet_loss_without_positives_is_noted(
    tmp_path: Path, task: str, model: dict[str, Any], fit: dict[str, Any], silent: bool
) -> None:
    """FashionNet's published profile compared random images: 1.3% of them had a positive in their batch."""
    place = label_set(tmp_path / "set", train=42, items=40, val=42)
    notes = [note for note in preflight(task, place, model, fit=fit) if SILENT in note]
    assert len(notes) == silent
    if silent:
        assert "use fit.sampler=identities" in notes[0]


def test_what_auto_chose_is_noted(tmp_path: Path) -> None:
    fit = {"sampler": "auto", "samples_per_identity": 2}
    few = label_set(tmp_path / "few", train=20, items=16, val=32)
    assert "fit.sampler=auto: 8 of 20 training images in groups of 2 per item" in preflight("fashionnet", few, fit=fit)
    none = label_set(tmp_path / "none", without=("item",))
    shuffled = "fit.sampler=auto: no item has two training images, so the order is shuffled"
    assert shuffled in preflight("fashionnet", none, fit=fit)


def test_weights_of_another_network_are_refused(labels: str, tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match="use the weights of the same timm backbone"):
        preflight("category", labels, {"weights": str(tmp_path / "other.safetensors")})


def test_a_compiler_that_does_not_work_is_reported_before_the_first_step(
    labels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor.exc import InvalidCxxCompiler

    def refuse(*_: Any, **__: Any) -> Any:
        raise InvalidCxxCompiler

    monkeypatch.setattr(torch, "compile", lambda task, **_: refuse)
    with pytest.raises(
        EnvironmentProblem, match=r"torch\.compile does not work here \(InvalidCxxCompiler: .*without --compile"
    ):
        preflight("category", labels, fit={"compile": True})


@pytest.mark.parametrize("task", ["keypoints", "category", "fashionnet", "retrieval", "style"])
def test_a_rehearsal_changes_nothing(task: str, labels: str) -> None:
    """Weights, statistics and random state are unchanged, so that a run has the same bits with or without it."""
    model = STYLE | {"local_backbone": "test_efficientnet", "local_input_size": 32} if task == "style" else {}
    config = resolve({"task": task, "model": {**TINY, **model}, "fit": {"batch_size": 4}}, "the test")
    shards = ShardSet.open(labels)
    torch.manual_seed(0)
    built = build_task(config, {**shards.metadata, "names": names_to_learn(config, shards)}).train()
    before = {name: value.clone() for name, value in built.state_dict().items()}
    flags = (
        [(module.training) for module in built.modules()],
        [parameter.requires_grad for parameter in built.parameters()],
    )
    random = torch.get_rng_state()
    checked(built, config, shards)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in built.state_dict().items())
    assert flags == ([module.training for module in built.modules()], [p.requires_grad for p in built.parameters()])
    assert all(parameter.grad is None for parameter in built.parameters())


ALL = ("category", "fashionnet", "keypoints", "retrieval", "style")
# Annotations that fashionkit never writes, with correct digests, and the tasks that read the invalid entry.
WRONG: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "a size that is a word": ({"width": "x"}, ALL),
    "no size": ({"height": None}, ("category", "fashionnet", "retrieval", "style")),
    "attributes that are a word": ({"attributes_positive": "abc"}, ("category", "fashionnet")),
    "an attribute beyond the last": ({"attributes_positive": [999]}, ("category", "fashionnet")),
    "an attribute below the first": ({"attributes_positive": [-2]}, ("category", "fashionnet")),
    "too few points": ({"landmark_x": [1.0]}, ("fashionnet", "keypoints")),
    "points without coordinates": ({"landmark_x": None}, ("fashionnet", "keypoints")),
    "a visibility that is none": ({"landmark_visibility": [*[2] * 7, 99]}, ("fashionnet", "keypoints")),
    "a category that is none": ({"category": "Spaceship"}, ("category", "fashionnet")),
    "a category that is a list": ({"category": []}, ("category", "fashionnet")),
    "a box of two edges": ({"box": [1, 2]}, ("category",)),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_an_annotation_that_cannot_be_used_is_damage_of_the_set(tmp_path: Path, wrong: str) -> None:
    changed, whose = WRONG[wrong]
    place = label_set(tmp_path / "set", lambda note: note.update(changed))
    for task in whose:
        with pytest.raises(
            IntegrityError, match=r"(sample s\d+|an annotation) cannot be used .*; run `fprep lint` on the set"
        ):
            preflight(task, place)


def test_a_refused_command_changes_no_run(labels: str, tmp_path: Path) -> None:
    """No old run is moved aside, and no new one is created."""
    chosen = ("model.backbone=resnet18", "model.input_size=32", "fit.batch_size=1")
    options = TrainOptions(labels, tmp_path / "run", overrides=chosen, workers=0, device="cpu", trackers=("none",))
    with pytest.raises(UsageError, match="batch normalization"):
        train("category", options)
    assert not any((tmp_path / "run").iterdir())


def test_weights_to_start_from_are_read_before_a_run_begins(labels: str, tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"no weights")
    options = TrainOptions(
        labels, tmp_path / "run", overrides=("model.backbone=test_efficientnet", "model.input_size=32", "fit.batch_size=4"),
        init_from=tmp_path / "weights.safetensors", workers=0, device="cpu", trackers=("none",),
    )  # fmt: skip
    with pytest.raises(UsageError, match="not a safetensors file"):
        train("category", options)
    assert not any((tmp_path / "run").iterdir())


def test_the_rehearsed_sample_is_a_row_of_training(labels: str) -> None:
    shards = ShardSet.open(labels)
    from ftrain.fit.preflight import example_batch

    config = resolve({"task": "category", "model": TINY, "fit": {}}, "the test")
    batch = example_batch(build_task(config, shards.metadata), shards, 1, 3)
    assert batch["image"].shape == (3, 64, 64, 3)
    assert np.array_equal(batch["row"].numpy(), [1, 1, 1])
