"""Text tables: columns as wide as their longest cell."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest


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
