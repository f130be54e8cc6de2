"""`fprep shard`: a table becomes a WebDataset shard set with an index, resumable at every shard.

The plan says which sample stands in which shard before anything is written. It is a function of the table's digest and
the options alone; its SHA-256, the plan id, stands in every shard record. A rerun keeps the shards that carry the plan
id.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fprep.safe_open import follows_links
from fprep.sharding.augment import Recipe, load_recipe
from fprep.sharding.finish import existing_plan_id, features, finish, remove_strangers
from fprep.sharding.sample import SampleOptions, sample_key
from fprep.sharding.source_table import SourceTable
from fprep.sharding.workers import write_shards
from fprep.split_lock import Checked, checked_table
from fschemas.failures import UsageError
from fschemas.folders import claim_output
from fschemas.names import KEY, LONGEST_KEY
from fschemas.publish import exclusive, withdraw
from fschemas.shard import ShardRecord, is_finished, shard_name
from fschemas.shard_set import DATASET_FILE, FORMAT
from fschemas.tables import SPLITS

CONTENT_VERSION = 1  # counts up when the same table and options begin to give other bytes
_READERS = 4  # threads that compute digests


@dataclass(frozen=True)
class PlannedShard:
    """A shard to be: for each sample the row of the table and the number of the copy (0: the picture itself)."""

    name: str
    split: str
    rows: tuple[int, ...]
    copies: tuple[int, ...]


@dataclass(frozen=True)
class ShardPlan:
    """All shards of a set in the order of dataset.json; `options` are plain JSON values without paths."""

    plan_id: str
    shards: tuple[PlannedShard, ...]
    options: dict[str, Any]


def shard(
    table: Path, out: Path, *, images: Path | None = None, follow_links: bool = False, size: int | None = None, quality: int = 90, copies: int = 0,
    augment: str | None = None, shard_samples: int = 1000, seed: int = 0, workers: int = 0,
    splits: tuple[str, ...] | None = None, limit: int | None = None, boxes: Sequence[Path] = (), lock: Path | None = None,
    leave_out: bool = False, dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write the shard set of a table into the folder `out` and return a summary.

    `images` replaces the raw root that the table names; `follow_links`: images may lie behind links that leave it. `size`: longest side in pixels, never enlarged; `quality`: of
    resized and augmented JPEGs. `copies`: augmented copies of every picture of the training split, by the recipe
    `augment` (a name or a YAML file). `shard_samples`: at most so many samples a shard. `limit`: so many pictures a
    split, for a trial. `boxes`: answers of `ftrain predict` over shards of the table, whose boxes take the place of its own.
    `lock`: a split lock that the table must agree with (`fprep.split_lock`); with `leave_out` rows that do not are left
    out. `workers`: processes, 0 for one per core; the bytes do not depend on it. `progress(done, total)` counts samples.
    Raises `UsageError`, `IntegrityError`, `EnvironmentProblem` or `OSError`; nothing half-written is left under a final
    name.
    """
    out = claim_output(Path(out), "shards")
    source = SourceTable.open(Path(table))
    source = source.with_found_boxes(boxes) if boxes else source
    if leave_out and lock is None:
        raise UsageError("--leave-out needs a split lock; name it with --lock")
    dataset, place = str(source.metadata.get("dataset")), str(source.path)
    locked = checked_table(lock, source.frame, dataset, place, leave_out=leave_out) if lock else None
    recipe = _check_options(size, quality, copies, augment, shard_samples, limit)
    plan = plan_shards(
        source, size=size, quality=quality, copies=copies, recipe=recipe, shard_samples=shard_samples, seed=seed,
        splits=splits, limit=limit, lock=locked,
    )  # fmt: skip
    columns, partners = source.annotation_columns, source.partners
    follow_links = follow_links or follows_links(source.metadata)
    options = SampleOptions(source.raw_root(images), columns, size, quality, seed, recipe, partners, follow_links)
    if dry_run:
        return _summary(plan, [], reused=_count_finished(out, plan), unchanged=existing_plan_id(out) == plan.plan_id)
    with exclusive(out):
        records = _kept(out, plan)
        if len(records) == len(plan.shards) and existing_plan_id(out) == plan.plan_id:
            remove_strangers(out, set(records))
            return _summary(plan, list(records.values()), reused=len(records), unchanged=True)
        withdraw(out / DATASET_FILE)  # before the first shard of an old set is replaced: no reader may see a mix
        todo = [planned for planned in plan.shards if planned.name not in records]
        report = _shifted(progress, plan, todo)
        written = write_shards(out, plan.plan_id, options, _tasks(source, todo), workers, report)
        in_order = [(written | records)[planned.name] for planned in plan.shards]
        finish(out, source, plan, in_order)
        remove_strangers(out, {planned.name for planned in plan.shards})
    return _summary(plan, in_order, reused=len(records), unchanged=False)


