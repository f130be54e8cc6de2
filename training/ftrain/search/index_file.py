"""An index on disk: features, their items, and `index.json`, which is written last and holds the digests of the others.

    features.npy        float32 N, D: deep features, L2-normalized
    colors.npy          float32 N, C: color features, L2-normalized (optional)
    items.parquet       per image: key, split, item, category, image (path in raw folder), sha256, row (in shard set)
    approximate.faiss   the approximate index (optional)
    index.json          format, provenance, dimensions, the recall sweep, sizes and SHA-256

Arrays are plain .npy files, memory-mapped on opening; nothing in the folder can execute code.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa

from fschemas.failures import IntegrityError
from fschemas.json_file import COUNT, read_json
from fschemas.names import DIGEST
from fschemas.preflight import check_index
from fschemas.publish import publish, publish_sealed, sha256_of, withdraw
from fschemas.table_file import read_table, write_table
from ftrain.metrics.exact_search import ExactSearch, Features
from ftrain.search.approximate import (
    APPROXIMATION_SHAPE,
    ApproximateSearch,
    Approximation,
    load_approximate,
    write_approximate,
)

FORMAT = "fashionkit-index/2"
INDEX_FILE, FEATURES_FILE, COLORS_FILE = "index.json", "features.npy", "colors.npy"
ITEMS_FILE, APPROXIMATE_FILE = "items.parquet", "approximate.faiss"
_FILES = {FEATURES_FILE, COLORS_FILE, ITEMS_FILE, APPROXIMATE_FILE}
_ROWS_AT_ONCE = 65_536
ITEM_COLUMNS = ("key", "split", "item", "category", "image", "sha256", "row")
_SHAPE = {
    "samples": COUNT, "dimensions": COUNT, "color_dimensions": COUNT, "approximate": (None, APPROXIMATION_SHAPE),
    "files": {"*": {"bytes": COUNT, "sha256": DIGEST}}, "run": {"path": str, "dim?": (None, COUNT)}, "shards": {"path": str},
}  # fmt: skip


@dataclass(frozen=True)
class IndexFolder:
    """An open index. `items` holds the columns of `ITEM_COLUMNS` as arrays N; "" where a label is unknown."""

    path: Path
    metadata: dict[str, Any]
    features: Features
    items: dict[str, np.ndarray]

    @classmethod
    def open(cls, path: Path, *, digests: bool = True) -> Self:
        """Open and verify an index; without `digests`, check sizes only, which saves 0.2 s per 300 MB.

        Raises `UsageError` if there is no complete index, and `IntegrityError` if a file does not match index.json.
        """
        check_index(path)
        metadata = _read_metadata(path)
        for name, file in metadata["files"].items():
            member = path / name
            size = member.stat().st_size if member.is_file() else None
            if size != file["bytes"]:
                found = "missing" if size is None else f"{size} bytes"
                raise IntegrityError(f"{member}: {found} instead of {file['bytes']} bytes; build the index again")
            if digests and sha256_of(member) != file["sha256"]:
                raise IntegrityError(f"{member}: changed (SHA-256 differs from {INDEX_FILE}); build the index again")
        count = metadata["samples"]
        deep = _map(path / FEATURES_FILE, (count, metadata["dimensions"]), finite=digests)
        color = None
        if metadata["color_dimensions"]:
            color = _map(path / COLORS_FILE, (count, metadata["color_dimensions"]), finite=digests)
        table = read_table(path / ITEMS_FILE)
        if table.num_rows != count or table.column_names != list(ITEM_COLUMNS):
            raise IntegrityError(
                f"{path}/{ITEMS_FILE}: {table.num_rows} rows instead of {count}; build the index again"
            )
        items = {name: np.array(table.column(name).to_pylist()) for name in ITEM_COLUMNS}
        return cls(path, metadata, Features(deep, color), items)

    def __len__(self) -> int:
        return len(self.features)

    @property
    def approximation(self) -> Approximation | None:
        """Tuning result of the approximate index, or None."""
        stored = self.metadata["approximate"]
        return None if stored is None else Approximation.from_json(stored)

    def searcher(self, device: Any = None) -> ExactSearch | ApproximateSearch:
        """Return the search for which the index was built; raises `EnvironmentProblem` if it lacks faiss."""
        approximation = self.approximation
        if approximation is None:
            return ExactSearch(self.features, device)
        return load_approximate(self.path / APPROXIMATE_FILE, self.features, approximation)

    def location_of(self, name: str) -> str:
        """Location of the index's `run` or `shards`: a URL, or a path relative to the working directory."""
        location = str(self.metadata[name]["path"])
        return location if "://" in location else os.path.normpath(self.path / location)


