"""`fschemas.publish` under kills and failing calls: old or new, never in between, and nothing left after an error."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.faults.harness import Forge, Work, kills
from tests.faults.layer import disorder


@pytest.fixture
def work(forge: Forge, scratch: Path) -> Work:
    """A second version on top of a first one."""
    forge.run("publish", out=str(scratch / "before"), version=1)
    return Work(forge, "publish", {"version": 2}, scratch / "before")


def test_kills(work: Work, scratch: Path) -> None:
    kills(work, scratch / "work", 0.15)


@pytest.mark.parametrize("kind", ["ENOSPC", "EIO", "KILL"])
def test_every_call_fails(work: Work, scratch: Path, kind: str) -> None:
    assert work.faults(scratch / "work", kind) > 30


def test_every_call_fails_in_a_new_folder(forge: Forge, scratch: Path) -> None:
    assert Work(forge, "publish", {"version": 2}).faults(scratch / "work", "ENOSPC") > 30


def test_order(work: Work, scratch: Path) -> None:
    calls = work.trace(scratch / "work")
    assert disorder(calls) == []
    assert [path for name, path in calls if name.startswith("replace")][-1] == "out/last.json"


@pytest.mark.parametrize(("lost", "words"), [
    (("fsync", ".tmp.a"), ".tmp.a was renamed to a before it was synced"),
    (("fsync", "."), "the folder of a was not synced"),
])  # fmt: skip
def test_the_lint_finds_disorder(lost: tuple[str, str], words: str) -> None:
    calls = [("create", ".tmp.a"), ("write", ".tmp.a"), ("fsync", ".tmp.a"), ("replace .tmp.a", "a"), ("fsync", ".")]
    assert disorder(calls) == []
    calls.remove(lost)
    assert words in disorder(calls)[0]
