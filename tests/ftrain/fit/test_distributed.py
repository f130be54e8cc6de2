"""Several processes (gloo): bit-identical with `exact`, nearly equal without, and the same metrics on all of them."""

from __future__ import annotations

import csv
import os
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tests.ftrain.forks import ForkServer
from tests.ftrain.tiny_task import ALONE, make_trainer
from tests.shard_sets import write_label_set
from torch.nn.parallel import DistributedDataParallel

from fschemas.failures import ExitCode, UsageError
from fschemas.shard_set import ShardSet
from ftrain.fit import checkpoint
from ftrain.fit.distributed import Processes
from ftrain.fit.gradients import GlobalBatch, accumulate, accumulate_exactly, split_batch
from ftrain.fit.preflight import example_batch

STAGES = [{"until": 0.4, "freeze": ["backbone", "wide"]}, {"freeze": ["head"]}]


def train(forks: ForkServer, shards: Path, run: Path, world_size: int, **options: Any) -> list[str]:
    children = forks.start_group("tiny", world_size, shards=str(shards), run=str(run), **{"epochs": 2, **options})
    codes = [child.wait() for child in children]
    assert codes == [0] * world_size, [child.text() for child in children]
    return [child.text() for child in children]


def tensors_of(run: Path) -> dict[str, torch.Tensor]:
    found = checkpoint.newest(run / "checkpoints")
    assert found is not None
    files = ("model", "ema", "optimizer")
    return {
        f"{file}/{name}": tensor for file in files for name, tensor in checkpoint.load_tensors(found[0], file).items()
    }


def column(run: Path, series: str, name: str) -> list[float]:
    with open(run / f"{series}.csv", encoding="utf-8") as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def assert_same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different, different


EXACT: dict[str, Any] = {"exact": True, "micro_batches": 4}


