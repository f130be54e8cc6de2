"""A finished shard set: `dataset.json`, `index.parquet` and the tars listed in them.

`dataset.json` is written last; its existence means that the set is complete. Readers open a set only through it and
never list a folder. Samples are read by offset and verified by CRC, so a damaged header does not hide the rest of a
shard.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fschemas.failures import EnvironmentProblem, FashionkitError, IntegrityError, UsageError
from fschemas.json_file import COUNT, read_json
from fschemas.landmarks import LANDMARK_SET_SHAPE
from fschemas.names import DIGEST, SHARD_NAME
from fschemas.preflight import check_shards
from fschemas.publish import sha256_of
from fschemas.shard_index import DIGEST_COLUMN, INDEX_FILE, as_arrays, check_index
from fschemas.table_file import read_table
from fschemas.vocabularies import VOCABULARY_SHAPE

FORMAT = "fashionkit-shards/1"
DATASET_FILE = "dataset.json"
_MAX_OPEN = 64  # shards per process; files evicted from a cache keep their disk space until they are closed

# Description of the samples in dataset.json; run folders store a copy of it.
DATASET_SHAPE = {
    "plan_id": str, "column_groups": [str], "landmark_set": (None, LANDMARK_SET_SHAPE), "vocabularies": {"*": VOCABULARY_SHAPE},
    "splits": {"*": {"samples": COUNT, "shards": COUNT}}, "dataset?": (None, str), "synthetic?": bool, "lock?": (None, str),
    "sets?": [{"plan_id": str, "dataset?": (None, str)}],  # of a run on several shard sets
}  # fmt: skip
_SET_SHAPE = {
    **DATASET_SHAPE, "index": {"sha256": DIGEST},
    "shards": [{"name": SHARD_NAME, "split": str, "samples": COUNT, "bytes": COUNT, "sha256": DIGEST}],
}  # fmt: skip


@dataclass
class ShardSet:
    """An open shard set: `metadata` is dataset.json, `columns` the index as arrays with one entry per sample.

    `path_of` returns the local path of a file of the set, and may download it.
    """

    location: str
    metadata: dict[str, Any]
    columns: dict[str, np.ndarray]
    path_of: Callable[[str], Path]
    _has_digests: bool = field(default=False, repr=False)
    _translation: Callable[[dict[str, Any]], dict[str, Any]] | None = field(default=None, repr=False)
    _descriptors: dict[int, int] = field(default_factory=dict[int, int], repr=False)

    @classmethod
    def open(
        cls, location: str | Path, path_of: Callable[[str], Path] | None = None, *, digests: bool = False
    ) -> ShardSet:
        """Open the set in a folder (or, with `path_of`, anywhere) and verify it before the first sample is read.

        Sizes of all shards and the digest of the index are always verified, with `digests` also the SHA-256 of every
        shard. Raises `UsageError` if there is no finished set, `IntegrityError` if a file does not match dataset.json.
        """
        is_folder, location = path_of is None, str(location)
        if path_of is None:
            check_shards(location)
            path_of = Path(location).joinpath
        metadata = read_dataset_file(path_of(DATASET_FILE), location)
        try:
            shard_set = cls._checked(location, metadata, path_of)
            if is_folder:
                shard_set.check_shards(digests=digests)
        except IntegrityError as error:
            raise _unless_rewritten(error, location, metadata, path_of) from None
        return shard_set

    @classmethod
    def _checked(cls, location: str, metadata: dict[str, Any], path_of: Callable[[str], Path]) -> ShardSet:
        index_path = path_of(INDEX_FILE)
        if not index_path.exists():
            raise IntegrityError(f"{location}/{INDEX_FILE}: missing; write the shard set again")
        if sha256_of(index_path) != metadata["index"]["sha256"]:
            raise IntegrityError(
                f"{location}/{INDEX_FILE}: not the file that {DATASET_FILE} names; write the shard set again"
            )
        table = read_table(index_path)
        check_index(f"{location}/{INDEX_FILE}", table, len(metadata["shards"]))
        columns, has_digests = as_arrays(table), DIGEST_COLUMN in table.column_names
        del table
        pa.default_memory_pool().release_unused()  # otherwise kept, and counted for each data worker too
        return cls(location, metadata, columns, path_of, has_digests)

    def check_shards(self, *, digests: bool) -> None:
        """Compare every shard with its entry in dataset.json. Raises `IntegrityError` at the first difference."""
        for shard in self.metadata["shards"]:
            path = self.path_of(shard["name"])
            size = path.stat().st_size if path.exists() else None
            if size is None:
                raise IntegrityError(f"{path}: missing; run `fprep shard` again")
            if size != shard["bytes"]:
                raise IntegrityError(f"{path}: {size} bytes instead of {shard['bytes']}; run `fprep shard` again")
            if digests and sha256_of(path) != shard["sha256"]:
                raise IntegrityError(
                    f"{path}: SHA-256 differs from {DATASET_FILE}; delete it and run `fprep shard` again"
                )

    def __len__(self) -> int:
        return len(self.columns["key"])

    @property
    def plan_id(self) -> str:
        """Identifier of the content of the set, derived from table and options."""
        return str(self.metadata["plan_id"])

    @property
    def parts(self) -> tuple[ShardSet, ...]:
        """The sets whose rows follow one another in this one: itself, unless several were joined."""
        return (self,)

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """First row of each of the `parts`."""
        lengths = [len(part) for part in self.parts]
        return np.cumsum(lengths) - lengths

    def require(self, groups: tuple[str, ...]) -> None:
        """Raise `UsageError` unless the set has these column groups."""
        missing = [group for group in groups if group not in self.metadata["column_groups"]]
        if missing:
            carried = ", ".join(self.metadata["column_groups"]) or "no annotation"
            raise UsageError(f"{self.location}: the task needs {', '.join(missing)}, but this shard set has {carried}")

    def rows(self, split: str) -> np.ndarray:
        """Row numbers (N,), int64, of a split in index order. Raises `UsageError` for a split without samples."""
        rows = np.flatnonzero(self.columns["split"] == split)
        if len(rows) == 0:
            known = ", ".join(f"{name} ({entry['samples']})" for name, entry in self.metadata["splits"].items())
            raise UsageError(f"{self.location}: the split {split!r} has no samples; there are {known}")
        return rows

    def read(self, row: int) -> tuple[bytes, dict[str, Any]]:
        """Read JPEG bytes and annotation of a sample.

        Raises `IntegrityError` if a CRC differs or the shard is truncated.
        """
        columns = self.columns
        start, size = int(columns["image_offset"][row]), int(columns["image_size"][row])
        json_start, json_size = int(columns["json_offset"][row]), int(columns["json_size"][row])
        block = os.pread(self._descriptor(int(columns["shard"][row])), json_start + json_size - start, start)
        image, text = block[:size], block[json_start - start :]
        if zlib.crc32(image) != columns["image_crc"][row]:
            raise self._damaged(row)
        return image, self._annotation(row, text)

    def read_annotation(self, row: int) -> dict[str, Any]:
        """Read the annotation of a sample without its image. Raises the same errors as `read`."""
        start, size = int(self.columns["json_offset"][row]), int(self.columns["json_size"][row])
        return self._annotation(row, os.pread(self._descriptor(int(self.columns["shard"][row])), size, start))

    def image_digests(self, rows: np.ndarray) -> list[str]:
        """SHA-256 (hex) of the source images of some rows, which identifies them regardless of their paths.

        If the set does not have them, those of the stored JPEGs, which are equal unless `fprep shard` resized or
        re-encoded them.
        """
        path = self.path_of(INDEX_FILE)
        known = read_table(path, [DIGEST_COLUMN]).column(0).to_pylist() if self._has_digests else None
        digests = [str(known[row]) if known else "" for row in rows.tolist()]
        pairs = zip(digests, rows.tolist(), strict=True)
        return [digest or hashlib.sha256(self.read(row)[0]).hexdigest() for digest, row in pairs]

    def translated(
        self,
        translation: Callable[[dict[str, Any]], dict[str, Any]],
        vocabularies: dict[str, Any],
        known: Mapping[str, frozenset[str]],
    ) -> ShardSet:
        """Return the set with `translation` applied to every annotation, and with other `vocabularies`.

        `known` maps columns to known values; other values of these columns become "".
        """
        columns = dict(self.columns)
        for name in known.keys() & columns.keys():
            columns[name] = np.where(np.isin(columns[name], sorted(known[name])), columns[name], "")
        metadata = {**self.metadata, "vocabularies": {**self.metadata.get("vocabularies", {}), **vocabularies}}
        return replace(self, metadata=metadata, columns=columns, _translation=translation, _descriptors={})

    def close(self) -> None:
        """Close all open shards."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_descriptors": {}}  # each worker process opens its own

    def _annotation(self, row: int, text: bytes) -> dict[str, Any]:
        if zlib.crc32(text) != self.columns["json_crc"][row]:
            raise self._damaged(row)
        try:
            annotation = json.loads(text)
        except (ValueError, RecursionError):  # not `parse_json`, which is slower: this runs for every sample
            raise self._damaged(row) from None
        return annotation if self._translation is None else self._translation(annotation)

    def _damaged(self, row: int) -> FashionkitError:
        name = self.metadata["shards"][int(self.columns["shard"][row])]["name"]
        error = IntegrityError(
            f"{self.location}/{name}: sample {self.columns['key'][row]} is damaged (CRC differs); "
            "delete the shard and run `fprep shard` again"
        )
        return _unless_rewritten(error, self.location, self.metadata, self.path_of)

    def _descriptor(self, shard: int) -> int:
        """Open a shard and mark it as most recently used; closes the least recently used one if too many are open."""
        descriptor = self._descriptors.pop(shard, None)
        if descriptor is None:
            descriptor = self._open(self.metadata["shards"][shard]["name"])
            if len(self._descriptors) >= _MAX_OPEN:
                os.close(self._descriptors.pop(next(iter(self._descriptors))))
        self._descriptors[shard] = descriptor
        return descriptor

    def _open(self, name: str) -> int:
        try:
            return os.open(self.path_of(name), os.O_RDONLY)
        except FileNotFoundError:  # another process evicted it from a shared cache between the two calls
            return os.open(self.path_of(name), os.O_RDONLY)


def _unless_rewritten(
    error: IntegrityError, location: str, metadata: dict[str, Any], path_of: Callable[[str], Path]
) -> FashionkitError:
    """Return the error, or that the set was rewritten since it was opened: then nothing is damaged or to be deleted."""
    try:
        if read_dataset_file(path_of(DATASET_FILE), location) == metadata:
            return error
    except UsageError:  # removed, the first step of rewriting
        pass
    except (IntegrityError, OSError):
        return error
    return EnvironmentProblem(
        f"{location}: the shard set was rewritten while it was read; wait until that has finished and run the command again"
    )


def read_dataset_file(path: Path, location: str) -> dict[str, Any]:
    """Read dataset.json of a shard set at `location` (folder or URL, for messages).

    Raises the same errors as `read_json`.
    """
    return read_json(
        path, _SET_SHAPE, format=FORMAT, sealed=True, source=f"{location}/{DATASET_FILE}",
        missing=f"{location}: no finished shard set here ({DATASET_FILE} is missing); run `fprep shard` first",
        remedy="run `fprep shard` again",
    )  # fmt: skip
