"""The conversion report (report.json, also a DVC metric) and the table of rejected rows."""

import os
import shlex
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl
import pyarrow as pa

from fprep.raw.folder import ACCOUNTS, MAX_RAW, RawFolder, Reject, document_pattern
from fprep.raw.marker import MARKER
from fprep.readers.reader import Reader, columns_of
from fschemas.failures import RejectedError
from fschemas.json_file import COUNT
from fschemas.publish import publish, publish_sealed, sha256_of
from fschemas.table_file import write_table, write_tables
from fschemas.tables import COLUMN_GROUPS

TABLE_FORMAT = "fashionkit-table/1"
TABLE_FILE, REJECTED_FILE, REPORT_FILE = "table.parquet", "rejected.parquet", "report.json"

REJECTED_SCHEMA = {
    "source_file": pl.String,  # location of the problem; if files are joined row by row, the joined file
    "source_line": pl.Int32,
    "byte_offset": pl.Int64,
    "column": pl.String,
    "rule": pl.String,  # the first broken rule
    "message": pl.String,
    "found": pl.String,
    "raw": pl.Binary,  # bytes of the line with the problem, at most 4 KiB
    "rules": pl.List(pl.String),  # all rules known to be broken
    "row_file": pl.String,  # location of the rejected row itself
    "row_line": pl.Int32,
}

_COUNTS = {"*": COUNT}
REPORT_SHAPE = {  # fields of `ConvertReport.to_json`; optional if earlier versions did not write them
    "reader": str, "published?": bool, "table_sha256?": str, "rejected_sha256?": str, "rejected_share?": float, "notes?": [str],
    **{f"{name}?": COUNT for name in ("lines", "kept", "rejected", "superseded", "left_out", "joined", "header", "blank")},
    **{f"{name}?": _COUNTS for name in ("rejected_by_rule", "splits", "categories", "warnings")},
    "split_categories?": {"*": _COUNTS}, "files?": {"*": {"lines": COUNT, "*": COUNT}}, "warning_examples?": {"*": [str]},
    "totals?": {"*": {"found": COUNT, "published": COUNT}},
}  # fmt: skip


