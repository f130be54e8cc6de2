"""Trees with very many files: synced together, and published as a whole."""

import ctypes
import os

import pytest

from fschemas import publish as publishing
from fschemas.publish import publish


def fill(place, num_files):
    with publish(place) as folder:
        folder.mkdir()
        for number in range(num_files):
            (folder / str(number)).write_bytes(b"x")


@pytest.mark.parametrize("num_files", [publishing._SYNC_EACH // 2, 2 * publishing._SYNC_EACH])
def test_a_tree_is_synced_before_it_is_renamed(tmp_path, monkeypatch, num_files):
    calls: list[str] = []
    libc, sync, rename = ctypes.CDLL(None, use_errno=True), os.fsync, os.rename

    class Libc:
        def syncfs(self, descriptor: int) -> int:
            calls.append("syncfs")
            return libc.syncfs(descriptor)

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Libc())
    monkeypatch.setattr(os, "fsync", lambda descriptor: (calls.append("fsync"), sync(descriptor)))
    monkeypatch.setattr(os, "rename", lambda old, new: (calls.append("rename"), rename(old, new)))
    fill(tmp_path / "tree", num_files)
    assert len(os.listdir(tmp_path / "tree")) == num_files
    assert calls.count("fsync") == (num_files + 2 if num_files < publishing._SYNC_EACH else 1)
    assert calls[-2:] == ["rename", "fsync"]
    assert calls.count("syncfs") == (num_files > publishing._SYNC_EACH)


def test_a_disk_that_refuses_leaves_nothing(tmp_path, monkeypatch):
    class Libc:
        def syncfs(self, descriptor: int) -> int:
            ctypes.set_errno(5)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Libc())
    monkeypatch.setattr(publishing, "_SYNC_EACH", 1)
    with pytest.raises(OSError, match="Input/output error"):
        fill(tmp_path / "tree", 3)
    assert os.listdir(tmp_path) == []
