"""Fast parser of `list_attr_img.txt`: 0.9 GB of text, nearly all of it -1, to lists of the ids that are 1 or 0.

The released file right-aligns each value in two columns after a space, so the values of a row are its last 3 K bytes,
and a comparison with a row of only ` -1` yields the few positions with other values. Rows in any other form go through
the strict parser of all lists, which accepts any whitespace between the values.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from fprep.raw.file import BLOCK, Block, RawFile
from fprep.raw.folder import MAX_LINE, RawFolder
from fprep.readers.deepfashion.list_rows import Part, Problem, read_heading, read_part
from fprep.readers.deepfashion.lists import ListFile, check_count, check_paths, unusual_paths

_ABSENT = b" -1"  # the vast majority of values
_WIDTH = len(_ABSENT)
_AT_ONCE = 256  # rows
_LONGEST_NAME = 512  # bytes before the values; longer rows take the slow path
_ASCII = bytes(range(128)) + bytes(128)
_BLANK, _LF = b" \n"
# XOR masks from " -1" to "  1" and "  0": for the separator (never), the tens and the unit.
_CHANGES = np.array([0, ord("-") ^ _BLANK, ord("1") ^ ord("0")], np.uint8)


@dataclass
class Ids:
    """Ids of N rows, concatenated: row i has `counts[i]` of them, ascending. `counts` is (N,), `values` is (total,)."""

    counts: np.ndarray
    values: np.ndarray

    def lists(self, rows: np.ndarray) -> pl.Series:
        """Return the ids of `rows` (K,), row indices, as a column of list[int16]."""
        counts, values = self.counts[rows], self.values
        if not np.array_equal(rows, np.arange(len(self.counts))):
            first = (np.cumsum(self.counts) - self.counts)[rows]
            values = values[np.repeat(first - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())]
        offsets = pa.py_buffer(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))
        # From buffers, because pa.array checks for pandas objects and imports pandas.
        content = pa.py_buffer(np.ascontiguousarray(values, np.int16))
        items = pa.Array.from_buffers(pa.int16(), len(values), [None, content])
        column = pa.Array.from_buffers(pa.large_list(pa.int16()), len(counts), [None, offsets], children=[items])
        return pl.Series(column, dtype=pl.List(pl.Int16))


class _Layout:
    """Form of a row in the released file: K values as in `template`, then the spaces `tail`."""

    def __init__(self, num_attributes: int, tail: bytes) -> None:
        self.num_attributes, self.tail = num_attributes, tail
        self.template = np.frombuffer(_ABSENT * num_attributes, np.uint8)
        self.width = len(self.template) + len(tail)
        self.words = self.template[: len(self.template) // 8 * 8].view(np.uint64)
        # Reused for every block: fresh pages would cost more than the comparison.
        self.differs = np.empty((BLOCK // self.width + 1, len(self.words)), bool)


@dataclass
class _Found:
    """Rows of the blocks so far. An id is stored as row * number of attributes + id, with rows counted in the file."""

    lines: list[np.ndarray] = field(default_factory=list[np.ndarray])
    names: list[bytes] = field(default_factory=list[bytes])  # padded with spaces
    name_sizes: list[np.ndarray] = field(default_factory=list[np.ndarray])
    positive: list[np.ndarray] = field(default_factory=list[np.ndarray])
    unknown: list[np.ndarray] = field(default_factory=list[np.ndarray])
    problems: dict[int, Problem] = field(default_factory=dict[int, Problem])
    num_rows: int = 0
    num_slow: int = 0
    num_blank: int = 0


def read_attributes(raw: RawFolder, path: Path, num_attributes: int) -> tuple[ListFile, Ids, Ids]:
    """Return paths, positive ids (value 1) and unknown ids (0) of all rows; all others are absent (-1).

    The list has the form of `fprep.readers.deepfashion.lists.read_list`, without numbers. Raises `UsageError` for a
    file that is not text.
    """
    file = raw.open_file(path)
    found, layout, count, num_heading = _Found(), None, None, -1
    for block in file.blocks(guess=True):
        skip = max(num_heading - block.first_line + 1, 0)
        if layout is None:
            count, num_heading = read_heading(raw, file, block)
            skip = num_heading
            layout = _Layout(num_attributes, _tail(block, num_heading))
        if skip < len(block.starts):
            _read_block(file, block, skip, layout, found)
    if found.num_slow:
        share = f"{found.num_slow} of {found.num_rows}"
        raw.notes.append(f"{file.name}: {share} rows are not aligned as in the released file")
    file.accounts["blank"] += found.num_blank
    check_count(raw, file, count, found.num_rows)
    lines = np.concatenate([np.zeros(0, np.int32), *found.lines])
    none = np.zeros(found.num_rows, np.int64)
    names = _names(found)
    unusual = unusual_paths(names)
    listed = ListFile(file, lines, (names,), none, np.zeros(0, np.int32), problems=found.problems)
    _read_names_again(listed, unusual, num_attributes)
    check_paths(listed, unusual)
    positive, unknown = (_ids(codes, found.num_rows, num_attributes) for codes in (found.positive, found.unknown))
    return listed, positive, unknown


def _tail(block: Block, num_heading: int) -> bytes:
    if num_heading >= len(block.starts):
        return b""
    line = block.content[block.starts[num_heading] : block.ends[num_heading]].tobytes()
    return line[len(line.rstrip(b" \r")) :]


def _read_block(file: RawFile, block: Block, skip: int, layout: _Layout, found: _Found) -> None:
    starts, ends = block.starts[skip:], block.ends[skip:]
    sizes = ends - starts - layout.width  # bytes before the values
    fits = (sizes > 0) & (sizes <= _LONGEST_NAME)
    fast = np.flatnonzero(fits)
    names, values = _columns(block.content, starts[fast], ends[fast], sizes[fast], layout.width)
    strange, positive, unknown = _decode(values, layout)
    if block.guessed and (strange.any() or len(fast) < len(starts) or (names == _LF).any()):
        block.count_lines()
        _read_block(file, block, skip, layout, found)
        return
    lines = np.arange(len(starts), dtype=np.int32) + (block.first_line + skip)
    num_attributes = layout.num_attributes
    if strange.any() or len(fast) < len(starts):
        slow = ~fits
        slow[fast] = strange
        codes: list[np.ndarray] = []
        for code in (positive, unknown):  # without those of strange rows, with the row numbers of the block
            row, number = np.divmod(code, num_attributes)
            codes.append((fast[row] * num_attributes + number)[~strange[row]])
        lines, names, positive, unknown = _with_slow_rows(
            file, block, skip, slow, names[~strange], codes, num_attributes, found
        )
    found.lines.append(lines)
    found.names.append(names.tobytes())
    found.name_sizes.append(np.full(len(names), names.shape[1]))
    found.positive.append(positive + found.num_rows * num_attributes)
    found.unknown.append(unknown + found.num_rows * num_attributes)
    found.num_rows += len(lines)


def _columns(
    content: np.ndarray, starts: np.ndarray, ends: np.ndarray, sizes: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the names (padded with spaces) and the last `width` bytes of rows, as two uint8 arrays (rows, bytes)."""
    if not len(starts):
        return np.zeros((0, 1), np.uint8), np.zeros((0, width), np.uint8)
    size, step = int(sizes[0]), int(ends[0] - starts[0]) + 1
    end = int(starts[0]) + len(starts) * step
    if ends[-1] + 1 == end and end <= len(content) and (sizes == size).all():  # contiguous rows of equal length
        matrix = content[starts[0] : end].reshape(-1, step)
        return matrix[:, :size], matrix[:, size:-1]
    line = content.data
    values = b"".join([line[end - width : end] for end in ends.tolist()])
    before = b"".join([line[start:end] for start, end in zip(starts.tolist(), (ends - width).tolist(), strict=True)])
    names = np.full((len(starts), int(sizes.max())), _BLANK, np.uint8)
    names[np.arange(names.shape[1]) < sizes[:, None]] = np.frombuffer(before, np.uint8)
    return names, np.frombuffer(values, np.uint8).reshape(-1, width)


