"""The loop in one process: stages, EMA, learning rates, logs, stops, and non-finite values."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.ftrain.streams import training_batches
from tests.ftrain.tiny import metrics
from tests.ftrain.tiny.task import Tiny
from tests.ftrain.tiny_task import make_trainer, rows_of, saved
from torch import nn

from fschemas.failures import UsageError
from fschemas.json_file import seal
from fschemas.shard_set import ShardSet
from ftrain.data.config import FitConfig, Stage
from ftrain.data.plan import EMPTY_LEDGER, extend_ledger
from ftrain.fit.checkpoint_state import step_folder
from ftrain.fit.loop import Trainer
from ftrain.fit.optimization import rate_at

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_run_learns_and_leaves_what_it_promised(shards: ShardSet, tmp_path: Path) -> None:
    trainer = make_trainer(shards, tmp_path, epochs=12, learning_rate=0.03, ema_decay=0, model={"dropout": 0.0})
    state = trainer.train()
    assert state.step == trainer.num_steps == 60
    ledger = EMPTY_LEDGER
    for step in range(60):
        ledger = extend_ledger(ledger, trainer.plan.batch(step))
    assert state.ledger == ledger
    training = rows_of(tmp_path, "training")
    assert [int(row["step"]) for row in training] == list(range(1, 61))
    losses = [float(row["loss"]) for row in training]
    assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:5])
    assert [int(row["step"]) for row in rows_of(tmp_path, "validation")] == list(range(5, 61, 5))
    best = max(rows_of(tmp_path, "validation"), key=lambda row: float(row["accuracy"]))
    assert state.best == {
        "metric": "accuracy",
        "value": pytest.approx(float(best["accuracy"]), rel=1e-5),
        "step": int(best["step"]),
    }
    assert json.loads((tmp_path / "checkpoints" / "best.json").read_text()) == seal(state.best)
    kept = {path.name for path in (tmp_path / "checkpoints").glob("step-*")}
    assert kept == {step_folder(step) for step in (57, 60, state.best["step"])}


def test_a_training_step_is_what_the_textbook_says(shards: ShardSet, tmp_path: Path) -> None:
    """Compared with a hand-written loop: gradient, clipping, AdamW."""
    trainer = make_trainer(
        shards, tmp_path, limit_steps=3, ema_decay=0, max_grad_norm=0.5, model={"dropout": 0.0}, backbone_lr_scale=0.25
    )
    expected = make_trainer(shards, tmp_path / "other", ema_decay=0, model={"dropout": 0.0}).task
    decayed = [p for p in expected.parameters() if p.ndim > 1]
    groups = [
        {
            "params": [p],
            "weight_decay": 1e-4 if any(p is q for q in decayed) else 0.0,
            "share": 0.25 if n.startswith("backbone") else 1,
        }
        for n, p in expected.named_parameters()
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    expected.train()
    batches = training_batches(
        shards, trainer.task.encoder, trainer.plan, positions=np.arange(8), start=0, stop=3, workers=0
    )
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, 20, trainer.fit) * group["share"]
        optimizer.zero_grad()
        expected(batch)["loss"].backward()
        norm = torch.linalg.vector_norm(
            torch.stack([p.grad.norm() for p in expected.parameters() if p.grad is not None])
        )
        assert norm > 0.5, "clipping is at work"
        for parameter in expected.parameters():
            assert parameter.grad is not None
            parameter.grad *= 0.5 / (norm + 1e-6)
        optimizer.step()
    trainer.train()
    found = dict(trainer.task.named_parameters())
    for name, parameter in expected.named_parameters():
        torch.testing.assert_close(found[name], parameter, rtol=1e-5, atol=1e-7)


def test_every_micro_batch_draws_numbers_of_its_own(shards: ShardSet, tmp_path: Path) -> None:
    """Independent of torch's generator state; dropout must not repeat between micro-batches or steps."""
    drawn: list[list[float]] = []
    for seed in (0, 0, 1):
        trainer = make_trainer(
            shards, tmp_path / str(len(drawn)), limit_steps=3, micro_batches=2, seed=seed, checkpoint_every_steps=99
        )
        forward, numbers = trainer.forward, []

        def watched(batch: Any, forward: Any = forward, numbers: list[float] = numbers) -> Any:
            numbers.append(float(torch.rand(())))
            torch.rand(len(drawn) + 1)
            return forward(batch)

        trainer.forward = watched
        trainer.train()
        drawn.append(numbers)
    assert len(set(drawn[0])) == 6
    assert drawn[0] == drawn[1]
    assert not set(drawn[0]) & set(drawn[2])


