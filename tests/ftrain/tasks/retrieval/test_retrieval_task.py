"""The retrieval task: identities and roles, losses, embeddings, splits, and bugs of the original system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.ftrain.retrieval_runs import TINY, batch_of, task_of, trainer_of, write_run
from tests.ftrain.tiny_task import ALONE
from tests.shard_sets import write_label_set

from fschemas.failures import UsageError
from fschemas.shard_set import ShardSet
from ftrain.data.config import FitConfig
from ftrain.data.image import decode_exactly
from ftrain.data.plan import TrainingPlan
from ftrain.data.search_roles import BOTH, GALLERY, QUERY
from ftrain.data.stream import RawSample
from ftrain.data.view import item_number
from ftrain.fit.evaluation import results_of_split
from ftrain.fit.splits import sampler_of
from ftrain.layers.metric_learning import ProxyAnchor
from ftrain.tasks.retrieval.config import RetrievalConfig
from ftrain.tasks.retrieval.task import Retrieval
from ftrain.tasks.task import task_function
from ftrain.use.evaluate import evaluate_run


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """Six items, each in training, query and gallery: search results depend on the roles only."""
    counts = {"train": 24, "query": 12, "gallery": 18}
    return ShardSet.open(write_label_set(tmp_path_factory.mktemp("set") / "set", counts, items=6))


def results_of(embedding: Any, identity: Any, role: Any) -> dict[str, np.ndarray]:
    return {
        "embedding": np.array(embedding, np.float32), "identity": np.array(identity), "role": np.array(role),
        "row": np.arange(len(identity)),
    }  # fmt: skip


def test_the_published_network_has_the_parameters_of_its_description() -> None:
    """24,567,380: ResNet-50 without classifier, 2048 -> 512, 512 -> 20 (1024 -> 512 in the README of the original)."""
    values = [f"category {number}" for number in range(20)]
    dataset = {"vocabularies": {"category": {"values": values}}}
    task = Retrieval(RetrievalConfig(backbone="resnet50"), dataset)
    assert sum(parameter.numel() for parameter in task.parameters()) == 24_567_380


def test_all_categories_are_classes_and_learn() -> None:
    """The original keeps 20 of the 50 categories."""
    values = [f"category {number}" for number in range(50)]
    task = Retrieval(RetrievalConfig(**TINY, identity="category"), {"vocabularies": {"category": {"values": values}}})
    assert task.classifier is not None
    assert task.encoder.categories["category 49"] == 49
    image = torch.randint(0, 255, (4, 32, 32, 3), dtype=torch.uint8)
    labels = torch.tensor([49, 49, 21, 33])
    task({"image": image, "category": labels, "identity": labels, "item_class": labels})["loss"].backward()
    assert task.classifier.weight.grad is not None
    assert task.classifier.weight.grad[[21, 33, 49]].abs().sum(dim=1).min() > 1e-3


@pytest.mark.parametrize("labels", ["item", "category"])
def test_every_image_is_an_anchor_with_partners(shards: ShardSet, labels: str) -> None:
    """The original's category triplets keep one anchor forever, and its loaders never reshuffle."""
    task = task_of(shards, identity=labels)
    fit = FitConfig(batch_size=8, sampler="identities", samples_per_identity=2)
    sampler, rows = sampler_of(task, fit, shards, shards.rows("train"))
    plan = TrainingPlan(rows, fit.batch_size, 0, sampler)
    epochs = [[plan.batch(epoch * plan.steps_per_epoch + step) for step in range(3)] for epoch in range(2)]
    for batch in epochs[0]:
        identity = batch_of(task, shards, batch.tolist())["identity"]
        same = identity[:, None] == identity[None, :]
        assert (same.sum(dim=1) >= 2).all()
        assert (~same).any(dim=1).all()
    assert set(np.concatenate(epochs[0])) == set(rows)
    assert not np.array_equal(np.concatenate(epochs[0]), np.concatenate(epochs[1]))


