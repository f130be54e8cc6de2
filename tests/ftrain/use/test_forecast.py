"""The prediction of `ftrain plan` from given rates, worked by hand, and what it advises."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ftrain.data.config import FitConfig
from ftrain.use.batch_size import Footprint
from ftrain.use.forecast import Forecast, Machine, Rates, Schedule, duration

SCHEDULE = Schedule(
    task="category", profile="profile full", batch_size=100, steps_per_epoch=50, num_steps=500, stages=(1.0,), validation_images=1000,
    validate_every=100, checkpoint_every=200, checkpoints_kept=2,
)  # fmt: skip
CPU = Machine("cpu", cores=8, workers=2, threads=6, free_disk=10**12, free_memory=10**12)
GPU = replace(CPU, device="cuda:0", cores=16, workers=15, threads=1, memory=80 * 10**9)
RATES = Rates(
    seconds=10.0, first_batch=0.5, stream=1000.0, steps=(500.0,), images_per_step=100, validation=2000.0, save_blocks=0.1, save_writes=2.0,
    checkpoint_bytes=10**9, process_bytes=2 * 10**9, worker_bytes=10**8, device_bytes=None,
)  # fmt: skip


def forecast(
    machine: Machine = GPU, *, resize_to: int | None = None, fit: dict[str, Any] | None = None, **changed: Any
):
    """A forecast with other values of the schedule, the rates or the machine."""
    parts = [
        replace(part, **{name: value for name, value in changed.items() if name in vars(part)})
        for part in (SCHEDULE, machine, RATES)
    ]
    return Forecast(parts[0], parts[1], parts[2], FitConfig(batch_size=100, **(fit or {})), None, resize_to)


@pytest.mark.parametrize(("machine", "rates", "rate", "bottleneck"), [
    (GPU, {}, 500.0, "step"),
    (GPU, {"stream": 200.0}, 200.0, "data"),
    (CPU, {}, 500.0, "step"),  # 2/1000 + 6/500 core-seconds an image: 571 images/s with 8 cores
    (replace(CPU, threads=8), {}, 8 / (2 / 1000 + 8 / 500), "cores"),
    (replace(CPU, workers=0), {}, 1 / (1 / 1000 + 1 / 500), "cores"),
    (replace(GPU, workers=0), {}, 1 / (1 / 1000 + 1 / 500), "cores"),
    (replace(CPU, workers=0), {"stream": 49_500.0}, 495.0, "step"),
])  # fmt: skip
def test_the_rate_is_that_of_the_slower_side(machine: Machine, rates: dict, rate: float, bottleneck: str) -> None:
    found = forecast(machine, **rates)
    assert found.rate == pytest.approx(rate)
    assert found.bottleneck == bottleneck


def test_stages_count_by_their_share_of_the_steps() -> None:
    found = forecast(stages=(0.25, 0.75), steps=(1000.0, 500.0))
    assert found.step_rate == pytest.approx(1 / (0.25 / 1000 + 0.75 / 500))


@pytest.mark.parametrize(("changed", "validations", "saves"), [
    ({}, 5, 5),  # after 100, 200, 300, 400 and 500 steps
    ({"validate_every": 150}, 4, 6),  # 150, 200, 300, 400, 450, 500
    ({"validate_every": 500, "checkpoint_every": 1000}, 1, 1),
    ({"validate_every": 1000}, 1, 3),
    ({"validation_images": 0}, 0, 3),  # 200, 400, 500
])  # fmt: skip
def test_validations_and_saves_are_counted_as_the_loop_does(changed: dict, validations: int, saves: int) -> None:
    schedule = replace(SCHEDULE, **changed)
    steps = range(1, schedule.num_steps + 1)
    validates = [
        bool(schedule.validation_images) and (step == schedule.num_steps or step % schedule.validate_every == 0)
        for step in steps
    ]
    saved = [
        due or step == schedule.num_steps or step % schedule.checkpoint_every == 0
        for step, due in zip(steps, validates, strict=True)
    ]
    assert (sum(validates), sum(saved)) == (schedule.validations, schedule.saves)
    assert (schedule.validations, schedule.saves) == (validations, saves)


def test_the_time_has_training_validation_and_checkpoints() -> None:
    found = forecast(validation_images=4000)
    assert found.parts == {
        "training": pytest.approx(500 * 100 / 500),
        "validation": pytest.approx(5 * 4000 / 1000),  # data is slower than prediction
        "checkpoints": pytest.approx(found.schedule.saves * 0.1),
    }
    assert found.seconds == pytest.approx(sum(found.parts.values()))
    assert found.to_json()["seconds_per_epoch"] == pytest.approx(found.seconds / 10)


def test_a_save_that_takes_longer_than_the_interval_delays_the_next() -> None:
    """200 steps of 100 images take 40 seconds."""
    found = forecast(save_writes=50.0)
    assert found.parts["checkpoints"] == pytest.approx(found.schedule.saves * (0.1 + 10))


@pytest.mark.parametrize(("changed", "stored"), [({}, 4), ({"num_steps": 100, "validation_images": 0}, 2)])
def test_the_disk_holds_the_kept_the_best_and_the_unfinished_checkpoint(changed: dict, stored: int) -> None:
    assert forecast(**changed).disk_bytes == stored * 10**9


def test_memory_of_images_that_were_not_measured_is_added() -> None:
    assert forecast(CPU).host_bytes == 2 * 10**9 + 2 * 10**8
    partial = replace(forecast(CPU, images_per_step=10), footprint=Footprint(1, 10**7))
    assert partial.host_bytes == 2 * 10**9 + 90 * 10**7 + 2 * 10**8


@pytest.mark.parametrize(("machine", "changed", "words"), [
    (replace(GPU, workers=2), {"stream": 200.0}, ["--workers 6"]),
    (replace(GPU, workers=2, cores=4), {"stream": 200.0}, ["--workers 3", "6 cores would do"]),
    (GPU, {"stream": 200.0, "resize_to": 288}, ["fprep shard --size 288", "2.5 times as much data"]),
    (GPU, {"resize_to": 288}, []),
    (replace(CPU, workers=0), {}, ["--workers 1"]),
    (replace(CPU, workers=0), {"stream": 49_500.0}, []),  # workers would save 1 %
    (replace(CPU, workers=6, threads=2), {"stream": 4000.0, "steps": (400.0,)}, ["--workers 1"]),
    (GPU, {"save_blocks": 4.0}, ["--set fit.validate_every_epochs=3.2"]),  # 5 saves, each for a validation: 20 of 125 seconds
    (GPU, {"save_blocks": 4.0, "checkpoint_every": 50}, ["--set fit.checkpoint_every_steps=276"]),  # 10 saves: 40 of 145
    (GPU, {"validation_images": 50_000}, ["fit.validate_every_epochs="]),
    (replace(GPU, free_disk=10**9), {}, ["4.0 GB on the disk, and 1.0 GB are free"]),
    (replace(GPU, free_memory=10**9), {}, ["3.5 GB of memory, and 1.0 GB are available"]),
])  # fmt: skip
def test_advice(machine: Machine, changed: dict, words: list[str]) -> None:
    found = forecast(machine, **changed)
    assert len(found.advice) == len(words), found.advice
    assert all(word in sentence for word, sentence in zip(words, found.advice, strict=True)), found.advice
    assert all(len(line) <= 80 for line in found.to_text().splitlines())


@pytest.mark.parametrize(("machine", "fit", "words"), [
    (GPU, {}, ["this GPU, by the rule of docs/gpus.md: batch_size=400 learning_rate=0.002"]),
    (replace(GPU, memory=24 * 10**9), {"learning_rate": 0.5}, ["batch_size=160 learning_rate=0.63"]),
    (replace(GPU, memory=10 * 10**9), {}, ["batch_size=100 micro_batches=2 learning_rate=0.001"]),
    (replace(GPU, memory=10 * 10**9), {"micro_batches": 2}, []),
    (replace(GPU, memory=1_600_000_000), {}, ["the model is too large"]),
    (CPU, {}, []),
    (CPU, {"amp": "bf16"}, ["24 GB: batch_size=160"]),
])  # fmt: skip
def test_advice_on_batches_follows_the_rule(machine: Machine, fit: dict, words: list[str]) -> None:
    """An image takes 100 MB."""
    found = replace(forecast(machine, fit=fit), footprint=Footprint(1000, 10**8))
    assert len(found.advice) == len(words), found.advice
    assert all(word in sentence for word, sentence in zip(words, found.advice, strict=True)), found.advice


@pytest.mark.parametrize(
    ("seconds", "text"), [(45, "45 seconds"), (90, "1.5 minutes"), (9000, "2.5 hours"), (200_000, "2.3 days")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
