"""The plan of a shard set: which sample goes into which shard, a pure function of the table's digest and the options.

The SHA-256 of both is the plan id. Every shard record contains it, and a rerun keeps the shards of the same plan.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from fprep.audit.split_lock import LockCheck
from fprep.convert.source_table import SourceTable
from fprep.shard.augment import Recipe
from fprep.shard.sample import sample_key
from fschemas.failures import UsageError
from fschemas.names import KEY, LONGEST_KEY
from fschemas.shard import shard_name
from fschemas.shard_set import FORMAT
from fschemas.splits import SPLITS

CONTENT_VERSION = 1  # increment when the same table and options produce different bytes
# Hugging Face names of the column types. Coordinates are float64, so JSON numbers keep their precision.
_FEATURES: dict[Any, str] = {
    pl.String: "string", pl.Enum: "string", pl.Categorical: "string", pl.Boolean: "bool",
    pl.Int8: "int64", pl.Int16: "int64", pl.Int32: "int64", pl.Int64: "int64", pl.Float32: "float64", pl.Float64: "float64",
}  # fmt: skip


@dataclass(frozen=True)
class PlannedShard:
    """A planned shard: for each sample, the row of the table and the copy number (0: the image itself)."""

    name: str
    split: str
    rows: tuple[int, ...]
    copies: tuple[int, ...]


@dataclass(frozen=True)
class ShardPlan:
    """All shards of a set in the order of dataset.json. `options` are plain JSON values without paths."""

    plan_id: str
    shards: tuple[PlannedShard, ...]
    options: dict[str, Any]


def plan_shards(
    source: SourceTable,
    *,
    size: int | None = None,
    quality: int = 90,
    copies: int = 0,
    recipe: Recipe | None = None,
    shard_samples: int = 1000,
    seed: int = 0,
    splits: tuple[str, ...] | None = None,
    limit: int | None = None,
    lock: LockCheck | None = None,
) -> ShardPlan:
    """Assign samples to shards, without the rows that `lock` excludes.

    Raises `UsageError` for a split without rows and for clashing keys.
    """
    options: dict[str, Any] = {
        "size": size, "quality": quality if size is not None or copies else None, "copies": copies,
        "augment": recipe.to_json() if recipe else None, "shard_samples": shard_samples, "seed": seed,
        "splits": list(splits) if splits else None, "limit": limit,
    }  # fmt: skip
    if lock is not None:
        options |= {"lock": lock.digest, "left_out": len(lock.left_out)}
    if source.boxes_digest:
        options["boxes"] = source.boxes_digest
    content = {"format": FORMAT, "content_version": CONTENT_VERSION, "table_sha256": source.sha256, "options": options}
    plan_id = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    row_splits = source.frame["split"].cast(pl.String).to_numpy(writable=True)
    row_splits[list(lock.left_out) if lock else []] = ""
    present = [split for split in SPLITS if split in set(row_splits)]
    unknown = [split for split in splits or () if split not in present]
    if unknown or not present:
        wanted, known = ", ".join(unknown) or "any split", ", ".join(present) or "none"
        raise UsageError(f"{source.path}: no rows in {wanted}; the splits with rows are {known}")
    shards: list[PlannedShard] = []
    for split in present if splits is None else [split for split in present if split in splits]:
        rows = np.flatnonzero(row_splits == split)
        rows = rows[permutation(len(rows), seed, f"{split}/rows")][:limit]
        copies_here = copies if split == "train" else 0
        samples = np.array([(row, copy) for row in rows for copy in range(copies_here + 1)], np.int64)
        samples = samples[permutation(len(samples), seed, f"{split}/samples")]
        pieces = np.array_split(samples, -(-len(samples) // shard_samples))
        shards += [
            PlannedShard(shard_name(split, number), split, tuple(piece[:, 0].tolist()), tuple(piece[:, 1].tolist()))
            for number, piece in enumerate(pieces)
        ]
    _check_keys(source, shards)
    _check_columns(source)
    return ShardPlan(plan_id, tuple(shards), options)


def permutation(length: int, seed: int, name: str) -> np.ndarray:
    """Return a permutation, int64 (length,), keyed by seed and name.

    It is the order of raw Philox numbers, which are the same in all NumPy versions.
    """
    key = int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=16).digest(), "little")
    return np.argsort(np.random.Philox(key=key).random_raw(length), kind="stable")


def _check_keys(source: SourceTable, shards: list[PlannedShard]) -> None:
    table_keys = source.frame["key"].to_list()
    seen: set[str] = set()
    for planned in shards:
        for row, copy in zip(planned.rows, planned.copies, strict=True):
            key = sample_key(table_keys[row], copy)
            if key in seen or not KEY.fullmatch(key):
                form = f"is longer than {LONGEST_KEY} characters or not plain ASCII"
                problem = f"the sample key {key!r} {'occurs twice' if key in seen else form}"
                raise UsageError(f"{source.path}: {problem}; change the keys in the reader")
            seen.add(key)


def _check_columns(source: SourceTable) -> None:
    """Check that every column has a known type: readers that infer types fail on missing keys or unknown values."""
    features(source)
    for name in source.annotation_columns:
        if source.frame[name].null_count():
            raise UsageError(f"{source.path}: the column {name!r} has empty rows; set a value in the reader")


def features(source: SourceTable) -> list[dict[str, Any]]:
    """Return the feature types of a sample for the dataset card. Raises `UsageError` for an unsupported column type."""
    fields: list[dict[str, Any]] = [
        {"name": name, "dtype": "string" if name in ("key", "split", "group", "image") else "int64"}
        for name in ("key", "split", "group", "width", "height", "image", "copy")
    ]
    for name in source.annotation_columns:
        kind = source.frame.schema[name]
        feature = _feature(kind)
        fields.append({"name": name, **(feature if isinstance(feature, dict) else {"dtype": feature})})
    text = [{"name": name, "dtype": "string"} for name in ("__key__", "__url__")]
    return [{"name": "jpg", "dtype": "image"}, {"name": "json", "struct": fields}, *text]


def _feature(kind: Any) -> str | dict[str, Any]:
    if isinstance(kind, pl.List):
        return {"sequence": _feature(kind.inner)}
    if kind.base_type() not in _FEATURES:
        raise UsageError(f"a column of type {kind} cannot be written into shards; change it in the reader")
    return _FEATURES[kind.base_type()]
