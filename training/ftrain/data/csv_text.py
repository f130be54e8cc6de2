"""Writer of all CSV tables; prevents formula injection in spreadsheets.

Excel, LibreOffice and Google Sheets treat a cell as a formula if it begins with `= + - @`, a tab or a line break, even
after whitespace and at the start of an inner line. Formulas can start programs or leak data. Such text is prefixed with
an apostrophe, which `plain_text` removes. Numbers are left unchanged.
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
    """Prefix text that a spreadsheet would treat as a formula with an apostrophe; leave numbers unchanged."""
    return text if _NUMBER.fullmatch(text) else _FORMULA.sub("'", text)


def plain_text(cell: str) -> str:
    """Invert `safe_text`."""
    return _ESCAPED.sub("", cell)


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Encode a header and rows as UTF-8 CSV. Floats have six decimals, so that equal numbers give equal bytes."""
    return csv_rows((header, *rows))


def csv_rows(rows: Iterable[Sequence[object]]) -> bytes:
    """Encode rows without a header, for appending to a file."""
    lines = (",".join(map(_cell, row)) or '""' for row in rows)
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")


def csv_table(name: str, columns: Sequence[str], parts: Mapping[str, Mapping[str, float | int]]) -> bytes:
    """Encode one row per part; columns that no part has are omitted."""
    kept = [column for column in columns if any(column in part for part in parts.values())]
    return csv_bytes([name, *kept], [[key, *(part[column] for column in kept)] for key, part in parts.items()])


def _cell(value: object) -> str:
    """Format a cell. The standard library does not quote carriage returns, which readers treat as the end of a row."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return f"{value:.6f}" if isinstance(value, float) else str(value)
    text = safe_text(value)
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text
