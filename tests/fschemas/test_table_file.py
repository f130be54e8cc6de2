"""Every flipped bit of a table's footer is detected: page checksums cover the rows, the seal everything else."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa

from fschemas.failures import IntegrityError
from fschemas.table_file import read_metadata, read_table, write_table


def test_a_flipped_bit_anywhere_is_reported_or_changes_nothing(tmp_path):
    path = tmp_path / "table.parquet"
    table = pa.table({"key": ["a", "b"], "width": pa.array([3, 4], pa.int32()), "split": ["train", "val"]})
    write_table(path, table, {"dataset": "shirts", "column_groups": ["category", "box"], "raw_root": "/data/raw"})
    good, metadata = path.read_bytes(), read_metadata(path)
    draw, told = random.Random(0), 0
    for _ in range(600):
        changed = bytearray(good)
        at = draw.randrange(len(good))
        changed[at] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        try:
            found = read_table(path).equals(table), read_metadata(path) == metadata
        except IntegrityError:
            told += 1
        else:
            assert found == (True, True), f"byte {at}"
    assert told > 400


def test_a_column_of_categories_comes_back_whole(tmp_path: Path) -> None:
    table = pa.table(
        {
            "split": pa.array(["train", "val", "train"])
            .dictionary_encode()
            .cast(pa.dictionary(pa.uint8(), pa.large_string()))
        }
    )
    write_table(tmp_path / "table.parquet", table)
    assert read_table(tmp_path / "table.parquet").column("split").to_pylist() == ["train", "val", "train"]
