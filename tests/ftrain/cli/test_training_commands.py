"""Options of the training commands, and their record in the receipt."""

from __future__ import annotations

import sys

import pytest
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
