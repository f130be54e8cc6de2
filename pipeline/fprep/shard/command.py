"""`fprep shard`: write a table as a WebDataset shard set with an index, resumable after every shard.

The plan (`fprep.shard.plan`) assigns samples to shards before anything is written.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fprep.audit.split_lock import checked_table
from fprep.convert.source_table import SourceTable
from fprep.raw.safe_open import follows_links
from fprep.shard.augment import Recipe, load_recipe
from fprep.shard.finish import existing_plan_id, finish, remove_unlisted_files
from fprep.shard.plan import ShardPlan, plan_shards
from fprep.shard.sample import SampleOptions
from fprep.shard.writing import write_shards
from fschemas.failures import UsageError
from fschemas.folders import claim_output
from fschemas.publish import exclusive, withdraw
from fschemas.shard import ShardRecord, is_finished
from fschemas.shard_set import DATASET_FILE

_READERS = 4  # threads that compute digests


def shard(
    table: str | Path,
    out: str | Path,
    *,
    images: str | Path | None = None,
    follow_links: bool = False,
    size: int | None = None,
    quality: int = 90,
    copies: int = 0,
    augment: str | None = None,
    shard_samples: int = 1000,
    seed: int = 0,
    workers: int = 0,
    splits: tuple[str, ...] | None = None,
    limit: int | None = None,
    boxes: Sequence[str | Path] = (),
    lock: str | Path | None = None,
    leave_out: bool = False,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write the shard set of a table into the folder `out` and return a summary.

    `images` replaces the raw root stored in the table; `follow_links` allows images behind links that leave it. `size`
    is the longest side in pixels (never enlarged), `quality` the JPEG quality of resized and augmented images. `copies`
    is the number of augmented copies per training image, made by the recipe `augment` (a name or a YAML file).
    `shard_samples` is the maximum number of samples per shard, `limit` the maximum number of images per split, for
    trial runs. `boxes` are predictions of `ftrain predict` on shards of the table; they replace its boxes. `lock` is a
    split lock that the table must satisfy (`fprep.audit.split_lock`); with `leave_out`, rows that violate it are left
    out. `workers` is the number of processes (0: one per core); the output does not depend on it. `progress(done,
    total)` counts samples.

    Raises `UsageError`, `IntegrityError`, `EnvironmentProblem` or `OSError`. No partially written file has a final
    name.
    """
    out = claim_output(Path(out), "shards")
    source = SourceTable.open(Path(table))
    source = source.with_predicted_boxes([Path(path) for path in boxes]) if boxes else source
    if leave_out and lock is None:
        raise UsageError("--leave-out needs a split lock; pass it with --lock")
    dataset, path = str(source.metadata.get("dataset")), str(source.path)
    locked = checked_table(Path(lock), source.frame, dataset, path, leave_out=leave_out) if lock else None
    recipe = _check_options(size, quality, copies, augment, shard_samples, limit)
    plan = plan_shards(
        source, size=size, quality=quality, copies=copies, recipe=recipe, shard_samples=shard_samples, seed=seed,
        splits=splits, limit=limit, lock=locked,
    )  # fmt: skip
    root, follow = source.raw_root(Path(images) if images else None), follow_links or follows_links(source.metadata)
    options = SampleOptions(root, source.annotation_columns, size, quality, seed, recipe, source.flip_index, follow)
    if dry_run:
        found = [is_finished(out, planned.name, plan.plan_id, digests=False) for planned in plan.shards]
        reused = len(found) - found.count(None)
        return _summary(plan, [], reused=reused, unchanged=existing_plan_id(out) == plan.plan_id)
    with exclusive(out):
        records = _kept(out, plan)
        if len(records) == len(plan.shards) and existing_plan_id(out) == plan.plan_id:
            remove_unlisted_files(out, set(records))
            return _summary(plan, list(records.values()), reused=len(records), unchanged=True)
        withdraw(out / DATASET_FILE)  # before the first shard of an old set is replaced: readers must not see a mix
        todo = [planned for planned in plan.shards if planned.name not in records]
        total = sum(len(planned.rows) for planned in plan.shards)
        kept = total - sum(len(planned.rows) for planned in todo)
        tell = (lambda done, _: progress(kept + done, total)) if progress is not None else None
        written = write_shards(out, plan.plan_id, options, source, todo, workers, tell)
        in_order = [(written | records)[planned.name] for planned in plan.shards]
        finish(out, source, plan, in_order)
        remove_unlisted_files(out, {planned.name for planned in plan.shards})
    return _summary(plan, in_order, reused=len(records), unchanged=False)


def _check_options(
    size: int | None, quality: int, copies: int, augment: str | None, shard_samples: int, limit: int | None
) -> Recipe | None:
    for name, value, low, high in (
        ("--size", size, 8, 16384), ("--quality", quality, 1, 100), ("--copies", copies, 0, 1000),
        ("--shard-samples", shard_samples, 1, 1_000_000), ("--limit", limit, 1, 1 << 40),
    ):  # fmt: skip
        if value is not None and not low <= value <= high:
            raise UsageError(f"{name} is {value}, but must be {low} to {high}")
    if copies and not augment:
        raise UsageError("--copies needs a recipe; choose one, for example `--copies 2 --augment geometric`")
    recipe = load_recipe(augment) if augment else None
    return recipe if copies else None  # without copies the recipe has no effect, so it must not change the plan id


def _kept(out: Path, plan: ShardPlan) -> dict[str, ShardRecord]:
    """Return the records of existing shards, verified in full; damaged shards are written again."""
    names = [planned.name for planned in plan.shards]
    with ThreadPoolExecutor(max_workers=_READERS) as pool:
        records = pool.map(lambda name: is_finished(out, name, plan.plan_id), names)
        return {name: record for name, record in zip(names, records, strict=True) if record is not None}


def _summary(plan: ShardPlan, records: list[ShardRecord], *, reused: int, unchanged: bool) -> dict[str, Any]:
    splits: dict[str, int] = {}
    for planned in plan.shards:
        splits[planned.split] = splits.get(planned.split, 0) + len(planned.rows)
    return {
        "plan_id": plan.plan_id, "splits": splits, "shards": len(plan.shards), "reused": reused,
        "bytes": sum(record.bytes for record in records), "unchanged": unchanged,
    }  # fmt: skip