@dataclass
class ConvertReport:
    """Counts of one conversion; `to_json` returns report.json.

    `lines` = `kept` + `rejected` + `superseded` + `left_out` + `joined` + `header` + `blank`, in total and for each
    file of `files`. `variants` are the recognized layouts. `categories` counts garments, `totals` compares row counts
    with published ones, `warnings` counts suspicious rows that were kept. `guessed` contains columns that were guessed,
    by the `--map` key that sets them. `published` is true if a table was written; `table_sha256` is its digest.
    """

    reader: str
    images: str
    variants: list[str] = field(default_factory=list[str])
    lines: int = 0
    kept: int = 0
    rejected: int = 0
    superseded: int = 0
    left_out: int = 0
    joined: int = 0
    header: int = 0
    blank: int = 0
    rejected_share: float = 0.0
    published: bool = False
    table_sha256: str = ""
    rejected_sha256: str = ""
    rejected_by_rule: dict[str, int] = field(default_factory=dict[str, int])
    splits: dict[str, int] = field(default_factory=dict[str, int])
    categories: dict[str, int] = field(default_factory=dict[str, int])
    split_categories: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    warnings: dict[str, int] = field(default_factory=dict[str, int])
    totals: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    files: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    warning_examples: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    notes: list[str] = field(default_factory=list[str])
    guessed: dict[str, str] = field(default_factory=dict[str, str])

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, deterministic for the same input."""
        return asdict(self)


def account(report: ConvertReport, raw: RawFolder, kept: pl.DataFrame) -> None:
    """Fill in the counts and check the row accounting of every file."""
    kept_lines = Counter(kept["source_file"].to_list())
    rejected_lines = Counter(reject.row.file for reject in raw.rejects)
    rejected = {(reject.row.file, reject.row.number) for reject in raw.rejects}
    assert len(rejected) == len(raw.rejects), "a row was rejected twice"
    for books in (kept_lines, rejected_lines):
        for name in [name for name in books if name not in raw.files]:
            books[document_pattern(name)] += books.pop(name)
    entries = {name: Counter({"lines": len(file), **file.accounts}) for name, file in raw.files.items()} | raw.documents
    for name, entry in sorted(entries.items()):
        counts = {"lines": entry["lines"], "kept": kept_lines[name], "rejected": rejected_lines[name]}
        counts |= {key: entry[key] for key in ACCOUNTS}
        assert counts["lines"] == sum(counts.values()) - counts["lines"], f"law of rows broken for {name}: {counts}"
        report.files[name] = counts
        for key, count in counts.items():
            setattr(report, key, getattr(report, key) + count)
    rows = report.kept + report.rejected + report.left_out
    report.rejected_share = round(report.rejected / rows, 6) if rows else 0.0
    report.rejected_by_rule = _sorted(Counter(reject.rule for reject in raw.rejects))
    report.splits = _sorted(Counter(kept["split"].to_list()))
    if "garment" in kept.columns:
        pairs = Counter(kept.select(pl.col("split").cast(pl.String), "garment").rows())
        report.categories = _sorted(Counter(kept["garment"].to_list()))
        for (split, garment), count in sorted(pairs.items()):
            report.split_categories.setdefault(split, {})[garment] = count
    report.warnings = _sorted(raw.warnings)
    report.warning_examples = {rule: raw.examples[rule] for rule in sorted(raw.examples)}
    report.notes = list(raw.notes)
    report.guessed = dict(raw.guessed)


def recognized(reader: Reader, raw: RawFolder) -> list[str]:
    """Return the recognized variants of the reader; one that shares files with an earlier variant does not count."""
    names = [PurePosixPath(name) for name in (*raw.files, *raw.documents, *raw.collections)]
    covered: set[PurePosixPath] = set()
    found: list[str] = []
    for variant, patterns in reader.variants.items():
        matches = [{name for name in names if name.match(pattern.removeprefix("**/"))} for pattern in patterns]
        if all(matches) and not set.union(*matches) & covered:
            covered |= set.union(*matches)
            found.append(variant)
    return found


def compare_totals(report: ConvertReport, raw: RawFolder, published: dict[str, int]) -> None:
    """Record published and actual row counts. A difference is only a warning, because excerpts are allowed."""
    for name in sorted(set(raw.totals) & set(published)):
        report.totals[name] = {"published": published[name], "found": raw.totals[name]}
        if published[name] != raw.totals[name] and "/" not in name:
            raw.warn("totals_differ", f"{name}: {raw.totals[name]} rows instead of {published[name]}")


def evaluate(report: ConvertReport, out: Path, on_reject: str, max_rejected: float, *, dry_run: bool = False) -> None:
    """Raise `RejectedError` for an empty table, or if more rows were rejected than allowed."""
    ordered = sorted(report.rejected_by_rule.items(), key=lambda item: -item[1])
    rules, total = (
        ", ".join(f"{rule} ({count})" for rule, count in ordered),
        report.kept + report.rejected + report.left_out,
    )
    rows = f"{report.rejected} of {total} rows were rejected, by {rules}"
    look = "run without --dry-run to get the list" if dry_run else f"see {out / REJECTED_FILE}"
    page = "" if dry_run else f", or at the page of `fprep report {shlex.quote(str(out))} report.html`,"
    sentence = ""
    if report.kept == 0:
        no_images = ordered and ordered[0][0] == "missing_image"
        remedy = "; unpack the images next to the annotation or use --check-images none" if no_images else ""
        reason = f"{rows}; {look}" if report.rejected else "no file contains any"
        sentence = f"no row is left for a table: {reason}{remedy}{_guesses(report)}"
    elif on_reject == "fail" and report.rejected:
        share = f"{min(1.0, report.rejected_share + 0.005):.2f}"
        remedy = f"correct the raw files, or continue with --on-reject keep-going --max-rejected {share}"
        sentence = f"{rows}, so no table was written; {look}, {remedy}"
    elif report.rejected_share > max_rejected:
        written = "" if dry_run else "the table is written; "
        remedy = f"then correct the raw files or raise --max-rejected{_guesses(report)}"
        share = f"a fraction of {report.rejected_share:.4f}, more than the allowed {max_rejected:g}"
        sentence = f"{rows}: {share}; {written}{look}{page or ','} {remedy}"
    if sentence:
        raise ConversionRejected(report, f"{out}: {sentence}")


class ConversionRejected(RejectedError):
    """More rows were rejected than allowed; `report` has the counts."""

    def __init__(self, report: ConvertReport, sentence: str) -> None:
        super().__init__(sentence)
        self.report = report


def _guesses(report: ConvertReport) -> str:
    if not report.guessed:
        return ""
    guesses = " ".join(f"{key}={names}" for key, names in report.guessed.items())
    return f"; the columns {guesses} were guessed: set them with --map KEY=COLUMN, or --map KEY= for none"


def publish_conversion(
    out: Path,
    reader: Reader,
    raw: RawFolder,
    rows: Iterable[pl.DataFrame],
    report: ConvertReport,
    options: dict[str, Any],
) -> None:
    """Publish the table from blocks of rows, the rejected rows and the report.

    All three files are written before the first is renamed, so that a full disk leaves an earlier conversion intact.
    """
    rejected = rejected_table(raw.rejects)
    with ExitStack() as renames:  # exits in reverse order: rejected rows, table, report
        report_path = renames.enter_context(publish(out / REPORT_FILE))
        if report.published:
            table_path = renames.enter_context(publish(out / TABLE_FILE))
            raw_root = os.path.relpath(raw.root, out.resolve())
            write_tables(table_path, map(plain_arrow, rows), _metadata(reader, raw, report, options, raw_root))
            report.table_sha256 = sha256_of(table_path)
        else:
            renames.enter_context(_removal(out / TABLE_FILE))
        rejected_path = renames.enter_context(publish(out / REJECTED_FILE))
        write_table(rejected_path, rejected, {"dataset": reader.name})
        report.rejected_sha256 = sha256_of(rejected_path)
        publish_sealed(report_path, report.to_json())


@contextmanager
def _removal(path: Path) -> Generator[None]:
    """Remove a file on exit, unless the body failed: a report without a table must not be next to an old table."""
    yield
    path.unlink(missing_ok=True)


def _metadata(
    reader: Reader, raw: RawFolder, report: ConvertReport, options: dict[str, Any], raw_root: str
) -> dict[str, Any]:
    columns, vocabularies = columns_of(reader.table), {**reader.vocabularies, **raw.vocabularies}
    return {
        "format": TABLE_FORMAT,
        "dataset": reader.name,
        "table": reader.table.__name__,
        "column_groups": [group for group, names in COLUMN_GROUPS.items() if all(name in columns for name in names)],
        "landmark_set": reader.landmark_set.to_json() if reader.landmark_set else None,
        "vocabularies": {column: words.to_json() for column, words in sorted(vocabularies.items())},
        "raw_root": raw_root,  # relative to the table's folder
        "synthetic": (raw.root / MARKER).is_file(),
        "paper": reader.paper,
        "license": reader.license,
        "citation": reader.citation,
        "options": options,
        "rows": report.kept,
        "splits": report.splits,
    }


def rejected_table(rejects: Sequence[Reject]) -> pa.Table:
    """Return the rejected rows, ordered by file and line."""
    rows = [
        {
            "source_file": reject.location.file,
            "source_line": reject.location.number,
            "byte_offset": reject.location.offset,
            "column": reject.column,
            "rule": reject.rule,
            "message": reject.message,
            "found": reject.found,
            "raw": reject.location.content[:MAX_RAW],
            "rules": list(reject.rules),
            "row_file": reject.row.file,
            "row_line": reject.row.number,
        }
        for reject in sorted(rejects, key=lambda reject: (reject.row.file, reject.row.number))
    ]
    return plain_arrow(pl.DataFrame(rows, schema=REJECTED_SCHEMA))


def plain_arrow(frame: pl.DataFrame) -> pa.Table:
    """Convert to plain Arrow types (string, list, binary; no dictionaries), which every Parquet reader supports."""
    enums = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Enum)]
    table = frame.with_columns(pl.col(enums).cast(pl.String)).to_arrow(compat_level=pl.CompatLevel.oldest())
    return table.cast(pa.schema([pa.field(entry.name, _plain(entry.type)) for entry in table.schema]))


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_large_list(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_large_string(kind):
        return pa.string()
    return pa.binary() if pa.types.is_large_binary(kind) else kind


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return {name: counts[name] for name in sorted(counts) if counts[name]}