def write_index(
    path: Path,
    features: Features,
    items: dict[str, Any],
    metadata: dict[str, Any],
    approximate: ApproximateSearch | None = None,
) -> dict[str, Any]:
    """Publish an index, replacing an existing one, and return the content of index.json.

    Call it within `exclusive(path)`. `metadata` is the provenance. The same values give the same bytes.
    """
    withdraw(path / INDEX_FILE)
    _publish_array(path / FEATURES_FILE, features.deep)
    write_table(path / ITEMS_FILE, pa.table({name: items[name] for name in ITEM_COLUMNS}))
    if features.color is None:
        withdraw(path / COLORS_FILE)
    else:
        _publish_array(path / COLORS_FILE, features.color)
    if approximate is None:
        withdraw(path / APPROXIMATE_FILE)
    else:
        with publish(path / APPROXIMATE_FILE) as temporary:
            write_approximate(approximate, temporary)
    written = sorted(name for name in _FILES if (path / name).exists())
    files = {name: {"bytes": (path / name).stat().st_size, "sha256": sha256_of(path / name)} for name in written}
    whole = {
        "format": FORMAT,
        **metadata,
        "samples": len(features),
        "dimensions": features.deep.shape[1],
        "color_dimensions": 0 if features.color is None else features.color.shape[1],
        "approximate": approximate.approximation.to_json() if approximate else None,
        "files": files,
    }
    publish_sealed(path / INDEX_FILE, whole)
    return whole


def _read_metadata(path: Path) -> dict[str, Any]:
    metadata = read_json(
        path / INDEX_FILE,
        _SHAPE,
        format=FORMAT,
        sealed=True,
        missing=f"{path}: no finished index here ({INDEX_FILE} is missing); build one with `ftrain index`",
        remedy="build the index again",
    )
    unknown = metadata["files"].keys() - _FILES
    if unknown:
        raise IntegrityError(f"{path}/{INDEX_FILE}: {min(unknown)!r} is not a file of an index; build the index again")
    missing = {FEATURES_FILE, ITEMS_FILE} - metadata["files"].keys()
    if missing:
        raise IntegrityError(f"{path}/{INDEX_FILE}: files.{min(missing)} is missing; build the index again")
    return metadata


def _map(path: Path, shape: tuple[int, int], *, finite: bool) -> np.ndarray:
    """Memory-map a .npy file (copy-on-write, because torch requires writable memory); `finite` checks every number."""
    try:
        array = np.load(path, mmap_mode="c").view(np.ndarray)
    except (ValueError, EOFError) as error:
        raise IntegrityError(f"{path}: not a plain .npy file ({error}); build the index again") from None
    if array.shape != shape or array.dtype != np.float32:
        raise IntegrityError(f"{path}: {array.dtype} {array.shape} instead of float32 {shape}; build the index again")
    bad = _first_not_finite(array) if finite else None
    if bad is not None:
        raise IntegrityError(f"{path}: the features of row {bad} are not finite; build the index again")
    return array


def _first_not_finite(array: np.ndarray) -> int | None:
    """First row of `array` N, D with NaN or infinity, or None; read in chunks, because it may exceed memory."""
    for start in range(0, len(array), _ROWS_AT_ONCE):
        finite = np.isfinite(array[start : start + _ROWS_AT_ONCE]).all(axis=1)
        if not finite.all():
            return start + int(np.argmin(finite))
    return None


def _publish_array(path: Path, array: np.ndarray) -> None:
    with publish(path) as temporary, open(temporary, "wb") as file:
        content = np.ascontiguousarray(array, dtype=np.float32)
        np.lib.format.write_array(file, content, version=(1, 0), allow_pickle=False)
