"""Array-based parsing of list file rows from blocks of bytes: column bounds, words as text, integers as int32."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fprep.raw.file import Block, RawFile, RawLine
from fprep.raw.folder import MAX_LINE, RawFolder, text_problem

Problem = tuple[str, str, str]  # rule, message without location, value found

PATH = re.compile(rb"[^ \t]*[/\\]")  # start of a row whose key is a path; headers have no slash
_NUMBER_BYTES = 7  # longest number: a sign and six digits


def read_heading(raw: RawFolder, file: RawFile, block: Block, key: re.Pattern[bytes] = PATH) -> tuple[int | None, int]:
    """Parse and account for the lines before the first row; return the stated count of rows, and how many lines."""
    count, num_lines, has_header = None, 0, False
    for start, end in zip(block.starts[:8].tolist(), block.ends[:8].tolist(), strict=True):
        content = block.content[start : min(end, start + MAX_LINE)].tobytes().strip(b" \t\r")
        if not content:
            file.accounts["blank"] += 1
        elif count is None and not has_header and content.isdigit():
            count = int(content[:12])
            file.accounts["header"] += 1
        elif not has_header and not key.match(content):
            has_header = True
            file.accounts["header"] += 1
        else:
            break
        num_lines += 1
    if count is None:
        raw.warn("no_count_line", file.name)
    if not has_header:
        raw.warn("no_header", file.name)
    return count, num_lines


@dataclass
class Part:
    """The rows of one block, with the fields of `fprep.readers.deepfashion.lists.ListFile`."""

    lines: np.ndarray
    words: list[list[str]]
    counts: np.ndarray
    numbers: np.ndarray
    texts: list[str]
    problems: dict[int, Problem]
    num_blank: int


def read_part(file: RawFile, block: Block, num_heading: int, words: int, text: bool) -> Part:
    """Return the rows of a block, after the `num_heading` first lines of the file: words, then numbers or text."""
    starts, ends, first = tokens(block)
    row_lines = np.arange(len(block.starts), dtype=np.int32) + block.first_line
    in_body = row_lines > num_heading
    has_tokens = first[1:] > first[:-1]
    rows = np.flatnonzero(in_body & has_tokens)
    num_tokens = (first[1:] - first[:-1])[rows]
    content = block.content.tobytes()
    decoded = content.decode("ascii") if content.isascii() else None
    part = Part(row_lines[rows], [], num_tokens, np.zeros(0, np.int32), [], {}, int((in_body & ~has_tokens).sum()))
    for row, line_row in _suspects(block, content, rows, decoded is None):
        line = content[block.starts[line_row] : block.ends[line_row]].removesuffix(b"\r")
        line = RawLine(file.name, int(row_lines[line_row]), 0, line)
        if (problem := text_problem(line)) is not None:
            part.problems[row] = (*problem, repr(line.content[:60]))
    for k in range(words):
        at = first[rows] + k
        long_enough = num_tokens > k
        at = np.where(long_enough, at, 0)
        spans = zip(starts[at].tolist(), np.where(long_enough, ends[at], starts[at]).tolist(), strict=True)
        part.words.append(_texts(content, decoded, spans))
    for row in np.flatnonzero(num_tokens < words).tolist():
        message = f"{num_tokens[row]} columns, expected at least {words}"
        part.problems.setdefault(row, ("wrong_columns", message, str(num_tokens[row])))
    part.counts = np.maximum(num_tokens - words, 0)
    if text:
        at, last = first[rows] + words, first[rows + 1] - 1
        begins = starts[np.where(at <= last, at, 0)]
        stops = np.where(at <= last, ends[last], begins)
        part.texts = _texts(content, decoded, zip(begins.tolist(), stops.tolist(), strict=True))
        return part
    is_number = np.ones(len(starts), bool)
    for k in range(words):
        is_number[(first[rows] + k)[num_tokens > k]] = False
    is_number[: first[rows[0]] if len(rows) else None] = False
    chosen = np.flatnonzero(is_number)
    part.numbers, valid = parse_integers(block.content, starts[chosen], ends[chosen])
    owner = np.repeat(np.arange(len(rows)), part.counts)
    for token in np.flatnonzero(~valid).tolist():
        cell = content[starts[chosen[token]] : ends[chosen[token]]][:40].decode("utf-8", "replace")
        message = f"{cell!r} is not a whole number of at most six digits"
        part.problems.setdefault(int(owner[token]), ("bad_cell", message, cell))
    return part


def _suspects(block: Block, content: bytes, rows: np.ndarray, non_ascii: bool) -> Iterator[tuple[int, int]]:
    """Yield rows (index in the part, index in the block) that are too long, quoted or not ASCII."""
    marks = [np.flatnonzero(block.content == ord('"'))] if b'"' in content else []
    if non_ascii:
        marks.append(np.flatnonzero(block.content >= 128))
    suspect = (block.ends - block.starts) > MAX_LINE
    for positions in marks:
        suspect[np.searchsorted(block.starts, positions, "right") - 1] = True
    yield from ((row, line_row) for row, line_row in enumerate(rows.tolist()) if suspect[line_row])


def tokens(block: Block) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return starts and ends of non-blank runs (tokens), and the first token of each line.

    The last array has one entry more than there are lines.
    """
    content = block.content
    blank = (content == 32) | (content == 9) | (content == 10)
    last = np.maximum(block.ends - 1, 0)
    blank[last[content[last] == 13]] = True
    blank[: block.starts[0]] = True  # byte order mark
    edges = np.flatnonzero(np.diff(blank, prepend=True, append=True))
    starts, ends = edges[0::2], edges[1::2]
    return starts, ends, np.append(np.searchsorted(starts, block.starts), len(starts))


def parse_integers(content: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parse the tokens `content[start:end]` to int32, and return which are integers: `-?[0-9]{1,6}`, nothing else."""
    negative = content[starts] == ord("-") if len(starts) else np.zeros(0, bool)
    begins, size = starts + negative, ends - starts - negative
    valid = (size > 0) & (size < _NUMBER_BYTES)
    values = np.zeros(len(starts), np.int32)
    for digit in range(int(size[valid].max()) if valid.any() else 0):
        active = valid & (digit < size)
        digit_values = content[np.where(active, begins + digit, 0)] - np.uint8(48)
        valid &= ~active | (digit_values < 10)
        values = np.where(active, values * 10 + digit_values, values)
    return np.where(valid, np.where(negative, -values, values), 0).astype(np.int32), valid


def _texts(content: bytes, decoded: str | None, spans: Iterator[tuple[int, int]]) -> list[str]:
    if decoded is not None:
        return [decoded[start:end] for start, end in spans]
    return [content[start:end].decode("utf-8", "replace") for start, end in spans]
