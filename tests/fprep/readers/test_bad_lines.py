"""An error in one line affects no other row: same columns, same vocabularies, same values."""

from __future__ import annotations

import itertools
import re
import shutil
from pathlib import Path

import polars as pl
import pytest
from tests.trees import tree_of

from fprep.convert.command import convert
from fprep.readers.registry import readers
from fschemas.failures import FashionkitError
from fschemas.table_file import read_metadata, read_table

# `folders` has no annotation files, and a COCO file is one document, so one broken byte affects all rows.
READERS = {name: reader for name, reader in readers().items() if name not in ("folders", "coco")}
PLACES = ["source_file", "source_line"]


def one_more(line: bytes) -> bytes:
    """Insert an extra number as the second one."""
    return re.sub(rb"^([^ ,]+[ ,]+[^ ,]+)([ ,]+)", rb"\g<1>\g<2>2\g<2>", line)


def bad_byte(line: bytes) -> bytes:
    """Insert an extra number and an invalid byte."""
    return one_more(line) + b"\xff"


def other_path(line: bytes) -> bytes:
    """Change the first letter, so that the path does not exist."""
    return b"x" + line[1:]


def read(reader: str, raw: Path, out: Path) -> tuple[pl.DataFrame, dict[str, object]]:
    convert(reader, [raw], out, check_images="none", max_rejected=1.0, workers=1)
    return pl.DataFrame(read_table(out / "table.parquet")), read_metadata(out / "table.parquet")


@pytest.mark.parametrize("name", sorted(READERS))
def test_a_bad_line_changes_no_other_row(name, tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    shutil.copytree(tree_of(name), raw)
    whole, metadata = read(name, raw, out)
    paths = [
        path for path in raw.rglob("*") if path.suffix in (".txt", ".csv", ".json") and path.name != "expected.json"
    ]
    alike = {(path.parent, re.sub(r"[0-9]+", "", path.name)): path for path in sorted(paths)}  # one of many documents
    for path, change in itertools.product(alike.values(), (bad_byte, one_more, other_path)):
        content = path.read_bytes()
        lines = content.split(b"\n")
        number = max(0, len(lines) - 3)
        lines[number] = change(lines[number])
        path.write_bytes(b"\n".join(lines))
        try:
            table, changed = read(name, raw, out)
        except FashionkitError:  # the whole file is refused
            continue
        finally:
            path.write_bytes(content)
        place = f"{change.__name__} in {path.relative_to(raw)}:{number + 1}"
        assert table.columns == whole.columns, place
        assert changed["vocabularies"].keys() == metadata["vocabularies"].keys(), place
        kept = set(map(repr, table.drop(PLACES).rows()))
        other = [row[0] for row in whole.drop(PLACES).rows() if repr(row) not in kept]
        assert len(other) <= 3, f"{place}: {other}"  # images of one item, if a line describes an item
