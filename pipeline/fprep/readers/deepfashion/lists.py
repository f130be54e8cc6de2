"""List files of the DeepFashion benchmarks: a count line, a header line, then rows of padded columns.

    boxes = read_list(raw, folder / "list_bbox.txt", numbers=4)      # names, lines, numbers, and problems by row
    kept, indices = join_lists(raw, rows, {"box": boxes})             # rejects rows without a valid row in each list
    box = boxes.matrix(4)[indices["box"]]

A row starts with one or more words (the first is the key, usually the path of the image), followed by integers or text.
Columns are separated by spaces and tabs, not by position: paths may be longer than the padding. Irregularities of a
file (missing count line or header, wrong row count) are warnings; those of a row are problems.
"""

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
from fprep.raw.image_names import clean_path, image_path_problem
from fprep.readers.deepfashion.list_rows import PATH, Part, Problem, read_heading, read_part
from fprep.readers.reader import safe_key
from fschemas.failures import UsageError

# Paths that need no further check: parts of common characters, starting with a letter, digit or _.
_PLAIN_PATH = r"^[A-Za-z0-9_][A-Za-z0-9_&.,';()%+!-]*(/[A-Za-z0-9_][A-Za-z0-9_&.,';()%+!-]*)*$"

Values = pl.Series | np.ndarray | list[Any]


@dataclass
class ListFile:
    """The N rows of a list file, valid or not; `problems` maps the index of an invalid row to its problem.

    `lines` (N) are 1-based line numbers. `words` are the leading columns, `words[0]` the keys; "" if a row is too
    short. Row i has `counts[i]` numbers after its words, concatenated for all rows in `numbers`. `texts` is the rest of
    each line instead, if requested.
    """

    file: RawFile
    lines: np.ndarray
    words: tuple[pl.Series, ...]
    counts: np.ndarray
    numbers: np.ndarray
    texts: pl.Series | None = None
    problems: dict[int, Problem] = field(default_factory=dict[int, Problem])

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def names(self) -> pl.Series:
        """The first word of each row."""
        return self.words[0]

    def line(self, row: int) -> RawLine:
        """Return the line of a row, for messages."""
        return self.file.line(int(self.lines[row]))

    def matrix(self, width: int) -> np.ndarray:
        """Return the numbers as N x `width` int32: longer rows are truncated, shorter ones padded with 0."""
        if len(self) and (self.counts == width).all():
            return self.numbers.reshape(-1, width)
        filled = np.zeros((len(self), width), np.int32)
        columns = np.arange(width)
        inside = columns < self.counts[:, None]
        first = np.cumsum(self.counts) - self.counts
        filled[inside] = self.numbers[(first[:, None] + columns)[inside]]
        return filled

    def frame(self, kept: np.ndarray, columns: Mapping[str, pl.Series]) -> pl.DataFrame:
        """Return the rows `kept` (indices, K) with sample key, file and line, and with the table's `columns` (K)."""
        names = self.names.gather(kept).str.replace("^img/", "").str.replace(r"\.[^./]*$", "")
        keys = [
            safe_key(name) for name in names.str.replace_all("/", "-", literal=True)
        ]  # without `img/` and extension
        return pl.DataFrame({
            "key": pl.Series(keys, dtype=pl.String), **columns,
            "source_file": pl.repeat(self.file.name, len(kept), eager=True),
            "source_line": pl.Series(self.lines[kept], dtype=pl.Int32),
        })  # fmt: skip

    @property
    def good(self) -> np.ndarray:
        """The rows without a problem (N, bool)."""
        good = np.ones(len(self), bool)
        good[list(self.problems)] = False
        return good

    def boxes(self, indices: np.ndarray) -> pl.Series:
        """Return the last four numbers of these rows as boxes in pixel centers."""
        return pl.Series((self.matrix(4)[indices] - 1).astype(np.float32)).arr.to_list()

    def require(
        self, good: ArrayLike, rule: str, message: str | Callable[[int], str], found: Values | None = None
    ) -> None:
        """Add a problem to rows where `good` (N, bool) is False, unless they have one.

        `message` is one text for all rows, or a function of the row index; `found` (N) are the values to quote.
        """
        for row in np.flatnonzero(~np.asarray(good, bool)).tolist():
            if row not in self.problems:
                text = message if isinstance(message, str) else message(row)
                self.problems[row] = (rule, text, str((self.names if found is None else found)[row])[:200])

    def require_known(self, values: pl.Series, known: Collection[str], rule: str, what: str) -> None:
        """Require one of the `known` values in every row (N)."""
        expected = ", ".join(known)
        good = values.is_in(list(known))
        self.require(good, rule, lambda row: f"{what} {values[row][:40]!r}, expected {expected}", values)

    def require_between(self, values: np.ndarray, low: int, high: int, rule: str, what: str) -> np.ndarray:
        """Require a number (N) from `low` to `high` in every row; return the rows that have one (N, bool)."""
        good = (values >= low) & (values <= high)
        self.require(good, rule, lambda row: f"{what} {values[row]}, expected {low} to {high}", values)
        return good

    def require_each(self, good: np.ndarray, values: np.ndarray, rule: str, message: str) -> None:
        """Require all of several values of a row: `good` and `values` are (N, K).

        `message` is formatted with the first bad `value` and its 1-based `number`.
        """
        first = (~good).argmax(1)
        found = np.take_along_axis(values, first[:, None], 1)[:, 0]
        self.require(good.all(1), rule, lambda row: message.format(value=found[row], number=first[row] + 1), found)

    def reject_bad(self, raw: RawFolder, column: str) -> None:
        """Reject the rows of the list that have a problem, instead of the rows that they are joined to."""
        for row, (rule, message, found) in self.problems.items():
            raw.reject(self.line(row), rule, message, column=column, found=found)


