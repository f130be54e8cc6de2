"""Dialect of a text table: its delimiter, Excel's `sep=` line, and records with quoted delimiters or line ends.

    dialect = find_dialect(file.head(HEAD))
    for record in read_table(file, dialect): ...

`fprep doctor` and `fprep convert` read all tables with these functions, so that both recognize the same files.
"""

import re
import string
import unicodedata
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from fprep.raw.file import MAX_LINE, RawFile, RawLine
from fschemas.failures import UsageError, did_you_mean

HEAD = 1 << 16  # bytes that determine the dialect
_DELIMITERS = ",;\t|"  # the first of several equally good ones is used
_NAMES = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "pipe": "|", "space": " "}
_SEP_LINE = re.compile(r'"?sep=(.|\\t)"?\s*', re.IGNORECASE | re.DOTALL)
_NUM_SAMPLES = 64  # records that a delimiter is tested on


@dataclass(frozen=True)
class Dialect:
    """Dialect of a table. With `has_sep_line`, the first line (`sep=;`) only states the delimiter."""

    delimiter: str
    has_sep_line: bool = False


@dataclass
class Record:
    """One record: its first line, its fields, and the number of additional lines it spans.

    `problem` is (rule, message, value found) if the first line is not a record; `fields` is empty then. With
    `has_strays`, fields contain quotation marks without starting with one, as happens with the wrong delimiter.
    """

    line: RawLine
    fields: list[str] = field(default_factory=list[str])
    num_more: int = 0
    has_strays: bool = False
    problem: tuple[str, str, str] | None = None

    @property
    def cells(self) -> list[str]:
        """The fields, stripped of the whitespace that some programs write after a delimiter or at the end of a line."""
        return [text.strip(" \t") for text in self.fields]


def find_dialect(head: bytes, delimiter: str = "", widths: Collection[int] = ()) -> Dialect:
    """Return the dialect of a table from its first bytes (at most HEAD; UTF-8, LF line ends, no byte order mark).

    The delimiter is the given one, or the one on a `sep=` line, or the character that splits the header and most
    records into the same number of fields, more than one; quoted characters do not count. For published formats, whose
    tables have `widths` fields, the character that splits the first line into that many fields takes precedence,
    because cells of other formats contain several delimiters.
    """
    lines = _lines(head)
    match = _SEP_LINE.fullmatch(lines[0].content.decode("utf-8", "replace")) if lines else None
    if match and not delimiter:
        return Dialect(_NAMES.get(match[1], match[1]), has_sep_line=True)
    chosen = delimiter or max(_DELIMITERS, key=lambda sign: _fit(lines, sign, widths))
    return Dialect(chosen, has_sep_line=match is not None)


def read_delimiter(value: str) -> str:
    """Return the delimiter of `--map delimiter=VALUE`, a character or its name. Raises `UsageError`."""
    found = _NAMES.get(value.casefold(), value)
    if len(found) == 1 and found not in '"\r\n' + string.ascii_letters + string.digits:
        return found
    expected = "one sign, or comma, semicolon, tab, pipe or space"
    raise UsageError(f"--map delimiter={value}: {did_you_mean(value, _NAMES)}expected {expected}")


def read_records(lines: Iterable[RawLine], dialect: Dialect) -> Iterator[Record]:
    """Yield the records of a table, header first, from its non-blank lines.

    A quoted field may span lines if the record then has as many fields as the header, within MAX_LINE bytes. Otherwise
    only the line with the quotation mark is rejected, and reading continues with the next line.
    """
    source, waiting, width = iter(lines), deque[RawLine](), 0
    if dialect.has_sep_line:
        next(source, None)
    while (line := waiting.popleft() if waiting else next(source, None)) is not None:
        record, taken = _read_record(line, waiting, source, dialect.delimiter, width)
        waiting.extendleft(reversed(taken))
        width = width or len(record.fields)
        yield record


def read_table(file: RawFile, dialect: Dialect) -> Iterator[Record]:
    """Yield the records of an annotation file.

    A `sep=` line is accounted for as a header, and continuation lines of a record as joined.
    """
    file.accounts["header"] += dialect.has_sep_line
    for record in read_records(file.lines(), dialect):
        file.accounts["joined"] += record.num_more
        yield record


def _read_record(
    line: RawLine, waiting: deque[RawLine], source: Iterator[RawLine], delimiter: str, width: int
) -> tuple[Record, list[RawLine]]:
    """Return the record that starts with `line`, and the lines that were read ahead but do not belong to it."""
    text = _decode(line)
    if isinstance(text, tuple):
        return Record(line, problem=text), []
    parser = _Fields(delimiter)
    parser.feed(text)
    last, size, taken = line, len(line.content), list[RawLine]()
    while parser.is_open and (following := waiting.popleft() if waiting else next(source, None)) is not None:
        taken.append(following)
        more, size = _decode(following), size + len(following.content) + 1
        if isinstance(more, tuple) or size > MAX_LINE:
            break
        parser.feed(more, line_ends=following.number - last.number)
        last = following
    if not (parser.is_open or parser.is_wrong) and (not taken or not width or len(parser.fields) == width):
        return Record(line, parser.fields, len(taken), parser.has_strays), []
    is_open = parser.is_open or taken
    message = 'a quotation mark (") is not closed in this line' if is_open else "text follows a closing quotation mark"
    return Record(line, problem=("quoted_row", message, text[:100])), taken


