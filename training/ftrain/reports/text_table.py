"""Text for terminals: tables with columns as wide as their longest cell, and labeled paragraphs."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from textwrap import wrap

WIDTH = 80  # columns of a terminal


def aligned(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Format rows of cells as lines, with two spaces between columns and without trailing spaces.

    Rows may have different numbers of cells. A row of one cell is a line of text and does not widen the first column.
    """
    rows = list(rows)
    table = [row for row in rows if len(row) > 1]
    widths = [max(map(len, column)) for column in zip_longest(*table, fillvalue="")]
    for row in rows:
        cells = row if len(row) < 2 else [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)]
        yield "  ".join(cells).rstrip()


def labeled(label: str, text: str, indent: int = 12) -> list[str]:
    """Wrap a text beside a label of `indent` columns; an empty text is an empty line."""
    lines = wrap(text, WIDTH - indent, break_long_words=False, break_on_hyphens=False) or [""]
    return [f"{label if number == 0 else '':{indent}}{line}".rstrip() for number, line in enumerate(lines)]
