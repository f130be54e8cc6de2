"""`fprep audit`: duplicates, leaks, label problems and the majority baseline of one or several tables.

Writes `audit.parquet`, `audit.txt` and, on request, `splits.lock.json` next to the first table.
"""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import polars as pl

from fprep.audit import leaks as audit_leaks
from fprep.audit.balance import Baseline, find_balance
from fprep.audit.conflicts import ImageLabels, find_conflicts
from fprep.audit.findings import Findings, RowRef, row_refs
from fprep.audit.labels import find_label_problems
from fprep.audit.split_lock import LOCK_FILE, SplitLock, make_lock
from fprep.audit.summary import summary_text
from fprep.audit.tables import AuditTable, Images, inspect_images, open_tables, rows_of
from fprep.convert.report import plain_arrow
from fprep.near_duplicates.pairs import LARGEST_DISTANCE, near_pairs
from fprep.readers.class_names import similar_names_of
from fschemas import wording
from fschemas.failures import RejectedError, UsageError
from fschemas.folders import claim_output
from fschemas.progress import Progress, no_progress
from fschemas.publish import exclusive, publish
from fschemas.table_file import read_table, write_table

AUDIT_FILE, SUMMARY_FILE = "audit.parquet", "audit.txt"


@dataclass(frozen=True)
class Audit:
    """The result of an audit. `findings` has the columns of `audit.findings.SCHEMA`; `text` is the readable summary."""

    findings: pl.DataFrame
    baselines: list[Baseline]
    notes: list[str]
    text: str
    tables: list[AuditTable]
    num_images: int
    lock: SplitLock | None

    @property
    def num_leaks(self) -> int:
        """The number of findings that inflate scores."""
        return self.findings.filter((pl.col("severity") == "error") & pl.col("kind").str.starts_with("leak")).height

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values: counts and baselines, with findings only as counts."""
        counts = self.findings.group_by("severity", "kind", maintain_order=True).len()
        by_severity: dict[str, dict[str, int]] = {}
        for severity, kind, number in counts.iter_rows():
            by_severity.setdefault(severity, {})[kind] = number
        return {
            "tables": [{"name": table.name, "rows": len(table.frame), "sha256": table.sha256} for table in self.tables],
            "images": self.num_images, "findings": by_severity, "leaks": self.num_leaks,
            "baselines": [asdict(baseline) for baseline in self.baselines], "notes": self.notes,
            "lock": self.lock.digest if self.lock else None,
        }  # fmt: skip


def audit(
    paths: Sequence[Path],
    *,
    out: Path | None = None,
    images: Path | None = None,
    follow_links: bool = False,
    near: bool = True,
    distance: int = LARGEST_DISTANCE,
    lock: bool = False,
    workers: int = 0,
    limit: int | None = None,
    dry_run: bool = False,
    progress: Progress = no_progress,
) -> Audit:
    """Audit the tables together and publish the results in `out` (default: the folder of the first table).

    `images` replaces the raw root of a single table; `follow_links` allows images behind links that leave it. With
    `near`, every image is decoded at reduced size and compared by a 64-bit hash, up to a Hamming distance of
    `distance`; otherwise only equal SHA-256 digests count as duplicates. `lock` also writes the split lock. `limit` is
    the number of rows per table. `dry_run` publishes nothing.

    Raises `UsageError` and `IntegrityError`.
    """
    _check_options(paths, images, distance, limit, lock)
    tables = open_tables(paths, limit)
    out = claim_output(out or tables[0].path.parent, "audit")
    rows = rows_of(tables)
    all_images = inspect_images(
        tables, rows, near=near, images=images, follow_links=follow_links, workers=workers, progress=partial(progress, "images"),
    )  # fmt: skip
    pairs = near_pairs(all_images.views, distance=distance, progress=partial(progress, "pairs"))
    findings, refs = Findings(), row_refs(rows)
    audit_leaks.find_image_problems(refs, all_images, findings)
    identical = audit_leaks.find_identical(refs, all_images, findings)
    audit_leaks.find_same_paths(refs, rows, findings)
    similar = audit_leaks.find_near(refs, all_images, pairs, findings)
    audit_leaks.find_shared_groups(refs, rows, findings)
    audit_leaks.find_coarse_leaks(tables, refs, rows, findings)
    find_conflicts(ImageLabels(tables, refs), [(row, other, 0) for row, other in identical] + similar, findings)
    baselines = _check_tables(tables, refs, findings, progress)
    frame, notes = findings.frame(), _notes(all_images, near)
    text = summary_text(tables, frame, baselines, notes)
    num_images = int(all_images.of_row.max(initial=-1)) + 1
    made = make_lock(rows, all_images, pairs) if lock else None
    result = Audit(frame, baselines, notes, text, tables, num_images, made)
    if not dry_run:
        _publish(out, result, {"near": near, "distance": distance, "limit": limit})
    return result


def refuse_findings(result: Audit, level: Literal["leak", "error"] | None) -> None:
    """Raise `RejectedError` if there is a "leak", or for "error" any finding of severity error."""
    errors = result.findings.filter(pl.col("severity") == "error").height
    count = {"leak": result.num_leaks, "error": errors, None: 0}[level]
    if count:
        many = f"{count} {level}s" if count > 1 else f"1 {level}"
        raise RejectedError(f"the audit found {many}; fix the table as described in {SUMMARY_FILE}, or omit --fail-on")


def _check_tables(
    tables: Sequence[AuditTable], refs: Sequence[RowRef], findings: Findings, progress: Progress
) -> list[Baseline]:
    baselines: list[Baseline] = []
    start = 0
    for number, table in enumerate(tables):
        progress("labels", number, len(tables))
        find_label_problems(table, refs[start : start + len(table.frame)], findings)
        baselines += find_balance(table, findings)
        _find_rejected(table, findings)
        for messages in similar_names_of(table.frame, table.open_vocabularies).values():
            for message in messages:
                findings.add("label_near_equal", "warning", message, table=table.name)
        start += len(table.frame)
    progress("labels", len(tables), len(tables))
    return baselines


def _find_rejected(table: AuditTable, findings: Findings) -> None:
    """Report the images that convert rejected as duplicates, read from `rejected.parquet` next to the table."""
    path = table.path.with_name("rejected.parquet")
    if not path.is_file():
        return
    rejected = pl.DataFrame(read_table(path, ["rule", "message"]))
    duplicates = pl.col("rule").is_in(["duplicate_image", "leaked_image", "leaked_twin"])
    for rule, message in rejected.filter(duplicates).iter_rows():
        severity = "info" if rule == "duplicate_image" else "warning"
        findings.add("duplicate_rejected", severity, message, table=table.name)


def _notes(all_images: Images, near: bool) -> list[str]:
    missing = sum(problem == "missing" for _, problem in all_images.problems)
    if not near:
        return ["near-identical images were not searched (--no-near)"]
    if missing and not all_images.seen.any():
        return ["all images are missing, so near-identical ones were not searched; pass their folder with --images"]
    return [f"{wording.count(missing, 'image')} missing and not compared"] if missing else []


def _publish(out: Path, result: Audit, options: dict[str, Any]) -> None:
    with exclusive(out):
        home = out.resolve()
        metadata = {
            "tables": [
                {
                    "name": table.name, "path": os.path.relpath(table.path.resolve(), home), "sha256": table.sha256,
                    "raw_root": os.path.relpath(table.raw_root.resolve(), home),
                }
                for table in result.tables
            ],
            "options": options, "images": result.num_images,
        }  # fmt: skip
        with ExitStack() as renames:  # published in reverse order: the findings come last
            path = renames.enter_context(publish(out / AUDIT_FILE))
            write_table(path, plain_arrow(result.findings), metadata)
            if result.lock is not None:
                renames.enter_context(publish(out / LOCK_FILE)).write_bytes(result.lock.to_bytes())
            renames.enter_context(publish(out / SUMMARY_FILE)).write_bytes(result.text.encode())


def _check_options(given: Sequence[Path], images: Path | None, distance: int, limit: int | None, lock: bool) -> None:
    if images is not None and len(given) > 1:
        raise UsageError(
            "--images is the raw root of one table; with several, put the images of each where convert found them"
        )
    if images is not None and not images.is_dir():
        raise UsageError(f"{images}: no such folder; pass the raw root with --images")
    if not 0 <= distance <= LARGEST_DISTANCE:
        most = LARGEST_DISTANCE
        raise UsageError(f"--distance {distance}: expected 0 to {most} bits of 64; {most} also finds crops")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: expected at least 1 row")
    if limit is not None and lock:
        raise UsageError("--write-lock needs all rows; omit --limit")
