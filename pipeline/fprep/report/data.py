"""The input of a page: the table and, next to it, the conversion report, rejected rows and audit."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from fprep.audit.findings import SCHEMA
from fprep.convert.report import REJECTED_FILE, REPORT_FILE, REPORT_SHAPE
from fprep.convert.source_table import SourceTable
from fschemas.failures import UsageError
from fschemas.json_file import read_json
from fschemas.publish import sha256_of
from fschemas.splits import SPLITS
from fschemas.table_file import read_metadata, read_table

AUDIT_FILE = "audit.parquet"
CLASS_COLUMNS = ("category", "garment", "style")  # the first non-empty one is the class of an image


@dataclass(frozen=True)
class PageData:
    """The data of all sections. `frame` holds the rows of the page, out of `total` in the table."""

    source: SourceTable
    frame: pl.DataFrame
    total: int
    report: dict[str, Any]  # report.json, empty if missing
    rejected: pl.DataFrame | None
    audit: pl.DataFrame | None
    remarks: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    audit_path: Path = Path()
    audit_metadata: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata of the table."""
        return self.source.metadata

    @property
    def dataset(self) -> str:
        """The name of the data set."""
        return str(self.metadata.get("dataset") or self.source.path.stem)

    def vocabulary(self, column: str) -> dict[str, Any]:
        """Return the vocabulary of a column as JSON values, empty if it has none."""
        vocabularies: dict[str, dict[str, Any]] = self.metadata.get("vocabularies") or {}
        return vocabularies.get(column, {})

    def has(self, *columns: str) -> bool:
        """Whether the table has all these columns."""
        return all(column in self.frame.columns for column in columns)

    def class_column(self) -> str | None:
        """The column with the class of an image: the first one with values, or None."""
        for column in CLASS_COLUMNS:
            if self.has(column) and (self.frame[column] != "").any():
                return column
        return None


def load(table: Path, audit: Path | None, limit: int | None) -> PageData:
    """Open the table and the files that belong to it.

    Raises `UsageError` if one is missing, `IntegrityError` if one is damaged or they do not belong together.
    """
    source = SourceTable.open(table)
    remarks: list[str] = []
    total = len(source.frame)
    frame = source.frame
    if limit is not None and limit < total:
        frame = frame[evenly(total, limit)]
        what = f"This page uses {limit:,} of {total:,} rows, evenly spread"
        remarks.append(f"{what}; numbers of the conversion refer to all rows.")
    report = _report(source.path.with_name(REPORT_FILE), remarks)
    rejected = _rejected(source.path.with_name(REJECTED_FILE), report, remarks)
    found = set(frame["split"].cast(pl.String).to_list())
    audit_path = audit or source.path.with_name(AUDIT_FILE)
    audit_path = audit_path / AUDIT_FILE if audit_path.is_dir() else audit_path
    findings, audited = None, dict[str, Any]()
    if audit is not None or audit_path.exists():
        findings = _audit(audit_path, given=audit is not None, remarks=remarks)
        audited = _audited(audit_path, source.sha256, remarks) if findings is not None else {}
    splits = tuple(split for split in SPLITS if split in found)
    return PageData(source, frame, total, report, rejected, findings, tuple(remarks), splits, audit_path, audited)


def evenly(total: int, wanted: int) -> list[int]:
    """Return `wanted` of the numbers 0 … total - 1 (or all), evenly spaced and ascending."""
    wanted = min(total, wanted)
    return [(2 * index + 1) * total // (2 * wanted) for index in range(wanted)]


def _report(path: Path, remarks: list[str]) -> dict[str, Any]:
    if not path.exists():
        what = f"There is no {REPORT_FILE} next to the table"
        remarks.append(f"{what}, so this page has no section on rows that were not kept.")
        return {}
    return read_json(path, REPORT_SHAPE, sealed=True, remedy="run `fprep convert` again")


def _rejected(path: Path, report: dict[str, Any], remarks: list[str]) -> pl.DataFrame | None:
    if not path.exists() or not report:
        return None
    expected = report.get("rejected_sha256")
    if expected and sha256_of(path) != expected:
        what = f"{REJECTED_FILE} does not match its digest in {REPORT_FILE}, so no rejected row is shown"
        remarks.append(f"{what}; run fprep convert again.")
        return None
    frame = pl.DataFrame(read_table(path))
    missing = [name for name in ("source_file", "source_line", "rule", "message") if name not in frame.columns]
    return None if missing else frame


def _audit(path: Path, *, given: bool, remarks: list[str]) -> pl.DataFrame | None:
    frame = pl.DataFrame(read_table(path))
    missing = [name for name in SCHEMA if name not in frame.columns]
    if missing:
        what = f"the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
        if given:
            raise UsageError(f"{path}: not an audit of fprep: {what} missing; write it with `fprep audit`")
        remarks.append(f"{AUDIT_FILE} next to the table lacks {what}, so it is ignored.")
        return None
    return frame


def _audited(path: Path, sha256: str, remarks: list[str]) -> dict[str, Any]:
    try:
        metadata = read_metadata(path)
    except UsageError:  # a plain Parquet file
        return {}
    tables: list[dict[str, Any]] = metadata.get("tables") or []
    if tables and not any(entry.get("sha256") == sha256 for entry in tables):
        what = "about other tables, or about an earlier version of this one"
        remarks.append(f"{AUDIT_FILE} is {what}; run fprep audit again.")
    return metadata


def texts(frame: pl.DataFrame, column: str) -> pl.Series:
    """Return a column as strings without nulls."""
    return frame[column].cast(pl.String).fill_null("")


def counts_by_split(data: PageData, column: str) -> list[tuple[str, dict[str, int]]]:
    """Return (value, rows by split), the most frequent first, ties in alphabetical order."""
    values = texts(data.frame, column).alias("value")
    return sorted_by_total(data.frame.select(texts(data.frame, "split").alias("split"), values))


def sorted_by_total(values: pl.DataFrame) -> list[tuple[str, dict[str, int]]]:
    """Do the same as `counts_by_split` for the columns `value` and `split`."""
    counts: dict[str, dict[str, int]] = {}
    for value, split, number in values.group_by("value", "split").len().rows():
        counts.setdefault(value, {})[split] = number
    return sorted(counts.items(), key=lambda entry: (-sum(entry[1].values()), entry[0]))


def flat(series: pl.Series, most: int = 20_000) -> list[pl.Series]:
    """Return all elements of a list column in chunks of at most `most` rows, which bounds memory."""
    return [series[start : start + most].explode().drop_nulls() for start in range(0, len(series), most)]


def names_of(metadata: dict[str, Any], column: str, ids: Sequence[int]) -> list[str]:
    """Return the names of ids in the vocabulary of a column, from the metadata of a table."""
    values: list[str] = ((metadata.get("vocabularies") or {}).get(column) or {}).get("values") or []
    return [values[number] if 0 <= number < len(values) else f"#{number}" for number in ids]
