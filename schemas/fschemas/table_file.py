"""Tables on disk: one Parquet file with page checksums and metadata, published atomically."""

import hashlib
import itertools
import json
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fschemas.failures import FashionkitError, IntegrityError, UsageError
from fschemas.json_file import parse_json
from fschemas.landmarks import LANDMARK_SET_SHAPE
from fschemas.publish import publish
from fschemas.regular_file import open_regular
from fschemas.vocabularies import VOCABULARY_SHAPE

METADATA_KEY = b"fashionkit"
_SEAL_KEY = b"fashionkit-seal"
_SHAPE = {
    "table?": str, "dataset?": (None, str), "column_groups?": [str], "raw_root?": str, "synthetic?": bool,
    "landmark_set?": (None, LANDMARK_SET_SHAPE), "vocabularies?": {"*": VOCABULARY_SHAPE}, "tables?": [dict],
}  # fmt: skip


def write_table(path: Path, table: pa.Table, metadata: dict[str, Any] | None = None) -> None:
    """Publish `table` with `metadata` (plain JSON values). Equal tables and metadata give equal bytes."""
    write_tables(path, [table], metadata)


def write_tables(path: Path, parts: Iterable[pa.Table], metadata: dict[str, Any] | None = None) -> None:
    """Like `write_table`, for the rows of all `parts` (at least one), which need not be in memory at the same time."""
    note = json.dumps(metadata or {}, ensure_ascii=False, sort_keys=True).encode()
    each = iter(parts)
    first = next(each).replace_schema_metadata()
    with (
        publish(path) as temporary,
        open(temporary, "wb") as file,
        pq.ParquetWriter(file, first.schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        rows = 0
        for part in itertools.chain([first], each):
            rows += part.num_rows
            writer.write_table(part.replace_schema_metadata(), row_group_size=65536)
        writer.add_key_value_metadata({METADATA_KEY: note, _SEAL_KEY: _seal(first.schema, note, rows)})


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a table and verify its page checksums. Raises `UsageError` if it is missing, `IntegrityError` if damaged.

    Disk errors (`OSError` with a number) are not caught.
    """
    with _parquet(path) as file:
        return file.read(columns=columns)


def read_metadata(path: Path) -> dict[str, Any]:
    """Read the metadata stored by `write_table`.

    Raises the errors of `read_table`, and `UsageError` for other files.
    """
    with _parquet(path) as file:
        stored = file.metadata.metadata or {}
        if METADATA_KEY not in stored:
            raise UsageError(f"{path}: a Parquet file, but not a table of fprep; write it with `fprep convert`")
        return parse_json(stored[METADATA_KEY], _SHAPE, source=f"{path}: its metadata", remedy="write it again")


@contextmanager
def _parquet(path: Path) -> Generator[pq.ParquetFile]:
    """Open a Parquet file and convert pyarrow's errors for damaged files. `pq.read_table` imports pandas, a second."""
    try:
        open_regular(path).close()  # do not wait for a pipe
        with pq.ParquetFile(path, page_checksum_verification=True, memory_map=False) as file:
            _check_seal(path, file)
            yield file
    except FileNotFoundError:
        raise UsageError(f"{path}: no such table; write it with `fprep convert`") from None
    except FashionkitError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise IntegrityError(f"{path}: not a readable Parquet table ({reason}); write it again") from error


def _seal(schema: pa.Schema, note: bytes, rows: int) -> bytes:
    """Digest of what page checksums do not cover: column names and types, metadata and number of rows."""
    columns = "\n".join(f"{field.name}: {_type_name(field.type)}" for field in schema)
    return hashlib.sha256(b"\0".join((columns.encode(), note, str(rows).encode()))).hexdigest().encode()


def _type_name(kind: pa.DataType) -> str:
    """Name of a type, without what a Parquet round trip may change: string offsets and views, list element names."""
    if pa.types.is_struct(kind):
        return f"struct of {', '.join(f'{field.name}: {_type_name(field.type)}' for field in kind)}"
    if isinstance(kind, pa.ListType | pa.LargeListType | pa.FixedSizeListType):
        return f"list of {_type_name(kind.value_type)}"
    if pa.types.is_dictionary(kind):  # Parquet keeps the values of categories, but may change their integer type
        return _type_name(kind.value_type)
    return str(kind).removeprefix("large_").removesuffix("_view")


def _check_seal(path: Path, file: pq.ParquetFile) -> None:
    """Raise `IntegrityError` for a table of this package with a changed footer.

    Other files have no metadata or seal.
    """
    footer = file.metadata
    stored = footer.metadata or {}
    note = stored.get(METADATA_KEY, b"")
    rows = sum(footer.row_group(number).num_rows for number in range(footer.num_row_groups))
    if stored.get(_SEAL_KEY) == _seal(file.schema_arrow, note, rows) or not _names_seal(path):
        return
    raise IntegrityError(f"{path}: the footer of this table changed (its digest differs); write it again")


def _names_seal(path: Path) -> bool:
    """Whether the raw footer contains the seal: a flipped bit can hide it from the Parquet reader."""
    with open_regular(path) as file:
        file.seek(-8, 2)
        size = int.from_bytes(file.read(4), "little")
        file.seek(-8 - size, 2)
        return _SEAL_KEY in file.read(size)
