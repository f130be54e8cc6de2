"""Wide columns of many rows, put aside while the narrow ones are looked at: what a million outlines need is disk, not memory.

A reader puts them batch by batch and gives each row of its frame the number of its place here, in a column `PLACE`. `convert`
takes them again where it checks and writes rows, some thousands at a time.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

PLACE = "aside"  # column of the number of a row among all that were put
IN_MEMORY = 64 << 20  # bytes that stay in memory


class Aside:
    """Batches of rows in a file without a name below `folder` (None: where the system keeps temporary files)."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY, dir=folder and str(folder))  # noqa: SIM115 - lives as long as the conversion
        self._offsets = [0]  # bytes before each batch, and in all
        self._starts = [0]  # rows before each batch, and in all
        self.schema: dict[str, pl.DataType] = {}

    def put(self, batch: bytes) -> pl.Series:
        """Put rows, an Arrow stream of the same columns each time; their places. Raises `OSError` for what the disk refuses."""
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
        return pl.Series(PLACE, np.arange(self._starts[-2], self._starts[-1], dtype=np.uint32))

    def close(self) -> None:
        """Give up the rows."""
        self._file.close()

    def take(self, places: pl.Series) -> pl.DataFrame:
        """The rows at these places, which ascend."""
        wanted = places.to_numpy()
        assert (wanted[1:] > wanted[:-1]).all(), "rows have changed their order"
        numbers = np.searchsorted(self._starts, wanted, side="right") - 1
        parts = [pl.DataFrame(schema=self.schema)]
        for number in np.unique(numbers).tolist():
            self._file.seek(self._offsets[number])
            batch = pl.read_ipc_stream(io.BytesIO(self._file.read(self._offsets[number + 1] - self._offsets[number])))
            parts.append(batch[wanted[numbers == number] - self._starts[number]])
        return pl.concat(parts, rechunk=True)
