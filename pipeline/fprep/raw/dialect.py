"""How a text table is written: its delimiter, Excel's `sep=` line, and records whose quoted fields hold delimiters or line ends.

    dialect = find_dialect(file.head(HEAD))
    for record in read_table(file, dialect): ...

`fprep doctor` and `fprep convert` read every table through these functions, so that what one recognizes the other can read.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from fprep.raw.file import MAX_LINE, RawFile, RawLine
from fschemas.failures import UsageError, did_you_mean

HEAD = 1 << 16  # bytes that the dialect is found by
_DELIMITERS = ",;\t|"  # the first of equals is taken
_NAMES = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "pipe": "|", "space": " "}
_SEP_LINE = re.compile(r'"?sep=(.|\\t)"?\s*', re.IGNORECASE | re.DOTALL)
_NUM_SAMPLES = 64  # records that a delimiter is evaluated by


@dataclass(frozen=True)
class Dialect:
    """`delimiter` between fields; with `has_sep_line` the first line (`sep=;`) only names it."""

    delimiter: str
    has_sep_line: bool = False


@dataclass
class Record:
    """One record: its first line, its fields, and how many further lines they run over.

    `fault` is rule, message and what was found if the first line is not a record; `fields` are empty then. With `has_strays`
    quotation marks stand inside fields that do not begin with one, as they do where the delimiter is another one.
    """

    line: RawLine
    fields: list[str] = field(default_factory=list[str])
    num_more: int = 0
    has_strays: bool = False
    fault: tuple[str, str, str] | None = None

    @property
    def cells(self) -> list[str]:
        """The fields without blanks around them, which some programs write after a delimiter or at the end of a line."""
        return [text.strip(" \t") for text in self.fields]


def find_dialect(head: bytes, delimiter: str = "", widths: Collection[int] = ()) -> Dialect:
    """The dialect of a table from its first bytes (at most HEAD of them, UTF-8 with LF line ends, no byte order mark).

    The delimiter is the one given, or what a `sep=` line names, or the sign that cuts the header and most records into equally
    many fields, more than one; signs inside quotes do not count. Of a published format, whose tables have `widths` fields,
    the sign that cuts the first line into so many comes first: cells of other formats hold several delimiters.
    """
    lines = _lines(head)
    match = _SEP_LINE.fullmatch(lines[0].content.decode("utf-8", "replace")) if lines else None
    if match and not delimiter:
        return Dialect(_NAMES.get(match[1], match[1]), has_sep_line=True)
    chosen = delimiter or max(_DELIMITERS, key=lambda sign: _fit(lines, sign, widths))
    return Dialect(chosen, has_sep_line=match is not None)


def read_delimiter(value: str) -> str:
    """The delimiter that `--map delimiter=VALUE` means: one sign, or its name; raises `UsageError`."""
    found = _NAMES.get(value.casefold(), value)
    if len(found) == 1 and found not in '"\r\n' + string.ascii_letters + string.digits:
        return found
    expected = "one sign, or comma, semicolon, tab, pipe or space"
    raise UsageError(f"--map delimiter={value}: {did_you_mean(value, _NAMES)}expected {expected}")


def read_records(lines: Iterable[RawLine], dialect: Dialect) -> Iterator[Record]:
    """The records of a table, the header first, from its lines that are not blank.

    A quoted field may run over line ends if the record then has as many fields as the header, within MAX_LINE bytes; else the
    quotation mark costs its own line alone, and reading goes on with the next one.
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
    """The records of an annotation file. A `sep=` line is entered into its books as a header, what a record runs over as joined."""
    file.accounts["header"] += dialect.has_sep_line
    for record in read_records(file.lines(), dialect):
        file.accounts["joined"] += record.num_more
        yield record


def _read_record(
    line: RawLine, waiting: deque[RawLine], source: Iterator[RawLine], delimiter: str, width: int
) -> tuple[Record, list[RawLine]]:
    """The record that begins with a line, and lines that were looked at but are not its own."""
    text = _decode(line)
    if isinstance(text, tuple):
        return Record(line, fault=text), []
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
    return Record(line, fault=("quoted_row", message, text[:100])), taken


