"""`fprep shard` under kills and failing calls."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.faults.harness import Forge, Work, kills
from tests.faults.layer import Layer, disorder
from tests.small_tables import write_small_table

from fschemas.failures import UsageError
from fschemas.shard_set import ShardSet

COUNTS = {"train": 4, "val": 2}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_table(tmp_path_factory.mktemp("table"), COUNTS)


@pytest.fixture
def work(forge: Forge, table: Path, scratch: Path) -> Work:
    """A shard set with another seed on top of an old one: same names, different bytes."""
    assert forge.run("shard", table=str(table), out=str(scratch / "before")).error is None
    return Work(forge, "shard", {"table": str(table), "seed": 1}, scratch / "before", sound)


def sound(out: Path) -> None:
    """Check that whatever can be opened is complete, and that everything in it can be read."""
    try:
        shards = ShardSet.open(out, digests=True)
    except UsageError:
        assert not (out / "dataset.json").exists()
        return
    assert sum(len(shards.read(row)[0]) > 0 for row in range(len(shards))) == sum(COUNTS.values())
    shards.close()


def test_kills(work: Work, scratch: Path) -> None:
    kills(work, scratch / "work", 0.2)


@pytest.mark.slow
def test_a_thousand_kills(work: Work, scratch: Path) -> None:
    kills(work, scratch / "work", 1.0, default=1000)


@pytest.mark.slow
def test_kills_with_a_pool(forge: Forge, table: Path, scratch: Path) -> None:
    kills(Work(forge, "shard", {"table": str(table), "workers": 2}, None, sound), scratch / "work", 0.07)


@pytest.mark.slow  # two runs for each of a hundred calls; the test below covers one kind
@pytest.mark.parametrize("kind", ["EIO", "KILL"])
def test_every_call_fails(work: Work, scratch: Path, kind: str) -> None:
    assert work.faults(scratch / "work", kind) > 50


@pytest.mark.slow
def test_every_call_fails_in_a_new_folder(forge: Forge, table: Path, scratch: Path) -> None:
    assert Work(forge, "shard", {"table": str(table)}, None, sound).faults(scratch / "work", "ENOSPC") > 50


@pytest.mark.slow
def test_going_back_after_a_fault(forge: Forge, table: Path, scratch: Path) -> None:
    """A new set is interrupted, then the old one is requested again: same shard names and sizes, different bytes."""
    old = {"table": str(table), "shard_samples": 10}
    assert forge.run("shard", out=str(scratch / "before"), **old).error is None
    work = Work(forge, "shard", {**old, "seed": 1}, scratch / "before", sound)
    work.learn(scratch / "work")
    assert work.new != work.old
    back = Work(forge, "shard", old, new=work.old)
    for at in range(1, len(work.trace(scratch / "work")) + 1):
        out = work.fresh(scratch / "work")
        assert work.run(out, Layer(scratch / "work", "EIO", at)).error is not None
        back.finish(out)


def test_order(work: Work, scratch: Path) -> None:
    calls = work.trace(scratch / "work")
    assert disorder(calls) == []
    assert [path for name, path in calls if name.startswith("replace")][-1] == "out/dataset.json"
    first_shard = next(
        place for place, (name, path) in enumerate(calls) if name.startswith("replace") and path.endswith(".tar")
    )
    assert ("unlink", "out/dataset.json") in calls[:first_shard]
    assert ("fsync", "out") in calls[calls.index(("unlink", "out/dataset.json")) : first_shard]
