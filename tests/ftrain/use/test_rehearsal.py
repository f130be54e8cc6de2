"""`ftrain plan` on a small set: everything is measured and printed, nothing is left, and wrong input is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.commands import run_command
from tests.ftrain.keypoint_runs import TINY

SETTINGS = [
    word for name, value in TINY.items() for word in ("--set", f"model.{name}={value}")
] + ["--set", "fit.batch_size=8", "--set", "fit.epochs=4", "--set", "fit.ema_decay=0.9"]  # fmt: skip


@pytest.mark.parametrize("workers", [0, 2])
def test_everything_is_measured_and_nothing_is_left(
    shard_folder: Path, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stages = "fit.stages=[{until: 0.5, freeze: [network.backbone]}, {}]"
    words = ["plan", shard_folder, "keypoints", *SETTINGS, "--set", stages, "--workers", workers, "--seconds", 1]
    where = ["--device", "cpu", "--transforms", "workers" if workers else "device"]
    done = run_command("ftrain", *words, *where, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    measured, schedule = found["measured"], found["schedule"]
    assert (schedule["num_steps"], schedule["validation_images"], schedule["stages"]) == (20, 13, [0.5, 0.5])
    rates = [measured["stream"], *measured["steps"], measured["validation"], found["rate"], found["seconds"]]
    sizes = [measured[name] for name in ("checkpoint_bytes", "process_bytes")]
    assert len(measured["steps"]) == 2
    assert all(value > 0 for value in [*rates, *sizes, found["footprint"]["bytes_per_image"]])
    assert (measured["worker_bytes"] > 0) == (workers > 0)
    assert found["machine"]["workers"] == workers
    assert not list(tmp_path.iterdir())


def test_the_text_has_every_part(shard_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_command("ftrain", "plan", shard_folder, "keypoints", *SETTINGS, "--workers", 0, "--seconds", 1)
    assert done.returncode == 0, done.stderr
    labels = {line.split(" ")[0] for line in done.stdout.splitlines()}
    assert labels >= {"data", "step", "together", "time", "disk", "memory"}
    assert "An estimate from" in " ".join(done.stdout.split())
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


@pytest.mark.parametrize(("words", "told"), [
    (["--set", "fit.batch_size=64"], "the split has 45 samples, fewer than fit.batch_size=64; lower it"),
    (["--set", "fit.sampler=balanced"], "fit.sampler=balanced"),
    (["--set", "validation_split=train"], "cannot select a checkpoint"),
])  # fmt: skip
def test_wrong_input_is_refused_as_in_training(
    shard_folder: Path, tmp_path: Path, words: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_command("ftrain", "plan", shard_folder, "keypoints", *SETTINGS, *words)
    trained = run_command("ftrain", "keypoints", shard_folder, *SETTINGS, *words, "--run", "run", "--tracker", "none")
    assert (done.returncode, done.stderr) == (2, trained.stderr)
    assert told in done.stderr


@pytest.mark.parametrize("task", ["joined", "nothing"])
def test_a_task_that_is_not_trained_is_unknown(shard_folder: Path, task: str) -> None:
    done = run_command("ftrain", "plan", shard_folder, task)
    assert (done.returncode, f"unknown task '{task}'; choose from" in done.stderr) == (2, True), done.stderr


def test_a_plan_runs_in_one_process(shard_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = run_command("ftrain", "plan", shard_folder, "keypoints", *SETTINGS, "--workers", 0)
    assert done.returncode == 2
    assert "without torchrun" in done.stderr
    assert not list(tmp_path.iterdir())