def plan_shards(
    source: SourceTable, *, size: int | None = None, quality: int = 90, copies: int = 0, recipe: Recipe | None = None,
    shard_samples: int = 1000, seed: int = 0, splits: tuple[str, ...] | None = None, limit: int | None = None,
    lock: Checked | None = None,
) -> ShardPlan:  # fmt: skip
    """Which sample stands in which shard; `lock` says which rows it leaves out.

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
    strangers = [split for split in splits or () if split not in present]
    if strangers or not present:
        wanted, known = ", ".join(strangers) or "any split", ", ".join(present) or "none"
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
    """A permutation keyed by seed and name: the order of raw Philox numbers, which NumPy keeps the same in all versions."""
    key = int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=16).digest(), "little")
    return np.argsort(np.random.Philox(key=key).random_raw(length), kind="stable")


def _check_options(
    size: int | None, quality: int, copies: int, augment: str | None, shard_samples: int, limit: int | None
) -> Recipe | None:
    for name, value, low, high in (
        ("--size", size, 8, 16384), ("--quality", quality, 1, 100), ("--copies", copies, 0, 1000),
        ("--shard-samples", shard_samples, 1, 1_000_000), ("--limit", limit, 1, 1 << 40),
    ):  # fmt: skip
        if value is not None and not low <= value <= high:
            raise UsageError(f"{name} is {value}, but {low} to {high} is allowed; choose another value")
    if copies and not augment:
        raise UsageError("--copies needs a recipe; name one, for example `--copies 2 --augment geometric`")
    recipe = load_recipe(augment) if augment else None
    return recipe if copies else None  # without copies a recipe changes nothing, so it must not change the plan either


def _check_keys(source: SourceTable, shards: list[PlannedShard]) -> None:
    table_keys = source.frame["key"].to_list()
    seen: set[str] = set()
    for planned in shards:
        for row, copy in zip(planned.rows, planned.copies, strict=True):
            key = sample_key(table_keys[row], copy)
            if key in seen or not KEY.fullmatch(key):
                fault = "occurs twice" if key in seen else f"is longer than {LONGEST_KEY} characters or not plain ASCII"
                raise UsageError(f"{source.path}: the sample key {key!r} {fault}; change the keys in the reader")
            seen.add(key)


def _check_columns(source: SourceTable) -> None:
    """Every JSON key of every sample has a value of a known type, else readers that infer types go wrong."""
    features(source)
    for name in source.annotation_columns:
        if source.frame[name].null_count():
            raise UsageError(f"{source.path}: the column {name!r} has empty rows; give them a value in the reader")


def _tasks(source: SourceTable, todo: list[PlannedShard]) -> Iterator[tuple[str, str, list[dict[str, Any]], tuple[int, ...]]]:
    for planned in todo:
        yield planned.name, planned.split, source.rows(planned.rows), planned.copies


def _shifted(
    progress: Callable[[int, int], None] | None, plan: ShardPlan, todo: list[PlannedShard]
) -> Callable[[int], None] | None:
    """Progress over the whole set: what is kept counts as done."""
    if progress is None:
        return None
    total = sum(len(planned.rows) for planned in plan.shards)
    kept = total - sum(len(planned.rows) for planned in todo)
    return lambda done: progress(kept + done, total)


def _kept(out: Path, plan: ShardPlan) -> dict[str, ShardRecord]:
    """Records of the shards that stand there already, read in full: one that was damaged meanwhile is written again."""
    names = [planned.name for planned in plan.shards]
    with ThreadPoolExecutor(max_workers=_READERS) as pool:
        records = pool.map(lambda name: is_finished(out, name, plan.plan_id), names)
        return {name: record for name, record in zip(names, records, strict=True) if record is not None}


def _count_finished(out: Path, plan: ShardPlan) -> int:
    return sum(is_finished(out, planned.name, plan.plan_id, digests=False) is not None for planned in plan.shards)


def _summary(plan: ShardPlan, records: list[ShardRecord], *, reused: int, unchanged: bool) -> dict[str, Any]:
    splits: dict[str, int] = {}
    for planned in plan.shards:
        splits[planned.split] = splits.get(planned.split, 0) + len(planned.rows)
    return {
        "plan_id": plan.plan_id, "splits": splits, "shards": len(plan.shards), "reused": reused,
        "bytes": sum(record.bytes for record in records), "unchanged": unchanged,
    }  # fmt: skip
