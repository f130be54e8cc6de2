"""FashionAI attribute reader: meaning of labels, file types, and invalid rows."""

import os
from pathlib import Path

import polars as pl
import pytest

from fprep.convert.command import convert
from fprep.readers.fashionai.attributes import parse_label
from fschemas.failures import RejectedError, UsageError
from fschemas.table_file import read_metadata, read_table
from fschemas.vocabularies import vocabulary

REAL = Path(os.environ.get("FASHIONKIT_REAL", Path(__file__).parents[5] / "shared" / "real")) / "fashionai_attributes"
WORDS = vocabulary("fashionai-attribute-54")


def name(number: int, attribute: str = "skirt_length") -> str:
    return f"Images/{attribute}_labels/{number:032x}.jpg"


def row(number: int, label: str, attribute: str = "skirt_length") -> str:
    return f"{name(number, attribute)},{attribute}_labels,{label}"


def write(path: Path, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in rows))
    return path


def run(raw: Path | list[Path], out: Path, **options):
    given = raw if isinstance(raw, list) else [raw]
    report = convert("fashionai-attributes", given, out, **{"check_images": "none", "max_rejected": 1.0, **options})
    return report, pl.DataFrame(read_table(out / "table.parquet")), pl.DataFrame(read_table(out / "rejected.parquet"))


def test_a_label_speaks_of_one_attribute_only(tmp_path):
    write(tmp_path / "base/Annotations/label.csv", row(1, "nymnn", "neck_design"))
    _, table, _ = run(tmp_path / "base", tmp_path / "out")
    (only,) = table.to_dicts()
    own = set(WORDS.groups["neck_design"])
    assert [WORDS.values[value] for value in only["attributes_positive"]] == ["neck_design/Turtle Neck"]
    assert [WORDS.values[value] for value in only["attributes_maybe"]] == ["neck_design/Ruffle Semi-High Collar"]
    assert set(only["attributes_unknown"]) == set(range(54)) - own
    absent = own - set(only["attributes_positive"]) - set(only["attributes_maybe"])
    assert {WORDS.values[value].partition("/")[2] for value in absent} == {
        "Invisible",
        "Low Turtle Neck",
        "Draped Collar",
    }
    assert (only["image"], only["key"]) == (name(1, "neck_design"), f"neck_design-{1:032x}")
    assert read_metadata(tmp_path / "out/table.parquet")["column_groups"] == ["attributes", "maybe"]


@pytest.mark.parametrize("attribute", WORDS.groups)
def test_place_in_the_word_is_the_place_in_the_vocabulary(attribute):
    members = WORDS.groups[attribute]
    for place, member in enumerate(members):
        word = "".join("y" if place == other else "n" for other in range(len(members)))
        assert parse_label(attribute, word) == (member, ())


def test_questions_and_their_answers(tmp_path):
    write(tmp_path / "base/Annotations/label.csv", *(row(number, "nnnnny") for number in range(60)), row(101, "nynnnn"))
    write(tmp_path / "rank/Tests/question.csv", *(row(number, "?") for number in range(100, 105)))
    write(tmp_path / "rank/images.txt", "no CSV file")
    report, table, _ = run(tmp_path, tmp_path / "out")
    assert report.superseded == 1  # 101 has a label in base, which remains train
    splits = dict(table.select("image", "split").rows())
    assert splits[f"rank/{name(100)}"] == "unlabeled"
    assert splits[f"base/{name(101)}"] != "unlabeled"
    assert f"rank/{name(101)}" not in splits
    assert set(table.filter(split="unlabeled")["attributes_unknown"].list.len()) == {54}
    assert {"train", "val", "test"} <= set(table["split"])  # split automatically, because none is given
    # Answers published later become test, are found next to the questions, and end the automatic test split.
    write(tmp_path / "s1a.csv", *(row(number, "nnynnn") + ",0" for number in (100, 102, 103)))
    report, table, rejected = run(tmp_path, tmp_path / "out")
    assert set(table.filter(split="test")["image"]) == {f"rank/{name(number)}" for number in (100, 102, 103)}
    assert (report.superseded, report.warnings["extra_column"], len(rejected)) == (4, 3, 0)
    assert table.filter(split="unlabeled")["image"].to_list() == [f"rank/{name(104)}"]


def test_train_row_of_an_answered_image_is_a_leak(tmp_path):
    write(tmp_path / "base/Annotations/label.csv", row(1, "nnnnny"), row(2, "nnnnny"))
    write(tmp_path / "answer_a.csv", row(1, "nnnnny"))
    _, table, rejected = run(tmp_path, tmp_path / "out")
    assert rejected["rule"].to_list() == ["leaked_image"]
    assert "base/Annotations/label.csv:1" in rejected["message"][0]
    assert dict(table.select("image", "split").rows())[name(1)] == "test"


