"""Requirements for every task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.ftrain.forks import ForkServer
from tests.ftrain.tasks.cases import CASES, Case, batch_of, config_of, fresh_task
from tests.ftrain.tiny_task import ALONE, trainer_of

from fschemas.failures import UsageError
from fschemas.shard_set import ShardSet
from ftrain.data.config import Views
from ftrain.data.stream import Batch
from ftrain.fit import checkpoint
from ftrain.fit.gradients import GlobalBatch, accumulate, accumulate_exactly, split_batch
from ftrain.fit.loop import Trainer
from ftrain.layers.affine import views_of
from ftrain.layers.mixing import Mixing
from ftrain.tasks.task import Task, build_task, find_task


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


_WRITTEN: dict[str, Path] = {}


def written(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set of the case, written once for all cases with the same set."""
    key = repr(case.shards)
    if key not in _WRITTEN:
        _WRITTEN[key] = case.shards(tmp_path_factory.mktemp("shards") / "set")
    return _WRITTEN[key]


@pytest.fixture
def shards(case: Case, tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return ShardSet.open(written(case, tmp_path_factory))


def trainer_for(case: Case, shards: ShardSet, run: Path, limit_steps: int | None = None, **fit: Any) -> Trainer:
    run.mkdir(exist_ok=True)
    torch.manual_seed(0)
    config = config_of(case, **fit)
    return trainer_of(build_task(config, shards.metadata), config, shards, run, limit_steps)


def frozen_statistics(task: Task) -> Task:
    """The task with its training losses, but without batch statistics or randomness that couple images."""
    for module in task.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm | torch.nn.modules.dropout._DropoutNd | Mixing):
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
        if np.mean(losses[-5:]) < case.learns * losses[0]:
            return
    raise AssertionError(f"from {losses[0]} to {losses[-5:]}")


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
    for run, until in (("whole", 4), ("parts", 2), ("parts", 4)):
        trainer_for(case, shards, tmp_path / run, until, ema_decay=0.9, checkpoint_every_steps=2).train()
    whole, parts = (checkpoint.newest(tmp_path / run / "checkpoints") for run in ("whole", "parts"))
    assert whole is not None
    assert parts is not None
    assert (whole[1].step, whole[1].ledger) == (4, parts[1].ledger)
    for file in ("model", "ema", "optimizer"):
        one, other = checkpoint.load_tensors(whole[0], file), checkpoint.load_tensors(parts[0], file)
        assert one.keys() == other.keys()
        assert not [name for name in one if not torch.equal(one[name], other[name])], file


