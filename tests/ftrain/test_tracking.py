"""Trackers: what they leave behind."""

from __future__ import annotations

import gc
import subprocess
from pathlib import Path

import pytest

from ftrain.tracking import DvcliveTracker


def test_dvclive_leaves_no_pack_of_git_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads the commit from the repository around it; in a fresh clone that stands in a pack (warnings are errors)."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").touch()
    identity = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "one"], ["gc", "-q"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    assert list(tmp_path.glob(".git/objects/pack/*.pack"))
    monkeypatch.chdir(tmp_path)
    tracker = DvcliveTracker(tmp_path / "run")
    tracker.log("training", 1, {"loss": 1.0})
    del tracker
    gc.collect()
