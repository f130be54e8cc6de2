"""Requirements for all readers, checked on the tiny raw trees `tests/raw/<module>`; readers are found automatically."""

import csv
import io
import json
import shutil
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from tests.trees import tree_of

from fprep.convert.command import convert
from fprep.doctor.command import doctor
from fprep.raw.folder import document_pattern
from fprep.readers.reader import IMAGE_COLUMNS, Reader, columns_of
from fprep.readers.registry import find_reader, readers
from fschemas.failures import UsageError
from fschemas.landmarks import LANDMARK_SETS
from fschemas.table_file import read_metadata, read_table
from fschemas.tables import table_named
from fschemas.vocabularies import vocabulary, vocabulary_names

READERS = readers()


def accounted_as(name: str, report) -> str:
    """The report entry of a source file: its own, or that of its folder of documents."""
    return name if name in report.files else document_pattern(name)


def table_of(reader: Reader, out: Path):
    """The table class of a conversion: the reader's, or that of its metadata if the reader accepts any groups."""
    return table_named(str(read_metadata(out / "table.parquet")["table"])) if reader.any_groups else reader.table


@pytest.fixture(scope="module", params=sorted(READERS))
def converted(request, tmp_path_factory):
    reader = READERS[request.param]
    out = tmp_path_factory.mktemp(request.param)
    report = convert(reader.name, [tree_of(reader)], out / "first", max_rejected=1.0, workers=1)
    return reader, out / "first", report


def test_raw_tree_has_the_files_of_a_variant(converted):
    reader, _, _ = converted
    tree = tree_of(reader)
    assert reader.variants
    assert any(all(any(tree.glob(pattern)) for pattern in patterns) for patterns in reader.variants.values())


def test_counts_are_the_expected_ones(converted):
    reader, _, report = converted
    expected = json.loads((tree_of(reader) / "expected.json").read_text())
    del expected["shards"]  # compared in tests/golden
    assert {name: report.to_json()[name] for name in expected} == expected


def test_report_names_the_variants(converted):
    reader, _, report = converted
    assert report.variants
    assert set(report.variants) <= reader.variants.keys()


def test_law_of_rows(converted):
    _, out, report = converted
    rejected, table = (
        pl.DataFrame(read_table(out / "rejected.parquet")),
        pl.DataFrame(read_table(out / "table.parquet")),
    )
    kept = Counter(accounted_as(name, report) for name in table["source_file"])
    refused = Counter(accounted_as(name, report) for name in rejected["row_file"])
    for name, counts in report.files.items():
        assert counts["lines"] == sum(count for key, count in counts.items() if key != "lines"), name
        assert (counts["kept"], counts["rejected"]) == (kept[name], refused[name]), name
    assert rejected.select("row_file", "row_line").n_unique() == rejected.height
    assert report.lines == sum(counts["lines"] for counts in report.files.values())


def test_every_line_of_the_files_was_read(converted):
    reader, _, report = converted
    for name, counts in report.files.items():
        if "*" in name:  # documents: at least one row each, accepted or not
            assert counts["lines"] >= len(list(tree_of(reader).glob(name))) > 0
            continue
        content = (tree_of(reader) / name).read_bytes()
        assert counts["lines"] == content.count(b"\n") + (not content.endswith(b"\n"))


def test_table_fulfils_its_class(converted):
    reader, out, _ = converted
    frame = pl.DataFrame(read_table(out / "table.parquet"))
    assert frame.height > 0
    assert frame.columns == list(columns_of(table_of(reader, out)))
    table_of(reader, out).validate(frame, cast=True)
    assert frame["key"].n_unique() == frame.height
    assert reader.instances or frame["image"].n_unique() == frame.height
    assert frame.select(IMAGE_COLUMNS).null_count().sum_horizontal().item() == 0


def test_groups_do_not_straddle_splits(converted):
    """Query and gallery share items by design and count as one split."""
    _, out, _ = converted
    frame = pl.DataFrame(read_table(out / "table.parquet", columns=["split", "group"]))
    side = (
        pl.col("split")
        .cast(pl.String)
        .replace({"query": "test", "gallery": "test", "val_query": "val", "val_gallery": "val"})
    )
    assert frame.group_by("group").agg(side.n_unique())["split"].max() == 1


def test_metadata_is_complete(converted):
    reader, out, report = converted
    metadata = read_metadata(out / "table.parquet")
    assert metadata["dataset"] == reader.name
    assert metadata["table"] == table_of(reader, out).__name__
    assert metadata["rows"] == report.kept
    assert metadata["splits"] == report.splits
    assert all(metadata[name].strip() for name in ("paper", "license", "citation"))
    assert (out / metadata["raw_root"]).resolve() == tree_of(reader).resolve()
    landmark_set = metadata["landmark_set"]
    assert landmark_set is None or landmark_set == LANDMARK_SETS[landmark_set["name"]].to_json()
    published = {entry.name: entry for entry in (*map(vocabulary, vocabulary_names()), *reader.vocabularies.values())}
    stored = [stored for stored in metadata["vocabularies"].values() if stored["name"] in published]
    assert all(entry == published[entry["name"]].to_json() for entry in stored)
    assert len(stored) >= len(reader.vocabularies)


def test_report_is_on_disk_and_names_the_table(converted):
    _, out, report = converted
    stored = json.loads((out / "report.json").read_text())
    assert stored.pop("seal")
    assert stored == report.to_json()
    assert stored["published"]
    assert len(stored["table_sha256"]) == 64


