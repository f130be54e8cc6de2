"""`fprep shard --boxes`: predicted boxes replace those of the table, or are rejected with a reason."""

import json
import re

import polars as pl
import pytest
from tests.small_tables import write_small_table
from typer.testing import CliRunner

from fprep.cli import app
from fprep.convert.source_table import SourceTable
from fprep.lint.command import lint
from fprep.shard.command import shard
from fschemas.failures import UsageError
from fschemas.shard_set import ShardSet
from fschemas.table_file import read_metadata, read_table, write_table
from fschemas.tables import table_named

COUNTS = {"train": 4, "test": 3}


@pytest.fixture
def table(tmp_path):
    return write_small_table(tmp_path, COUNTS)


def answers_for(table, folder, **other):
    """Predictions as from `ftrain predict`: the same box for every key, except those in `other`."""
    folder.mkdir()
    keys = SourceTable.open(table).frame["key"].to_list()
    lines = [
        json.dumps({"key": key, "category": "dress", "box": other.get(key, [2.5, 3.0, 20.25, 21.0])}) for key in keys
    ]
    (folder / "predictions.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def without_boxes(table):
    """The table as written by a reader without boxes."""
    metadata = read_metadata(table)
    frame = pl.DataFrame(read_table(table)).drop("box")
    groups = ["landmarks", "attributes"]
    write_table(table, frame.to_arrow(), {**metadata, "table": "+".join(groups), "column_groups": groups})
    return table


def test_found_boxes_take_the_place_of_those_of_the_table(table, tmp_path):
    found = answers_for(table, tmp_path / "found", k0001=[1.0, 1.0, 9.0, 9.5])
    own = shard(table, tmp_path / "own", workers=1)
    other = shard(table, tmp_path / "out", boxes=[found], workers=1)
    assert own["plan_id"] != other["plan_id"]
    assert shard(table, tmp_path / "out", boxes=[found / "predictions.jsonl"], workers=1)["unchanged"]
    shards = ShardSet.open(tmp_path / "out", digests=True)
    boxes = {note["key"]: note["box"] for note in map(shards.read_annotation, range(len(shards)))}
    assert boxes.pop("k0001") == [1.0, 1.0, 9.0, 9.5]
    assert list(boxes.values()) == [[2.5, 3.0, 20.25, 21.0]] * 6
    assert lint(tmp_path / "out", loaders=False) == []


def test_a_table_without_boxes_gets_some(table, tmp_path):
    bare = without_boxes(table)
    shard(bare, tmp_path / "out", boxes=[answers_for(bare, tmp_path / "found")], workers=1)
    shards = ShardSet.open(tmp_path / "out", digests=True)
    assert sorted(shards.metadata["column_groups"]) == ["attributes", "box", "landmarks"]
    assert "box" in table_named(shards.metadata["table"]).column_names()
    shards.require(("box",))
    assert shards.read_annotation(0)["box"] == [2.5, 3.0, 20.25, 21.0]
    assert lint(tmp_path / "out", loaders=False) == []


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([20, 3, 10, 30], "the box [20.0, 3.0, 10.0, 30.0] of k0002 is empty or extends beyond the image"),
        ([1, 1, 999, 9], "of k0002 is empty or extends beyond the image"),
        ([1, 1, 9], "of k0002 is empty or extends beyond the image"),
        ([1, 1, 9, float("nan")], "predictions.jsonl:3: not a prediction of `ftrain predict` over a shard set"),
        (["a", 1, 9, 9], "predictions.jsonl:3: not a prediction"),
        (7, "predictions.jsonl:3: not a prediction"),
    ],
)
def test_boxes_that_are_none_are_refused(box, message, table, tmp_path):
    found = answers_for(table, tmp_path / "found", k0002=box)
    with pytest.raises(UsageError, match=re.escape(message)):
        shard(table, tmp_path / "out", boxes=[found], workers=1)
    assert not (tmp_path / "out").exists()


def test_every_image_needs_a_box(table, tmp_path):
    found = answers_for(table, tmp_path / "found")
    path = found / "predictions.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:5]) + '{"key": "k0005", "error": "cannot be decoded"}\n')
    with pytest.raises(UsageError, match=r"no box for 2 of 7 images .* such as k0005; predict every split"):
        shard(table, tmp_path / "out", boxes=[found], workers=1)
    (tmp_path / "rest").mkdir()
    (tmp_path / "rest/predictions.jsonl").write_text("".join(lines[5:]))
    call = [
        "shard",
        str(table),
        str(tmp_path / "out"),
        "--boxes",
        str(found),
        "--boxes",
        str(tmp_path / "rest"),
        "--quiet",
    ]
    assert CliRunner().invoke(app, call).exit_code == 0
    with pytest.raises(UsageError, match="no such file; write one with `ftrain predict"):
        shard(table, tmp_path / "out", boxes=[tmp_path / "nowhere"], workers=1)