class _Fields:
    """The fields of one record, parsed line by line."""

    def __init__(self, delimiter: str) -> None:
        self.delimiter, self.blanks = delimiter, "".join({" ", "\t", "\r"} - {delimiter})
        self.fields: list[str] = []
        self.is_open, self.is_wrong, self.has_strays = False, False, False
        self._parts: list[str] = []

    def feed(self, text: str, line_ends: int = 1) -> None:
        """Parse the next line. `line_ends` are the line ends before it if a quoted field is open."""
        position = 0
        if self.is_open:
            self._parts.append("\n" * line_ends)
        elif '"' not in text:
            self.fields = text.split(self.delimiter)
            return
        while not self.is_wrong:
            if not self.is_open:
                start = self._after_blanks(text, position)
                if not text.startswith('"', start):
                    end = text.find(self.delimiter, position)
                    self.fields.append(text[position:] if end < 0 else text[position:end])
                    self.has_strays |= '"' in self.fields[-1]
                    if end < 0:
                        return
                    position = end + 1
                    continue
                self.is_open, self._parts, position = True, [], start + 1
            position = self._quoted(text, position)
            if position > len(text):
                return

    def _quoted(self, text: str, position: int) -> int:
        """Parse a quoted field from the inside.

        Return the start of the next field, or a position past the end of the text.
        """
        while (end := text.find('"', position)) >= 0:
            self._parts.append(text[position:end])
            if not text.startswith('""', end):
                following = self._after_blanks(text, end + 1)
                self.fields.append("".join(self._parts))
                self.is_open = False
                self.is_wrong = following < len(text) and text[following] != self.delimiter
                return following + 1
            self._parts.append('"')
            position = end + 2
        self._parts.append(text[position:])
        return len(text) + 1

    def _after_blanks(self, text: str, position: int) -> int:
        while position < len(text) and text[position] in self.blanks:
            position += 1
        return position


def _decode(line: RawLine) -> str | tuple[str, str, str]:
    if len(line.content) > MAX_LINE:
        return "line_too_long", f"the line has more than {MAX_LINE} bytes", ""
    try:
        return line.content.decode()
    except UnicodeDecodeError as error:
        return "bad_encoding", f"byte 0x{line.content[error.start]:02x} at position {error.start + 1} is not UTF-8", ""


def _lines(head: bytes) -> list[RawLine]:
    """Return the non-blank lines of the first bytes of a file, without a truncated last line."""
    contents = head.split(b"\n")
    if len(head) >= HEAD and len(contents) > 1:
        contents.pop()
    contents = [content.decode("utf-8", "replace").removesuffix("\r").encode() for content in contents]
    lines = [RawLine("", number, 0, content) for number, content in enumerate(contents, start=1)]
    return [line for line in lines if line.content.strip(b" \t\r")]


def _fit(lines: list[RawLine], delimiter: str, widths: Collection[int]) -> tuple[bool, bool, float, int]:
    """Return how well a delimiter fits.

    The elements are: whether it splits the first line into an expected number of fields, whether it splits it at all,
    the share of records with the same number of fields, and the number of fields.
    """
    records = list(islice(read_records(lines, Dialect(delimiter)), _NUM_SAMPLES))
    width = len(records[0].fields) if records else 0
    alike = sum(len(record.fields) == width and not record.has_strays for record in records)
    return width in widths, width > 1, alike / max(1, len(records)), width


def sample_records(head: bytes, dialect: Dialect) -> list[Record]:
    """Return the header and the first records of a table, from its first bytes."""
    return list(read_records(_lines(head), dialect))


def with_commas(head: bytes, widths: Collection[int]) -> bytes:
    """Return the first records of a published table, one per line with plain commas, whatever its dialect."""
    records = sample_records(head, find_dialect(head, widths=widths))
    return "".join(",".join(record.fields) + "\n" for record in records).encode()


def read_names(value: str, known: Sequence[str]) -> list[str]:
    """Split names at commas. A name with a comma is quoted as in a table, or is the whole value and one of `known`."""
    if not value or plain_name(value) in known:
        return [value] if value else []
    parser = _Fields(",")
    parser.feed(value)
    return [name for name in parser.fields if name] if not (parser.is_open or parser.is_wrong) else [value]


def join_names(names: Sequence[str], known: Sequence[str]) -> str:
    """Return the text that `read_names` parses as these names, all of them in `known`."""
    joined = ",".join(names)
    if len(names) == 1 or not (any(re.search('[",]', name) for name in names) or joined in known):
        return joined
    return ",".join('"' + name.replace('"', '""') + '"' for name in names)


def plain_name(text: str) -> str:
    """Return the normalized name of a column: NFC, single spaces."""
    return unicodedata.normalize("NFC", " ".join(text.split()))
