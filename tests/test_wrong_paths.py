"""A wrong path is answered at once: before torch, polars and the rest of a command are imported."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import typer

import fprep.cli
import ftrain.cli

BIN = Path(sys.executable).parent
MOST = 1.5  # seconds of CPU time

WRONG = {
    "fprep convert": ["convert", "deepfashion-fine", "NOWHERE", "out"],
    "fprep shard": ["shard", "NOWHERE", "out"],
    "fprep audit": ["audit", "NOWHERE"],
    "fprep report": ["report", "NOWHERE", "page.html"],
    "fprep export": ["export", "NOWHERE", "out", "--to", "coco"],
    "fprep lint": ["lint", "NOWHERE"],
    "fprep doctor": ["doctor", "NOWHERE"],
    "ftrain keypoints": ["keypoints", "NOWHERE", "--run", "run"],
    "ftrain category": ["category", "HERE", "--run", "run", "--profile", "NOWHERE"],
    "ftrain evaluate": ["evaluate", "NOWHERE", "HERE"],
    "ftrain submit": ["submit", "HERE", "NOWHERE", "out.csv"],
    "ftrain predict": ["predict", "HERE", "NOWHERE", "--out", "out"],
    "ftrain describe": ["describe", "NOWHERE"],
    "ftrain export": ["export", "NOWHERE", "out", "--to", "onnx"],
    "ftrain summary": ["summary", "NOWHERE"],
    "ftrain compare": ["compare", "HERE", "NOWHERE"],
    "ftrain join": ["join", "HERE", "NOWHERE", "--run", "run"],
    "ftrain index": ["index", "HERE", "NOWHERE", "out"],
    "ftrain query": ["query", "NOWHERE", "HERE", "--out", "out"],
}
NO_INPUT = {"fprep sample", "fprep readers"}


def test_all_commands_are_tried() -> None:
    commands = {
        f"{name} {command}"
        for name, app in (("fprep", fprep.cli.app), ("ftrain", ftrain.cli.app))
        for command in typer.main.get_command(app).commands  # type: ignore[attr-defined]
    }
    tasks = {f"ftrain {task}" for task in ftrain.cli.CONTINUES}  # all are made by one function
    assert commands - NO_INPUT - tasks == WRONG.keys() - tasks


@pytest.mark.parametrize("command", WRONG)
def test_a_wrong_path_costs_little(command: str, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    name = command.split(maxsplit=1)[0]
    words = [{"NOWHERE": "nowhere", "HERE": str(tmp_path / "here")}.get(word, word) for word in WRONG[command]]
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    pid = os.posix_spawn(
        sys.executable, [sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r}); from {name}.cli import main; main()", *words],
        {**os.environ, "NO_COLOR": "1"}, file_actions=[(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)],
    )  # fmt: skip
    _, status, usage = os.wait4(pid, 0)
    os.close(log)
    said = (tmp_path / "log").read_text()
    assert os.waitstatus_to_exitcode(status) == 2, said
    assert "nowhere" in said
    assert len(said.splitlines()) == 1
    assert usage.ru_utime + usage.ru_stime < MOST, said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "log"]
