"""The loop in one process: stages, averages, rates, logs, stops, and what happens to numbers that are not finite."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.ftrain.tiny_task import Tiny, make_trainer
from torch import nn

from fschemas.failures import IntegrityError, NonFiniteError, Terminated, UsageError
from fschemas.shard_set import ShardSet
from ftrain import checkpoint
from ftrain.checkpoint import step_folder
from ftrain.config import FitConfig
from ftrain.loop import Trainer
from ftrain.optimisation import rate_at
from ftrain.plan import EMPTY_LEDGER, extend_ledger
from ftrain.task import Stage

pytestmark = pytest.mark.usefixtures("one_thread")


def saved(run: Path, step: int, file: str = "model") -> dict[str, torch.Tensor]:
    folder = run / "checkpoints" / step_folder(step)
    checkpoint.check(folder)
    return checkpoint.load_tensors(folder, file)


def rows_of(run: Path, series: str) -> list[dict[str, str]]:
    with open(run / f"{series}.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_run_learns_and_leaves_what_it_promised(shards: ShardSet, tmp_path: Path) -> None:
    trainer = make_trainer(shards, tmp_path, epochs=12, learning_rate=0.03, average=0, model={"dropout": 0.0})
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
    assert json.loads((tmp_path / "checkpoints" / "best.json").read_text()) == state.best
    kept = {path.name for path in (tmp_path / "checkpoints").glob("step-*")}
    assert kept == {step_folder(step) for step in (57, 60, state.best["step"])}


def test_a_training_step_is_what_the_textbook_says(shards: ShardSet, tmp_path: Path) -> None:
    """Against a hand-written loop over the same rows: gradient, clipping, AdamW with the rate of the step, no hidden extra."""
    trainer = make_trainer(shards, tmp_path, limit_steps=3, average=0, clip_norm=0.5, model={"dropout": 0.0}, backbone_rate=0.25)
    expected = make_trainer(shards, tmp_path / "other", average=0, model={"dropout": 0.0}).task
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
    from ftrain.stream import training_batches

    expected.train()
    batches = training_batches(shards, trainer.task.encoder, trainer.plan, positions=np.arange(8), start=0, stop=3, workers=0)
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, 20, trainer.fit) * group["share"]
        optimizer.zero_grad()
        expected(batch)["loss"].backward()
        norm = torch.linalg.vector_norm(torch.stack([p.grad.norm() for p in expected.parameters() if p.grad is not None]))
        assert norm > 0.5, "clipping is at work"
        for parameter in expected.parameters():
            assert parameter.grad is not None
            parameter.grad *= 0.5 / (norm + 1e-6)
        optimizer.step()
    trainer.train()
    found = dict(trainer.task.named_parameters())
    for name, parameter in expected.named_parameters():
        torch.testing.assert_close(found[name], parameter, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("schedule", "last"), [("cosine", 0.0), ("constant", 0.01)])
def test_rates_warm_up_and_fall(schedule: Any, last: float) -> None:
    config = FitConfig(learning_rate=0.01, warmup=0.1, schedule=schedule)
    rates = [rate_at(step, 100, config) for step in range(101)]
    assert rates[:10] == pytest.approx([0.001 * (step + 1) for step in range(10)])
    assert rates[10] == pytest.approx(0.01)
    assert rates[100] == pytest.approx(last, abs=1e-12)
    assert rates[55] == pytest.approx(0.005 if schedule == "cosine" else 0.01)
    assert all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False))


# --- stages -------------------------------------------------------------------------------------------------------------------

STAGES = (Stage(until=0.5, frozen=("backbone", "wide")), Stage(rate=0.1, frozen=("head",), losses={"wide": 2.0}))


def test_frozen_parts_rest_and_the_others_learn(shards: ShardSet, tmp_path: Path) -> None:
    trainer = make_trainer(shards, tmp_path, stages=STAGES, checkpoint_every=10, keep_checkpoints=9, average=0)
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
    for file in ("model", "average", "optimizer"):
        one, other = saved(tmp_path / "whole", 20, file), saved(tmp_path / "parts", 20, file)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_losses_are_weighed(shards: ShardSet, tmp_path: Path) -> None:
    weights = {"garment": 0.0, "wide": 3.0}
    make_trainer(shards, tmp_path / "a", limit_steps=1, model={"dropout": 0.0}).train()
    make_trainer(shards, tmp_path / "b", limit_steps=1, model={"dropout": 0.0}, stages=(Stage(losses=weights),)).train()
    (plain,), (weighed,) = rows_of(tmp_path / "a", "training"), rows_of(tmp_path / "b", "training")
    assert float(plain["loss"]) == pytest.approx(float(plain["garment"]) + float(plain["wide"]), rel=1e-4)
    assert float(weighed["loss"]) == pytest.approx(3 * float(plain["wide"]), rel=1e-4)


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ((Stage(frozen=("backbon.x",)),), r"no parameter's name starts with 'backbon\.x'"),
        ((Stage(until=0.5), Stage(frozen=("nose",))), "starts with 'nose'"),  # found before the first step, not at half time
        ((Stage(until=0.9), Stage(until=0.5)), "in ascending order"),
        ((Stage(losses={"gament": 1.0}),), "no loss 'gament'; its losses are garment, wide"),
    ],
)
def test_stages_that_make_no_sense_are_refused(shards: ShardSet, tmp_path: Path, stages: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make_trainer(shards, tmp_path, stages=stages, limit_steps=1).train()


def test_the_model_is_compiled_and_wrapped_once(shards: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model)
    trainer = make_trainer(shards, tmp_path, stages=STAGES, compile=True)
    trainer.train()
    assert compiled == [trainer.task]


# --- the average --------------------------------------------------------------------------------------------------------------


def test_the_average_follows_the_weights_and_is_what_is_judged(shards: ShardSet, tmp_path: Path) -> None:
    trainer = make_trainer(shards, tmp_path, limit_steps=3, checkpoint_every=1, keep_checkpoints=9, average=0.75)
    judged: list[Any] = []
    trainer.task.measure = lambda results: judged.append(results["scores"]) or {"accuracy": 0.5}  # type: ignore[method-assign, func-returns-value]
    trainer.validate_every = 3
    trainer.train()
    mean: dict[str, torch.Tensor] = {}
    for step in (1, 2, 3):
        model, average = saved(tmp_path, step), saved(tmp_path, step, "average")
        for name, tensor in model.items():
            if tensor.is_floating_point():  # weights and the statistics of norms alike
                mean[name] = tensor if step == 1 else 0.75 * mean[name] + 0.25 * tensor
                torch.testing.assert_close(average[f"module.{name}"], mean[name])
    copy = Tiny(trainer.task.config, shards.metadata).eval()
    copy.load_state_dict(
        {name.removeprefix("module."): t for name, t in saved(tmp_path, 3, "average").items() if name != "n_averaged"}
    )
    assert trainer.average is not None
    assert trainer.average.module is not trainer.task
    from ftrain.evaluation import results_of_split

    expected = results_of_split(copy, shards, shards.rows("val"), trainer.processes, 8, 0)
    assert np.array_equal(judged[0], expected["scores"])


# --- numbers that are not finite ----------------------------------------------------------------------------------------------


def test_a_nan_stops_the_run_and_the_last_good_checkpoint_stays(shards: ShardSet, tmp_path: Path) -> None:
    row = int(make_trainer(shards, tmp_path).plan.batch(4)[2])
    sentences: list[str] = []
    for _ in range(2):  # the same command again says the same again
        trainer = make_trainer(shards, tmp_path, model={"poison": row})
        with pytest.raises(NonFiniteError) as caught:
            trainer.train()
        sentences.append(str(caught.value))
        note = json.loads((tmp_path / "non_finite.json").read_text())
        assert note["step"] == 4
        assert note["keys"] == [str(key) for key in shards.columns["key"][trainer.plan.batch(4)]]
        assert note["values"]["loss"] == "nan"
        assert math.isfinite(float(note["values"]["wide"]))
        assert all(torch.isfinite(tensor).all() for tensor in saved(tmp_path, 3).values())
        assert [path.name for path in (tmp_path / "checkpoints").glob("step-*")] == [step_folder(3)]
        assert all(torch.isfinite(parameter).all() for parameter in trainer.task.parameters()), "stopped before the step"
    assert sentences[0] == sentences[1]
    assert sentences[0].startswith("step 4: gradient_norm, loss, garment is not finite; the samples stand in")


def test_an_exploded_run_stops_too(shards: ShardSet, tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match="is not finite"):
        make_trainer(shards, tmp_path, learning_rate=1e30, warmup=0, checkpoint_every=1).train()
    for path in (tmp_path / "checkpoints").glob("step-*"):
        assert all(torch.isfinite(tensor).all() for tensor in checkpoint.load_tensors(path, "model").values())


def test_the_note_of_an_old_nan_goes_with_the_next_run(shards: ShardSet, tmp_path: Path) -> None:
    (tmp_path / "non_finite.json").write_text("{}")
    make_trainer(shards, tmp_path, limit_steps=1).train()
    assert not (tmp_path / "non_finite.json").exists()


# --- stopping and going on ----------------------------------------------------------------------------------------------------


def raise_signal_at(trainer: Trainer, step: int, number: int, times: int = 1) -> None:
    """Send this process a signal while the model works on a step."""
    forward = trainer.forward

    def signalled(batch: Any) -> Any:
        if trainer.state.step == step:
            for _ in range(times):
                os.kill(os.getpid(), number)
        return forward(batch)

    trainer.forward = signalled


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
@pytest.mark.parametrize("step", [6, 9, 19])
def test_a_signal_ends_the_run_after_its_step(
    shards: ShardSet, tmp_path: Path, number: int, error: type[BaseException], step: int
) -> None:
    """Also when the step is one to validate after (10) or the last one (20): the validation is made up for."""
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    trainer = make_trainer(shards, tmp_path / "stopped")
    raise_signal_at(trainer, step, number)
    with pytest.raises(error):
        trainer.train()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    found = checkpoint.newest(tmp_path / "stopped" / "checkpoints")
    assert found is not None
    assert found[1].step == step + 1
    assert found[1].validation_due == (step in (9, 19))
    state = make_trainer(shards, tmp_path / "stopped").train()
    whole = make_trainer(shards, tmp_path / "whole").train()
    assert state == whole, "the best figure too"
    for file in ("model", "average", "optimizer"):
        one, other = saved(tmp_path / "whole", 20, file), saved(tmp_path / "stopped", 20, file)
        assert all(torch.equal(one[name], other[name]) for name in one)
    for series in ("training", "validation"):
        steps = [row["step"] for row in rows_of(tmp_path / "stopped", series)]
        assert steps == [row["step"] for row in rows_of(tmp_path / "whole", series)]


def test_a_second_interrupt_does_not_wait(shards: ShardSet, tmp_path: Path) -> None:
    trainer = make_trainer(shards, tmp_path)
    raise_signal_at(trainer, 4, signal.SIGINT, times=2)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert trainer.state.step == 4


def test_a_signal_stops_a_validation_at_once(shards: ShardSet, tmp_path: Path) -> None:
    """Validation may take longer than a scheduler waits. What was trained is saved before it; it is due again."""
    trainer = make_trainer(shards, tmp_path, average=0)
    predict, calls = trainer.task.predict, []

    def signalled(batch: Any) -> Any:
        calls.append(1)
        os.kill(os.getpid(), signal.SIGTERM)
        return predict(batch)

    trainer.task.predict = signalled  # type: ignore[method-assign]
    with pytest.raises(Terminated, match="after step 5, which is saved"):
        trainer.train()
    assert len(calls) == 1
    found = checkpoint.newest(tmp_path / "checkpoints")
    assert found is not None
    assert found[1].validation_due
    make_trainer(shards, tmp_path, average=0, limit_steps=5).train()
    found = checkpoint.newest(tmp_path / "checkpoints")
    assert found is not None
    assert not found[1].validation_due
    assert found[1].best["step"] == 5
    assert [row["step"] for row in rows_of(tmp_path, "validation")] == ["5"]


@pytest.mark.parametrize("limit", [19, 20])
def test_going_on_at_the_end(shards: ShardSet, tmp_path: Path, limit: int) -> None:
    """Resumed before the last step, and after it: a finished run is left as it is."""
    first = make_trainer(shards, tmp_path, limit_steps=limit).train()
    assert first.step == limit
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    last = make_trainer(shards, tmp_path).train()
    whole = make_trainer(shards, tmp_path.with_name(f"{tmp_path.name}-whole")).train()
    assert last == whole
    if limit == 20:
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_another_configuration_is_not_taken_up(shards: ShardSet, tmp_path: Path) -> None:
    make_trainer(shards, tmp_path, limit_steps=3).train()
    with pytest.raises(IntegrityError, match="belongs to another configuration or shard set"):
        make_trainer(shards, tmp_path, learning_rate=0.02).train()


def test_a_damaged_checkpoint_is_said_and_the_one_before_used(
    shards: ShardSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = make_trainer(shards, tmp_path / "whole").train()
    make_trainer(shards, tmp_path / "run", limit_steps=12, keep_checkpoints=3).train()
    for step in (12, 10):
        (tmp_path / "run/checkpoints" / step_folder(step) / "optimizer.safetensors").write_bytes(b"rot")
    capsys.readouterr()
    assert make_trainer(shards, tmp_path / "run", keep_checkpoints=3).train().ledger == whole.ledger
    said = capsys.readouterr().err
    assert "skipped step-00000012" in said
    assert "skipped step-00000010" in said
    assert "resumed at step 9 of 20" in said
    one, other = saved(tmp_path / "whole", 20), saved(tmp_path / "run", 20)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_logs_of_steps_that_are_done_again_are_forgotten(shards: ShardSet, tmp_path: Path) -> None:
    """Killed before the first checkpoint, and between two; a torn last line goes too."""
    (tmp_path / "training.csv").write_text("step,loss\n1,0.5\n2,0.")
    make_trainer(shards, tmp_path, limit_steps=4).train()
    assert [row["step"] for row in rows_of(tmp_path, "training")] == ["1", "2", "3", "4"]
    with open(tmp_path / "training.csv", "a", encoding="utf-8") as file:
        file.write("5,0,0,0,0,0,0,0,0\n6,0")
    make_trainer(shards, tmp_path, limit_steps=6).train()
    assert [row["step"] for row in rows_of(tmp_path, "training")] == ["1", "2", "3", "4", "5", "6"]
    assert all(float(row["loss"]) > 0 for row in rows_of(tmp_path, "training"))


def test_a_missing_validation_split_is_noticed_before_the_first_step(tmp_path: Path) -> None:
    from tests.shard_sets import write_shard_set

    folder = write_shard_set(tmp_path / "set", {"train": 9})
    with pytest.raises(UsageError, match="the split 'val' has no samples"):
        make_trainer(folder, tmp_path / "run")


def test_other_surroundings_are_said(shards: ShardSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_trainer(shards, tmp_path, limit_steps=3).train()
    torch.set_num_threads(2)
    make_trainer(shards, tmp_path, limit_steps=4).train()
    assert "not as before: threads 1 -> 2; the last bits of the weights may differ" in capsys.readouterr().err
