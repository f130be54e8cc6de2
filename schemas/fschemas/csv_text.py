"""CSV text that a spreadsheet shows instead of running it: the one writer of all tables in CSV.

A cell that begins with `= + - @`, a tab or a line end is a formula to Excel, LibreOffice and Google Sheets, also behind blanks
and at the begin of an inner line, and a formula can start programs or send data away. Such text gets an apostrophe in front,
which `plain_text` takes away again. Numbers stay numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

_BLANKS = r"[\x00-\x08\x0b\x0c\x0e-\x20\x7f-\x85\u00a0\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u2064\u3000\ufeff]*"
_STARTS = r"(?:\A|(?<=[\n\r]))"  # of the cell, and of each line in it
_DANGER = rf"(?:{_BLANKS}[=+\-@\uff1d\uff0b\uff0d\uff20\u2212\ufe62-\ufe66\ufe6b]|{_BLANKS}\t)"
_FORMULA = re.compile(rf"{_STARTS}(?='*{_DANGER})|\A(?='*[\n\r])")
_ESCAPED = re.compile(rf"{_STARTS}'(?='*{_DANGER})|\A'(?='*[\n\r])")
_QUOTED = re.compile(r'[,"\r\n]')
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-](?:inf|nan)", re.ASCII)


def safe_text(text: str) -> str:
    """The text of a cell with an apostrophe before whatever a spreadsheet would take for a formula; numbers stay as they are."""
    return text if _NUMBER.fullmatch(text) else _FORMULA.sub("'", text)


def plain_text(cell: str) -> str:
    """The inverse of `safe_text`."""
    return _ESCAPED.sub("", cell)


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """A header and rows as UTF-8: floats with six decimals, so that the same numbers give the same bytes, all text made safe."""
    return csv_rows((header, *rows))


def csv_rows(rows: Iterable[Sequence[object]]) -> bytes:
    """Rows alone, to be appended to a file."""
    lines = (",".join(map(_cell, row)) or '""' for row in rows)
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")


def csv_table(name: str, columns: Sequence[str], parts: Mapping[str, Mapping[str, float | int]]) -> bytes:
    """One row a part; a column that no part has is left out."""
    kept = [column for column in columns if any(column in part for part in parts.values())]
    return csv_bytes([name, *kept], [[key, *(part[column] for column in kept)] for key, part in parts.items()])


def _cell(value: object) -> str:
    """A quoted cell where it must be: the standard library leaves a carriage return bare, which ends a row for every reader."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return f"{value:.6f}" if isinstance(value, float) else str(value)
    text = safe_text(value)
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text