def test_training_goes_on_in_training_mode_after_validation(shards: ShardSet, tmp_path: Path) -> None:
    """The original stays in evaluation mode after its first test."""
    trainer = trainer_of(
        shards,
        tmp_path / "run",
        epochs=4,
        validate_every_epochs=0.5,
        stages=[{"until": 0.5, "freeze": ["backbone."]}, {}],
    )
    modes: list[tuple[bool, bool]] = []
    trainer.task.register_forward_pre_hook(
        lambda module, _: modes.append((module.training, any(norm.training for norm in norms(module))))
    )
    trainer.train()
    assert trainer.num_steps == len(modes) >= 4
    assert {training for training, _ in modes} == {True}
    frozen = len(modes) // 2
    assert [moving for _, moving in modes] == [False] * frozen + [True] * (len(modes) - frozen)


def norms(task: Any) -> list[torch.nn.Module]:
    return [module for module in task.backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)]


def test_metrics_do_not_depend_on_the_size_of_batches(shards: ShardSet) -> None:
    """The original divides the hits of 32 batches by 30, and those of the last, incomplete batch by a full one."""
    task = task_of(shards)
    rows = np.concatenate([shards.rows("query"), shards.rows("gallery")])
    metrics = [
        task_function(task, "compute_metrics")(task, results_of_split(task, shards, rows, ALONE, size, 0))
        for size in (7, 30)
    ]
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-6)
    assert (metrics[0]["queries"], metrics[0]["gallery"], metrics[0]["queries_without_match"]) == (12, 18, 0)


def test_a_query_is_not_found_by_queries_nor_by_itself() -> None:
    """The original merges query and gallery, and counts the query among its own hits."""
    task = Retrieval(RetrievalConfig(**TINY, classify="none"), {"vocabularies": {}})
    east, north = [1.0, 0.0], [0.0, 1.0]
    roles = [QUERY, QUERY, GALLERY, GALLERY]
    metrics = task_function(task, "compute_metrics")(task, results_of([east, east, north, east], [1, 1, 1, 2], roles))
    assert (metrics["hit_1"], metrics["recall_5"], metrics["queries"], metrics["gallery"]) == (0.0, 1.0, 2, 2)
    alone = task_function(task, "compute_metrics")(
        task, results_of([east, north, east], [1, 1, 2], [BOTH] * 3)
    )  # each is a query, with the others as gallery
    assert (alone["hit_1"], alone["queries_without_match"]) == (0.0, 1)
    with pytest.raises(UsageError, match="every item has only one validation image"):
        task_function(task, "compute_metrics")(task, results_of([east, north], [1, 2], [BOTH] * 2))


@pytest.mark.parametrize("neck", [False, True])
@pytest.mark.parametrize("flip", [False, True])
def test_embeddings_have_length_one_whatever_the_image(shards: ShardSet, neck: bool, flip: bool) -> None:
    """The original adds distances of unnormalized embeddings to distances of colors."""
    task = task_of(shards, bn_neck=neck, tta={"flip": flip}).eval()
    baseline = task.untrained().eval()
    batch = batch_of(task, shards, [0, 1, 2])
    batch["image"][0] = 0
    batch["image"][1] = 255
    for model, dim in ((task, 16), (baseline, task.backbone.widths[-1])):
        found = model.predict(batch)
        assert found["embedding"].shape == (3, dim)
        torch.testing.assert_close(found["embedding"].norm(dim=1), torch.ones(3))
        torch.testing.assert_close(found["color"].norm(dim=1), torch.ones(3))
    assert "class_scores" not in baseline.predict(batch)
    if flip:
        flipped = {**batch, "image": batch["image"].flip(2)}
        torch.testing.assert_close(task.predict(batch)["embedding"], task.predict(flipped)["embedding"])


def test_the_neck_and_its_classifier_have_no_bias(shards: ShardSet) -> None:
    """Luo et al., CVPRW 2019, section 3.6; a bias shifts the hyperplanes away from the origin of the cosine."""
    task = task_of(shards, bn_neck=True)
    assert [name for name, _ in task.named_parameters() if name.startswith(("neck", "classifier"))] == [
        "neck.weight", "classifier.weight",
    ]  # fmt: skip
    torch.nn.SyncBatchNorm.convert_sync_batchnorm(task)
    assert task.neck.bias is None
    assert task_of(shards, bn_neck=False).classifier.bias is not None  # type: ignore[union-attr]


