"""A training step never waits for the device: whole steps on tensors of a GPU that are only imagined.

Fake tensors have the device and shape of CUDA tensors but no memory, so the code takes the paths of a GPU without one, and
whatever needs a value on the host fails. Transfers are watched by `Transfers`. Only the backward pass, which torch runs
without Python, needs a real device; on the CPU it is counted that it reads no value either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.ftrain.tasks.cases import CASES, Case, batch_of, config_of
from tests.ftrain.tiny_task import trainer_of
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fschemas.shard_set import ShardSet
from ftrain.data.stream import Batch
from ftrain.fit import loop
from ftrain.fit.distributed import Processes
from ftrain.fit.loop import Trainer
from ftrain.fit.run_data import RunData, RunPool
from ftrain.tasks.task import build_task

# Copying a task compares the memory of its tensors, which fake ones lack.
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
GPU = Processes(0, 1, torch.device("cuda", 0))
aten = torch.ops.aten
_WITHOUT_FAKE: dict[Any, Callable[..., torch.Tensor | None]] = {
    aten._fused_sgd_.default: lambda *_, **__: None,
    aten._sample_dirichlet.default: torch.empty_like,
    aten.cudnn_grid_sampler.default: lambda image, grid: image.new_empty(*image.shape[:2], *grid.shape[1:3]),
}
_READS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default, aten.is_nonzero.default}  # fmt: skip


class Transfers(TorchDispatchMode):
    """Counts operations that involve memory of the host (on a GPU), and those that read values."""

    def __init__(self, *, on_gpu: bool) -> None:
        super().__init__()
        self.on_gpu, self.found = on_gpu, Counter[str]()

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        run = _WITHOUT_FAKE.get(operation, operation) if self.on_gpu else operation
        result = run(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        masks = operation in (aten.index.Tensor, aten.index_put_.default, aten._unsafe_index.Tensor) and any(
            tensor is not None and tensor.dtype == torch.bool for tensor in args[1]
        )
        if operation in _READS or masks or (self.on_gpu and any(tensor.device.type == "cpu" for tensor in tensors)):
            self.found[str(operation)] += 1
        return result


@contextmanager
def imagined_gpu() -> Iterator[Transfers]:
    with FakeTensorMode(allow_non_fake_inputs=True), Transfers(on_gpu=True) as transfers:
        yield transfers


@pytest.mark.parametrize(
    "waits",
    [
        lambda x: x.sum().item(),
        lambda x: x.tolist(),
        lambda x: bool((x > 0).all()),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.masked_fill_(x > 0, 1.0).index_put_((x > 0,), x.new_ones(())),
        lambda x: x[:, [0, 2]],
        lambda x: x[torch.tensor([1, 0], device=x.device)],
        lambda x: x.cpu(),
        lambda x: x + torch.ones(2, 3).to(x.device),
        lambda x: torch.equal(x, x + 1),
    ],
)
def test_whatever_makes_the_host_wait_is_found(waits: Callable[[torch.Tensor], object]) -> None:
    with imagined_gpu() as transfers:
        x = torch.empty(2, 3, device="cuda")
        assert not transfers.found
        try:
            waits(x)
        except (DataDependentOutputException, DynamicOutputShapeException):
            return
        assert transfers.found


def gradients_on_the_device(trainer: Trainer, loss: torch.Tensor) -> None:
    """In place of the backward pass, which torch cannot imagine."""
    assert trainer.scaler.scale(loss).device.type == "cuda"
    for parameter in trainer.task.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.empty_like(parameter)


STAGES = ({"until": 0.2, "lr_scale": 0.5}, {})
PLAIN: dict[str, Any] = {"ema_decay": 0.9, "stages": STAGES}
IN_PARTS: dict[str, Any] = {**PLAIN, "micro_batches": 2, "amp": "fp16"}
EXACT: dict[str, Any] = {**PLAIN, "micro_batches": 2, "exact": True, "optimizer": "sgd"}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def watched_steps(case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Counter[str]:
    """What involved the host in two steps, of different stages, on an imagined GPU."""
    shards = ShardSet.open(case.shards(folder / "set"))
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(loop, "seed_torch", lambda *_: None)  # of a real GPU: an argument of its next kernels
    monkeypatch.setattr(loop, "_gpu", lambda _: {})
    monkeypatch.setattr(Trainer, "_backward", gradients_on_the_device)
    config = config_of(case, **options)
    task = build_task(config, shards.metadata)
    batch = batch_of(task, shards)
    with FakeTensorMode(allow_non_fake_inputs=True):
        trainer = trainer_of(task, config, shards, folder / "run", processes=GPU)
        added: list[torch.Tensor] = []
        monkeypatch.setattr(trainer.values, "add", lambda *given: added.append(given[2]))
        on_gpu = {name: torch.empty(one.shape, dtype=one.dtype, device="cuda") for name, one in batch.items()}
        with Transfers(on_gpu=True) as transfers:
            trainer._step(0, on_gpu)
            trainer._step(1, on_gpu)
    assert [values.device.type for values in added] == ["cuda"] * 2
    return transfers.found


def test_a_step_is_queued_without_waiting(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not watched_steps(case, tmp_path, monkeypatch, **IN_PARTS)


@pytest.mark.parametrize("name", ["keypoints", "retrieval-memory"])
def test_an_exact_step_is_queued_too(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not watched_steps(CASES[name], tmp_path, monkeypatch, **EXACT)


def test_views_are_rendered_without_waiting(case: Case, tmp_path: Path) -> None:
    shards = ShardSet.open(case.shards(tmp_path / "set"))
    config = config_of(case)
    task = build_task(config, shards.metadata)
    with RunPool(RunData(task, config, shards, 0, 1), 0, on_device=True) as pool:
        batch = next(pool.batches(0, range(1), torch.device("cpu")))
        assert "sampling" in batch
        with FakeTensorMode(allow_non_fake_inputs=True):
            on_gpu = {name: torch.empty(one.shape, dtype=one.dtype, device="cuda") for name, one in batch.items()}
            with Transfers(on_gpu=True) as transfers:
                prepared = task.prepare(on_gpu)
    assert prepared["image"].device.type == "cuda"
    assert not transfers.found


def test_the_backward_pass_reads_nothing(case: Case, tmp_path: Path) -> None:
    shards = ShardSet.open(case.shards(tmp_path / "set"))
    config = config_of(case, **PLAIN)
    task = build_task(config, shards.metadata)
    batch: Batch = batch_of(task, shards)
    trainer = trainer_of(task, config, shards, tmp_path / "run")
    with Transfers(on_gpu=False) as transfers:
        trainer._step(0, batch)
        trainer._step(1, batch)
    assert not transfers.found
