"""Runs whose views are rendered by the device have the same bits for any number of workers and after a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.ftrain.tasks.cases import CASES, config_of
from tests.ftrain.tiny.task import Tiny, TinyConfig
from tests.ftrain.tiny_task import ALONE

from fschemas.failures import UsageError
from fschemas.shard_set import ShardSet
from ftrain.fit import checkpoint
from ftrain.fit.loop import Trainer
from ftrain.fit.run_data import RunData, RunPool, renders_on_device
from ftrain.fit.tracking import Trackers
from ftrain.tasks.task import Task, build_task


def train(name: str, shards: ShardSet, run: Path, *, steps: int, workers: int = 0, on_device: bool = True) -> Task:
    """Train a case for some steps more."""
    run.mkdir(exist_ok=True)
    case = CASES[name]
    torch.manual_seed(0)
    config = config_of(case, checkpoint_every_steps=2)
    task = build_task(config, shards.metadata)
    data = RunData(task, config, shards, 0, 1)
    pool = RunPool(data, workers, on_device=on_device)
    Trainer(config, data, pool, run, ALONE, Trackers(), limit_steps=steps).train()
    return task


@pytest.mark.parametrize("name", ["keypoints", "category", "fashionnet", "retrieval", "style"])
def test_views_of_the_device_are_trained_on_with_the_same_bits(name: str, tmp_path: Path, one_thread: None) -> None:
    shards = ShardSet.open(CASES[name].shards(tmp_path / "shards"))
    train(name, shards, tmp_path / "whole", steps=3)
    train(name, shards, tmp_path / "forked", steps=3, workers=2)
    train(name, shards, tmp_path / "resumed", steps=2)
    train(name, shards, tmp_path / "resumed", steps=3)
    found: list[dict[str, torch.Tensor]] = []
    for run in ("whole", "forked", "resumed"):
        newest = checkpoint.newest(tmp_path / run / "checkpoints")
        assert newest is not None
        assert newest[1].step == 3
        assert newest[1].made_with["transforms"] == "device"
        found.append(checkpoint.load_tensors(newest[0], "model"))
    for other in found[1:]:
        assert not [key for key, tensor in found[0].items() if not torch.equal(tensor, other[key])]


def test_batches_of_both_ways_are_alike_and_a_change_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case, lines = CASES["keypoints"], list[str]()
    monkeypatch.setattr(Trainer, "_log_line", lambda _, sentence: lines.append(sentence))
    shards = ShardSet.open(case.shards(tmp_path / "shards"))
    task = train("keypoints", shards, tmp_path / "run", steps=2)
    data = RunData(task, config_of(case), shards, 0, 1)
    batches: list[list[Any]] = []
    for on_device in (False, True):
        with RunPool(data, 0, on_device=on_device) as pool:
            some = [*pool.training(range(1), ALONE.device), *pool.validation(ALONE.device)]
            batches.append([{name: tensor.clone() for name, tensor in batch.items()} for batch in some])
    for plain, rendered in zip(*batches, strict=True):
        assert plain.keys() == rendered.keys()
        for name in plain.keys() - {"image"}:
            assert torch.equal(plain[name], rendered[name]), name
        assert (plain["image"].float() - rendered["image"].float()).abs().mean() < 0.2
    train("keypoints", shards, tmp_path / "run", steps=3, on_device=False)
    assert any("transforms device -> workers" in line for line in lines)


def test_a_gpu_renders_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    case = CASES["category"]
    task = build_task(config_of(case), ShardSet.open(case.shards(tmp_path / "shards")).metadata)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert renders_on_device("auto", "auto", task)
    assert not renders_on_device("auto", "cpu", task)
    assert not renders_on_device("workers", "cuda", task)
    assert renders_on_device("device", "cpu", task)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert not renders_on_device("auto", "auto", task)
    without_views = Tiny(TinyConfig(), task.dataset)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert not renders_on_device("auto", "auto", without_views)
    with pytest.raises(UsageError, match="--transforms device"):
        without_views.view_config()