def test_second_run_gives_the_same_bytes(converted):
    reader, first, _ = converted
    second = first.with_name("second")
    convert(reader.name, [tree_of(reader)], second, max_rejected=1.0, workers=2)
    assert sorted(path.name for path in second.iterdir()) == ["rejected.parquet", "report.json", "table.parquet"]
    for path in second.iterdir():
        assert path.read_bytes() == (first / path.name).read_bytes(), path.name


@pytest.mark.parametrize("name", sorted(READERS))
def test_rejected_rows_tell_place_and_bytes(name, tmp_path):
    reader = READERS[name]
    files = convert(name, [tree_of(reader)], tmp_path / "out", max_rejected=1.0, check_images="header").files
    for row in read_table(tmp_path / "out/rejected.parquet").to_pylist():
        content = (tree_of(reader) / row["source_file"]).read_bytes()
        if row["source_file"] in files:
            assert row["raw"] == content.split(b"\n")[row["source_line"] - 1].rstrip(b"\r")
        assert content[row["byte_offset"] :].startswith(row["raw"])
        assert row["message"].startswith(f"{row['source_file']}:{row['source_line']}: ")
        assert row["message"].endswith("; row rejected")
        assert row["rules"][0] == row["rule"]


def test_unknown_reader_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean fashionai-keypoints"):
        find_reader("fashionai_keypoint")


@pytest.mark.parametrize("name", sorted(set(READERS) - {"folders"}))
def test_lines_that_end_in_cr_alone_are_read_all_the_same(name, tmp_path):
    """As written by old Macs and by Excel's "CSV (Macintosh)"; the row counts are those of the same lines with LF."""
    shutil.copytree(tree_of(find_reader(name)), tmp_path / "raw")
    whole = convert(name, [tmp_path / "raw"], tmp_path / "lf", check_images="none", max_rejected=1.0, workers=1)
    for path in (tmp_path / "raw").rglob("*"):
        if path.suffix in (".txt", ".csv", ".json") and path.name != "expected.json":
            path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r"))
    report = convert(name, [tmp_path / "raw"], tmp_path / "cr", check_images="none", max_rejected=1.0, workers=1)
    tables = [read_table(tmp_path / end / "table.parquet") for end in ("lf", "cr")]
    assert tables[0].equals(tables[1])
    assert report.files == whole.files
    assert report.rejected_by_rule == whole.rejected_by_rule
    documents = all("*" in file for file in report.files)
    assert documents or report.warnings["cr"] >= 1
    assert [
        diagnosis for diagnosis in doctor(tmp_path / "raw").diagnoses if diagnosis.reader == name and diagnosis.command
    ]


DELIMITED = [name for name in sorted(READERS) if any(tree_of(READERS[name]).rglob("*.csv"))]
DIALECTS = {
    "semicolon": {"delimiter": ";"},
    "tab": {"delimiter": "\t"},
    "pipe": {"delimiter": "|"},
    "quoted": {"delimiter": ",", "quoting": csv.QUOTE_ALL},
    "quoted-semicolon-cr": {"delimiter": ";", "quoting": csv.QUOTE_ALL, "lineterminator": "\r"},
    "sep-line": {"delimiter": ";", "sep": True},
    "blanks": {"delimiter": ",", "lineterminator": " \n"},
    "bom-crlf-sep-line": {"delimiter": "|", "sep": True, "bom": True, "lineterminator": "\r\n"},
}  # fmt: skip


def rewrite(path: Path, dialect: dict) -> None:
    """Rewrite a comma-separated table in another dialect; a line with an unmatched quotation mark stays."""
    end = dialect.get("lineterminator", "\n")
    text = io.StringIO()
    options = {key: value for key, value in dialect.items() if key in ("delimiter", "quoting")}
    writer = csv.writer(text, lineterminator=end, **options)
    for line in path.read_text().splitlines():
        if line.count('"') % 2:
            text.write(line.replace(",", dialect["delimiter"]) + end)
        else:
            writer.writerow(next(csv.reader([line]), []))
    first = f"sep={dialect['delimiter']}{end}" if dialect.get("sep") else ""
    path.write_bytes((b"\xef\xbb\xbf" if dialect.get("bom") else b"") + (first + text.getvalue()).encode())


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", DELIMITED)
def test_tables_are_read_in_every_dialect(name, dialect, tmp_path):
    """As saved by spreadsheets: same table as the comma-separated file, and doctor proposes a line that works."""
    shutil.copytree(tree_of(find_reader(name)), tmp_path / "raw")
    options = {"check_images": "none", "max_rejected": 1.0, "workers": 1}
    whole = convert(name, [tmp_path / "raw"], tmp_path / "plain", **options)
    for path in (tmp_path / "raw").rglob("*.csv"):
        rewrite(path, DIALECTS[dialect])
    report = convert(name, [tmp_path / "raw"], tmp_path / "other", **options)
    tables = [
        pl.DataFrame(read_table(tmp_path / kind / "table.parquet")).drop("source_line") for kind in ("plain", "other")
    ]
    assert tables[0].equals(tables[1])
    assert report.rejected_by_rule == whole.rejected_by_rule
    (diagnosis,) = [found for found in doctor(tmp_path / "raw", try_rows=100).diagnoses if found.reader == name]
    assert diagnosis.command
    assert [finding.severity for finding in diagnosis.findings if finding.code == "trial"] == ["good"]
