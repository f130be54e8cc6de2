"""List files of the DeepFashion benchmarks: a count line, a header line, then rows of padded columns.

    boxes = read_list(raw, folder / "list_bbox.txt", numbers=4)      # names, lines, numbers, and what is wrong with which row
    kept, places = join_lists(raw, rows, {"box": boxes})             # rows are refused where a list has no good row for them
    box = boxes.matrix(4)[places["box"]]

A row begins with one or more words (the first is the key, usually the image's path), and goes on with whole numbers or
with text. Columns are separated by blanks and tabs, never by their place: paths are longer than the padding. What is odd of a
file (no count line, no header, another number of rows than announced) is a warning, what is odd of a row a fault of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from fprep.raw.file import RawFile, RawLine
from fprep.raw.folder import RawFolder
from fprep.raw.image_names import clean_path, image_path_fault
from fprep.readers.deepfashion.list_rows import PATH, Fault, Heading, Part, read_heading, read_part
from fprep.readers.reader import safe_key

# Paths that need no closer look: parts that begin with a letter, a digit or _, and hold what released files have.
_PLAIN_PATH = r"^[A-Za-z0-9_][A-Za-z0-9_&.,';()%+!-]*(/[A-Za-z0-9_][A-Za-z0-9_&.,';()%+!-]*)*$"

Values = pl.Series | np.ndarray | list[Any]


@dataclass
class ListFile:
    """The N rows of a list file, good or bad; `faults` says by row index what is wrong with the bad ones.

    `lines` (N) are 1-based line numbers. `words` are the leading columns, `words[0]` the keys; "" where a row is too short.
    Row i has `counts[i]` numbers behind its words; they stand one row after the other in `numbers`. `texts` is the rest of
    each line instead, if that was asked for.
    """

    file: RawFile
    lines: np.ndarray
    words: tuple[pl.Series, ...]
    counts: np.ndarray
    numbers: np.ndarray
    texts: pl.Series | None = None
    faults: dict[int, Fault] = field(default_factory=dict[int, Fault])

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def names(self) -> pl.Series:
        """The first word of each row."""
        return self.words[0]

    def line(self, row: int) -> RawLine:
        """The line of a row, for messages."""
        return self.file.line(int(self.lines[row]))

    def matrix(self, width: int) -> np.ndarray:
        """The numbers as N x `width` int32: longer rows are cut, shorter ones filled with 0."""
        if len(self) and (self.counts == width).all():
            return self.numbers.reshape(-1, width)
        filled = np.zeros((len(self), width), np.int32)
        places = np.arange(width)
        inside = places < self.counts[:, None]
        first = np.cumsum(self.counts) - self.counts
        filled[inside] = self.numbers[(first[:, None] + places)[inside]]
        return filled

    def frame(self, kept: np.ndarray, columns: Mapping[str, pl.Series]) -> pl.DataFrame:
        """The rows `kept` (indices, K) with their sample keys, file and line, and with `columns` (K) of the table."""
        return pl.DataFrame({
            "key": keys_of(self.names.gather(kept)), **columns,
            "source_file": pl.repeat(self.file.name, len(kept), eager=True), "source_line": pl.Series(self.lines[kept], dtype=pl.Int32),
        })  # fmt: skip

    def require(
        self, good: ArrayLike, rule: str, message: str | Callable[[int], str], found: Values | None = None
    ) -> None:
        """Give rows where `good` (N, bool) is False a fault, unless they have one; `found` (N) are the values to quote.

        `message` is one for all rows, or made of the index of the row.
        """
        for row in np.flatnonzero(~np.asarray(good, bool)).tolist():
            if row not in self.faults:
                text = message if isinstance(message, str) else message(row)
                self.faults[row] = (rule, text, str((self.names if found is None else found)[row])[:200])

    def require_known(self, values: pl.Series, known: Collection[str], rule: str, what: str) -> None:
        """Every row has one of the `known` values (N)."""
        expected = ", ".join(known)
        good = values.is_in(list(known))
        self.require(good, rule, lambda row: f"{what} {values[row][:40]!r}, expected {expected}", values)

    def require_between(self, values: np.ndarray, low: int, high: int, rule: str, what: str) -> None:
        """Every row has a number (N) from `low` to `high`."""
        good = (values >= low) & (values <= high)
        self.require(good, rule, lambda row: f"{what} {values[row]}, expected {low} to {high}", values)


def read_list(
    raw: RawFolder, path: Path, *, words: int = 1, numbers: int | None = 0, text: bool = False, key: re.Pattern[bytes] = PATH
) -> ListFile:  # fmt: skip
    """Read a list: `words` leading columns, then `numbers` whole numbers (None: any count), or with `text` the rest as text.

    `key` is how the first word of a row begins, which tells rows from header lines; with `PATH` it is checked to be a path
    that may be opened. Heading and blank lines are entered into the books; the caller enters the rows, or `join_lists`
    does. Raises `UsageError` for a file that is not text.
    """
    file = raw.open_file(path)
    heading: Heading | None = None
    parts: list[Part] = []
    for block in file.blocks():
        if heading is None:
            heading = read_heading(raw, file, block, key)
        parts.append(read_part(file, block, heading.num_lines, words, text))
    listed = _joined_parts(file, parts, words, text)
    file.accounts["blank"] += sum(part.num_blank for part in parts)
    check_count(raw, file, heading.count if heading else None, len(listed))
    if key is PATH:
        check_paths(listed)
    if numbers is not None and not text:
        counts = listed.counts
        listed.require(
            counts == numbers, "wrong_columns", lambda row: f"{counts[row]} numbers, expected {numbers}", counts
        )
    return listed


def check_count(raw: RawFolder, file: RawFile, count: int | None, num_rows: int) -> None:
    """Warn where the count line announces another number of rows than there are."""
    if count is not None and count != num_rows:
        raw.warn("count_differs", f"{file.name}: announces {count} rows, has {num_rows}")


def join_lists(
    raw: RawFolder,
    rows: ListFile,
    others: Mapping[str, ListFile],
    *,
    keys: Mapping[str, pl.Series] | None = None,
    optional: Collection[str] = (),
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Find the row of each other list that belongs to each row of `rows`, and refuse those that have none or a bad one.

    `others` are lists by the table's column (or its beginning: "landmark") that they hold. Their keys are compared with the
    names of `rows`, or with `keys[column]` (N). In an `optional` list rows may be missing, not bad. Returns the indices of the rows kept, ascending, and
    for each column the row index in that list (-1: none). All lines of all lists are entered into the books.
    """
    good = np.ones(len(rows), bool)
    _refuse(raw, rows, good, "image", rows, np.arange(len(rows)), rows.faults)
    places: dict[str, np.ndarray] = {}
    for column, other in others.items():
        wanted = keys[column] if keys and column in keys else rows.names
        faults = dict(other.faults)
        found = _places(raw, wanted, other, faults)
        places[column] = found
        missing = np.flatnonzero(good & (found < 0)).tolist() if column not in optional else []
        for row in missing:
            name = wanted[row][:200]
            raw.reject(rows.line(row), "missing_row", f"{other.file.name} has no row for {name!r}", column, name)
        good[missing] = False
        numbers = np.zeros(len(rows.file), np.int64)
        numbers[rows.lines - 1] = np.where(found >= 0, other.lines[found], 0) if len(other) else 0
        raw.join(rows.file.name, column, other.file.name, numbers.tolist())
        _refuse(raw, rows, good, column, other, found, faults)
    kept = np.flatnonzero(good)
    return kept, {column: found[kept] for column, found in places.items()}


