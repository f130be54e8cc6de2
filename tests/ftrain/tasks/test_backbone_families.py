"""Every family of timm networks under every task: a training step, predictions, saved weights and export.

The networks are random and tiny variants of registered ones, with the structure of their family: registers and a patch
of 14 pixels (DINOv2), pooling by attention (SigLIP), rotary position embeddings (DINOv3), windows (Swin), mask units
(Hiera).
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from tests.shard_sets import write_label_set
from timm.models import register_model
from timm.models._pretrained import DefaultCfg

from fschemas.shard_set import ShardSet
from ftrain.data.config import RunConfig
from ftrain.data.stream import Batch, RawSample
from ftrain.fit.config import resolve
from ftrain.fit.optimization import enter_stage, make_optimizer, set_rate
from ftrain.tasks.task import Task, build_task
from ftrain.use.export import exportable
from ftrain.use.export_formats import traced

default_cfgs: dict[str, DefaultCfg] = {}  # read by timm's register_model


def tiny(base: str, **overrides: Any) -> str:
    """Register a variant of a timm network and return its name."""
    name = f"tiny_{base}"

    def create(pretrained: bool = False, **given: Any) -> torch.nn.Module:
        return timm.create_model(base, pretrained=pretrained, **{**overrides, **given})

    create.__name__, create.__module__ = name, __name__
    default_cfgs[name] = DefaultCfg(deque([""]), {"": timm.get_pretrained_cfg(base)})
    register_model(create)
    return name


_VIT = {"embed_dim": 32, "depth": 3, "num_heads": 2}
FAMILIES: dict[str, tuple[str, int]] = {  # network and input size
    "cnn": ("test_resnet", 64),
    "convnext": ("test_convnext", 64),
    "swin": (tiny("swin_tiny_patch4_window7_224", embed_dim=16, depths=(1, 1, 2, 1), num_heads=(1, 2, 2, 4)), 64),
    "vit": ("test_vit", 64),
    "dinov2": (tiny("vit_small_patch14_reg4_dinov2", **_VIT), 224),
    "siglip": (tiny("vit_base_patch16_siglip_224", **_VIT), 64),
    "dinov3": (tiny("vit_small_patch16_dinov3", **_VIT), 64),
    "hiera": (tiny("hiera_tiny_224", embed_dim=16, stages=(1, 1, 2, 1), num_heads=1), 64),
}
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


def batch_of(task: Task, shards: ShardSet) -> Batch:
    rows = [int(row) for row in shards.rows("train")[:4]]
    encoded = [task.encoder(RawSample(row, *shards.read(row)), None) for row in rows]
    return {name: torch.from_numpy(np.stack([one[name] for one in encoded])) for name in encoded[0]}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("task", TASKS)
def test_a_family_trains_predicts_and_is_saved(task: str, family: str, shards: ShardSet, tmp_path: Path) -> None:
    config = config_of(task, family)
    network = build(config, shards).train()
    enter_stage(network, config.fit.stages[0])
    optimizer = make_optimizer(network, config.fit)
    set_rate(optimizer, 1e-3, {})
    batch = batch_of(network, shards)
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


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("task", TASKS)
def test_a_family_is_exported(task: str, family: str, shards: ShardSet) -> None:
    network = build(config_of(task, family), shards).eval()
    network.set_tta(False)
    module, example = exportable(network)
    with torch.no_grad():
        expected, found = module(example), traced(module, example, task).module()(example)
    for name, value in expected.items():
        torch.testing.assert_close(found[name].float(), value.float(), rtol=1e-3, atol=1e-3)
