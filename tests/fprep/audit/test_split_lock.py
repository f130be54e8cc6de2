"""The split lock: written by the audit, verified by shard, carried by the shard set, required by the trainer."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from tests.audit_tables import jpeg, photograph, write_audit_table
from tests.commands import run_command

from fprep.audit.command import audit
from fprep.audit.split_lock import LOCK_FILE, SplitLock
from fprep.lint.command import lint
from fprep.shard.command import shard
from fschemas.failures import ExitCode, IntegrityError, UsageError
from fschemas.shard_set import DATASET_FILE, ShardSet
from fschemas.table_file import read_metadata, read_table, write_table
from ftrain.data.split_lock import check_lock, lock_digest
from ftrain.fit.config import load_config

ROWS = [
    {"split": "train", "group": "img/a"}, {"split": "train", "group": "img/a"}, {"split": "train"},
    {"split": "val"}, {"split": "test", "group": "img/b"}, {"split": "unlabeled"},
]  # fmt: skip


@pytest.fixture
def table(tmp_path) -> Path:
    folder = write_audit_table(tmp_path, ROWS)
    audit([folder], lock=True)
    return folder


def alter(folder: Path, **columns: pl.Expr) -> None:
    path = folder / "table.parquet"
    frame = pl.DataFrame(read_table(path)).with_columns(**columns)
    write_table(path, frame.to_arrow(), read_metadata(path))


def becomes(key: str, split: str) -> pl.Expr:
    return pl.when(pl.col("key") == key).then(pl.lit(split)).otherwise(pl.col("split"))


def test_lock_holds_every_labeled_image_and_group(table):
    lock = SplitLock.read(table)
    frame = pl.DataFrame(read_table(table / "table.parquet")).filter(pl.col("split") != "unlabeled")
    expected = {sha256[:16]: split for sha256, split in frame.select("sha256", "split").rows()}
    assert lock.images == expected
    assert sorted(lock.groups.values()) == ["test", "train"]
    again = SplitLock.read(table / LOCK_FILE)
    assert again == lock
    assert again.to_bytes() == (table / LOCK_FILE).read_bytes()


def test_unchanged_table_passes_and_its_shards_carry_the_digest(table, tmp_path):
    shard(table, tmp_path / "out", lock=table, workers=1)
    digest = SplitLock.read(table).digest
    assert ShardSet.open(tmp_path / "out").metadata["lock"] == digest
    assert lint(tmp_path / "out", loaders=False) == []
    assert shard(table, tmp_path / "out", lock=table, workers=1)["unchanged"]
    assert not shard(table, tmp_path / "out", workers=1)["unchanged"]
    assert json.loads((tmp_path / "out" / DATASET_FILE).read_text())["lock"] is None


@pytest.mark.parametrize(
    ("key", "split", "words"),
    [
        ("k0004", "train", r"1 image in train, but held out by the lock \(the first is k0004: train instead of test"),
        ("k0003", "test", r"1 image in a different split than in the lock \(the first is k0003: test instead of val"),
        ("k0000", "val", r"1 image in a different split than in the lock"),
    ],
)
def test_another_split_is_refused(table, tmp_path, key, split, words):
    alter(table, split=becomes(key, split))
    with pytest.raises(IntegrityError, match=words) as caught:
        shard(table, tmp_path / "out", lock=table, workers=1)
    assert caught.value.exit_code == ExitCode.INTEGRITY
    assert not (tmp_path / "out").exists()


def test_new_image_of_a_locked_group_is_refused_and_another_one_passes(table, tmp_path):
    rows = [{**row, "pixels": photograph(1000 + number)} for number, row in enumerate(ROWS)]
    more = write_audit_table(tmp_path / "more", [*rows, {"split": "test", "pixels": photograph(7)}])
    shard(more, tmp_path / "passes", lock=table, workers=1)
    other = write_audit_table(
        tmp_path / "other", [*rows, {"split": "train", "group": "img/b", "pixels": photograph(7)}]
    )
    with pytest.raises(IntegrityError, match="of groups that are on another side in the lock"):
        shard(other, tmp_path / "out", lock=table, workers=1)


def test_what_one_benchmark_holds_out_another_must_not_train(tmp_path):
    """The lock of both: identical and near-identical images are held out if either table holds them out."""
    same, near = photograph(1), photograph(2)
    fine = write_audit_table(tmp_path / "fine", [
        {"split": "train", "pixels": same}, {"split": "train", "pixels": jpeg(near, 50)}, {"split": "train"},
    ], dataset="deepfashion-fine")  # fmt: skip
    coarse = write_audit_table(tmp_path / "coarse", [
        {"split": "test", "pixels": same, "image": "img/x.jpg"}, {"split": "val", "pixels": near}, {"split": "train", "pixels": photograph(5)},
    ], dataset="deepfashion-category")  # fmt: skip
    audit([fine, coarse], lock=True, out=tmp_path / "audit")
    with pytest.raises(IntegrityError, match="2 images in train"):
        shard(fine, tmp_path / "a", lock=tmp_path / "audit", workers=1)
    shard(coarse, tmp_path / "b", lock=tmp_path / "audit" / LOCK_FILE, workers=1)
    assert shard(fine, tmp_path / "a", lock=tmp_path / "audit", leave_out=True, workers=1)["splits"] == {"train": 1}
    metadata = ShardSet.open(tmp_path / "a").metadata
    assert (metadata["options"]["left_out"], metadata["lock"]) == (2, SplitLock.read(tmp_path / "audit").digest)
    with pytest.raises(UsageError, match="--leave-out needs a split lock"):
        shard(fine, tmp_path / "c", leave_out=True)


def test_paths_of_a_family_are_locked_together(tmp_path):
    """Without digests, the same path in two benchmarks of a family is one image, even if one table has digests."""
    for number, digests in enumerate((False, True)):
        fine = write_audit_table(
            tmp_path / f"fine{number}",
            [{"split": "train"}, {"split": "train"}],
            dataset="deepfashion-fine",
            digests=digests,
        )
        coarse = write_audit_table(
            tmp_path / f"coarse{number}", [{"split": "test"}], dataset="deepfashion-category", digests=False
        )
        for order in ([fine, coarse], [coarse, fine]):
            audit(order, lock=True, near=False, out=tmp_path / "audit")
            with pytest.raises(IntegrityError, match="1 image in train"):
                shard(fine, tmp_path / "a", lock=tmp_path / "audit", workers=1)


def test_lock_without_digests_goes_by_path(tmp_path):
    folder = write_audit_table(tmp_path, ROWS, digests=False)
    audit([folder], lock=True, near=False)
    shard(folder, tmp_path / "out", lock=folder, workers=1)
    alter(folder, split=becomes("k0004", "train"))
    with pytest.raises(IntegrityError, match="in train, but held out"):
        shard(folder, tmp_path / "out2", lock=folder, workers=1)


def test_lock_of_something_else_or_damaged(table, tmp_path):
    other = write_audit_table(tmp_path / "other", [{"split": "train", "pixels": photograph(31)}], dataset="other")
    with pytest.raises(UsageError, match=r"the lock contains none of its 1 row;"):
        shard(other, tmp_path / "out", lock=table, workers=1)
    with pytest.raises(UsageError, match="no such split lock"):
        shard(table, tmp_path / "out", lock=tmp_path / "none.json", workers=1)
    path = table / LOCK_FILE
    content = json.loads(path.read_text())
    content["images"]["train"] += content["images"].pop("test")
    path.write_text(json.dumps(content))
    with pytest.raises(IntegrityError, match="changed since it was written"):
        SplitLock.read(path)
    for text, error in (("[]", IntegrityError), ("{", IntegrityError), ('{"format": "x"}', UsageError)):
        path.write_text(text)
        with pytest.raises(error):
            SplitLock.read(path)


def test_trainer_requires_the_lock(table, tmp_path):
    """`ftrain --lock` exits with 5 before the first step, and accepts shards that carry it.

    The weights do not depend on it.
    """
    shard(table, tmp_path / "without", workers=1)
    shard(table, tmp_path / "with", lock=table, workers=1)
    digest = SplitLock.read(table).digest
    config = load_config("keypoints", None, None, [f"split_lock={table / LOCK_FILE}"])
    assert config.split_lock == digest
    assert config.digest == load_config("keypoints", None, None, []).digest
    check_lock(digest, ShardSet.open(tmp_path / "with"))
    check_lock("", ShardSet.open(tmp_path / "without"))
    with pytest.raises(IntegrityError, match=f"has the split lock {digest[:12]}"):
        check_lock("0" * 64, ShardSet.open(tmp_path / "with"))
    command = ("keypoints", tmp_path / "without", "--run", tmp_path / "run")
    done = run_command("ftrain", *command, "--lock", table / LOCK_FILE)
    assert done.returncode == 5, done.stderr
    assert "has no split lock" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such split lock"),
        ("{}", "format is missing"),
        ('{"format": "fashionkit-split-lock/1", "digest": 1}', "digest is a whole number"),
        ("[" * 9999, "nested too deeply"),
    ],
)
def test_lock_that_is_none(tmp_path, content, words):
    path = tmp_path / "lock.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(IntegrityError if content else UsageError, match=words):
        lock_digest(str(path))