@pytest.mark.slow
def test_it_compiles_whole_and_runs_in_half_precision(
    case: Case, shards: ShardSet, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")  # dynamo logs thousands of lines
    task = frozen_statistics(fresh_task(case, shards))
    batch = batch_of(task, shards)
    expected = task(batch)["loss"]
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
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
    kinds = find_task(case.task).view_kinds
    views = {
        "flip": True,
        **{kind: [number] for kind, number in (("rotations", 5.0), ("scales", 1.2)) if kind in kinds},
    }
    plain, rich = (
        fresh_task(replace(case, model={**case.model, "tta": tta}), shards).eval() for tta in ({"flip": False}, views)
    )
    batch = batch_of(plain, shards, 4)
    once, expected = passes_of(plain, batch)
    assert once == 1
    for choice, more in ((None, True), (False, False), (True, True), (False, False)):
        rich.set_tta(choice)
        passes, predicted = passes_of(rich, batch)
        assert passes == (2 * len(views) if more else 1), choice
        assert all(torch.equal(predicted[name], expected[name]) for name in expected) != more, choice
        baseline = rich.untrained()
        assert baseline is None or (passes_of(baseline.eval(), batch)[0] > 1) == more, choice
    plain.set_tta(True)
    assert passes_of(plain, batch)[0] > 1


def test_scores_of_scaled_views_are_averaged(case: Case, shards: ShardSet) -> None:
    if "scales" not in find_task(case.task).view_kinds:
        with pytest.raises(UsageError, match="no test-time augmentation by scales"):
            fresh_task(replace(case, model={**case.model, "tta": {"scales": [1.2]}}), shards)
        return
    task = fresh_task(case, shards).eval()
    batch = batch_of(task, shards, 4)
    task.set_tta(Views(flip=True, scales=(1.2, 0.8)))
    with torch.no_grad():
        found = task.predict(batch)
        views = views_of(batch["image"], task.views)
        task.set_tta(False)
        alone = [task.predict({**batch, "image": view}) for view in views]
    assert len(alone) == 6
    for name in found.keys() & {"category_scores", "attribute_scores", "scores", "class_scores"}:
        expected = torch.stack([one[name] for one in alone]).mean(dim=0)
        if case.task != "keypoints":  # whose scores are those of averaged maps
            torch.testing.assert_close(found[name], expected)
    if "embedding" in found:
        expected = torch.stack([one["embedding"].float() for one in alone]).sum(dim=0)
        torch.testing.assert_close(
            found["embedding"].float(), torch.nn.functional.normalize(expected, dim=-1), atol=2e-3, rtol=0
        )
    for name in found.keys() & {"attention", "box"}:
        assert torch.equal(found[name], alone[0][name]), name
    if "boxes" in found:  # an enlarged view cuts boxes off
        task.set_tta(Views(flip=True))
        with torch.no_grad():
            assert torch.equal(found["boxes"], task.predict(batch)["boxes"])


def gradients_of(task: Task, losses: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The accumulated gradients, and the losses."""
    gradients = {name: p.grad.clone() for name, p in task.named_parameters() if p.grad is not None}
    return gradients | {f"loss/{name}": value.detach() for name, value in losses.items()}


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    whole = float(torch.stack([value.norm() for value in expected.values()]).norm())
    for name, value in expected.items():
        error, size = float((found[name] - value).norm()), float(value.norm())
        # Normalization over a batch of 8 tiny images amplifies rounding errors; some gradients are nothing else.
        assert error <= 5e-3 * size + 1e-6 * whole + 1e-5, (name, error, size, whole)


UNKNOWN = dict.fromkeys(("category", "item_class", "identity", "item", "attributes", "values"), -1)
UNKNOWN |= {"has_box": 0, "keypoint_visibility": 0}


def test_micro_batches_have_the_gradients_of_the_whole_batch(case: Case, shards: ShardSet) -> None:
    """Losses that compare images see all micro-batches; those that have fewer labels do not weigh more."""
    task = frozen_statistics(fresh_task(case, shards))
    batch, unlabeled = batch_of(task, shards), torch.tensor([0, 1, 4])
    batch |= {name: batch[name].index_fill(0, unlabeled, UNKNOWN[name]) for name in UNKNOWN.keys() & batch.keys()}
    task(batch)["loss"].backward()
    expected = gradients_of(task, task(batch))
    assert any(gradient.any() for gradient in expected.values())
    for parts in (2, 4):
        task.zero_grad()
        micro_batches = split_batch(batch, parts)
        losses = accumulate(micro_batches, lambda part, _: task(part), task, GlobalBatch(task, ALONE))
        assert_close(gradients_of(task, losses), expected)
        task.zero_grad()
        losses = accumulate_exactly(micro_batches, lambda part, _: task(part), task, GlobalBatch(task, ALONE))
        assert_close(gradients_of(task, losses), expected)


@pytest.fixture(scope="module")
def of_processes(
    forks: ForkServer, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, int], dict[str, torch.Tensor]]:
    """Losses and gradients of all cases on 1, 2 and 4 processes that share the batch, by case and number."""
    folder = tmp_path_factory.mktemp("gradients")
    sets = {name: str(written(case, tmp_path_factory)) for name, case in CASES.items()}
    for world_size in (1, 2, 4):
        children = forks.start_group("gradients", world_size, sets=sets, out=str(folder))
        codes = [child.wait(120) for child in children]
        assert codes == [0] * world_size, [child.text() for child in children]
    return lambda name, world_size: load_file(folder / f"{name}-{world_size}.safetensors")


def test_processes_have_the_gradients_of_one(
    case: Case, request: pytest.FixtureRequest, of_processes: Callable[[str, int], dict[str, torch.Tensor]]
) -> None:
    """With the normalization statistics of all processes, whatever the losses compare."""
    name = request.node.callspec.params["case"]
    expected = of_processes(name, 1)
    assert any(gradient.any() for gradient in expected.values())
    for world_size in (2, 4):
        assert_close(of_processes(name, world_size), expected)