@pytest.fixture(scope="module")
def exact_alone(forks: ForkServer, shard_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("exact") / "run"
    train(forks, shard_folder, run, 1, **EXACT)
    return run


@pytest.mark.parametrize("world_size", [2, 4])
def test_exact_weights_do_not_depend_on_the_number_of_processes(
    forks: ForkServer, shard_folder: Path, tmp_path: Path, exact_alone: Path, world_size: int
) -> None:
    """Convolutions, norm statistics, dropout, EMA and optimizer moments, bit by bit, and every logged metric."""
    train(forks, shard_folder, tmp_path / "run", world_size, workers=1, **EXACT)
    assert_same_bits(tensors_of(tmp_path / "run"), tensors_of(exact_alone))
    for series, name in (("training", "loss"), ("training", "gradient_norm"), ("validation", "accuracy")):
        assert column(tmp_path / "run", series, name) == pytest.approx(column(exact_alone, series, name), rel=1e-5)


def test_exact_runs_can_be_taken_up_by_another_number_of_processes(
    forks: ForkServer, shard_folder: Path, tmp_path: Path, exact_alone: Path
) -> None:
    for limit, world_size in ((3, 2), (6, 4), (8, 1)):
        texts = train(forks, shard_folder, tmp_path / "run", world_size, limit_steps=limit, **EXACT)
        assert "environment changed" not in texts[0]
    killed = forks.start_group("tiny", 2, shards=str(shard_folder), run=str(tmp_path / "run"), epochs=2, **EXACT)
    killed[1].send(signal.SIGKILL)
    killed[0].send(signal.SIGKILL)
    assert [child.wait() for child in killed] == [-signal.SIGKILL] * 2
    train(forks, shard_folder, tmp_path / "run", 2, **EXACT)
    assert_same_bits(tensors_of(tmp_path / "run"), tensors_of(exact_alone))


def test_exact_refuses_numbers_that_would_change_the_bits(shards: ShardSet, tmp_path: Path) -> None:
    """Without `exact`, each process gets one micro-batch; with it, the number of micro-batches is the user's."""
    third = Processes(0, 4, torch.device("cpu"))
    assert make_trainer(shards, tmp_path, third, micro_batches=1).data.positions.shape == (1, 2)
    with pytest.raises(UsageError, match=r"fit\.micro_batches=2 cannot be divided among 4 processes"):
        make_trainer(shards, tmp_path, third, exact=True, micro_batches=2)


@pytest.mark.parametrize("sync", [True, False])
def test_two_processes_learn_what_one_learns(forks: ForkServer, shard_folder: Path, tmp_path: Path, sync: bool) -> None:
    """Without dropout. Without common statistics, each process normalizes its half of the batch, like a micro-batch."""
    options: dict[str, Any] = {
        "model": {"dropout": 0.0}, "ema_decay": 0.0, "epochs": 3, "sync_batch_norm": sync,
    }  # fmt: skip
    train(forks, shard_folder, tmp_path / "one", 1, micro_batches=1 if sync else 2, **options)
    train(forks, shard_folder, tmp_path / "two", 2, **options)
    one, two = column(tmp_path / "one", "training", "loss"), column(tmp_path / "two", "training", "loss")
    assert two[0] == pytest.approx(one[0], rel=1e-5), "same rows, same halves, same start"
    assert column(tmp_path / "two", "training", "gradient_norm")[0] == pytest.approx(
        column(tmp_path / "one", "training", "gradient_norm")[0], rel=1e-4
    )
    assert two == pytest.approx(one, rel=1e-3 if sync else 0.02)
    assert two[-1] < 0.95 * two[0]
    assert checkpoint_ledger(tmp_path / "one") == checkpoint_ledger(tmp_path / "two")


def checkpoint_ledger(run: Path) -> str:
    found = checkpoint.newest(run / "checkpoints")
    assert found is not None
    return found[1].ledger


def test_two_processes_resume_exactly_and_freeze_parts(forks: ForkServer, shard_folder: Path, tmp_path: Path) -> None:
    """Stages change what DistributedDataParallel waits for; it must neither hang nor train frozen parameters."""
    options: dict[str, Any] = {"stages": STAGES, "micro_batches": 4, "checkpoint_every_steps": 2, "keep_checkpoints": 9}
    train(forks, shard_folder, tmp_path / "whole", 2, **options)
    for limit in (3, 5, 10):
        train(forks, shard_folder, tmp_path / "parts", 2, workers=limit % 2, limit_steps=limit, **options)
    assert_same_bits(tensors_of(tmp_path / "parts"), tensors_of(tmp_path / "whole"))
    weights = {
        step: checkpoint.load_tensors(tmp_path / f"whole/checkpoints/step-{step:08d}", "model")
        for step in (2, 4, 6, 10)
    }

    def rests(part: str, start: int, end: int) -> bool:
        return all(
            torch.equal(weights[start][name], weights[end][name]) for name in weights[2] if name.startswith(part)
        )

    assert rests("backbone", 2, 4)
    assert rests("wide", 2, 4)
    assert not rests("head", 2, 4)
    assert rests("head", 4, 10)
    assert not rests("backbone", 6, 10)


def test_a_validation_evaluates_the_weights_that_are_saved(
    forks: ForkServer, shard_folder: Path, tmp_path: Path
) -> None:
    """Norm statistics differ between processes; all of them evaluate the weights that the first one saves."""
    train(forks, shard_folder, tmp_path / "run", 2, ema_decay=0.0, learning_rate=0.1, dump_scores=True)
    shards = ShardSet.open(shard_folder)
    evaluated = (
        torch.load(tmp_path / "run" / "scores-0.pt", weights_only=True),
        torch.load(tmp_path / "run" / "scores-1.pt", weights_only=True),
    )
    assert torch.equal(evaluated[0], evaluated[1])
    found = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert found is not None
    trainer = make_trainer(shards, tmp_path / "other", ema_decay=0.0)
    trainer.task.load_state_dict(checkpoint.load_tensors(found[0], "model"))
    from ftrain.fit.evaluation import results_of_split

    expected = results_of_split(trainer.task, shards, shards.rows("val"), ALONE, 8, 0)
    torch.testing.assert_close(evaluated[0], torch.from_numpy(expected["scores"]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_any_process_stops_all(forks: ForkServer, shard_folder: Path, tmp_path: Path, rank: int) -> None:
    children = forks.start_group("tiny", 2, shards=str(shard_folder), run=str(tmp_path / "run"), workers=1, epochs=1000)
    children[0].wait_for("step 3/")
    children[rank].send(signal.SIGTERM)
    assert [child.wait() for child in children] == [ExitCode.TERMINATED] * 2, [child.text() for child in children]
    found = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert found is not None
    assert f"after step {found[1].step}, which is saved" in children[0].text()
    shutil.rmtree(tmp_path / "run")


def test_a_nan_on_any_process_stops_all(
    forks: ForkServer, shard_folder: Path, shards: ShardSet, tmp_path: Path
) -> None:
    row = int(make_trainer(shards, tmp_path / "other").plan.batch(4)[5])  # in the second process's half
    children = forks.start_group("tiny", 2, shards=str(shard_folder), run=str(tmp_path / "run"), model={"poison": row})
    assert [child.wait() for child in children] == [ExitCode.NON_FINITE] * 2, [child.text() for child in children]
    found = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert found is not None
    assert found[1].step == 3


@pytest.mark.parametrize("position", [1, 5])
def test_a_term_that_is_nan_on_one_process_stops_all(
    forks: ForkServer, shard_folder: Path, shards: ShardSet, tmp_path: Path, position: int
) -> None:
    """Though its gradient is finite, so that the other process sees it neither in its own losses nor in the gradient."""
    row = int(make_trainer(shards, tmp_path / "other").plan.batch(4)[position])
    children = forks.start_group(
        "tiny", 2, shards=str(shard_folder), run=str(tmp_path / "run"), model={"poison": row, "poisoned_term": True},
        log_every_steps=99, checkpoint_every_steps=99, validate_every_epochs=99, epochs=4,
    )  # fmt: skip
    assert [child.wait() for child in children] == [ExitCode.NON_FINITE] * 2, [child.text() for child in children]
    assert "step 4: garment is not finite" in children[0].text()
    assert not list((tmp_path / "run").glob("checkpoints/step-*"))


def test_processes_with_separate_disks_resume_together(forks: ForkServer, shard_folder: Path, tmp_path: Path) -> None:
    """The main process chooses the checkpoint and sends it, whatever the other one finds in its folder."""
    options: dict[str, Any] = {"checkpoint_every_steps": 2, "keep_checkpoints": 9}
    train(forks, shard_folder, tmp_path / "whole", 2, **options)
    apart: dict[str, Any] = {"of_rank": {1: {"run": str(tmp_path / "other")}}, **options}
    train(forks, shard_folder, tmp_path / "main", 2, limit_steps=4, **apart)
    assert not (tmp_path / "other" / "checkpoints").exists()
    shutil.copytree(tmp_path / "main/checkpoints/step-00000002", tmp_path / "other/checkpoints/step-00000002")
    train(forks, shard_folder, tmp_path / "main", 2, **apart)
    assert_same_bits(tensors_of(tmp_path / "main"), tensors_of(tmp_path / "whole"))


def arguments_of(shards: Path, run: Path, *more: str) -> list[str]:
    return [
        "retrieval", str(shards), "--run", str(run), "--tracker", "none", "--workers", "0", "--device", "cpu",
        "--limit-steps", "1", "--set", "model.backbone=test_efficientnet", "--set", "model.input_size=32",
        "--set", "fit.batch_size=4", "--set", "fit.warmup_ratio=0", "--set", "validation_split=none", *more,
    ]  # fmt: skip


def test_what_the_main_process_refuses_stops_all_with_one_sentence(forks: ForkServer, tmp_path: Path) -> None:
    shards = write_label_set(tmp_path / "set", {"train": 8}, items=4)
    other = write_label_set(tmp_path / "other", {"train": 12}, items=4)
    children = forks.start_group("cli", 2, arguments=arguments_of(shards, tmp_path / "run"))
    assert [child.wait() for child in children] == [0, 0], [child.text() for child in children]
    assert children[1].text() == "", "the main process prints for all"
    assert "Warning" not in children[0].text()
    for changed, expected, sentence in (
        ({}, ExitCode.USAGE, "already contains a run"),
        ({1: arguments_of(other, tmp_path / "run", "--resume", "never")}, ExitCode.INTEGRITY, "process 1 was started with another shard set than process 0"),
        ({1: arguments_of(shards, tmp_path / "run", "--set", "fit.seed=3")}, ExitCode.INTEGRITY, "process 1 was started with another configuration than process 0"),
        ({1: arguments_of(shards, tmp_path / "run", "--limit-steps", "2")}, ExitCode.INTEGRITY, "process 1 was started with another --limit-steps than process 0"),
    ):  # fmt: skip
        children = forks.start_group(
            "cli", 2, {rank: {"arguments": arguments} for rank, arguments in changed.items()},
            arguments=arguments_of(shards, tmp_path / "run", "--resume", "never"),
        )  # fmt: skip
        assert [child.wait() for child in children] == [expected] * 2, [child.text() for child in children]
        assert sentence in children[0].text()
        assert len([line for line in children[0].text().splitlines() if line]) == 1
        assert children[1].text() == ""


def test_workers_are_forked_once_before_the_process_group(
    shards: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forking copies neither CUDA nor the threads of NCCL; training and validation share the workers."""
    from ftrain.fit import train as fit

    events: list[str] = []
    fork, start = os.fork, fit.processes
    monkeypatch.setattr(os, "fork", lambda: (events.append("fork"), fork())[1])
    monkeypatch.setattr(fit, "processes", lambda *arguments: (events.append("group"), start(*arguments))[1])
    folder = write_label_set(tmp_path / "set", {"train": 16, "val": 8}, items=4)
    settings = (
        "model.backbone=test_efficientnet", "model.input_size=32", "fit.batch_size=8", "fit.epochs=3", "fit.log_every_steps=1",
    )  # fmt: skip
    options = fit.TrainOptions(str(folder), tmp_path / "run", overrides=settings, workers=2, device="cpu", trackers=())
    fit.train("retrieval", options)
    assert events == ["fork", "fork", "group"]
    assert len(column(tmp_path / "run", "validation", "map")) == 3


def test_a_compiled_network_knows_the_buckets_of_its_wrapper(
    shards: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled during a forward pass of DDP, it is split where gradients are ready to be sent (DDPOptimizer)."""
    active: list[object] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> Any:
        active.append(DistributedDataParallel._get_active_ddp_module())
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        trainer = make_trainer(shards, tmp_path, Processes(0, 2, torch.device("cpu")), compile=True)
        stage, row = trainer.fit.stages[0], int(trainer.plan.batch(0)[0])
        trainer._enter_stage(stage)
        trainer._losses(example_batch(trainer.task, shards, row, 4), 0)
        assert isinstance(trainer.forward, DistributedDataParallel)
        assert set(active) == {trainer.forward}
    finally:
        dist.destroy_process_group()
        torch._dynamo.reset()


# --- reductions -------------------------------------------------------------------------------------------------------


def test_micro_batches_give_the_gradient_of_the_whole_batch() -> None:
    """For a model without batch normalization, in all three ways; constants keep their bits."""
    torch.manual_seed(0)
    model = torch.nn.Linear(5, 1)
    model.register_buffer("constant", torch.tensor([0.229, 0.9]))
    model.register_buffer("count", torch.tensor(3))
    batch = {"x": torch.randn(6, 5), "y": torch.randn(6, 1)}
    seen: list[int] = []

    def losses(part: dict[str, torch.Tensor], number: int) -> dict[str, torch.Tensor]:
        seen.append(number)
        model.count += 1
        return {"loss": (model(part["x"]) - part["y"]).square().mean()}

    losses(batch, 9)["loss"].backward()
    expected = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    whole = float(losses(batch, 9)["loss"].detach())
    for gather in (accumulate, accumulate_exactly):
        model.zero_grad()
        model.count.fill_(3)
        seen.clear()
        totals = gather(split_batch(batch, 3), losses, model, GlobalBatch(model, ALONE))  # type: ignore[arg-type]
        assert seen == [0, 0, 1, 2], "the first one again, once it is known that nothing is compared"
        for parameter, gradient in zip(model.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)
        assert float(totals["loss"]) == pytest.approx(whole)
        assert torch.equal(model.constant, torch.tensor([0.229, 0.9]))
        assert int(model.count) == (6 if gather is accumulate else 4), (
            "with exact, a count does not depend on micro-batches"
        )
