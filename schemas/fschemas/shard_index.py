"""Index of a shard set, `index.parquet`: positions of all samples, and the labels that samplers need."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from fschemas.failures import IntegrityError
from fschemas.names import KEY_PATTERN

pc: Any = pyarrow.compute  # functions are created at import, so type checkers do not know them
INDEX_FILE = "index.parquet"

# Columns of index.parquet with the position of a sample; the other columns are labels for samplers.
POSITION_COLUMNS = (
    "key", "split", "group", "copy", "shard", "image_offset", "image_size", "image_crc",
    "json_offset", "json_size", "json_crc",
)  # fmt: skip

DIGEST_COLUMN = "sha256"  # of each source image, "" if unknown; read on demand, missing in older sets


def check_index(source: str, table: pa.Table, num_shards: int) -> None:
    """Raise `IntegrityError` for keys that no writer of this package creates and for samples without a position.

    Keys become file names, so a key such as `../../x` must be stopped here.
    """
    missing = [name for name in POSITION_COLUMNS if name not in table.column_names]
    if missing:
        raise IntegrityError(f"{source}: columns are missing ({', '.join(missing)}); write the shard set again")
    keys = table.column("key")
    valid = pc.match_substring_regex(keys, f"^{KEY_PATTERN}$")
    if not pc.all(pc.fill_null(valid, False)).as_py():
        key = pc.filter(keys, pc.invert(pc.fill_null(valid, False)))[0].as_py()
        raise IntegrityError(f"{source}: {key!r} is not a key of a sample; do not use this set, or write it again")
    # Files named after duplicates would be written concurrently. A set takes a quarter of the time of `count_distinct`.
    if len(set(keys.to_pylist())) != len(keys):
        raise IntegrityError(f"{source}: a key occurs twice; do not use this set, or write it again")
    for name in POSITION_COLUMNS[4:]:
        column = table.column(name)
        range_of = pc.min_max(column).as_py() if len(column) else {"min": 0, "max": 0}
        too_large = name == "shard" and len(column) and range_of["max"] >= num_shards
        if column.null_count or range_of["min"] < 0 or too_large:
            raise IntegrityError(f"{source}: {name} has invalid values; write the shard set again")


def as_arrays(table: pa.Table) -> dict[str, np.ndarray]:
    """Convert numbers to arrays and strings to fixed-width unicode arrays: vectorized, and shared by forked workers.

    Excludes `DIGEST_COLUMN`: 64 characters per sample would take most of the memory, and only retrieval needs them.
    """
    arrays: dict[str, np.ndarray] = {}
    for name in table.column_names:
        if name == DIGEST_COLUMN:
            continue
        column = table.column(name).combine_chunks()
        is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
        # Not `to_numpy`, which imports pandas and takes a second.
        arrays[name] = np.from_dlpack(column) if is_number and len(column) else np.array(column.to_pylist())
    return arrays