def _refuse(
    raw: RawFolder, rows: ListFile, good: np.ndarray, column: str, other: ListFile, found: np.ndarray, faults: dict[int, Fault]
) -> None:  # fmt: skip
    if not faults:
        return
    bad = np.zeros(len(other) + 1, bool)  # the last one for -1: no row
    bad[list(faults)] = True
    for row in np.flatnonzero(good & bad[found]).tolist():
        rule, message, what = faults[int(found[row])]
        raw.reject(rows.line(row), rule, message, place=other.line(int(found[row])), column=column, found=what)
    good &= ~bad[found]


def _places(raw: RawFolder, wanted: pl.Series, other: ListFile, faults: dict[int, Fault]) -> np.ndarray:
    """Index of the first row of `other` with each wanted key, -1 where there is none; enters its rows into the books."""
    if wanted.equals(other.names) and other.names.is_unique().all():
        other.file.accounts["joined"] += len(other)
        return np.arange(len(other))
    rows = pl.DataFrame({"name": other.names, "row": np.arange(len(other))})
    first = rows.group_by("name", maintain_order=True).agg(pl.col("row").first(), pl.col("row").alias("all"))
    for all_rows in first.filter(pl.col("all").list.len() > 1)["all"].to_list():
        _compare_twins(raw, other, all_rows, faults)
    known = rows["name"].is_in(wanted.unique().implode())
    other.file.accounts["joined"] += int(known.sum())
    other.file.accounts["left_out"] += int((~known).sum())
    for row in (~known).arg_true().to_list():
        raw.warn("row_without_image", other.line(row))
    firsts = first.select("name", "row")
    found = pl.DataFrame({"name": wanted}).join(firsts, on="name", how="left", maintain_order="left")
    return found["row"].fill_null(-1).to_numpy().copy()


