"""Audit findings shown on a page, and their images, from this table and others."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from fprep.convert.source_table import SourceTable
from fprep.report.data import PageData
from fschemas.failures import FashionkitError
from fschemas.publish import sha256_of
from fschemas.table_file import read_metadata, read_table

_SEVERITIES = ("error", "warning", "info")
_TEXT = ("kind", "severity", "table", "key", "other_table", "other_key", "split", "other_split", "message")

RowId = tuple[str, int]  # (name of another table of the audit, or "" for that of the page; row index)


@dataclass(frozen=True)
class Side:
    """One image of a finding. Without `row`, only its names are known."""

    row: RowId | None
    table: str
    key: str
    split: str


@dataclass(frozen=True)
class ShownFinding:
    """One finding of the audit with its images. `distance` is the number of differing bits of the image hashes."""

    kind: str
    severity: str
    message: str
    distance: float | None
    sides: tuple[Side, ...]

    @property
    def num_images(self) -> int:
        """The number of images shown."""
        return sum(side.row is not None for side in self.sides)


class OtherTables:
    """The tables of an audit by name. Tables other than that of the page are opened on demand.

    The audit lists their paths and digests. If a table is missing or has changed, its images are not shown; this is not
    an error.
    """

    def __init__(self, data: PageData) -> None:
        self._data = data
        self._paths: dict[str, tuple[str, str]] = {}
        self._opened: dict[str, SourceTable | None] = {"": data.source}
        self._numbers: dict[str, dict[str, int]] = {}
        for entry in data.audit_metadata.get("tables") or ():
            self._paths[str(entry.get("name"))] = str(entry.get("path")), str(entry.get("sha256"))
        own = {name for name, (_, digest) in self._paths.items() if digest == data.source.sha256}
        self.own = own if self._paths else {data.dataset}

    def source(self, name: str) -> SourceTable | None:
        """Return a table by its name in the audit ("" for that of the page), or None if it is unavailable."""
        if name not in self._opened:
            self._opened[name] = self._open(name)
        return self._opened[name]

    def find(self, table: str, key: str) -> RowId | None:
        """Return the row with a key, or None if it is unavailable."""
        name = "" if table in self.own or not table else table
        source = self.source(name)
        if source is None:
            return None
        if name not in self._numbers:
            self._numbers[name] = {key: number for number, key in enumerate(source.frame["key"].to_list())}
        number = self._numbers[name].get(key)
        return None if number is None else (name, number)

    def _open(self, name: str) -> SourceTable | None:
        if name not in self._paths:
            return None
        relative, digest = self._paths[name]
        path = self._data.audit_path.parent / relative
        try:
            if sha256_of(path) != digest:
                return None
            return SourceTable(path, digest, read_metadata(path), pl.DataFrame(read_table(path)))
        except (FashionkitError, OSError):
            return None


def severity_rank() -> pl.Expr:
    """Sort key: 0 for errors, then warnings, infos and unknown severities."""
    ranks: Mapping[str, int] = {name: rank for rank, name in enumerate(_SEVERITIES)}
    return pl.col("severity").replace_strict(ranks, default=len(ranks), return_dtype=pl.Int32)


def choose_findings(data: PageData, others: OtherTables, budget: int) -> list[ShownFinding]:
    """Choose the worst findings with at most `budget` images: by severity, cycling through kinds, in audit order."""
    if data.audit is None or data.audit.is_empty():
        return []
    audit = data.audit.with_columns(pl.col(_TEXT).cast(pl.String).fill_null(""), pl.col("distance").cast(pl.Float64))
    audit = audit.filter(pl.col("key") != "").with_columns(rank=severity_rank()).sort("rank", maintain_order=True)
    audit = audit.with_columns(round=pl.int_range(pl.len()).over("rank", "kind"))
    audit = audit.sort("rank", "round", maintain_order=True)
    chosen: list[ShownFinding] = []
    for row in audit.head(20 * max(budget, 1)).iter_rows(named=True):
        names = [(row[f"{prefix}table"], row[f"{prefix}key"], row[f"{prefix}split"]) for prefix in ("", "other_")]
        sides = tuple(Side(others.find(table, key), table, key, split) for table, key, split in names if key)
        finding = ShownFinding(row["kind"], row["severity"], row["message"], row["distance"], sides)
        if 0 < finding.num_images <= budget:
            chosen.append(finding)
            budget -= finding.num_images
    return chosen
