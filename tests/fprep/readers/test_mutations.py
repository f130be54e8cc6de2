"""Randomly broken raw files: no traceback, no hang, good rows stay, bad rows are rejected with location and reason.

`FASHIONKIT_MUTATIONS` is the number of mutations per reader (10; the slow test runs 100; use 1,000 before a release). A
failure prints the seed that repeats it: `FASHIONKIT_SEED=7 FASHIONKIT_MUTATIONS=1 pytest
tests/fprep/readers/test_mutations.py -k my-dataset`.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
from tests.fprep.readers.mutations import ANNOTATION_SUFFIXES, MUTATIONS
from tests.trees import tree_of

from fprep.convert.command import convert
from fprep.readers.reader import Reader
from fprep.readers.registry import readers
from fschemas.failures import EnvironmentProblem, FashionkitError
from fschemas.table_file import read_table

READERS = readers()


class _Outside:
    """Files opened outside the folders of a conversion, recorded by an audit hook (which cannot be removed)."""

    def __init__(self) -> None:
        self.allowed: tuple[str, ...] | None = None
        self.found: list[str] = []
        sys.addaudithook(self._look)

    def _look(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and self.allowed is not None and isinstance(arguments[0], str | bytes):
            path = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100 - inside a hook no file may be looked at
            if not path.startswith(self.allowed):
                self.found.append(path)

    @contextmanager
    def watch(self, *allowed: Path) -> Iterator[None]:
        code = {sys.prefix, sys.base_prefix, str(Path(__file__).parents[3])}
        self.found, self.allowed = [], (*map(str, allowed), *code, "/proc", "/sys", "/dev")
        try:
            yield
        finally:
            self.allowed = None
        assert not self.found, f"opened outside: {self.found[:3]}"


@pytest.fixture(scope="module")
def outside() -> _Outside:
    return _Outside()


def _keys(out: Path) -> set[str]:
    return set(pl.DataFrame(read_table(out / "table.parquet"))["key"]) if (out / "table.parquet").exists() else set()


def _convert(reader: Reader, raw: Path, out: Path) -> FashionkitError | None:
    try:
        convert(reader.name, [raw], out, check_images="none", max_rejected=1.0, workers=1)
    except FashionkitError as error:
        found = error
    else:
        return None
    assert str(found).strip(), "an error without words"
    assert "\n" not in str(found).strip(), f"more than a sentence: {found}"
    return found


def _campaign(reader: Reader, folder: Path, outside: _Outside, number: int) -> None:
    raw, out = folder / "raw", folder / "out"
    shutil.copytree(tree_of(reader), raw)
    assert _convert(reader, raw, out) is None
    whole = _keys(out)
    files = sorted(
        path
        for path in raw.rglob("*")
        if path.suffix in ANNOTATION_SUFFIXES and path.is_file() and path.name != "expected.json"
    )
    first = int(os.environ.get("FASHIONKIT_SEED", "0"))
    for seed in range(first, first + number):
        draw = random.Random(f"{reader.name}/{seed}")
        path, name = draw.choice(files), draw.choice(list(MUTATIONS))
        content = path.read_bytes()
        if not content:
            continue
        place = f"FASHIONKIT_SEED={seed} FASHIONKIT_MUTATIONS=1: {name} in {path.relative_to(raw)} for {reader.name}"
        path.write_bytes(MUTATIONS[name](content, draw))
        shutil.rmtree(out)
        try:
            with outside.watch(folder):
                error = _convert(reader, raw, out)
        except Exception as error:
            raise AssertionError(place) from error
        finally:
            path.write_bytes(content)
        assert not isinstance(error, EnvironmentProblem), place
        if error is None:
            _check_rows(out, whole, name, place)


def _check_rows(out: Path, whole: set[str], name: str, place: str) -> None:
    """Check that rows are lost only with a reason, and that an error in one line costs no other row."""
    rejected = pl.DataFrame(read_table(out / "rejected.parquet"))
    assert (rejected["rule"] != "").all(), place
    assert (rejected["message"] != "").all(), place
    assert (rejected["source_line"] >= 1).all(), place
    lost = whole - _keys(out)
    if name in ("number", "add-column", "latin-1", "unicode-space"):
        assert len(lost) <= max(2, len(rejected)), f"{place}: lost {sorted(lost)[:5]}"
    table = pl.DataFrame(read_table(out / "table.parquet"))
    assert not table["image"].str.contains(r"(^|/)\.\.(/|$)|^/|\\|\x00").any(), place


@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", sorted(READERS))
def test_a_broken_file_is_one_sentence_or_rejected_rows(name: str, tmp_path: Path, outside: _Outside) -> None:
    _campaign(READERS[name], tmp_path, outside, int(os.environ.get("FASHIONKIT_MUTATIONS", "10")))


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", sorted(READERS))
def test_many_broken_files(name: str, tmp_path: Path, outside: _Outside) -> None:
    _campaign(READERS[name], tmp_path, outside, int(os.environ.get("FASHIONKIT_MUTATIONS", "100")))