@pytest.mark.parametrize(("schedule", "last"), [("cosine", 0.0), ("constant", 0.01)])
def test_rates_warm_up_and_fall(schedule: Any, last: float) -> None:
    config = FitConfig(learning_rate=0.01, warmup_ratio=0.1, schedule=schedule)
    rates = [rate_at(step, 100, config) for step in range(101)]
    assert rates[:10] == pytest.approx([0.001 * (step + 1) for step in range(10)])
    assert rates[10] == pytest.approx(0.01)
    assert rates[100] == pytest.approx(last, abs=1e-12)
    assert rates[55] == pytest.approx(0.005 if schedule == "cosine" else 0.01)
    assert all(a >= b for a, b in pairwise(rates[10:]))


# --- stages -----------------------------------------------------------------------------------------------------------

STAGES = (
    Stage(until=0.5, freeze=("backbone", "wide")),
    Stage(lr_scale=0.1, freeze=("head",), loss_weights={"wide": 2.0}),
)


def test_frozen_parts_rest_and_the_others_learn(shards: ShardSet, tmp_path: Path) -> None:
    trainer = make_trainer(shards, tmp_path, stages=STAGES, checkpoint_every_steps=10, keep_checkpoints=9, ema_decay=0)
    start = {name: tensor.clone() for name, tensor in trainer.task.state_dict().items()}
    trainer.train()
    middle, end = saved(tmp_path, 10), saved(tmp_path, 20)

    def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
        return {name for name in before if not torch.equal(before[name], after[name])}

    resting = {name for name in start if name.startswith(("backbone", "wide"))}
    assert changed(start, middle) == set(start) - resting, "not even the statistics of a frozen norm move"
    assert changed(middle, end) == {name for name in start if not name.startswith("head")}
    moments = saved(tmp_path, 10, "optimizer")
    assert not [name for name in moments if name.startswith(("backbone", "wide"))]