def test_submission_is_left_out(tmp_path):
    write(tmp_path / "base/Annotations/label.csv", row(1, "nnnnny"))
    write(tmp_path / "mine.csv", row(2, "0.1;0.1;0.1;0.1;0.1;0.5"), row(3, "0.5;0.1;0.1;0.1;0.1;0.1"))
    report, table, _ = run(tmp_path, tmp_path / "out")
    assert (len(table), report.left_out) == (1, 2)
    assert any("submission" in note for note in report.notes)


def test_header_line_bom_and_crlf_are_no_fault(tmp_path):
    path = write(tmp_path / "Annotations/label.csv")
    path.write_bytes(f"\ufeffimage_id,attribute,label\r\n{row(1, 'nnnnny')}\r\n\r\n".encode())
    report, table, _ = run(tmp_path, tmp_path / "out")
    assert (len(table), report.header, report.blank) == (1, 1, 1)
    assert set(report.warnings) >= {"header_line", "crlf", "bom"}


DEFECTS = [
    (row(2, "nnnny"), "bad_label", "has 5 letters, but skirt_length has 6 values"),
    (row(2, "nnnnnn"), "bad_label", "has 0 times y"),
    (row(2, "ynnnny"), "bad_label", "has 2 times y"),
    (row(2, "ynnnn0"), "bad_label", "other letters than y, n and m"),
    (row(2, ""), "bad_label", "other letters than y, n and m"),
    (
        row(2, "nnnnny").replace("skirt_length_labels,", "hat_labels,"),
        "unknown_attribute",
        "unknown attribute 'hat_labels'",
    ),
    (row(2, "nnnnny").replace("skirt_length_labels,", "skirt_length,"), "unknown_attribute", "'skirt_length'"),
    (
        f"Images/coat_length_labels/{2:032x}.jpg,skirt_length_labels,nnnnny",
        "attribute_folder_mismatch",
        "another folder",
    ),
    ("../skirt_length_labels/x.jpg,skirt_length_labels,nnnnny", "path_escape", "leaves the archive"),
    (name(2), "wrong_columns", "1 columns"),
    (row(2, "nnnnny") + ",0,0", "wrong_columns", "5 columns"),
    (f'"{name(2)},skirt_length_labels,nnnnny', "quoted_row", "quotation mark"),
    (f'{name(2)[:-4]}".jpg,skirt_length_labels,nnnnny', "quoted_row", "quotation mark"),
]


@pytest.mark.parametrize(("defect", "rule", "message"), DEFECTS)
def test_defect_is_rejected_and_its_neighbors_stay(tmp_path, defect, rule, message):
    write(tmp_path / "base/Annotations/label.csv", row(1, "nnnnny"), defect, row(3, "nnnnny"))
    _, table, rejected = run(tmp_path / "base", tmp_path / "out")
    assert table["source_line"].to_list() == [1, 3]
    assert rejected.select("rule", "source_line").rows() == [(rule, 2)]
    assert message in rejected["message"][0]


def test_folder_without_labels(tmp_path):
    write(tmp_path / "other.csv", "a,b,c", "1,2,3")
    with pytest.raises(UsageError, match=r"no FashionAI attribute labels here; expected Annotations/label\.csv"):
        run(tmp_path, tmp_path / "out")
    with pytest.raises(RejectedError):  # but an explicitly given file is read
        run(tmp_path / "other.csv", tmp_path / "out")


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the real labels are not here")
def test_every_real_row_is_accounted_for(tmp_path):
    report, table, rejected = run(REAL, tmp_path / "out")
    assert (report.lines, report.kept, report.superseded, report.left_out) == (103163, 99668, 3095, 400)
    assert len(rejected) == 0
    base = table.filter(pl.col("source_file").str.contains("base_label"))
    assert base.height == 89683
    assert all(entry["found"] == entry["published"] for entry in report.totals.values())
    assert len(report.totals) == 10
    names = pl.col("image").str.extract(r"/([a-z_]+)_labels/[0-9a-f]{32}\.jpg$")
    maybe = base.filter(pl.col("attributes_maybe").list.len() > 0).group_by(names.alias("attribute")).len()
    assert dict(maybe.rows()) == {
        "coat_length": 426, "collar_design": 193, "lapel_design": 7, "neck_design": 106, "neckline_design": 350,
        "pant_length": 236, "skirt_length": 677, "sleeve_length": 417,
    }  # fmt: skip
    assert set(base["attributes_positive"].list.len()) == {1}
    assert table.filter(split="unlabeled").height == 6985
    assert table.filter(pl.col("source_file").str.contains("answers"))["split"].unique().to_list() == ["test"]
