"""Reader for FashionAI attribute recognition (Tianchi 2018).

Rows are `Images/<attribute>_labels/<md5>.jpg,<attribute>_labels,<label>`. Recognized files: `Annotations/label.csv` of
base, `Annotations/skirt_length_labels.csv` of web (the warm-up), `Tests/question.csv` of rank and z_rank, and any CSV
file with a first row of this form, e.g. answers published later or a custom split. A label is a string over y, n and m
with one letter per value of the attribute: y is positive, m ("maybe") a soft target, n absent. A row covers one
attribute; the other seven are unknown. `?` marks a test question. A file of probabilities is a submission and is left
out. Copies saved by a spreadsheet with another delimiter or with quotes are accepted (`fprep.raw.dialect`).
"""

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import polars as pl

from fprep.raw.dialect import HEAD, Record, find_dialect, read_table, with_commas
from fprep.raw.file import is_file, with_line_feeds
from fprep.raw.folder import RawFile, RawFolder
from fprep.raw.image_names import clean_path, image_path_problem
from fprep.readers.fashionai.archive import (
    ROLES,
    Row,
    annotation_files,
    fashionai_reader,
    image_columns,
    is_sound,
    without_answered,
)
from fprep.readers.reader import frame_of
from fprep.readers.signature import Signature
from fschemas import wording
from fschemas.regular_file import open_regular
from fschemas.tables import table_class
from fschemas.vocabularies import vocabulary

_TABLE = table_class("attributes", "maybe")
_VOCABULARY = vocabulary("fashionai-attribute-54")
_ALL = list(range(len(_VOCABULARY)))
_OTHERS = {name: [value for value in _ALL if value not in members] for name, members in _VOCABULARY.groups.items()}
_KNOWN_NAMES = re.compile(r"label\.csv|question\.csv|[a-z]+_(length|design)_labels\.csv|.*answer.*\.csv")
WIDTHS = (3, 4)  # columns: image, attribute, label, and one more in some answers
_ROW = re.compile(rb"^[^,\n]*[/\\][^,/\\\n]*,[a-z]+_(length|design)_labels,", re.MULTILINE)
_PROBABILITIES = re.compile(r"[0-9.]+(;[0-9.]+)+")
_HOMES = ("Annotations", "Tests")  # the images of CSV files in these folders are next to them
_BASE = {
    "coat_length": 11320, "collar_design": 8393, "lapel_design": 7034, "neck_design": 5696, "neckline_design": 17148,
    "pant_length": 7460, "skirt_length": 19333, "sleeve_length": 13299,
}  # fmt: skip
_MISSING = (
    "no FashionAI attribute labels here; expected Annotations/label.csv, Tests/question.csv or another CSV file with "
    "rows as Images/<attribute>_labels/<md5>.jpg,<attribute>_labels,<label>, or choose the file itself"
)


class Label(NamedTuple):
    """Label of one row, as ids of the vocabulary `fashionai-attribute-54`."""

    positive: int
    maybe: tuple[int, ...]


@fashionai_reader(
    name="fashionai-attributes",
    table=_TABLE,
    vocabularies={"attributes": _VOCABULARY},
    signatures=(Signature(r".*\.csv", rb"^[^,\n]*,[a-z]+_(length|design)_labels,", "rows", rows=True, widths=(3, 4)),),
    variants={
        "base archive": ("**/Annotations/label.csv",),
        "web archive": ("**/Annotations/*_labels.csv",),
        "rank archive": ("**/Tests/question.csv",),
        "bare lists": ("**/*label*.csv",),
    },
    totals={"base": sum(_BASE.values()), "question": 10080, **{f"base/{name}": count for name, count in _BASE.items()}},
    paper="FashionAI Global Challenge 2018, attributes recognition of apparel; "
    "Zou et al., FashionAI: A Hierarchical Dataset for Fashion Understanding, CVPR Workshops 2019",
)
def fashionai_attributes(raw: RawFolder) -> pl.LazyFrame:
    """Read all label files below the given folders.

    A labeled row supersedes a question about the same image. The split is test for a file with mostly questioned
    images, or named `…answer…` or `…_test.csv`; all other labels are train, from which `convert` splits val and test.
    """
    files = {path: raw.open_file(path) for path in annotation_files(raw, _is_label_file, _MISSING)}
    parsed = {path: rows for path, file in files.items() if (rows := _parse(raw, file, path)) is not None}
    questions = {row.name: path for path, rows in parsed.items() for row in rows if not row.label}
    labeled = {row.name for rows in parsed.values() for row in rows if row.label}
    frames = [_frame(raw, "train", [], [])]
    for path, rows in parsed.items():
        is_answer = 2 * sum(row.name in questions for row in rows) > len(rows)
        role = "test" if is_answer or re.search(r"answer|_test\.csv$", path.name) else "train"
        kept = without_answered(raw, path, rows, labeled, "questions replaced by labeled rows of the images")
        sources = [questions.get(row.name, path) if is_answer else path for row in kept]
        frames.append(_frame(raw, role, kept, [file.parents[file.parent.name in _HOMES] for file in sources]))
    order = pl.col("split").replace_strict(ROLES, return_dtype=pl.Int8)
    return pl.concat(frames).sort(order, maintain_order=True).lazy()


