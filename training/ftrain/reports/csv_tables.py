"""Tables of an evaluation as CSV bytes: six decimals, so that the same numbers give the same bytes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence


def csv_table(name: str, columns: Sequence[str], parts: dict[str, dict[str, float | int]]) -> bytes:
    """One row a part; a column that no part has is left out."""
    kept = [column for column in columns if any(column in part for part in parts.values())]
    return csv_bytes([name, *kept], [[key, *(part[column] for column in kept)] for key, part in parts.items()])


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """A header and rows; floats with six decimals."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([f"{value:.6f}" if isinstance(value, float) else value for value in row] for row in rows)
    return text.getvalue().encode()