def _decode(values: np.ndarray, layout: _Layout) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows with anything but `-1`, ` 1` and ` 0`, and the codes of values 1 and of values 0.

    `values` is (rows, `layout.width`) uint8.
    """
    positions, changes = _differences(values, layout)
    part = positions % _WIDTH
    followed = np.zeros(len(positions), bool)
    followed[:-1] = positions[1:] == positions[:-1] + 1
    is_tens, is_unit = part == 1, part == 2
    alone = is_unit.copy()
    alone[1:] &= ~followed[:-1]  # "-0"
    wrong = (changes != _CHANGES[part]) | alone
    strange = np.zeros(len(values), bool)
    strange[positions[wrong] // len(layout.template)] = True
    if layout.tail:
        strange |= (values[:, len(layout.template) :] != np.frombuffer(layout.tail, np.uint8)).any(1)
    return strange, positions[is_tens & ~followed] // _WIDTH, positions[is_unit] // _WIDTH


def _differences(values: np.ndarray, layout: _Layout) -> tuple[np.ndarray, np.ndarray]:
    """Return ascending positions (row * width + column) of bytes that differ from the template, and their XOR."""
    num_words, width = len(layout.words), len(layout.template)
    if num_words * 8 != width:
        changes = (values[:, :width] ^ layout.template).reshape(-1)
        positions = np.flatnonzero(changes)
        return positions, changes[positions]
    shape, strides = (len(values), num_words), (values.strides[0], 8)
    words = np.lib.stride_tricks.as_strided(values[:, :8].view(np.uint64), shape, strides)
    differs = np.flatnonzero(np.not_equal(words, layout.words, out=layout.differs[: len(values)]))
    row, word = np.divmod(differs, num_words)
    changes = (words[row, word] ^ layout.words[word]).view(np.uint8)
    inside = np.flatnonzero(changes)
    return differs[inside >> 3] * 8 + (inside & 7), changes[inside]


def _with_slow_rows(
    file: RawFile,
    block: Block,
    skip: int,
    slow: np.ndarray,
    fast_names: np.ndarray,
    fast_codes: list[np.ndarray],
    num_attributes: int,
    found: _Found,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return lines, names and codes of all rows of a block; `slow` rows are read with the parser of all lists."""
    rows = np.flatnonzero(slow)
    spans = zip(block.starts[rows + skip].tolist(), block.ends[rows + skip].tolist(), strict=True)
    part = _part_of(file, [block.content[start : min(end, start + MAX_LINE + 1)].tobytes() for start, end in spans])
    rows = rows[part.lines - 1]  # without blank lines
    is_row = ~slow
    is_row[rows] = True
    new_row = np.cumsum(is_row) - 1
    words = [word.encode() for word in part.words[0]]
    names = np.full((len(slow), max(fast_names.shape[1], *map(len, words), 1)), _BLANK, np.uint8)
    names[~slow, : fast_names.shape[1]] = fast_names
    for row, word in zip(rows.tolist(), words, strict=True):
        names[row, : len(word)] = np.frombuffer(word, np.uint8)
    _check_numbers(part, num_attributes)
    found.num_slow += len(rows)
    found.num_blank += part.num_blank
    for index, problem in part.problems.items():
        found.problems[found.num_rows + int(new_row[rows[index]])] = problem
    good = part.counts == num_attributes
    number = np.arange(part.counts.sum()) - np.repeat(np.cumsum(part.counts) - part.counts, part.counts)
    codes = np.repeat(rows, part.counts) * num_attributes + number
    usable = np.repeat(good, part.counts)
    both: list[np.ndarray] = []
    for value, fast in zip((1, 0), fast_codes, strict=True):
        row, number = np.divmod(np.concatenate([fast, codes[usable & (part.numbers == value)]]), num_attributes)
        both.append(np.sort(new_row[row] * num_attributes + number))
    lines = np.flatnonzero(is_row).astype(np.int32) + (block.first_line + skip)
    return lines, names[is_row], both[0], both[1]


