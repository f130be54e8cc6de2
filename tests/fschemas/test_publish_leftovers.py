"""Temporary files are removed if their process is dead, even if it has not been waited for."""

from __future__ import annotations

import os
import subprocess
import sys

from fschemas.publish import TEMPORARY_PREFIX, is_being_written, temporary_of


def test_a_zombie_writes_nothing(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    mine = temporary_of(tmp_path / "file")
    name = mine.name.replace(f".{os.getpid()}", f".{process.pid}")
    assert name.startswith(TEMPORARY_PREFIX)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, but still a zombie process
    assert not is_being_written(tmp_path / name)
    process.wait()