def test_colors_of_a_batch_are_those_of_the_images_without_padding(shards: ShardSet) -> None:
    task = task_of(shards).eval()
    red = np.full((20, 60, 3), (200, 30, 40), np.uint8)
    inputs = [task.encode_image(image) for image in (red, red.transpose(1, 0, 2), red[:, :20])]
    batch = {name: torch.from_numpy(np.stack([one[name] for one in inputs])) for name in inputs[0]}
    colors = task.predict(batch)["color"]
    torch.testing.assert_close(colors, colors[2].expand(3, -1))
    image, annotation = shards.read(0)
    sample = task.encoder(RawSample(0, image, annotation), None)
    assert sample["region"].tolist() == task.encode_image(decode_exactly(image))["region"].tolist()


def test_validation_is_plain_and_has_no_colors(shards: ShardSet, tmp_path: Path, monkeypatch: Any) -> None:
    """Only the selecting metric is computed, under the run's autocast; test-time augmentation is for `evaluate`."""
    trainer = trainer_of(shards, tmp_path / "run", epochs=1, amp="bf16", ema_decay=0.9)
    for module in trainer._modules():
        getattr(module, "module", module).config = task_of(shards, tta={"flip": True}).config
    seen: list[tuple[bool, bool, set[str]]] = []
    validate = Retrieval.validate

    def recorded(self: Retrieval, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        found = validate(self, batch)
        seen.append((self.views.flip, torch.is_autocast_enabled("cpu"), set(found)))
        return found

    monkeypatch.setattr(Retrieval, "validate", recorded)
    trainer.train()
    assert seen
    for flips, lower_precision, names in seen:
        assert (flips, lower_precision, "color" in names) == (False, True, False)
    assert {"embedding", "identity"} <= seen[0][2]
    assert trainer.ema is not None
    assert trainer.ema.module.views.flip


def test_the_baseline_is_the_same_each_time_and_leaves_chance_alone(shards: ShardSet) -> None:
    task = task_of(shards)
    batch = batch_of(task, shards, [0, 1])
    before = torch.get_rng_state()
    one, two = (task.untrained().eval().predict(batch)["embedding"] for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(before, torch.get_rng_state())


def test_items_categories_and_roles_of_samples(shards: ShardSet) -> None:
    task = task_of(shards, classify="item")
    rows = [int(shards.rows(split)[0]) for split in ("train", "query", "gallery")]
    batch = batch_of(task, shards, rows)
    assert batch["role"].tolist() == [BOTH, QUERY, GALLERY]
    items = shards.columns["item"][rows].tolist()
    assert batch["identity"].tolist() == [item_number(item) for item in items]
    assert batch["item_class"].tolist() == [sorted(set(shards.columns["item"].tolist())).index(item) for item in items]
    image, note = shards.read(rows[0])
    unknown = task.encoder(RawSample(0, image, {**note, "item": "", "category": ""}), None)
    assert [int(unknown[name]) for name in ("identity", "item_class", "category")] == [-1, -1, -1]
    new = task.encoder(RawSample(0, image, {**note, "item": "never seen"}), None)
    assert int(new["item_class"]) == -1
    assert int(new["identity"]) == item_number("never seen") > 0


def test_unknown_labels_are_in_no_loss(shards: ShardSet) -> None:
    task = task_of(
        shards, classify="item", proxy_loss_weight=1.0, label_smoothing=0.1, cosine_scale=16.0, bn_neck=False
    ).eval()
    rows = shards.rows("train")[:8].tolist()
    batch = batch_of(task, shards, rows)
    expected = task(batch)
    assert set(expected) == {"loss", "classification", "triplet", "proxy"}
    more = {name: torch.cat([values, values[:3]]) for name, values in batch.items()}
    for name in ("identity", "item_class", "category"):
        more[name][8:] = -1
    for name, value in task(more).items():
        torch.testing.assert_close(value, expected[name], msg=lambda text, name=name: f"{name}: {text}")
    for name in ("identity", "item_class", "category"):
        more[name][:] = -1
    nothing = task(more)
    assert (float(nothing["classification"].detach()), float(nothing["triplet"].detach())) == (0.0, 0.0)
    nothing["loss"].backward()


@pytest.mark.parametrize("off", [{"classify": "none"}, {"classification_loss_weight": 0.0}])
def test_losses_of_weight_zero_have_no_parameters(shards: ShardSet, off: dict[str, Any]) -> None:
    """An untrained classifier would also name categories at random."""
    task = task_of(shards, **off, triplet_loss_weight=1.0)
    assert [name for name, _ in task.named_parameters() if not name.startswith("backbone.")] == [
        "embed.weight",
        "embed.bias",
    ]
    proxies = task_of(shards, classify="none", triplet_loss_weight=0.0, proxy_loss_weight=1.0)
    assert isinstance(proxies.proxies, ProxyAnchor)
    assert proxies.proxies.proxies.shape == (6, 16)
    assert set(proxies(batch_of(proxies, shards, [0, 1]))) == {"loss", "proxy"}


@pytest.mark.parametrize(
    ("split", "known", "expected"),
    [
        ("test", ["train", "query", "gallery"], ("query", "gallery")),
        ("test", ["train", "test"], ("test",)),
        ("val", ["train", "val_query", "val_gallery"], ("val_query", "val_gallery")),
        ("val", ["train", "query", "gallery"], ("val",)),
        ("query", ["train", "query", "gallery"], ("query",)),
        ("test+train", ["train", "test"], ("test", "train")),
    ],
)
def test_names_of_splits(split: str, known: list[str], expected: tuple[str, ...]) -> None:
    assert Retrieval.splits_of(split, known) == expected


def test_nothing_is_named_below_the_least_score(shards: ShardSet) -> None:
    task = task_of(shards, score_threshold=0.6).eval()
    embedding = np.ones((2, 16), np.float32) / 4
    results = {
        "class_scores": np.array([[0.1, 0.7, 0.1, 0.1], [0.4, 0.2, 0.2, 0.2]], np.float32),
        "embedding": embedding,
    }
    sure, unsure = (task_function(task, "describe")(task, results, number) for number in range(2))
    assert (sure["category"], sure["category_score"], sure["least_score"]) == ("Jeans", 0.7, 0.6)
    assert (unsure["category"], unsure["category_score"], unsure["recognized"], sure["recognized"]) == (
        None,
        0.4,
        False,
        True,
    )
    assert sure["embedding"] == [0.25] * 16
    image = np.full((90, 120, 3), 200, np.uint8)
    assert not np.array_equal(
        task_function(task, "draw")(task, image, sure), task_function(task, "draw")(task, image, unsure)
    )
    silent = task_of(shards, classify="none")
    assert list(task_function(silent, "describe")(silent, {"embedding": embedding}, 0)) == ["embedding"]
    assert (
        task_function(silent, "draw")(
            silent, image, task_function(silent, "describe")(silent, {"embedding": embedding}, 0)
        )
        is image
    )


def test_the_graph_that_is_exported_gives_embeddings(shards: ShardSet) -> None:
    task = task_of(shards).eval()

    class Predicts(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.task = task

        def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
            return self.task.predict({"image": image})

    image = batch_of(task, shards, [0, 1])["image"]
    with torch.no_grad():
        exported = torch.export.export(Predicts(), (image,)).module()
        found, expected = exported(image), task.predict({"image": image})
    assert set(found) == {"embedding", "attention", "class_scores"}
    assert "color" in expected
    torch.testing.assert_close(found["embedding"], expected["embedding"])


def test_a_set_that_nothing_can_be_found_in_is_refused_before_its_images_are_seen(tmp_path, shards, monkeypatch):
    run = write_run(tmp_path / "run", shards)
    monkeypatch.setattr(
        "ftrain.use.evaluate.predict_batches", lambda *_, **__: pytest.fail("images went through the network first")
    )
    nothing = write_label_set(tmp_path / "no items", {"test": 4}, without=("item",))
    with pytest.raises(UsageError, match="the split 'test' cannot be evaluated: no image has a known item"):
        evaluate_run(run, str(nothing), tmp_path / "out", workers=0, device="cpu")
