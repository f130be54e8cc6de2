"""Wide columns spilled to disk while the narrow ones are processed: a million outlines do not fit in memory.

A reader adds batches and stores the spill row of each row of its frame in the column `SPILL_ROW`. `convert` reads them
back, some thousands at a time, when it checks and writes rows.
"""

import io
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

SPILL_ROW = "spill_row"  # column with the row number in the spill file
IN_MEMORY = 64 << 20  # bytes kept in memory


class SpillFile:
    """Batches of rows in an unnamed temporary file in `folder` (None: the default temporary directory)."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY, dir=folder and str(folder))  # noqa: SIM115 - lives as long as the conversion
        self._offsets = [0]  # bytes before each batch; last: total
        self._starts = [0]  # rows before each batch; last: total
        self.schema: dict[str, pl.DataType] = {}

    def append(self, batch: bytes) -> pl.Series:
        """Append an Arrow stream, always with the same columns. Return the row numbers. Raises `OSError`."""
        frame = pl.read_ipc_stream(batch)
        assert self.schema in ({}, dict(frame.schema))
        self.schema = dict(frame.schema)
        try:
            self._file.write(batch)
        except OSError as error:
            error.filename = error.filename or str(self._folder or tempfile.gettempdir())
            raise
        self._offsets.append(self._offsets[-1] + len(batch))
        self._starts.append(self._starts[-1] + len(frame))
        return pl.Series(SPILL_ROW, np.arange(self._starts[-2], self._starts[-1], dtype=np.uint32))

    def close(self) -> None:
        """Discard the rows."""
        self._file.close()

    def read(self, rows: pl.Series) -> pl.DataFrame:
        """Return the rows with these numbers, which must be ascending."""
        wanted = rows.to_numpy()
        assert (wanted[1:] > wanted[:-1]).all(), "rows have changed their order"
        numbers = np.searchsorted(self._starts, wanted, side="right") - 1
        parts = [pl.DataFrame(schema=self.schema)]
        for number in np.unique(numbers).tolist():
            self._file.seek(self._offsets[number])
            batch = pl.read_ipc_stream(io.BytesIO(self._file.read(self._offsets[number + 1] - self._offsets[number])))
            parts.append(batch[wanted[numbers == number] - self._starts[number]])
        return pl.concat(parts, rechunk=True)
