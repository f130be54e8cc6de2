"""The index of a shard set, `index.parquet`: where every sample lies, and the labels that samplers need."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from fschemas.failures import IntegrityError
from fschemas.names import KEY_PATTERN

pc: Any = pyarrow.compute  # its functions are made on import, so that type checkers know none
INDEX_FILE = "index.parquet"

# Columns of index.parquet that say where a sample lies; the other columns are labels that samplers need.
POSITION_COLUMNS = (
    "key", "split", "group", "copy", "shard", "image_offset", "image_size", "image_crc",
    "json_offset", "json_size", "json_crc",
)  # fmt: skip

DIGEST_COLUMN = "sha256"  # of the source image of each sample, "" if unknown; read on demand, older sets lack it


def check_index(place: str, table: pa.Table, num_shards: int) -> None:
    """Raise `IntegrityError` for keys that no writer of ours makes and for samples without a place.

    Keys become names of files: one such as `../../x` must not get any further.
    """
    missing = [name for name in POSITION_COLUMNS if name not in table.column_names]
    if missing:
        raise IntegrityError(f"{place}: columns are missing ({', '.join(missing)}); write the shard set again")
    keys = table.column("key")
    sound = pc.match_substring_regex(keys, f"^{KEY_PATTERN}$")
    if not pc.all(pc.fill_null(sound, False)).as_py():
        key = pc.filter(keys, pc.invert(pc.fill_null(sound, False)))[0].as_py()
        raise IntegrityError(f"{place}: {key!r} is not a key of a sample; do not use this set, or write it again")
    if pc.count_distinct(keys).as_py() != len(keys):  # files named after them would be written twice at a time
        raise IntegrityError(f"{place}: a key occurs twice; do not use this set, or write it again")
    for name in POSITION_COLUMNS[4:]:
        column = table.column(name)
        range_of = pc.min_max(column).as_py() if len(column) else {"min": 0, "max": 0}
        too_large = name == "shard" and len(column) and range_of["max"] >= num_shards
        if column.null_count or range_of["min"] < 0 or too_large:
            raise IntegrityError(f"{place}: {name} has values that are not possible; write the shard set again")


def as_arrays(table: pa.Table) -> dict[str, np.ndarray]:
    """Numbers as they are, strings as fixed-width unicode: comparisons stay vectorized and workers share pages after a fork.

    Without `DIGEST_COLUMN`: 64 characters of each sample would be most of the memory, and only a search needs them.
    """
    arrays: dict[str, np.ndarray] = {}
    for name in table.column_names:
        if name == DIGEST_COLUMN:
            continue
        column = table.column(name).combine_chunks()
        is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
        # Not by `to_numpy`: that imports pandas, which takes a second.
        arrays[name] = np.from_dlpack(column) if is_number and len(column) else np.array(column.to_pylist())
    return arrays
