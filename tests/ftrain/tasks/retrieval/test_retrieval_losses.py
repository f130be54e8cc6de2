"""Losses of retrieval beyond triplets: angular margin and sub-centers, cross-batch memory, nested dimensions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.ftrain.retrieval_runs import batch_of, config_of, task_of, trainer_of, write_run
from tests.shard_sets import write_label_set

from fschemas.failures import UsageError
from fschemas.shard_set import ShardSet
from ftrain.fit import checkpoint
from ftrain.search.build import build_index
from ftrain.search.index_file import IndexFolder
from ftrain.search.query import query_index
from ftrain.tasks.retrieval.memory import CrossBatchMemory, contrastive_loss
from ftrain.use.evaluate import evaluate_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_label_set(tmp_path_factory.mktemp("set") / "set", {"train": 24, "query": 6, "gallery": 12}, items=6)


@pytest.fixture(scope="module")
def shards(folder: Path) -> ShardSet:
    return ShardSet.open(folder)


ONLY_CLASSES = {"classify": "item", "triplet_loss_weight": 0.0, "cosine_scale": 16.0}


def test_the_margin_and_subcenters_are_those_of_arcface(shards: ShardSet) -> None:
    """Compared with pytorch-metric-learning: the same class directions, scale and margin."""
    from pytorch_metric_learning.losses import ArcFaceLoss, SubCenterArcFaceLoss

    for subcenters in (1, 3):
        task = task_of(shards, **ONLY_CLASSES, cosine_margin=0.5, subcenters=subcenters)
        assert task.classifier is not None
        options: dict[str, Any] = {"num_classes": 6, "embedding_size": 16, "margin": math.degrees(0.5), "scale": 16}
        theirs = ArcFaceLoss(**options) if subcenters == 1 else SubCenterArcFaceLoss(**options, sub_centers=subcenters)
        theirs.W.data = task.classifier.weight.data.T
        features, labels = torch.randn(12, 16), torch.arange(12) % 6
        torch.testing.assert_close(
            task._cross_entropy(features, labels), theirs(features, labels), rtol=1e-4, atol=1e-4
        )
        plain = task._logits(features)
        assert (task._logits(features, labels) <= plain + 1e-5).all()


def test_the_memory_holds_the_last_images() -> None:
    memory = CrossBatchMemory(5, 2)
    first, second = torch.tensor([[3.0, 0.0], [0.0, 2.0]]), torch.tensor([[-1.0, 0.0], [0.0, -1.0]])
    _, labels = memory.exchange(first, torch.tensor([7, 8]), torch.tensor([0, 1]))
    assert labels.tolist() == [-1] * 5
    embedding, labels = memory.exchange(second, torch.tensor([9, 7]), torch.tensor([2, 3]))
    assert labels.tolist() == [7, 8, -1, -1, -1]
    torch.testing.assert_close(embedding[:2], F.normalize(first, dim=1))
    embedding, labels = memory.exchange(first, torch.tensor([1, 2]), torch.tensor([4, 5]))  # overwrites the oldest
    assert labels.tolist() == [-1, 8, 9, 7, -1]
    assert memory.labels.tolist() == [2, 8, 9, 7, 1]


def test_micro_batches_of_a_step_see_the_same_memory_and_fill_it_once() -> None:
    memory, embedding = CrossBatchMemory(8, 2), torch.randn(3, 2)
    memory.exchange(embedding, torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6]))
    found = [memory.exchange(-embedding, torch.tensor([4, 5, 6]), torch.tensor([7, 8, 9])) for _ in range(3)]
    assert all(torch.equal(labels, found[0][1]) for _, labels in found)
    assert int(memory.next) == 6
    assert found[0][1].tolist() == [1, 2, 3, -1, -1, -1, -1, -1]


@pytest.mark.parametrize("size", [2, 3])
def test_a_batch_that_fills_the_memory_is_refused(size: int) -> None:
    """Nothing would ever be compared."""
    with pytest.raises(UsageError, match=f"model.memory_size={size} leaves no earlier image beside a batch of 3"):
        CrossBatchMemory(size, 2).exchange(torch.ones(3, 2), torch.tensor([1, 2, 3]), torch.tensor([0, 1, 2]))


def test_the_contrastive_loss_by_hand() -> None:
    anchors, others = (
        torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
        torch.tensor([[0.6, 0.8], [1.0, 0.0], [0.0, 1.0], [0.8, 0.6]]),
    )
    labels, theirs = torch.tensor([1, 2]), torch.tensor([1, 2, -1, 3])
    # anchor 1: 1 - .6, negatives 1 and .8; anchor 2: 1 - 0, negatives .8 and .6
    expected = torch.tensor((0.4 + 1.0 + 0.8 + 1.0 + 0.8 + 0.6) / 2)
    torch.testing.assert_close(contrastive_loss(anchors, labels, others, theirs), expected)
    assert contrastive_loss(anchors, torch.tensor([-1, -1]), others, theirs) == 0


def with_memory(shards: ShardSet, run: Path, **fit: Any) -> dict[str, torch.Tensor]:
    trainer_of(shards, run, {"memory_size": 12}, checkpoint_every_steps=2, **fit).train()
    found = checkpoint.newest(run / "checkpoints")
    assert found is not None
    return checkpoint.load_tensors(found[0], "model")


def test_checkpoints_hold_the_memory_and_a_resumed_run_is_exact(shards: ShardSet, tmp_path: Path) -> None:
    whole = with_memory(shards, tmp_path / "whole", epochs=2)
    with_memory(shards, tmp_path / "run", epochs=2, limit_steps=2)
    resumed = with_memory(shards, tmp_path / "run", epochs=2)
    assert (whole["memory.rows"] >= 0).all()
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


def test_micro_batches_train_the_same_with_a_memory(shards: ShardSet, tmp_path: Path) -> None:
    whole, parts = (with_memory(shards, tmp_path / str(number), micro_batches=number, epochs=1) for number in (1, 2))
    assert torch.equal(whole["memory.rows"], parts["memory.rows"])
    assert torch.equal(whole["memory.labels"], parts["memory.labels"])


def test_nested_dimensions_are_embeddings_of_their_own(shards: ShardSet) -> None:
    """The loss of two nested dimensions is the mean of the losses of the cut embeddings."""
    settings: dict[str, Any] = {"classify": "item", "bn_neck": True, "proxy_loss_weight": 1.0, "memory_size": 9}
    batch = {**batch_of(task_of(shards), shards, list(range(8))), "row": torch.arange(8)}
    task = task_of(shards, nested_dims=[4, 8], **settings).train()
    found = task({**batch, "item_class": batch["identity"] % 6})
    features = task.embed(task.pool(task.backbone(batch["image"])[-1]))
    labels = {"identity": batch["identity"], "category": batch["category"], "item_class": batch["identity"] % 6}
    empty = (torch.zeros(9, 16), torch.full((9,), -1))
    neck = task.neck(features)
    each = [task._parts(features[:, :dim], neck[:, :dim], labels, empty) for dim in (4, 8, 16)]
    for name in ("classification", "triplet", "proxy", "memory"):
        torch.testing.assert_close(found[name], torch.stack([one[name] for one in each]).mean())


def test_an_embedding_is_cut_in_evaluation_index_and_query(folder: Path, shards: ShardSet, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", shards, nested_dims=[4])
    whole, cut = (evaluate_run(run, str(folder), tmp_path / f"report-{dim}", dim=dim, workers=0) for dim in (None, 4))
    assert cut["dim"] == 4
    assert "dim" not in whole
    build_index(run, str(folder), tmp_path / "index", dim=4, workers=0, device="cpu")
    index = IndexFolder.open(tmp_path / "index")
    assert index.features.deep.shape[1] == 4
    task = task_of(shards, nested_dims=[4]).eval()
    rows = [int(row) for row in shards.rows("gallery")]
    with torch.no_grad():
        expected = task.predict(batch_of(task, shards, rows))["embedding"][:, :4]
    np.testing.assert_allclose(index.features.deep, F.normalize(expected, dim=1).numpy(), atol=1e-5)
    image = tmp_path / "query.jpg"
    image.write_bytes(shards.read(rows[0])[0])
    answer = query_index(tmp_path / "index", [image], tmp_path / "answer", device="cpu", top=3)[0]
    assert len(answer["matches"]) == 3


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"nested_dims": [8, 4]}, "nested_dims must be ascending and below model.embedding_dim=16"),
        ({"nested_dims": [16]}, "below model.embedding_dim=16"),
        ({"cosine_margin": 0.3}, "need a cosine classifier; set model.cosine_scale"),
        ({"subcenters": 2}, "need a cosine classifier"),
    ],
)
def test_settings_that_do_not_fit_together(model: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        config_of(**model)


def test_an_embedding_that_was_not_trained_for_it_is_not_cut(folder: Path, shards: ShardSet, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"train with model\.nested_dims"):
        evaluate_run(write_run(tmp_path / "run", shards), str(folder), tmp_path / "report", dim=4, workers=0)
    with pytest.raises(UsageError, match="--dim 20: choose 2 to 16"):
        task_of(shards, nested_dims=[4]).set_dim(20)