def test_a_resumed_stage_goes_on_bit_identically(shards: ShardSet, tmp_path: Path) -> None:
    make_trainer(shards, tmp_path / "whole", stages=STAGES).train()
    for limit in (4, 10, 13, None):
        make_trainer(shards, tmp_path / "parts", stages=STAGES, limit_steps=limit).train()
    for file in ("model", "ema", "optimizer"):
        one, other = saved(tmp_path / "whole", 20, file), saved(tmp_path / "parts", 20, file)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_losses_are_weighed(shards: ShardSet, tmp_path: Path) -> None:
    weights = {"garment": 0.0, "wide": 3.0}
    make_trainer(shards, tmp_path / "a", limit_steps=1, model={"dropout": 0.0}).train()
    make_trainer(
        shards, tmp_path / "b", limit_steps=1, model={"dropout": 0.0}, stages=(Stage(loss_weights=weights),)
    ).train()
    (plain,), (weighed,) = rows_of(tmp_path / "a", "training"), rows_of(tmp_path / "b", "training")
    assert float(plain["loss"]) == pytest.approx(float(plain["garment"]) + float(plain["wide"]), rel=1e-4)
    assert float(weighed["loss"]) == pytest.approx(3 * float(plain["wide"]), rel=1e-4)


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ((Stage(freeze=("backbon.x",)),), r"no parameter's name starts with 'backbon\.x'"),
        ((Stage(until=0.5), Stage(freeze=("nose",))), "starts with 'nose'"),  # found before the first step, not halfway
        ((Stage(until=0.9), Stage(until=0.5)), "in ascending order"),
        ((Stage(loss_weights={"gament": 1.0}),), "no loss 'gament'; its losses are garment, wide"),
    ],
)
def test_stages_that_make_no_sense_are_refused(shards: ShardSet, tmp_path: Path, stages: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make_trainer(shards, tmp_path, stages=stages, limit_steps=1).train()


def test_the_model_is_compiled_and_wrapped_once(
    shards: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(torch, "compile", lambda model, **_: compiled.append(model) or model)
    trainer = make_trainer(shards, tmp_path, stages=STAGES, compile=True)
    trainer.train()
    assert compiled == [trainer.task]


# --- EMA --------------------------------------------------------------------------------------------------------------


def test_the_average_follows_the_weights_and_is_what_is_evaluated(
    shards: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(
        shards, tmp_path, limit_steps=3, checkpoint_every_steps=1, keep_checkpoints=9, ema_decay=0.75
    )
    evaluated: list[Any] = []
    monkeypatch.setattr(
        metrics, "compute_metrics", lambda task, results: evaluated.append(results["scores"]) or {"accuracy": 0.5}
    )
    trainer.validate_every = 3
    trainer.train()
    mean: dict[str, torch.Tensor] = {}
    for step in (1, 2, 3):
        model, average = saved(tmp_path, step), saved(tmp_path, step, "ema")
        for name, tensor in model.items():
            if tensor.is_floating_point():  # both weights and norm statistics
                decay = {1: 0.0, 2: 2 / 11, 3: 3 / 12}[step]  # below .75 for the first 27 steps
                mean[name] = tensor if step == 1 else decay * mean[name] + (1 - decay) * tensor
                torch.testing.assert_close(average[f"module.{name}"], mean[name])
            else:  # a number of batches, or labels of a memory
                assert torch.equal(average[f"module.{name}"], tensor)
    copy = Tiny(trainer.task.config, shards.metadata).eval()
    copy.load_state_dict(
        {name.removeprefix("module."): t for name, t in saved(tmp_path, 3, "ema").items() if name != "n_averaged"}
    )
    assert trainer.ema is not None
    assert trainer.ema.module is not trainer.task
    from ftrain.fit.evaluation import results_of_split

    expected = results_of_split(copy, shards, shards.rows("val"), trainer.processes, 8, 0)
    assert np.array_equal(evaluated[0], expected["scores"])


def test_float16_scales_gradients_and_resumes_exactly(shards: ShardSet, tmp_path: Path, one_thread: None) -> None:
    """A step whose scaled gradients overflow changes no weight; the scale is part of the checkpoint."""
    settings: dict[str, Any] = {"amp": "fp16", "epochs": 4, "ema_decay": 0.0}

    def trainer(folder: str, limit_steps: int | None = None) -> Trainer:
        made = make_trainer(shards, tmp_path / folder, limit_steps=limit_steps, **settings)
        made.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24, growth_interval=3)
        return made

    first = trainer("first", 1)
    before = {name: tensor.clone() for name, tensor in first.task.named_parameters()}
    state = first.train()
    assert state.scaler["scale"] == 2.0**23, "2^24 overflows"
    assert all(torch.equal(tensor, before[name]) for name, tensor in first.task.named_parameters())
    assert float(rows_of(tmp_path / "first", "training")[0]["gradient_norm"]) == 0
    trainer("whole").train()
    for limit in (5, None):
        last = trainer("parts", limit).train()
    whole, parts = (saved(tmp_path / folder, 20) for folder in ("whole", "parts"))
    assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []
    assert any(not torch.equal(tensor, before[name]) for name, tensor in whole.items() if name in before)
    assert last.scaler["scale"] < 2.0**24
