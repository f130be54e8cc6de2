"""`--init-from`: runs of the same and other tasks, weight files of timm and torchvision, and rejected inputs."""

from __future__ import annotations

import os
import pickle  # noqa: TID251 - to write what must not be read
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.ftrain.keypoint_runs import tiny_task, write_run
from tests.ftrain.tiny.task import Tiny, TinyConfig
from tests.shard_sets import write_shard_set

from fschemas.failures import UsageError
from fschemas.landmarks import FASHIONAI_24
from fschemas.shard_set import ShardSet
from ftrain.data.config import BackboneConfig
from ftrain.fit.init_from import init_from
from ftrain.fit.run_folder import RunFolder
from ftrain.layers.backbone import Backbone, timm_networks
from ftrain.layers.cut_backbone import cut_after
from ftrain.layers.weights import backbone_weights

BACKBONE = "test_efficientnet"


class Other(Tiny):
    """Another task on the same backbone under a different name; `num` networks of it."""

    name = "other"

    def __init__(self, network: str = BACKBONE, num: int = 1) -> None:
        super().__init__(TinyConfig(), {})
        del self.backbone
        self.branches = torch.nn.ModuleDict(
            {f"branch_{number}": Backbone(BackboneConfig(backbone=network)) for number in range(num)}
        )


@pytest.fixture(scope="module")
def run(shards: ShardSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("init") / "run", shards, tiny_task(shards.metadata, seed=5))


def state_of(task: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in task.state_dict().items()}


def test_a_run_of_the_same_task_is_taken_whole(run: Path, shards: ShardSet) -> None:
    task, expected = tiny_task(shards.metadata), tiny_task(shards.metadata, seed=5).state_dict()
    sentence = init_from(task, run)
    assert f"{len(expected)} of {len(expected)} tensors come from {run}" in sentence
    assert all(torch.equal(tensor, expected[name]) for name, tensor in task.state_dict().items())


def test_of_the_same_task_with_other_points_only_the_last_layers_are_new(run: Path, tmp_path: Path) -> None:
    other = ShardSet.open(write_shard_set(tmp_path / "set", {"train": 3}, FASHIONAI_24))
    task, expected = tiny_task(other.metadata), tiny_task(ShardSet.open(tmp_path / "set").metadata).state_dict()
    sentence = init_from(task, run)
    fresh = {
        name
        for name, tensor in task.state_dict().items()
        if torch.equal(tensor, expected[name]) and tensor.is_floating_point()
    }
    assert {"network.refine_net.predict.weight", "garment_head.weight"} <= fresh
    assert "; new are network.global_net.predict.0.weight" in sentence


@pytest.mark.parametrize("num", [1, 2])
def test_a_run_of_another_task_gives_its_backbone(run: Path, shards: ShardSet, num: int) -> None:
    task, source = Other(num=num), tiny_task(shards.metadata, seed=5)
    before, wanted = state_of(task), state_of(source.network.backbone)
    sentence = init_from(task, run)
    assert f"({num * len(wanted)} of {num * len(wanted)} of the backbone)" in sentence
    assert "a run of keypoints" in sentence
    for name, tensor in task.state_dict().items():
        if name.startswith("branches."):
            assert torch.equal(tensor, wanted[name.split(".", 3)[3]])
        else:
            assert torch.equal(tensor, before[name])


def test_a_run_needs_its_first_weights_no_longer(shards: ShardSet, tmp_path: Path) -> None:
    """On another machine, without network access and without the initial weight file."""
    trained = tiny_task(shards.metadata, seed=5)
    moved = write_run(tmp_path / "run", shards, trained, weights=f"{tmp_path}/gone.safetensors")
    assert f"weights: {tmp_path}/gone.safetensors" in (moved / "config.yaml").read_text()
    task, _, _ = RunFolder(moved).load()
    expected = trained.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in task.state_dict().items())
    with pytest.raises(UsageError, match="no such weight file"):
        backbone_weights(BACKBONE, f"{tmp_path}/gone.safetensors")


def test_a_run_with_another_backbone_is_refused_and_nothing_changes(run: Path) -> None:
    task = Other("resnet10t")
    before = state_of(task)
    with pytest.raises(
        UsageError, match=r"a run of keypoints; \d+ of the \d+ tensors of the backbone fit.* same model.backbone"
    ):
        init_from(task, run)
    assert all(torch.equal(tensor, before[name]) for name, tensor in task.state_dict().items())


@pytest.mark.parametrize(
    ("suffix", "origin"),
    [(".safetensors", "timm"), (".pth", "timm"), (".safetensors", "torchvision"), (".pth", "old torchvision")],
)
def test_weight_files_fill_the_backbone(suffix: str, origin: str, tmp_path: Path) -> None:
    import timm
    import torchvision

    given = timm.create_model("resnet18") if origin == "timm" else torchvision.models.resnet18()
    state = {name: torch.rand_like(t) if t.is_floating_point() else t for name, t in given.state_dict().items()}
    if origin == "old torchvision":
        state = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    path = tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save({"state_dict": state}, path)
    task = Other("resnet18")
    sentence = init_from(task, path)
    (network,) = timm_networks(task).values()
    own = network.state_dict()
    assert f"{len(own)} of {len(task.state_dict())} tensors, the backbone's, come from {path}" == sentence
    assert len(own) == 120
    assert all(torch.equal(tensor, state[name]) for name, tensor in own.items() if name in state)


class Poison:
    """Create a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_weight_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    for name, write in (("a.pth", torch.save), ("b.pth", lambda value, path: path.write_bytes(pickle.dumps(value)))):
        write({"conv1.weight": Poison(tmp_path / "harm")}, tmp_path / name)
        with pytest.raises(UsageError, match=rf"{name}: not a file of plain tensors.*could run code") as failure:
            init_from(Other("resnet18"), tmp_path / name)
        assert "\n" not in str(failure.value)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such weight file"), ("other", "the weights have no"), ("shape", "has shape"), ([1], "expected a mapping"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_are_one_sentence(content: Any, words: str, tmp_path: Path) -> None:
    import timm

    path = tmp_path / "weights.pth"
    if content == "other":
        content = timm.create_model(BACKBONE).state_dict()
    elif content == "shape":
        content = {**timm.create_model("resnet18").state_dict(), "conv1.weight": torch.zeros(64, 3, 3, 3)}
    if content is not None:
        torch.save(content, path)
    with pytest.raises(UsageError, match=rf"weights\.pth.*{words}"):
        init_from(Other("resnet18"), path)


def test_a_task_without_a_backbone_takes_no_file(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    task = Tiny(TinyConfig(), {})
    del task.backbone
    with pytest.raises(UsageError, match="no backbone that a weight file could fill"):
        init_from(task, tmp_path / "a.safetensors")


def test_a_backbone_that_a_task_has_cut_in_two_fills_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Other("resnet10t")
    (whole,) = source.branches.values()
    task = Other("resnet10t")
    wanted = state_of(whole.features)
    deep = cut_after(whole, "resnet10t", 8)
    source.branches["deep"] = deep
    assert len(timm_networks(source)) == 2
    monkeypatch.setattr(RunFolder, "load", lambda self: (source, None, None))
    sentence = init_from(task, tmp_path)
    assert f"({len(wanted)} of {len(wanted)} of the backbone)" in sentence
    (network,) = timm_networks(task).values()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in network.state_dict().items())
