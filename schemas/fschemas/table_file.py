"""Tables on disk: one Parquet file with checksummed pages, our metadata beside the columns, published whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fschemas.failures import IntegrityError, UsageError
from fschemas.publish import publish

METADATA_KEY = b"fashionkit"


def write_table(path: Path, table: pa.Table, metadata: dict[str, Any] | None = None) -> None:
    """Publish `table` with `metadata` (plain JSON values). The same table and metadata give the same bytes."""
    note = {METADATA_KEY: json.dumps(metadata or {}, ensure_ascii=False, sort_keys=True).encode()}
    with publish(path) as temporary, open(temporary, "wb") as file:
        pq.write_table(
            table.replace_schema_metadata(note), file, compression="zstd", write_page_checksum=True, row_group_size=65536
        )


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a table with its page checksums verified; raises `UsageError` when missing, `IntegrityError` when damaged."""
    try:
        return pq.read_table(path, columns=columns, page_checksum_verification=True, memory_map=False)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such table; write it with `fprep convert`") from None
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path}: not a readable Parquet table ({_first_line(error)}); write it again") from error


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata that `write_table` stored; raises as `read_table` does, and `UsageError` for a foreign Parquet file."""
    try:
        stored = pq.read_schema(path).metadata or {}
    except FileNotFoundError:
        raise UsageError(f"{path}: no such table; write it with `fprep convert`") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise IntegrityError(f"{path}: not a readable Parquet table ({_first_line(error)}); write it again") from error
    if METADATA_KEY not in stored:
        raise UsageError(f"{path}: a Parquet file, but not a table of fprep; write it with `fprep convert`")
    return json.loads(stored[METADATA_KEY])


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
