"""Every family of timm networks under every task: a training step, predictions, saved weights and export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.ftrain.tasks.cases import batch_of
from tests.ftrain.tiny_networks import FAMILIES
from tests.shard_sets import write_label_set

from fschemas.shard_set import ShardSet
from ftrain.data.config import RunConfig
from ftrain.fit.config import resolve
from ftrain.fit.optimization import enter_stage, make_optimizer, set_rate
from ftrain.tasks.task import Task, build_task
from ftrain.use.export import exportable
from ftrain.use.export_formats import traced

TASKS: dict[str, dict[str, Any]] = {
    "keypoints": {"channels": 16},
    "category": {},
    "fashionnet": {},
    "retrieval": {"embedding_dim": 32},
    "style": {"embedding_dim": 32, "attribute_dim": 16},
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return ShardSet.open(write_label_set(tmp_path_factory.mktemp("families") / "set", {"train": 8, "val": 4}, items=2))


def config_of(task: str, family: str, **model: Any) -> RunConfig:
    backbone, input_size = FAMILIES[family]
    model = {"backbone": backbone, "input_size": input_size, **TASKS[task], **model}
    if task == "style":
        model = {"local_backbone": backbone, "local_input_size": input_size, **model}
    return resolve({"task": task, "model": model, "fit": {"layer_lr_decay": 0.7, "batch_size": 4}}, "the test")


def build(config: RunConfig, shards: ShardSet) -> Task:
    torch.manual_seed(0)
    return build_task(config, shards.metadata)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("task", TASKS)
def test_a_family_trains_predicts_and_is_saved(task: str, family: str, shards: ShardSet, tmp_path: Path) -> None:
    config = config_of(task, family)
    network = build(config, shards).train()
    enter_stage(network, config.fit.stages[0])
    optimizer = make_optimizer(network, config.fit)
    set_rate(optimizer, 1e-3, {})
    batch = batch_of(network, shards, 4)
    seen: set[str] = set()
    for _ in range(2):  # at initialization, zeros may hide gradients
        optimizer.zero_grad()
        network(batch)["loss"].backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, f"{name} is in no loss"
            assert torch.isfinite(parameter.grad).all(), name
            seen |= {name} if parameter.grad.any() else set()
        optimizer.step()
    assert not [name for name, _ in network.named_parameters() if name not in seen]
    with torch.no_grad():
        predicted = network.eval().predict(batch)
    assert all(torch.isfinite(value).all() for value in predicted.values())
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, tmp_path / "w.safetensors")
    torch.manual_seed(1)
    other = build_task(config, shards.metadata).eval()
    other.load_state_dict(load_file(tmp_path / "w.safetensors"))
    with torch.no_grad():
        again = other.predict(batch)
    assert all(torch.equal(again[name], value) for name, value in predicted.items())


# A backbone is exported the same way under every task; each family and each task is in the list.
EXPORTED = [(task, family) for number, family in enumerate(FAMILIES) for task in [list(TASKS)[number % len(TASKS)]]]


@pytest.mark.slow
@pytest.mark.parametrize(("task", "family"), EXPORTED)
def test_a_family_is_exported(task: str, family: str, shards: ShardSet) -> None:
    network = build(config_of(task, family), shards).eval()
    network.set_tta(False)
    module, example = exportable(network)
    with torch.no_grad():
        expected, found = module(example), traced(module, example, task).module()(example)
    assert found.keys() >= expected.keys() - {"color"}  # which is not part of a graph
    for name, value in found.items():
        torch.testing.assert_close(value.float(), expected[name].float(), rtol=1e-3, atol=1e-3)
