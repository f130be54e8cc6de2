"""`fprep convert` under kills and failing calls."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.faults.harness import Forge, Work, kills, leftovers
from tests.faults.layer import Layer, disorder
from tests.trees import tree_of

from fschemas.table_file import read_table

RAW = tree_of("deepfashion-fine")
OPTIONS = {"raw": str(RAW)}


@pytest.fixture
def work(forge: Forge, scratch: Path) -> Work:
    """A whole conversion on top of one of only a few rows."""
    assert forge.run("convert", out=str(scratch / "before"), limit=4, **OPTIONS).error is None
    return Work(forge, "convert", OPTIONS, scratch / "before", sound)


def sound(out: Path) -> None:
    """Check that existing tables can be read, and that the report is JSON."""
    for name in ("table.parquet", "rejected.parquet"):
        if (out / name).exists():
            assert read_table(out / name).num_columns > 5
    if (out / "report.json").exists():
        assert json.loads((out / "report.json").read_text())["published"]


def test_kills(work: Work, scratch: Path) -> None:
    kills(work, scratch / "work", 0.2)


@pytest.mark.slow
def test_kills_while_workers_look_at_images(forge: Forge, scratch: Path) -> None:
    kills(
        Work(forge, "convert", {**OPTIONS, "check_images": "full", "workers": 2}, None, sound), scratch / "work", 0.07
    )


@pytest.mark.slow  # two runs for each of a hundred calls; the test below covers one kind
@pytest.mark.parametrize("kind", ["EIO", "KILL"])
def test_every_call_fails(work: Work, scratch: Path, kind: str) -> None:
    assert work.faults(scratch / "work", kind) > 30


@pytest.mark.slow
def test_every_call_fails_in_a_new_folder(forge: Forge, scratch: Path) -> None:
    assert Work(forge, "convert", OPTIONS, None, sound).faults(scratch / "work", "ENOSPC") > 30


def test_full_disk_before_the_first_rename_changes_nothing(work: Work, scratch: Path) -> None:
    """All three files are written before the first is renamed, so an earlier conversion survives intact."""
    work.learn(scratch / "work")
    calls = work.trace(scratch / "work")
    first = next(
        number for number, (name, path) in enumerate(calls, 1) if name.startswith("replace") and ".tmp." not in path
    )
    for at in [number for number, (name, _) in enumerate(calls[:first], 1) if name == "write"]:
        out = work.fresh(scratch / "work")
        assert work.run(out, Layer(scratch / "work", "ENOSPC", at)).error is not None
        assert {name: digest for name, digest in work.old.items() if (out / name).exists()} == work.old
        work.inspect(out)
        assert leftovers(out) == []


def test_order(work: Work, scratch: Path) -> None:
    calls = work.trace(scratch / "work")
    assert disorder(calls) == []
    renamed = [path for name, path in calls if name.startswith("replace") and ".tmp." not in path]
    assert renamed == ["out/rejected.parquet", "out/table.parquet", "out/report.json"]