def _is_label_file(path: Path) -> bool:
    if _KNOWN_NAMES.fullmatch(path.name):
        return True
    if not is_file(path):
        return False
    with open_regular(path) as file:
        head = with_line_feeds(file.read(4096).removeprefix(b"\xef\xbb\xbf"))
    return _ROW.search(with_commas(head, WIDTHS)) is not None


def _parse(raw: RawFolder, file: RawFile, path: Path) -> list[Row] | None:
    """Return the rows of a file, or None for a submission."""
    records = list(read_table(file, find_dialect(file.head(HEAD), widths=WIDTHS)))
    if records and len(records[0].fields) in WIDTHS and not re.search(r"[/\\]", "".join(records[0].fields)):
        file.accounts["header"] += 1
        raw.warn("header_line", records[0].line)
        records = records[1:]
    cells = records[0].fields if records else []
    if len(cells) == 3 and _PROBABILITIES.fullmatch(cells[2].strip()):
        file.accounts["left_out"] += len(records)
        rows = wording.count(len(records), "row")
        raw.notes.append(f"{file.name}: left out: {rows} of probabilities, a submission, not labels")
        return None
    rows, counts = list[Row](), Counter[str]()
    for record in records:
        counts[_parse_row(raw, record, rows)] += 1
    if extra := sum(len(record.fields) == 4 for record in records):
        raw.warnings["extra_column"] += extra
        raw.examples.setdefault("extra_column", []).append(file.name)
    name = path.relative_to(raw.root.parent).as_posix()
    if path.name == "question.csv" and not re.search(r"z_rank|round_?2", name):
        raw.totals["question"] += counts.total()
    elif "base" in name:
        raw.totals["base"] += counts.total()
        raw.totals.update({f"base/{attribute}": count for attribute, count in counts.items() if attribute})
    return rows


def _parse_row(raw: RawFolder, record: Record, rows: list[Row]) -> str:
    """Add or reject a row; return the attribute, "" if it is unknown."""
    line, cells = record.line, record.cells
    if not is_sound(raw, record):
        return ""
    if len(cells) not in WIDTHS:
        message = f"{len(cells)} columns, expected image, attribute, label"
        raw.reject(line, "wrong_columns", message, found=str(len(cells)))
        return ""
    name, table, word = clean_path(cells[0]), cells[1], cells[2]
    attribute = table.removesuffix("_labels")
    if attribute not in _VOCABULARY.groups or attribute == table:
        known = ", ".join(f"{group}_labels" for group in _VOCABULARY.groups)
        message = f"unknown attribute {table[:60]!r}; expected one of {known}"
        raw.reject(line, "unknown_attribute", message, column="attributes", found=table)
        return ""
    if (problem := image_path_problem(name)) is not None:
        raw.reject(line, *problem, column="image", found=name)
    elif name.split("/")[-2:-1] != [table]:
        message = f"the image is in another folder ({name[:200]}) than that of its attribute {table!r}"
        raw.reject(line, "attribute_folder_mismatch", message, column="image", found=name)
    elif isinstance(label := None if word == "?" else parse_label(attribute, word), tuple | None):
        rows.append(Row(line, name, attribute, label))
    else:
        raw.reject(line, "bad_label", label, column="attributes", found=word)
    return attribute


def parse_label(attribute: str, word: str) -> Label | str:
    """Parse a label over y, n and m of `attribute` into ids, or return a description of the problem."""
    members = _VOCABULARY.groups[attribute]
    shown = repr(word[:60])
    if not word or word.strip("ynm"):
        return f"the label {shown} has other letters than y, n and m"
    if len(word) != len(members):
        return f"the label {shown} has {len(word)} letters, but {attribute} has {len(members)} values"
    if word.count("y") != 1:
        return f"the label {shown} has {word.count('y')} times y, expected exactly one"
    maybe = tuple(member for member, letter in zip(members, word, strict=True) if letter == "m")
    return Label(members[word.index("y")], maybe)


def _frame(raw: RawFolder, role: str, rows: list[Row], homes: list[Path]) -> pl.DataFrame:
    columns = {
        "split": [role if row.label else "unlabeled" for row in rows],
        "attributes_positive": [[row.label.positive] if row.label else [] for row in rows],
        "attributes_unknown": [_OTHERS[row.topic] if row.label else _ALL for row in rows],
        "attributes_maybe": [list(row.label.maybe) if row.label else [] for row in rows],
    }
    return frame_of(_TABLE, image_columns(raw, rows, homes) | columns)