def read_list(
    raw: RawFolder,
    path: Path,
    *,
    words: int = 1,
    numbers: int | None = 0,
    text: bool = False,
    key: re.Pattern[bytes] = PATH,
) -> ListFile:
    """Read a list: `words` leading columns, then `numbers` integers (None: any count), or the rest as text with `text`.

    `key` matches the start of the first word of a row, to distinguish rows from header lines; with `PATH`, the word
    must also be a path that may be opened. Heading and blank lines are accounted for here, rows by the caller or
    `join_lists`. Raises `UsageError` for a file that is not text.
    """
    file = raw.open_file(path)
    heading: tuple[int | None, int] | None = None
    parts: list[Part] = []
    for block in file.blocks():
        heading = heading or read_heading(raw, file, block, key)
        parts.append(read_part(file, block, heading[1], words, text))
    listed = _joined_parts(file, parts, words, text)
    file.accounts["blank"] += sum(part.num_blank for part in parts)
    check_count(raw, file, heading[0] if heading else None, len(listed))
    if key is PATH:
        check_paths(listed)
    if numbers is not None and not text:
        counts = listed.counts
        listed.require(
            counts == numbers, "wrong_columns", lambda row: f"{counts[row]} numbers, expected {numbers}", counts
        )
    return listed


def read_rows(raw: RawFolder, path: Path, *, words: int = 1, numbers: int | None = 0, text: bool = False) -> ListFile:
    """Read a list with `read_list`; raises `UsageError` for a file without rows, e.g. one emptied by a tool."""
    listed = read_list(raw, path, words=words, numbers=numbers, text=text)
    if not len(listed):
        name = listed.file.name
        raise UsageError(f"{name}: no row that begins with the path of an image; restore it from the archive")
    return listed


def check_count(raw: RawFolder, file: RawFile, count: int | None, num_rows: int) -> None:
    """Warn if the count line differs from the number of rows."""
    if count is not None and count != num_rows:
        raw.warn("count_differs", f"{file.name}: announces {count} rows, has {num_rows}")


