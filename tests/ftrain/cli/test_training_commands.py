"""Options of the training commands, and their record in the receipt."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.shard_sets import write_label_set
from typer.testing import CliRunner

from ftrain.cli import app
from ftrain.cli.options import command_line
from ftrain.tasks.task import tasks


@pytest.mark.parametrize("task", sorted(tasks()))
def test_one_garment_alone_is_for_key_points(task: str) -> None:
    said = CliRunner().invoke(app, [task, "--help"], env={"COLUMNS": "200"})
    assert said.exit_code == 0
    assert ("--garment" in said.output) == (task == "keypoints")
    assert "--profile" in said.output
    refused = CliRunner().invoke(app, [task, "nowhere", "--run", "run", "--garment", "dress"])
    assert refused.exit_code != 0
    assert ("No such option: --garment" in refused.output) == (task != "keypoints")


def test_the_command_line_begins_with_the_name_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/venv/bin/ftrain", "category", "shards", "--run", "a run"])
    assert command_line() == ("ftrain", "category", "shards", "--run", "a run")


@pytest.mark.parametrize("workers", ["-1", "abc", "1.5", "1025"])
def test_a_wrong_number_of_workers_is_refused(workers: str) -> None:
    said = CliRunner().invoke(app, ["retrieval", "nowhere", "--run", "run", "--workers", workers])
    assert said.exit_code == 2
    assert f"'{workers}' is neither a number up to 1024 nor auto" in said.output


@pytest.mark.parametrize("deterministic", [False, True])
def test_determinism_is_an_option_of_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, deterministic: bool
) -> None:
    shards, given = write_label_set(tmp_path / "set", {"train": 8}, items=4), []
    monkeypatch.setattr(
        "ftrain.fit.train.train", lambda _, options: given.append(options) or {"run": "run", "step": 1, "best": {}}
    )
    arguments = ["retrieval", str(shards), "--run", str(tmp_path / "run"), "--tracker", "none"]
    said = CliRunner().invoke(app, [*arguments, *(["--deterministic"] if deterministic else [])])
    assert said.exit_code == 0, said.output
    assert given[0].deterministic == deterministic