def _compare_twins(raw: RawFolder, other: ListFile, twins: list[int], faults: dict[int, Fault]) -> None:
    """Equal rows of one key are a warning, different ones a fault of the first, which is the one that is joined."""
    contents = [other.line(row).content.split() for row in twins]
    for row, content in zip(twins[1:], contents[1:], strict=True):
        raw.warn("repeated_row", other.line(row))
        if content != contents[0]:
            message = f"line {other.lines[row]} says something else of {other.names[row]!r}"
            faults.setdefault(twins[0], ("conflicting_rows", message, other.names[row]))


def _joined_parts(file: RawFile, parts: list[Part], words: int, text: bool) -> ListFile:
    faults: dict[int, Fault] = {}
    num_rows = 0
    for part in parts:
        faults |= {num_rows + row: fault for row, fault in part.faults.items()}
        num_rows += len(part.lines)
    columns = [pl.Series([value for part in parts for value in part.words[k]], dtype=pl.String) for k in range(words)]
    texts = pl.Series([value for part in parts for value in part.texts], dtype=pl.String) if text else None
    lines, counts, numbers = (
        np.concatenate([np.zeros(0, np.int32), *(getattr(part, name) for part in parts)])
        for name in ("lines", "counts", "numbers")
    )
    return ListFile(file, lines, tuple(columns), counts, numbers, texts, faults)


def keys_of(names: pl.Series) -> pl.Series:
    """Sample keys of image paths: without `img/` and the extension, folders joined by `-`."""
    keys = names.str.replace("^img/", "").str.replace(r"\.[^./]*$", "").str.replace_all("/", "-", literal=True)
    return pl.Series([safe_key(key) for key in keys.to_list()], dtype=pl.String)


def clean_paths(names: pl.Series) -> pl.Series:
    """`fprep.raw.image_names.clean_path` of all names."""
    if not names.str.contains(r"\\|\./").any():
        return names
    return names.map_elements(clean_path, return_dtype=pl.String)


def unusual_paths(names: pl.Series) -> list[int]:
    """Indices of names that are not plainly paths that may be opened."""
    plain = names.str.contains(_PLAIN_PATH) & (names.str.len_bytes() <= 255)
    return (~plain).arg_true().to_list()


def check_paths(listed: ListFile, unusual: list[int] | None = None) -> None:
    """Rows whose first word is not a path that may be opened have a fault; only the `unusual` ones are looked at if given.

    `\\` and `./` of the paths are made plain.
    """
    unusual = unusual_paths(listed.names) if unusual is None else unusual
    cleaned = {row: clean_path(listed.names[row]) for row in unusual}
    if any(listed.names[row] != name for row, name in cleaned.items()):
        names = listed.names.to_list()
        for row, name in cleaned.items():
            names[row] = name
        listed.words = (pl.Series(names, dtype=pl.String), *listed.words[1:])
    for row, name in cleaned.items():
        fault = image_path_fault(name)
        if fault is not None and row not in listed.faults:
            listed.faults[row] = (*fault, listed.names[row][:200])
