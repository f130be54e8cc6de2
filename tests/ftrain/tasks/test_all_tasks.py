"""Requirements for every task. A new one is found by itself; add a row to `CASES` if `Case` does not suit it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.ftrain.forks import ForkServer
from tests.ftrain.tiny_task import ALONE
from tests.shard_sets import write_label_set, write_shard_set

from fschemas.shard_set import ShardSet
from ftrain.data.config import RunConfig
from ftrain.data.stream import Batch, RawSample
from ftrain.fit import checkpoint
from ftrain.fit.config import resolve
from ftrain.fit.loop import Trainer
from ftrain.fit.tracking import Trackers
from ftrain.tasks import task_names
from ftrain.tasks.task import Task, build_task

COUNTS = {"train": 24, "val": 8}
LABELS = partial(write_label_set, counts=COUNTS)
FEW_ITEMS = partial(write_label_set, counts=COUNTS, items=4)  # each with two validation images
SQUARES = partial(write_shard_set, counts=COUNTS)
PAIRS = {"sampler": "identities", "samples_per_identity": 2}


@dataclass(frozen=True)
class Case:
    """A task in its smallest form. `learns` is the largest share of the initial loss left after overfitting one batch.

    `fit` overrides the defaults (a sampler, stages). A task with a loss that compares the images of a batch is not
    `separable`: the loss of a batch is not the mean over its halves. `silent` lists prefixes of parameters without
    gradient in any single batch (give the reason in a comment).
    """

    task: str
    model: dict[str, Any]
    shards: Callable[[Path], Path] = LABELS
    fit: dict[str, Any] = field(default_factory=dict)
    learns: float = 0.3
    steps: int = 60
    rate: float = 5e-3
    separable: bool = True
    silent: tuple[str, ...] = ()


_TINY = {"backbone": "test_efficientnet", "input_size": 64}

_STYLE = {
    **_TINY,
    "embedding_dim": 32,
    "attribute_dim": 16,
    "local_backbone": "test_efficientnet",
    "local_input_size": 32,
}

CASES = {
    "keypoints": Case("keypoints", {**_TINY, "channels": 16}, SQUARES, steps=50, learns=0.4),
    "category": Case("category", _TINY),
    "category-typed": Case(
        "category", {**_TINY, "heads": "per_type", "hidden_dim": 32, "box_head": "linear", "roi_stride": 32, "label_smoothing": 0.1}, learns=0.6
    ),
    "category-global": Case("category", {**_TINY, "roi_cells": 0, "targets": ["category"]}, partial(LABELS, without=("box",)), learns=0.4),
    "style": Case("style", {**_STYLE, "dropout": 0.0}, separable=False),
    "style-linear": Case("style", {**_TINY, "embedding_dim": 32, "dropout": 0.0, "head": "linear", "triplet_loss_weight": 0.0, "category_loss_weight": 0.3}),
    "style-attributes": Case("style", {**_STYLE, "target": "attributes", "triplet_loss_weight": 1.0}, separable=False),
    "fashionnet": Case("fashionnet", {**_TINY, "auxiliary_category_loss": True}, FEW_ITEMS, learns=0.4, steps=40, separable=False),
    "fashionnet-regression": Case("fashionnet", {**_TINY, "landmark_head": "regression", "targets": ["category", "attributes"], "visibility_gate": "hard", "landmark_loss": "squared"}),
    "retrieval": Case("retrieval", {**_TINY, "embedding_dim": 32}, FEW_ITEMS, PAIRS, separable=False),
    "retrieval-necked": Case(
        "retrieval", {**_TINY, "embedding_dim": 32, "identity": "category", "bn_neck": True, "pooling": "gem", "mining": "all"}, LABELS, PAIRS,
        separable=False,
    ),
}  # fmt: skip
CASES |= {name: Case(name, _TINY) for name in task_names() if name not in {case.task for case in CASES.values()}}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


_WRITTEN: dict[str, Path] = {}


@pytest.fixture
def shards(case: Case, tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """The set of the case, written once for all cases with the same set."""
    key = repr(case.shards)
    if key not in _WRITTEN:
        _WRITTEN[key] = case.shards(tmp_path_factory.mktemp("shards") / "set")
    return ShardSet.open(_WRITTEN[key])


def config_of(case: Case, **fit: Any) -> RunConfig:
    settings = {"batch_size": 8, "epochs": 2, "checkpoint_every_steps": 1, "log_every_steps": 1, **case.fit, **fit}
    return resolve({"task": case.task, "model": case.model, "fit": settings}, "the test")


def fresh_task(case: Case, shards: ShardSet) -> Task:
    torch.manual_seed(0)
    return build_task(config_of(case), shards.metadata).train()


def batch_of(task: Task, shards: ShardSet, number: int = 8, generator: np.random.Generator | None = None) -> Batch:
    rows = [int(row) for row in shards.rows("train")[:number]]
    encoded = [{"row": np.int64(row), **task.encoder(RawSample(row, *shards.read(row)), generator)} for row in rows]
    return {name: torch.from_numpy(np.stack([one[name] for one in encoded])) for name in encoded[0]}


def trainer_of(case: Case, shards: ShardSet, run: Path, limit_steps: int | None = None, **fit: Any) -> Trainer:
    run.mkdir(exist_ok=True)
    torch.manual_seed(0)
    config = config_of(case, **fit)
    task = build_task(config, shards.metadata)
    return Trainer(task, config, shards, run, ALONE, Trackers(), workers=0, limit_steps=limit_steps)


def frozen_statistics(task: Task) -> Task:
    """The task with its training losses, but without batch statistics or randomness that couple images."""
    for module in task.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm | torch.nn.modules.dropout._DropoutNd):
            module.eval()
    return task


def test_a_batch_is_learned_by_heart(case: Case, shards: ShardSet, one_thread: None) -> None:
    task = fresh_task(case, shards)
    batch, optimizer = batch_of(task, shards), torch.optim.AdamW(task.parameters(), case.rate)
    losses: list[float] = []
    for _ in range(case.steps):
        optimizer.zero_grad()
        loss = task(batch)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < case.learns * losses[0], (losses[0], losses[-5:])


def test_every_trained_parameter_has_a_gradient(case: Case, shards: ShardSet) -> None:
    task = fresh_task(case, shards)
    total = {
        name: torch.zeros_like(parameter) for name, parameter in task.named_parameters() if parameter.requires_grad
    }
    for _ in range(2):  # at initialization, zeros may hide gradients
        task.zero_grad()
        task(batch_of(task, shards))["loss"].backward()
        for name, parameter in task.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None, f"{name} is in no loss"
                assert torch.isfinite(parameter.grad).all(), name
                total[name] += parameter.grad.abs()
                parameter.data -= 0.01 * parameter.grad.sign()
    idle = [name for name, gradient in total.items() if not gradient.any() and not name.startswith(case.silent or "-")]
    assert not idle, idle


def test_the_parts_of_the_loss_are_all_of_it(case: Case, shards: ShardSet) -> None:
    task = fresh_task(case, shards)
    losses = task(batch_of(task, shards))
    parts = [value for name, value in losses.items() if name != "loss"]
    assert parts, "stages weigh parts; name them"
    torch.testing.assert_close(torch.stack(parts).sum(), losses["loss"], rtol=1e-5, atol=1e-6)


def test_a_resumed_run_has_the_same_bits(case: Case, shards: ShardSet, tmp_path: Path, one_thread: None) -> None:
    trainer_of(case, shards, tmp_path / "whole", 4, ema_decay=0.9).train()
    trainer_of(case, shards, tmp_path / "parts", 2, ema_decay=0.9).train()
    trainer_of(case, shards, tmp_path / "parts", 4, ema_decay=0.9).train()
    whole, parts = (checkpoint.newest(tmp_path / run / "checkpoints") for run in ("whole", "parts"))
    assert whole is not None
    assert parts is not None
    assert (whole[1].step, whole[1].ledger) == (4, parts[1].ledger)
    for file in ("model", "ema", "optimizer"):
        one, other = checkpoint.load_tensors(whole[0], file), checkpoint.load_tensors(parts[0], file)
        assert one.keys() == other.keys()
        assert not [name for name in one if not torch.equal(one[name], other[name])], file


@pytest.mark.slow
def test_it_compiles_whole_and_runs_in_bfloat16(case: Case, shards: ShardSet, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING")  # dynamo logs thousands of lines
    task = frozen_statistics(fresh_task(case, shards))
    batch = batch_of(task, shards)
    expected = task(batch)["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        half = task(batch)["loss"]
    half.backward()
    assert all(parameter.grad is None or torch.isfinite(parameter.grad).all() for parameter in task.parameters())
    torch.testing.assert_close(half.float(), expected, rtol=0.1, atol=0.1)
    torch._dynamo.reset()
    compiled = torch.compile(task, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(batch)["loss"], expected, rtol=1e-3, atol=1e-4)


def passes_of(task: Task, batch: Batch) -> tuple[int, Batch]:
    """Number of forward passes per image, and the predictions."""
    calls: list[int] = []
    first = next(module for module in task.modules() if isinstance(module, torch.nn.Conv2d))
    watch = first.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        predicted = task.predict(batch)
    watch.remove()
    return len(calls), predicted


def test_no_tta_is_one_plain_view(case: Case, shards: ShardSet) -> None:
    """`--no-tta` uses one view, `--tta` all of them, neither the run's setting: the same in every task."""
    views = {"tta": {"flip": True, "rotations": [5.0] if case.task == "keypoints" else []}}
    plain, rich = (
        fresh_task(replace(case, model={**case.model, **model}), shards).eval()
        for model in ({"tta": {"flip": False}}, views)
    )
    batch = batch_of(plain, shards, 4)
    once, expected = passes_of(plain, batch)
    assert once == 1
    for choice, more in ((None, True), (False, False), (True, True), (False, False)):
        rich.set_tta(choice)
        passes, predicted = passes_of(rich, batch)
        assert (passes > 1) == more, choice
        assert all(torch.equal(predicted[name], expected[name]) for name in expected) != more, choice
        baseline = rich.untrained()
        assert baseline is None or (passes_of(baseline.eval(), batch)[0] > 1) == more, choice
    plain.set_tta(True)
    assert passes_of(plain, batch)[0] > 1


