"""Damaged JSON documents of sets, runs, indices and locks: one message and its exit code, or the same content."""

import json
import os
import shutil
from collections import deque
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.shard_sets import write_shard_set

from fprep.audit.split_lock import SplitLock
from fprep.lint.command import lint
from fprep.shard.finish import existing_plan_id
from fschemas.failures import EnvironmentProblem, FashionkitError, IntegrityError
from fschemas.shard import read_record
from fschemas.shard_set import ShardSet
from ftrain.data.split_lock import lock_digest
from ftrain.fit import checkpoint
from ftrain.fit.checkpoint import save_checkpoint
from ftrain.fit.checkpoint_state import TrainingState
from ftrain.fit.tracking import CsvTracker
from ftrain.metrics.exact_search import Features
from ftrain.search.index_file import IndexFolder, write_index

READERS = {
    "set/dataset.json": (lambda root: ShardSet.open(root / "set").metadata, lambda root: existing_plan_id(root / "set"),
                         lambda root: lint(root / "set", loaders=False)),
    "set/meta/train-000000.json": (lambda root: read_record(root / "set", "train-000000.tar"), lambda root: lint(root / "set", loaders=False)),
    "index/index.json": (lambda root: IndexFolder.open(root / "index").approximation,),
    "checkpoints/step-00000003/state.json": (lambda root: checkpoint.check(root / "checkpoints/step-00000003"),
                                             lambda root: checkpoint.newest(root / "checkpoints")),
    "splits.lock.json": (lambda root: SplitLock.read(root / "splits.lock.json"), lambda root: lock_digest(str(root / "splits.lock.json"))),
}  # fmt: skip
WRONG = (None, True, -1, 1.5, "x", "../../x", [], [None], {}, {"a": [1]}, 10**30, "\ud800")
CONTENTS = {
    "empty": b"", "a list": b"[]", "a number": b"3", "null": b"null", "cut": b'{"format": "fash', "not UTF-8": b'{"format": "\xad"}',
    "UTF-16": '{"format": 1}'.encode("utf-16"), "deep list": b"[" * 100_000, "deep object": b'{"a":' * 100_000, "NaN": b'{"format": NaN}',
    "long number": b'{"format": ' + b"9" * 5000 + b"}", "NUL": bytes(500),
}  # fmt: skip


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    root = tmp_path_factory.mktemp("sound")
    write_shard_set(root / "set", {"train": 9, "val": 3})
    features = np.eye(4, 6, dtype=np.float32)
    items = {name: [""] * 4 for name in ("key", "split", "item", "category", "image", "sha256")} | {"row": np.arange(4)}
    (root / "index").mkdir()
    write_index(root / "index", Features(features), items, {"run": {"path": "run"}, "shards": {"path": "set"}})
    save_checkpoint(root / "checkpoints", TrainingState(step=3), {"model": {"weight": torch.ones(2)}}, keep=1)
    lock = SplitLock({"0" * 16: "train", "1" * 16: "test"}, {"2" * 16: "val"})
    (root / "splits.lock.json").write_bytes(lock.to_bytes())
    return root


@pytest.fixture
def root(sound, tmp_path):
    return Path(shutil.copytree(sound, tmp_path / "copy"))


def changed(value):
    """All variants with one entry missing or of another type, down to the first element of each list."""
    if isinstance(value, dict):
        for name, inner in value.items():
            rest = {key: one for key, one in value.items() if key != name}
            yield rest
            for other in WRONG:
                yield {**value, name: other}
            for deeper in changed(inner):
                yield {**value, name: deeper}
    elif isinstance(value, list) and value:
        for other in WRONG:
            yield [other, *value[1:]]
        for deeper in changed(value[0]):
            yield [deeper, *value[1:]]


def error_of(read, root):
    """The reader's fashionkit error, if any; any other exception fails the test."""
    try:
        read(root)
    except FashionkitError as error:
        return error
    return None


def check(errors):
    """Check that each error is one message with its exit code."""
    for error in filter(None, errors):
        assert error.exit_code in (2, 4, 5)
        assert "\n" not in str(error)
        assert len(str(error)) < 500


def try_all(root, name):
    """Run all readers of the file; only fashionkit errors are allowed."""
    check([error_of(read, root) for read in READERS[name]])


@pytest.mark.parametrize("name", READERS)
def test_the_sound_ones_are_read(root, name):
    for read in READERS[name]:
        read(root)


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_document(root, name, content):
    (root / name).write_bytes(CONTENTS[content])
    try_all(root, name)


@pytest.mark.parametrize("name", READERS)
def test_entries_that_are_missing_or_of_another_kind(root, name):
    document = json.loads((root / name).read_bytes())
    for number, other in enumerate(changed(document)):
        (root / name).write_text(json.dumps(other))
        if name.startswith("set/") and number % 5:  # the rest only by the cheap reader: lint reads the whole set
            check([error_of(READERS[name][0], root)])
        else:
            try_all(root, name)


def test_a_set_that_is_written_anew_is_not_damaged(root):
    shards = ShardSet.open(root / "set")
    other = write_shard_set(root / "other", {"train": 8, "val": 4})
    for path in sorted(other.rglob("*")):
        if path.is_file():
            os.replace(path, root / "set" / path.relative_to(other))
    with pytest.raises(EnvironmentProblem, match="was rewritten while it was read; wait"):
        deque(map(shards.read, range(len(shards))), maxlen=0)


def test_a_set_that_is_damaged_reports_so(root):
    shards = ShardSet.open(root / "set")
    path = root / "set/train-000000.tar"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(IntegrityError, match="is damaged"):
        shards.read(0)


def test_an_index_with_features_that_are_not_finite(root):
    features = np.eye(4, 6, dtype=np.float32)
    features[2, 1] = np.nan
    items = {name: [""] * 4 for name in ("key", "split", "item", "category", "image", "sha256")} | {"row": np.arange(4)}
    write_index(root / "index", Features(features), items, {"run": {"path": "run"}, "shards": {"path": "set"}})
    with pytest.raises(
        IntegrityError, match=r"features\.npy: the features of row 2 are not finite; build the index again"
    ):
        IndexFolder.open(root / "index")


@pytest.mark.parametrize("name", ["training.csv", "validation.csv"])
def test_metrics_that_are_not_utf8(tmp_path, name):
    (tmp_path / name).write_bytes(b"step,\xff\n1,2\n")
    with pytest.raises(IntegrityError, match=f"{name}: not UTF-8"):
        CsvTracker(tmp_path).rewind(1)
    with pytest.raises(IntegrityError, match=f"{name}: not UTF-8"):
        CsvTracker(tmp_path).log(name.removesuffix(".csv"), 2, {"loss": 1.0})