def join_lists(
    raw: RawFolder, rows: ListFile, others: Mapping[str, ListFile], *, optional: Collection[str] = ()
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Find the row of each other list for each row of `rows`; reject rows without one or with an invalid one.

    `others` are lists by the table column (or its prefix, e.g. "landmark") that they contain. In an `optional` list,
    rows may be missing, but not invalid. Returns the indices of the kept rows, ascending, and for each column the row
    index in that list (-1: none). All lines of all lists are accounted for.
    """
    good = np.ones(len(rows), bool)
    _refuse(raw, rows, good, "image", rows, np.arange(len(rows)), rows.problems)
    indices: dict[str, np.ndarray] = {}
    for column, other in others.items():
        problems = dict(other.problems)
        found = indices[column] = _row_indices(raw, rows.names, other, problems)
        missing = np.flatnonzero(good & (found < 0)).tolist() if column not in optional else []
        for row in missing:
            name = rows.names[row][:200]
            raw.reject(rows.line(row), "missing_row", f"{other.file.name} has no row for {name!r}", column, name)
        good[missing] = False
        numbers = np.zeros(len(rows.file), np.int64)
        numbers[rows.lines - 1] = np.where(found >= 0, other.lines[found], 0) if len(other) else 0
        raw.join(rows.file.name, column, other.file.name, numbers.tolist())
        _refuse(raw, rows, good, column, other, found, problems)
    kept = np.flatnonzero(good)
    return kept, {column: found[kept] for column, found in indices.items()}


def _refuse(
    raw: RawFolder,
    rows: ListFile,
    good: np.ndarray,
    column: str,
    other: ListFile,
    found: np.ndarray,
    problems: dict[int, Problem],
) -> None:
    if not problems:
        return
    bad = np.zeros(len(other) + 1, bool)  # the last entry is for -1: no row
    bad[list(problems)] = True
    for row in np.flatnonzero(good & bad[found]).tolist():
        rule, message, what = problems[int(found[row])]
        raw.reject(rows.line(row), rule, message, location=other.line(int(found[row])), column=column, found=what)
    good &= ~bad[found]


def _row_indices(raw: RawFolder, wanted: pl.Series, other: ListFile, problems: dict[int, Problem]) -> np.ndarray:
    """Return the index of the first row of `other` with each wanted key, -1 if there is none; accounts for its rows."""
    if wanted.equals(other.names) and other.names.is_unique().all():
        other.file.accounts["joined"] += len(other)
        return np.arange(len(other))
    rows = pl.DataFrame({"name": other.names, "row": np.arange(len(other))})
    first = rows.group_by("name", maintain_order=True).agg(pl.col("row").first(), pl.col("row").alias("all"))
    for all_rows in first.filter(pl.col("all").list.len() > 1)["all"].to_list():
        _compare_twins(raw, other, all_rows, problems)
    known = rows["name"].is_in(wanted.unique().implode())
    other.file.accounts["joined"] += int(known.sum())
    other.file.accounts["left_out"] += int((~known).sum())
    for row in (~known).arg_true().to_list():
        raw.warn("row_without_image", other.line(row))
    firsts = first.select("name", "row")
    found = pl.DataFrame({"name": wanted}).join(firsts, on="name", how="left", maintain_order="left")
    return found["row"].fill_null(-1).to_numpy().copy()


def _compare_twins(raw: RawFolder, other: ListFile, twins: list[int], problems: dict[int, Problem]) -> None:
    """Warn about identical rows with one key; different ones are a problem of the first row, which is joined."""
    contents = [other.line(row).content.split() for row in twins]
    for row, content in zip(twins[1:], contents[1:], strict=True):
        raw.warn("repeated_row", other.line(row))
        if content != contents[0]:
            message = f"line {other.lines[row]} differs for {other.names[row]!r}"
            problems.setdefault(twins[0], ("conflicting_rows", message, other.names[row]))


def _joined_parts(file: RawFile, parts: list[Part], words: int, text: bool) -> ListFile:
    problems: dict[int, Problem] = {}
    num_rows = 0
    for part in parts:
        problems |= {num_rows + row: problem for row, problem in part.problems.items()}
        num_rows += len(part.lines)
    columns = [pl.Series([value for part in parts for value in part.words[k]], dtype=pl.String) for k in range(words)]
    texts = pl.Series([value for part in parts for value in part.texts], dtype=pl.String) if text else None
    lines, counts, numbers = (
        np.concatenate([np.zeros(0, np.int32), *(getattr(part, name) for part in parts)])
        for name in ("lines", "counts", "numbers")
    )
    return ListFile(file, lines, tuple(columns), counts, numbers, texts, problems)


def unusual_paths(names: pl.Series) -> list[int]:
    """Return the indices of names that are not plainly valid paths."""
    plain = names.str.contains(_PLAIN_PATH) & (names.str.len_bytes() <= 255)
    return (~plain).arg_true().to_list()


def check_paths(listed: ListFile, unusual: list[int] | None = None) -> None:
    """Add a problem to rows whose first word is not a path that may be opened; checks only the `unusual` rows if given.

    `\\` and `./` in the paths are normalized.
    """
    unusual = unusual_paths(listed.names) if unusual is None else unusual
    cleaned = {row: clean_path(listed.names[row]) for row in unusual}
    listed.names.scatter(list(cleaned), list(cleaned.values()))
    for row, name in cleaned.items():
        problem = image_path_problem(name)
        if problem is not None and row not in listed.problems:
            listed.problems[row] = (*problem, listed.names[row][:200])