def _part_of(file: RawFile, lines: list[bytes]) -> Part:
    array = np.frombuffer(b"".join([line + b"\n" for line in lines]), np.uint8)
    ends = np.flatnonzero(array == ord("\n"))
    return read_part(file, Block(1, array, np.concatenate([[0], ends[:-1] + 1]), ends), 0, 1, text=False)


def _read_names_again(listed: ListFile, rows: list[int], num_attributes: int) -> None:
    """Read these rows with the parser of all lists: the text before the values is not just a plain path."""
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        part = _part_of(listed.file, [listed.line(row).content for row in some])
        _check_numbers(part, num_attributes)
        listed.names.scatter(some, part.words[0])
        for index, problem in part.problems.items():
            listed.problems.setdefault(some[index], problem)


def _check_numbers(part: Part, num_attributes: int) -> None:
    for row in np.flatnonzero(part.counts != num_attributes).tolist():
        message = f"{part.counts[row]} values, expected {num_attributes}"
        part.problems.setdefault(row, ("wrong_columns", message, str(part.counts[row])))
    owner = np.repeat(np.arange(len(part.counts)), part.counts)
    for position in np.flatnonzero((part.numbers < -1) | (part.numbers > 1)).tolist():
        value, row = part.numbers[position], int(owner[position])
        number = position - int(part.counts[:row].sum()) + 1
        message = f"attribute {number} is {value}, expected 1 (yes), -1 (no) or 0 (unknown)"
        part.problems.setdefault(row, ("bad_cell", message, str(value)))


def _names(found: _Found) -> pl.Series:
    """Return the text before the values of each row, without padding; non-ASCII characters become control codes."""
    content, sizes = b"".join(found.names), np.concatenate([np.zeros(0, np.int64), *found.name_sizes])
    if not content.isascii():
        content = content.translate(_ASCII)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    column = pa.LargeStringArray.from_buffers(len(sizes), pa.py_buffer(offsets), pa.py_buffer(content))
    return pl.Series(column, dtype=pl.String).str.strip_chars_end(" ")


def _ids(codes: list[np.ndarray], num_rows: int, num_attributes: int) -> Ids:
    rows, numbers = np.divmod(np.concatenate([np.zeros(0, np.int64), *codes]), num_attributes)
    return Ids(np.bincount(rows, minlength=num_rows), numbers.astype(np.int16))
