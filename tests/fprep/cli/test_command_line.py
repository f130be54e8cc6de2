"""Options of every fprep command: `--json`, `--limit`, `--quiet`, and `--dry-run` if it writes; progress on stderr.

`sample` has `--num-images` instead of `--limit`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from tests.commands import run_command

from fprep.cli import app

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
WRITING = {"sample", "convert", "shard", "audit", "report", "export"}
FPREP = Path(sys.executable).with_name("fprep")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A synthetic raw tree, its table and its shards."""
    folder = tmp_path_factory.mktemp("work")
    for words in (
        ("sample", "fashionai-keypoints", folder / "raw", "--num-images", 12),
        ("convert", "fashionai-keypoints", folder / "raw", folder / "table"),
        ("shard", folder / "table", folder / "shards"),
    ):
        assert run_command("fprep", *words, "--workers", 1, "--quiet").returncode == 0
    return folder


def run(*words):
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(
        [FPREP, *map(str, words)], capture_output=True, text=True, check=True, timeout=120, env=environment
    )


def test_all_commands_are_known():
    assert set(COMMANDS) == WRITING | {"readers", "lint", "doctor"}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_options_that_all_have(name):
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    expected = {"--json"} | ({"--dry-run"} if name in WRITING else set())
    if name != "readers":  # it reads nothing and returns at once
        expected |= {"--quiet", "--num-images" if name == "sample" else "--limit"}
    assert expected <= options


def calls(work):
    return {
        "sample": ("kfashion", work / "new", "--no-images", "--num-images", "3", "--dry-run"),
        "convert": ("fashionai-keypoints", work / "raw", work / "new", "--limit", "3", "--dry-run"),
        "shard": (work / "table", work / "new", "--limit", "3", "--dry-run"),
        "audit": (work / "table", "--out", work / "new", "--limit", "3", "--dry-run"),
        "report": (work / "table", work / "new.html", "--limit", "3", "--dry-run"),
        "export": (work / "table", work / "new", "--to", "coco", "--limit", "3", "--dry-run"),
        "lint": (work / "shards", "--limit", "1", "--no-loaders"),
        "doctor": (work / "raw", "--limit", "50", "--try"),
        "readers": (),
    }


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_json_is_all_that_stdout_gets_and_a_dry_run_writes_nothing(work, name, capfd):
    """What native code prints counts as well."""
    before = sorted(path.name for path in work.iterdir() if not path.name.startswith("."))
    words = [name, *map(str, calls(work)[name]), "--json"]
    words += ["--workers", "1"] if name in ("sample", "convert", "shard", "audit") else []
    capfd.readouterr()
    app(words, standalone_mode=False)
    json.loads(capfd.readouterr().out)
    assert sorted(path.name for path in work.iterdir() if not path.name.startswith(".")) == before
    if name != "readers":
        app([*words, "--quiet"], standalone_mode=False)
        assert capfd.readouterr().err == ""


def test_progress_is_on_stderr(work):
    """Of the installed command, with workers."""
    assert "images: 12/12" in run("convert", "fashionai-keypoints", work / "raw", work / "new", "--dry-run").stderr
    assert "fashionai-keypoints: images: 12/12" in run("doctor", work / "raw", "--try").stderr
    assert "rendering: 2/2" in run("sample", "kfashion", work / "other", "--no-images", "--num-images", "2").stderr