def stray_quote(record: Record) -> tuple[str, str, str] | None:
    """The fault of a record of a published format that has a quotation mark inside a field: no name or value there has one."""
    fault = ("quoted_row", 'a quotation mark (") inside a field, which these files never use', "")
    return fault if record.has_strays else None


class _Fields:
    """The fields of a record, fed line by line."""

    def __init__(self, delimiter: str) -> None:
        self.delimiter, self.blanks = delimiter, "".join({" ", "\t", "\r"} - {delimiter})
        self.fields: list[str] = []
        self.is_open, self.is_wrong, self.has_strays = False, False, False
        self._parts: list[str] = []

    def feed(self, text: str, line_ends: int = 1) -> None:
        """Go on with a line; `line_ends` stand before it where a quoted field is open."""
        position = 0
        if self.is_open:
            self._parts.append("\n" * line_ends)
        elif '"' not in text:
            self.fields = text.split(self.delimiter)
            return
        while not self.is_wrong:
            if not self.is_open:
                start = self._behind_blanks(text, position)
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
        """Read a quoted field from within; where the next field starts, behind the text where it ends."""
        while (end := text.find('"', position)) >= 0:
            self._parts.append(text[position:end])
            if not text.startswith('""', end):
                following = self._behind_blanks(text, end + 1)
                self.fields.append("".join(self._parts))
                self.is_open = False
                self.is_wrong = following < len(text) and text[following] != self.delimiter
                return following + 1
            self._parts.append('"')
            position = end + 2
        self._parts.append(text[position:])
        return len(text) + 1

    def _behind_blanks(self, text: str, position: int) -> int:
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
    """Lines of the first bytes of a file that are not blank; one that is cut off is left out."""
    contents = head.split(b"\n")
    if len(head) >= HEAD and len(contents) > 1:
        contents.pop()
    contents = [content.decode("utf-8", "replace").removesuffix("\r").encode() for content in contents]
    lines = [RawLine("", number, 0, content) for number, content in enumerate(contents, start=1)]
    return [line for line in lines if line.content.strip(b" \t\r")]


def _fit(lines: list[RawLine], delimiter: str, widths: Collection[int]) -> tuple[bool, bool, float, int]:
    """How well a delimiter fits: whether it cuts the first line into as many fields as expected, whether it cuts it at all, the
    share of records that it cuts alike, the number of fields."""
    records = list(islice(read_records(lines, Dialect(delimiter)), _NUM_SAMPLES))
    width = len(records[0].fields) if records else 0
    alike = sum(len(record.fields) == width and not record.has_strays for record in records)
    return width in widths, width > 1, alike / max(1, len(records)), width


def sample_records(head: bytes, dialect: Dialect) -> list[Record]:
    """The header and the first records of a table, as far as its first bytes go."""
    return list(read_records(_lines(head), dialect))


def with_commas(head: bytes, widths: Collection[int]) -> bytes:
    """The first records of a table of a published format, one a line with plain commas between fields, whatever its dialect."""
    records = sample_records(head, find_dialect(head, widths=widths))
    return "".join(",".join(record.fields) + "\n" for record in records).encode()


def read_names(value: str, known: Sequence[str]) -> list[str]:
    """Names separated by commas; one that holds a comma is quoted as in a table, or stands alone as one of `known`."""
    if not value or plain_name(value) in known:
        return [value] if value else []
    parser = _Fields(",")
    parser.feed(value)
    return [name for name in parser.fields if name] if not (parser.is_open or parser.is_wrong) else [value]


def join_names(names: Sequence[str], known: Sequence[str]) -> str:
    """What `read_names` reads as these names, all of them among those `known`."""
    joined = ",".join(names)
    if len(names) == 1 or not (any(re.search('[",]', name) for name in names) or joined in known):
        return joined
    return ",".join('"' + name.replace('"', '""') + '"' for name in names)


def plain_name(text: str) -> str:
    """One spelling of a column's name: composed (NFC), with single blanks."""
    return unicodedata.normalize("NFC", " ".join(text.split()))
