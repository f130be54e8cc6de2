"""Untrusted sets, runs and indices: no name in them escapes its folder."""

import json

import pyarrow as pa
import pytest
from tests.shard_sets import write_shard_set

from fschemas.failures import IntegrityError, UsageError
from fschemas.json_file import seal
from fschemas.publish import sha256_of
from fschemas.shard_set import ShardSet
from fschemas.table_file import read_table, write_table
from ftrain.data.remote import open_shards
from ftrain.fit import checkpoint
from ftrain.fit.run_folder import RunFolder

BAD_KEYS = ("../../pwned", "/tmp/pwned", "a/b", "a\n", "", ".", "x" * 95, "바지", None)
BAD_NAMES = ("../up.tar", "/tmp/train.tar", "a/b.tar", "..tar", ".tar", "train-000000.tar\n", "train.json", "")
BAD_DIGESTS = ("../../x", "0" * 63, "0" * 63 + "G", "", None)


@pytest.fixture
def place(tmp_path):
    return write_shard_set(tmp_path / "set", {"train": 9, "val": 3})


def change_index(place, column, change):
    path = place / "index.parquet"
    table = read_table(path)
    values = table.column(column).to_pylist()
    values[4] = change
    write_table(path, table.set_column(table.column_names.index(column), column, pa.array(values)))
    change_metadata(place, lambda value: value.update(index={"sha256": sha256_of(path), "bytes": path.stat().st_size}))


def change_metadata(place, change):
    metadata = json.loads((place / "dataset.json").read_text())
    change(metadata)
    (place / "dataset.json").write_text(json.dumps(seal(metadata)))


def refused(place, words, monkeypatch):
    """Check that folder and remote set are refused as damaged, and that nothing is written next to the cache."""
    cache = place.parent / "deep/down/cache"
    monkeypatch.setattr("ftrain.data.remote._PAUSE", 0.0)
    with pytest.raises(IntegrityError, match=words):
        ShardSet.open(place)
    with pytest.raises(IntegrityError, match=words):
        open_shards(f"file://{place}", cache=cache)
    assert sorted(path.name for path in place.parent.iterdir()) == ["deep", "set"]
    assert [path.name for path in cache.parent.iterdir()] == ["cache"]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_keys(place, key, monkeypatch):
    change_index(place, "key", key)
    refused(place, "is not a key of a sample", monkeypatch)


def test_a_key_of_two_samples(place, monkeypatch):
    change_index(place, "key", "s00001")
    refused(place, "a key occurs twice", monkeypatch)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_shard_names(place, name, monkeypatch):
    change_metadata(place, lambda value: value["shards"][1].update(name=name))
    refused(place, r"dataset\.json: shards\[1\]\.name is ", monkeypatch)


@pytest.mark.parametrize("digest", BAD_DIGESTS)
def test_digests(place, digest, monkeypatch):
    before = (place / "dataset.json").read_text()
    change_metadata(place, lambda value: value["shards"][1].update(sha256=digest))
    refused(place, r"dataset\.json: shards\[1\]\.sha256 is ", monkeypatch)
    (place / "dataset.json").write_text(before)
    change_metadata(place, lambda value: value["index"].update(sha256=digest))
    refused(place, r"dataset\.json: index\.sha256 is ", monkeypatch)


@pytest.mark.parametrize(("column", "value"), [("shard", 3), ("shard", -1), ("image_offset", -1), ("json_size", -5)])
def test_places_of_samples(place, column, value, monkeypatch):
    change_index(place, column, value)
    refused(place, f"{column} has invalid values", monkeypatch)


@pytest.mark.parametrize("name", ["../../step-00000001", "/tmp", "..", ".", ""])
def test_checkpoints(tmp_path, name):
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    (tmp_path / "step-00000001").mkdir()
    (tmp_path / "run/checkpoints/BEST").write_text(name + "\n")
    with pytest.raises(IntegrityError, match="is not the name of a checkpoint"):
        checkpoint.best(tmp_path / "run/checkpoints")
    with pytest.raises(UsageError, match="no checkpoint"):
        RunFolder(tmp_path / "run")._checkpoint(name)