@pytest.mark.parametrize("case", [name for name, case in CASES.items() if case.separable], indirect=True)
def test_halves_of_a_batch_have_the_loss_of_the_whole(case: Case, shards: ShardSet) -> None:
    """If images are not compared with each other, micro-batches and processes change nothing."""
    task = frozen_statistics(fresh_task(case, shards))
    batch = batch_of(task, shards)
    halves = [{name: values[start : start + 4] for name, values in batch.items()} for start in (0, 4)]
    one, two, whole = (task(part) for part in (*halves, batch))
    for name, value in whole.items():
        torch.testing.assert_close(
            (one[name] + two[name]) / 2, value, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_two_processes_have_the_loss_of_two_halves(
    case: Case, shards: ShardSet, forks: ForkServer, tmp_path: Path
) -> None:
    folder = _WRITTEN[repr(case.shards)]
    settings = {
        **{f"model.{name}": value for name, value in case.model.items()},
        **{f"fit.{k}": v for k, v in case.fit.items()},
    }
    settings |= {"fit.batch_size": 8, "fit.micro_batches": 2, "fit.log_every_steps": 1, "fit.validate_every_epochs": 9}
    chosen = [word for name, value in settings.items() for word in ("--set", f"{name}={_yaml(value)}")]
    losses: list[list[float]] = []
    for world_size in (1, 2):
        run = tmp_path / str(world_size)
        arguments = [
            case.task,
            str(folder),
            "--run",
            str(run),
            "--tracker",
            "none",
            "--workers",
            "0",
            "--limit-steps",
            "2",
            *chosen,
        ]
        children = forks.start_group("cli", world_size, arguments=[*arguments, "--device", "cpu"])
        codes = [child.wait() for child in children]
        assert codes == [0] * world_size, [child.text() for child in children]
        with open(run / "training.csv", encoding="utf-8") as file:
            losses.append([float(row["loss"]) for row in csv.DictReader(file)])
    assert len(losses[0]) == 2
    assert losses[1][0] == pytest.approx(losses[0][0], rel=1e-4)
    assert losses[1][1] == pytest.approx(losses[0][1], rel=0.05)  # each process has its own norm statistics


def _yaml(value: Any) -> str:
    """A value as parsed by --set."""
    import json

    return json.dumps(value)
