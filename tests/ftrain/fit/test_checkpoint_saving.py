"""Failed or killed saves: the previous checkpoint stays, the new one is complete or absent."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.ftrain.small_checkpoints import save, steps

from fschemas import publish
from fschemas.failures import EnvironmentProblem, ExitCode, explain
from ftrain.fit.checkpoint import check, clean, load_tensors, newest, save_checkpoint
from ftrain.fit.checkpoint_state import TrainingState, step_folder
from ftrain.fit.tensor_file import TensorFile


@pytest.mark.parametrize("call", ["write", "write_bytes", "fsync", "rename", "replace"])
def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    save(tmp_path, 1, keep=1)

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    place = {"write": (TensorFile, "write"), "write_bytes": (Path, "write_bytes")}.get(call, (os, call))
    with monkeypatch.context() as patch:
        patch.setattr(*place, full)
        with pytest.raises(OSError, match="No space left") as caught:
            save(tmp_path, 2, keep=1)
    assert explain(caught.value) is not None
    assert explain(caught.value)[0] == ExitCode.ENVIRONMENT  # type: ignore[index]
    check(tmp_path / step_folder(1))
    if call != "replace":  # the last call: the new checkpoint exists, only LATEST could not be updated
        assert steps(tmp_path) == [1]
    assert (tmp_path / "LATEST").read_text() == "step-00000001\n"
    save(tmp_path, 2, keep=1)
    assert steps(tmp_path) == [2]


@pytest.mark.parametrize("limit", [100, 3000])
def test_a_real_write_error_is_one_of_the_environment(tmp_path: Path, limit: int) -> None:
    """The kernel refuses bytes beyond the limit, in the tensors or in the state."""
    save(tmp_path, 1)
    big = {"model": {"weight": torch.zeros(400 if limit == 3000 else 10)}}
    if limit == 3000:
        big["optimizer"] = {"weight": torch.zeros(2000)}
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        with pytest.raises((EnvironmentProblem, OSError)) as caught:
            save_checkpoint(tmp_path, TrainingState(step=2), big, keep=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, ignored)
    code, sentence = explain(caught.value) or (None, "")
    assert code == ExitCode.ENVIRONMENT
    assert str(tmp_path / "step-00000002") in sentence
    assert sorted(path.name for path in tmp_path.iterdir()) == ["LATEST", "step-00000001"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_save_killed_at_any_call_leaves_old_or_new(tmp_path: Path) -> None:
    """The process dies before its k-th file-changing call, for every k until a save succeeds."""
    calls = 0
    while True:
        calls += 1
        folder = tmp_path / str(calls)
        save(folder, 1, keep=1)
        pid = os.fork()
        if pid == 0:
            _die_before(calls, partial(save, folder, 2, keep=1, value=0.25))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with publish.exclusive(folder):  # removes leftovers
            reasons = clean(folder, keep=1)
        found = newest(folder)
        assert found is not None
        assert reasons == found[2] == []
        assert (folder / "LATEST").read_text().strip() == found[0].name
        assert {path.name.split("-")[0] for path in folder.iterdir()} == {"LATEST", "step"}, "no leftovers"
        for path in folder.glob("step-*"):
            check(path)  # the old one too: complete or removed
        save(folder, 2, keep=1, value=0.25)
        assert steps(folder) == [2]
        assert torch.equal(load_tensors(folder / step_folder(2), "model")["weight"], torch.full((3, 2), 0.25))
        if code == 0:
            break
    assert calls > 15


def _die_before(call: int, work: Any) -> None:
    """In a forked child: allow the calls before number `call`."""
    left = call

    def counted(function: Any) -> Any:
        def wrapper(*arguments: object, **options: object) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os._exit(137)
            return function(*arguments, **options)

        return wrapper

    for module, name in [
        (os, "fsync"), (os, "rename"), (os, "replace"), (os, "unlink"), (os, "rmdir"), (os, "mkdir"), (Path, "write_bytes"),
        (Path, "mkdir"), (Path, "rename"), (TensorFile, "write"), (shutil, "rmtree"), (publish, "_sync"),
    ]:  # fmt: skip
        setattr(module, name, counted(getattr(module, name)))
    try:
        work()
        os._exit(0)
    finally:
        os._exit(1)
