"""Saving, amending and pruning checkpoints under kills, failing calls and a disk that fills up within a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.faults.harness import Forge, Work, kills
from tests.faults.layer import disorder

from ftrain.fit import checkpoint


def work_of(forge: Forge, scratch: Path | None = None, steps: int = 4, *, background: bool = False) -> Work:
    """Save up to a step, in the `background` or not; with `scratch`, on top of a folder of three steps."""
    if scratch is not None:
        assert forge.run("checkpoints", out=str(scratch / "before"), steps=3).error is None
    return Work(forge, "checkpoints", {"steps": steps, "background": background}, scratch and scratch / "before", sound)


def sound(out: Path) -> None:
    """Check that every checkpoint under its final name is complete, and that the pointers refer to existing ones."""
    for folder in out.glob("step-*"):
        checkpoint.check(folder)
    assert not list(out.glob("damaged-*"))
    for pointer in ("LATEST", "BEST"):
        if (out / pointer).exists():
            assert (out / (out / pointer).read_text().split()[0]).is_dir()
    if (out / "LATEST").exists():
        found = checkpoint.newest(out)
        assert found is not None
        assert found[0].name >= (out / "LATEST").read_text().strip()


@pytest.mark.slow
def test_kills(torch_forge: Forge, scratch: Path) -> None:
    kills(work_of(torch_forge, steps=6, background=True), scratch / "work", 0.3)


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("kind", ["EIO", "KILL"])
def test_every_call_fails(torch_forge: Forge, scratch: Path, kind: str, background: bool) -> None:
    assert work_of(torch_forge, scratch, background=background).faults(scratch / "work", kind) > 30


def test_every_call_fails_in_a_new_folder(torch_forge: Forge, scratch: Path) -> None:
    assert work_of(torch_forge, steps=2, background=True).faults(scratch / "work", "ENOSPC") > 30


def test_order(torch_forge: Forge, scratch: Path) -> None:
    calls = work_of(torch_forge, scratch).trace(scratch / "work")
    assert disorder(calls) == []
    renamed = [path for name, path in calls if name.split(" ")[0] in ("rename", "replace") and ".tmp." not in path]
    assert renamed.index("out/step-00000004") < renamed.index("out/LATEST")
