"""`fprep lint`: check that a finished shard set matches its dataset.json and that every loader reads it the same way.

Only the bytes are trusted: tar headers are compared with the index, digests are recomputed, annotations parsed and
images decoded, and the set is opened with `datasets` and plain `webdataset`.
"""

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from fprep.lint.loaders import check_loaders
from fprep.lint.samples import SampleChecks
from fprep.shard.finish import README_FILE
from fschemas import wording
from fschemas.failures import IntegrityError, UsageError
from fschemas.preflight import check_shards
from fschemas.publish import TEMPORARY_PREFIX, sha256_of
from fschemas.shard import RECORD_FOLDER, read_record, record_path
from fschemas.shard_index import INDEX_FILE, POSITION_COLUMNS
from fschemas.shard_set import DATASET_FILE, read_dataset_file
from fschemas.splits import SIDES
from fschemas.table_file import read_table


@dataclass(frozen=True)
class LintFinding:
    """A problem, or (severity "not run") a check that could not be run."""

    location: str
    problem: str
    severity: Literal["error", "warning", "not run"] = "error"


def lint(
    shards: Path,
    *,
    loaders: bool = True,
    sample_limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[LintFinding]:
    """Return all problems of a shard set in the order of its files; empty if the set is intact.

    With `loaders`, the set is also opened with `datasets` and `webdataset`. `sample_limit` is the maximum number of
    samples per split that are decoded and read by the loaders; structure, digests and annotations are always checked in
    full. `progress(done, total)` counts shards.

    Raises `UsageError` if there is no finished set. Damage is returned as findings, not raised.
    """
    shards = Path(shards)
    check_shards(shards)
    if not (shards / DATASET_FILE).is_file():
        raise UsageError(f"{shards}: no finished shard set here ({DATASET_FILE} is missing); run `fprep shard` first")
    try:
        metadata = _read_metadata(shards)
    except (OSError, ValueError) as error:
        return [LintFinding(DATASET_FILE, f"not readable ({_sentence(error)})")]
    findings: list[LintFinding] = []
    index: pl.DataFrame | None = None
    try:
        findings += _check_index(shards, metadata)
        index = pl.DataFrame(read_table(shards / INDEX_FILE))
        findings += _check_counts(metadata, index)
        findings += _check_groups(index)
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        findings.append(LintFinding(INDEX_FILE, f"not readable ({_sentence(error)})"))
    checks = SampleChecks(metadata, sample_limit)
    for number, entry in enumerate(metadata["shards"]):
        findings += _check_shard(shards, metadata, entry)
        rows = None if index is None or "shard" not in index.columns else index.filter(pl.col("shard") == number)
        if (shards / entry["name"]).is_file():
            findings += _walk(shards / entry["name"], entry, rows, checks)
        if progress is not None:
            progress(number + 1, len(metadata["shards"]))
    findings += [LintFinding(location, problem) for location, problem in checks.repeated_keys()]
    findings += _check_files(shards, metadata)
    if loaders:
        found = check_loaders(shards, metadata, checks.keys, sample_limit)
        findings += [LintFinding(location, problem, "error" if ran else "not run") for location, problem, ran in found]
    return findings


def _read_metadata(shards: Path) -> dict[str, Any]:
    """Read dataset.json.

    Raises `ValueError` if it has another format, lacks required keys or refers to paths outside the folder.
    """
    metadata = read_dataset_file(shards / DATASET_FILE, str(shards))
    for entry in metadata["shards"]:
        if entry["split"] not in metadata["splits"]:
            raise IntegrityError(f"splits.{entry['split']} is missing, but {entry['name']} belongs to it")
        if Path(entry["name"]).name != entry["name"]:
            raise IntegrityError(f"the shard name {entry['name']!r} is outside the folder")
    return metadata


def _check_index(shards: Path, metadata: dict[str, Any]) -> Iterator[LintFinding]:
    path = shards / INDEX_FILE
    if not path.is_file():
        yield LintFinding(INDEX_FILE, "missing")
    elif sha256_of(path) != metadata["index"]["sha256"]:
        yield LintFinding(INDEX_FILE, f"SHA-256 differs from {DATASET_FILE}")
    if not (shards / README_FILE).is_file():
        yield LintFinding(README_FILE, "missing: `datasets` then guesses types and splits", "warning")


def _check_counts(metadata: dict[str, Any], index: pl.DataFrame) -> Iterator[LintFinding]:
    missing = [name for name in POSITION_COLUMNS if name not in index.columns]
    if missing:
        yield LintFinding(INDEX_FILE, f"columns are missing: {', '.join(missing)}")
        return
    counted = {split: entry["samples"] for split, entry in metadata["splits"].items()}
    found = dict(index["split"].value_counts().iter_rows())
    if found != counted:
        yield LintFinding(INDEX_FILE, f"samples per split are {found}, but {counted} in {DATASET_FILE}")
    for name in index.columns:
        if index[name].null_count():
            yield LintFinding(INDEX_FILE, f"column {name} has {index[name].null_count()} empty values")


def _check_groups(index: pl.DataFrame) -> Iterator[LintFinding]:
    """Report groups (items, shoots) that are in two splits: the test split would contain training data."""
    if "group" not in index.columns or "split" not in index.columns:
        return
    roles = index.select("group", pl.col("split").replace(SIDES)).unique()
    by_group = roles.group_by("group").agg(pl.col("split").sort()).sort("group")
    straddling = by_group.filter(pl.col("split").list.len() > 1).with_columns(pl.col("split").list.join(" and "))
    for splits, groups in straddling.group_by("split", maintain_order=True).agg("group").iter_rows():
        what = f"{wording.count(len(groups), 'group')} in {splits}, the first is {groups[0]}"
        yield LintFinding(INDEX_FILE, f"{what}; metrics on them are too good", "warning")


def _check_shard(shards: Path, metadata: dict[str, Any], entry: dict[str, Any]) -> Iterator[LintFinding]:
    path, name = shards / entry["name"], entry["name"]
    if not path.is_file():
        yield LintFinding(name, "missing")
        return
    if path.stat().st_size != entry["bytes"]:
        yield LintFinding(name, f"{path.stat().st_size} bytes instead of {entry['bytes']}")
    elif sha256_of(path) != entry["sha256"]:
        yield LintFinding(name, f"SHA-256 differs from {DATASET_FILE}")
    record, location = read_record(shards, name), record_path(shards, name).relative_to(shards).as_posix()
    if record is None:
        yield LintFinding(location, "missing or not readable: `fprep shard` would write the shard again")
    elif (record.plan_id, record.name, record.split, record.bytes, record.sha256, len(record.keys)) != (
        metadata["plan_id"], name, entry["split"], entry["bytes"], entry["sha256"], entry["samples"],
    ):  # fmt: skip
        yield LintFinding(location, f"does not match the shard in {DATASET_FILE}")


def _walk(path: Path, entry: dict[str, Any], rows: pl.DataFrame | None, checks: SampleChecks) -> Iterator[LintFinding]:
    indexed = rows.to_dicts() if rows is not None and set(POSITION_COLUMNS) <= set(rows.columns) else None
    number = 0
    try:
        with tarfile.open(path, "r:") as tar:
            while (image := tar.next()) is not None:
                annotation = tar.next()
                row = indexed[number] if indexed is not None and number < len(indexed) else None
                for what in checks.pair(tar, image, annotation, entry["split"], row):
                    yield LintFinding(f"{path.name}:{image.name}", what)
                number += 1
    except (tarfile.TarError, OSError, ValueError) as error:
        yield LintFinding(path.name, f"sample {number}: not a readable tar ({_sentence(error)})")
    for count, source in ((entry["samples"], DATASET_FILE), (None if indexed is None else len(indexed), INDEX_FILE)):
        if count is not None and count != number:
            yield LintFinding(path.name, f"holds {wording.count(number, 'sample')}, but {count} in {source}")


def _check_files(shards: Path, metadata: dict[str, Any]) -> Iterator[LintFinding]:
    names = [entry["name"] for entry in metadata["shards"]]
    known = {DATASET_FILE, INDEX_FILE, README_FILE, RECORD_FOLDER, *names}
    known |= {record_path(shards, name).relative_to(shards).as_posix() for name in names}
    for path in sorted([*shards.iterdir(), *(shards / RECORD_FOLDER).glob("*")]):
        name = path.relative_to(shards).as_posix()
        if path.name.startswith(TEMPORARY_PREFIX):
            yield LintFinding(name, "left by a killed writer; `fprep shard` removes it", "warning")
        elif name not in known:
            yield LintFinding(name, f"not listed in {DATASET_FILE}; other loaders may read it")


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
