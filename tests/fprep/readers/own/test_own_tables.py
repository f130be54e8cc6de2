"""A user's own tables: dialects, guesses that do not fit, and several rows per image."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fprep.convert.command import convert
from fprep.raw.dialect import Dialect, find_dialect, read_records
from fprep.raw.file import RawLine
from fschemas.failures import RejectedError, UsageError
from fschemas.table_file import read_metadata, read_table


def run(tmp_path: Path, text: str | bytes, *, check_images: str = "none", max_rejected: float = 1.0, **mapping: str):
    """Convert a table next to six images 0.jpg … 5.jpg."""
    raw = tmp_path / "raw"
    raw.mkdir(exist_ok=True)
    for number in range(6):
        Image.new("RGB", (40, 50), (number * 30, 9, 9)).save(raw / f"{number}.jpg", "JPEG")
    (raw / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    options = {key.replace("_", "-"): value for key, value in mapping.items()}
    report = convert(
        "csv",
        [raw / "t.csv"],
        tmp_path / "out",
        check_images=check_images,
        max_rejected=max_rejected,
        workers=1,
        mapping=options,
    )
    assert report.lines == sum(
        getattr(report, name) for name in ("kept", "rejected", "joined", "header", "blank", "left_out")
    )
    return report, pl.DataFrame(read_table(tmp_path / "out/table.parquet"))


@pytest.mark.parametrize("key", ["unit=relative", "axes=yx", "box-form=size"])
def test_an_option_for_boxes_without_boxes_is_refused(tmp_path, key):
    name, value = key.split("=")
    with pytest.raises(
        UsageError, match=rf"--map {key}: no column of t.csv:1 is read as boxes; set them with --map box=COLUMN"
    ):
        run(tmp_path, "image,label,place\n0.jpg,a,1 2 3 4\n", **{name.replace("-", "_"): value})


def test_known_values_are_listed_once(tmp_path):
    with pytest.raises(RejectedError):
        run(tmp_path, "image,label\n0.jpg,a\n", split="label")
    (message,) = read_table(tmp_path / "out/rejected.parquet")["message"].to_pylist()
    assert message.count("gallery") == 2  # gallery and val_gallery


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "text",
    [
        "image,label\n0.jpg,a\n1.jpg,b\n",
        "image;label\n0.jpg;a\n1.jpg;b\n",
        "image\tlabel\n0.jpg\ta\n1.jpg\tb\n",
        "image|label\n0.jpg|a\n1.jpg|b\n",
        "sep=;\nimage;label\n0.jpg;a\n1.jpg;b\n",
        '"sep=^"\nimage^label\n0.jpg^a\n1.jpg^b\n',
        '"image","label"\n"0.jpg","a"\n"1.jpg","b"\n',
        "image, label\n0.jpg, a\n1.jpg, b\n",
        'image;label;"box (x1,y1,x2,y2)"\n0.jpg;a;"1,2,30,40"\n1.jpg;b;"1,2,30,40"\n',
        "image;label;price\n0.jpg;a;1,50\n1.jpg;b;2,00\n",
        'image,label,text\n0.jpg,a,"one; two; three; four"\n1.jpg,b,"five; six"\n',
        'image,"the\nlabel",label\n0.jpg,"x\ny",a\n1.jpg,x,b\n',
        'image,label,text\n0.jpg,a,"first\n\nthird ""line"""\n1.jpg,b,x\n',
    ],
)
def test_dialects(tmp_path, text, line_end):
    _, table = run(tmp_path, text.replace("\n", line_end), category="label")
    assert table["image"].to_list() == ["0.jpg", "1.jpg"]
    assert table["category"].to_list() == ["a", "b"]


def test_a_long_quoted_cell_is_a_cell(tmp_path):
    report, _ = run(tmp_path, f'image,label,text\n0.jpg,a,"{"x" * 300_000}"\n1.jpg,b,"{"y," * 70_000}"\n')
    assert (report.kept, report.rejected) == (2, 0)


@pytest.mark.parametrize("value", ["semicolon", ";", "Semicolon"])
def test_the_delimiter_can_be_given(tmp_path, value):
    text = "image,a;label,b\n0.jpg,a;x,y\n"  # a comma separates it as well
    _, table = run(tmp_path, text, delimiter=value, image="image,a", category="label,b")
    assert table["category"].to_list() == ["x,y"]


@pytest.mark.parametrize("value", ["semi", ",;", "a", '"'])
def test_what_is_no_delimiter(tmp_path, value):
    with pytest.raises(UsageError, match="expected one sign, or comma, semicolon, tab, pipe or space"):
        run(tmp_path, "image,label\n0.jpg,a\n", delimiter=value)


def test_a_quotation_mark_that_is_not_closed_costs_its_own_line(tmp_path):
    rows = "".join(f'{number % 6}.jpg,"a{number}",x\n' for number in range(6))
    report, _ = run(tmp_path, f'image,label,text\n9.jpg,"b,x\n{rows}8.jpg,b,"x\n')
    assert report.rejected_by_rule == {"quoted_row": 2}
    assert report.kept == 6


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.lists(st.text('ab ,;|\t"\n\r', max_size=6), min_size=2, max_size=4), min_size=2, max_size=5),
    st.sampled_from(",;\t|"),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_records_are_those_that_the_standard_library_wrote(rows, delimiter, quoting):
    """Fields are compared without surrounding spaces and CR.

    Spaces in blank lines are dropped too.
    """
    width = len(rows[0])
    rows = [[field.replace("\r", "").strip() for field in (*row, *("x",) * width)][:width] for row in rows]
    rows = [[re.sub(r"\n[ \t]+(?=\n)", "\n", field) for field in (*row[:-1], row[-1] or "z")] for row in rows]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator="\n").writerows(rows)
    contents = text.getvalue().removesuffix("\n").split("\n")
    lines = [
        RawLine("t", number, 0, content.encode()) for number, content in enumerate(contents, start=1) if content.strip()
    ]
    found = list(read_records(lines, Dialect(delimiter)))
    assert [[field.strip() for field in record.fields] for record in found] == rows
    if quoting == csv.QUOTE_ALL and all(any(field != "z" for field in row) for row in rows):
        assert find_dialect(text.getvalue().encode()).delimiter == delimiter


@pytest.mark.parametrize(
    ("text", "encoding", "message"),
    [
        (
            "image,label\n0.jpg,a\n",
            "utf-16",
            r"UTF-16 or binary, but UTF-8 text was expected; save it as UTF-8 \(`iconv -f UTF-16",
        ),
        ("image,종류\n0.jpg,바지\n", "cp949", r"looks like CP949 \(Korean Windows\); save the file as UTF-8"),
    ],
)
def test_other_encodings_are_named(tmp_path, text, encoding, message):
    with pytest.raises(UsageError, match=message):
        run(tmp_path, text.encode(encoding))


def test_rows_in_another_encoding_are_named_in_a_note(tmp_path):
    report, _ = run(tmp_path, b"image,label\n0.jpg,a\n" + "1.jpg,바지\n2.jpg,치마\n".encode("cp949"))
    assert report.rejected_by_rule == {"bad_encoding": 2}
    assert any("looks like CP949 (Korean Windows)" in note for note in report.notes)


ROWS = [f"{number}.jpg,a" for number in range(6)]


@pytest.mark.parametrize(
    ("column", "values", "key"),
    [
        ("fold", ["0", "1", "2", "3", "4", "0"], "split"),
        ("split", ["trainval", "trainval", "trainval", "test", "test", "test"], "split"),
        ("subset", ["train", "train", "val", "test", "test", "holdout"], "split"),
        ("domain", [f"shop{number}.example" for number in range(6)], "domain"),
    ],
)
def test_a_guess_that_does_not_fit_is_given_up(tmp_path, column, values, key):
    text = "\n".join([f"image,label,{column}", *(f"{row},{value}" for row, value in zip(ROWS, values, strict=True))])
    report, table = run(tmp_path, text)
    assert (report.kept, report.rejected) == (6, 0)
    assert key == "split" or key not in table.columns
    (note,) = [note for note in report.notes if "was guessed" in note]
    assert f"{column} was guessed to be the {key}" in note
    assert f"--map {key}={column} reads it and rejects these rows" in note
    assert key not in report.guessed
    report, _ = run(tmp_path, f"{text}\n0.jpg,b,\n", **{key: column})  # a row without value, so that a table is written
    assert set(report.rejected_by_rule) == {f"unknown_{key}"}


def test_guessed_boxes_that_are_no_numbers_are_given_up(tmp_path):
    text = "image,label,x1,y1,x2,y2\n0.jpg,a,1,2,3,4\n1.jpg,a,1,2,left,4\n"
    report, table = run(tmp_path, text)
    assert (report.kept, "box" in table.columns) == (2, False)
    report, table = run(tmp_path, text, box="x1,y1,x2,y2")
    assert report.rejected_by_rule == {"bad_cell": 1}


def test_a_rejected_line_gives_up_no_guess(tmp_path):
    report, table = run(tmp_path, "image,label,split\n0.jpg,a,train\n1.jpg,a,test\n../2.jpg,a,fold 3\n")
    assert report.rejected_by_rule == {"path_escape": 1}
    assert table["split"].to_list() == ["train", "test"]


def test_the_error_for_no_row_names_the_guess(tmp_path):
    with pytest.raises(
        RejectedError, match=r"no row is left .* the columns image=file category=type were guessed: set them"
    ):
        run(tmp_path, "file,type,other\nx.jpg,a,0.jpg\ny.jpg,a,nowhere\nz.jpg,b,nowhere\n", check_images="header")


@pytest.mark.parametrize(
    ("header", "row", "image"),
    [
        ("image_id,file_name,label", "{n},{n}.jpg,a", "file_name"),
        ("image,url,label", "{n},https://shop.example/{n}.jpg,a", "image"),
        ("id,label", "{n},a", "id"),
        ("what,label", "{n}.jpg,a", "what"),
    ],
)
def test_the_column_of_images_is_the_one_whose_values_are_images(tmp_path, header, row, image):
    report, table = run(tmp_path, "\n".join([header, *(row.format(n=number) for number in range(6))]))
    assert report.guessed["image"] == image
    assert table["image"].to_list() == [f"{number}.jpg" for number in range(6)]


def test_a_table_without_a_header_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"the first line names an image \(0\.jpg\) and no columns"):
        run(tmp_path, "0.jpg,a\n1.jpg,b\n2.jpg,a\n")


LABELS = "image,label,color\n0.jpg,dress,red\n0.jpg,summer,red\n1.jpg,coat,blue\n2.jpg,coat,\n2.jpg,summer,green\n2.jpg,party,\n"


def test_a_row_a_label(tmp_path):
    report, table = run(tmp_path, LABELS, attributes="color")
    assert (report.kept, report.joined, report.rejected) == (3, 3, 0)
    assert "category" not in table.columns
    vocabulary = read_metadata(tmp_path / "out/table.parquet")["vocabularies"]["attributes"]
    names = [[vocabulary["values"][number] for number in row] for row in table["attributes_positive"]]
    assert names == [
        ["color/red", "label/dress", "label/summer"],
        ["color/blue", "label/coat"],
        ["color/green", "label/coat", "label/party", "label/summer"],
    ]
    assert not vocabulary["exclusive"]
    assert any("a row is a label" in note for note in report.notes)


def test_a_row_a_label_can_be_said_or_denied(tmp_path):
    _, table = run(tmp_path, "image,label\n0.jpg,a\n1.jpg,b\n", rows="label")
    assert "category" in table.columns  # nothing repeats
    with pytest.raises(UsageError, match="expected image or label or garment"):
        run(tmp_path, LABELS, rows="tag")
    report, table = run(tmp_path, LABELS, rows="image")
    assert (report.kept, report.rejected_by_rule) == (3, {"duplicate_image": 3})


def test_a_few_contradictions_are_no_labels(tmp_path):
    rows = "".join(f"{number}.jpg,a\n" for number in range(40))
    report, table = run(tmp_path, f"image,label\n{rows}7.jpg,b\n8.jpg,a \n")
    assert report.rejected_by_rule == {"conflicting_rows": 1}
    assert (report.kept, report.joined) == (40, 1)  # 8.jpg occurs twice, once with an extra space
    assert table["category"].unique().to_list() == ["a"]
    message = read_table(tmp_path / "out/rejected.parquet")["message"][0].as_py()
    assert "'b', but 'a' in a row before" in message
    assert "--map rows=label" in message


GARMENTS = "image,label,x1,y1,x2,y2,split\n0.jpg,dress,1,2,20,30,train\n0.jpg,shoe,4,30,20,45,train\n1.jpg,coat,1,2,20,30,test\n"


def test_a_row_a_garment_by_its_box(tmp_path):
    report, table = run(tmp_path, GARMENTS, check_images="header")
    assert (report.kept, report.rejected, report.joined) == (3, 0, 0)
    assert table["image"].to_list() == ["0.jpg", "0.jpg", "1.jpg"]
    assert table["category"].to_list() == ["dress", "shoe", "coat"]
    assert table["key"].to_list() == ["0", "0-2", "1"]
    assert table["group"][0] == table["group"][1] != table["group"][2]
    assert any("a row is a garment" in note for note in report.notes)


def test_a_row_a_garment_by_its_product(tmp_path):
    text = "image,label,product\n0.jpg,dress,p1\n0.jpg,shoe,p2\n1.jpg,shoe,p2\n2.jpg,coat,p3\n"
    report, table = run(tmp_path, text, check_images="header")
    assert (report.kept, report.rejected) == (4, 0)
    assert table["item"].to_list() == ["p1", "p2", "p2", "p3"]
    assert table["group"].to_list() == ["p1", "p1", "p1", "p3"]  # images of one group are never in different splits


def test_garments_of_one_image_are_in_one_split(tmp_path):
    report, table = run(tmp_path, GARMENTS.replace("shoe,4,30,20,45,train", "shoe,4,30,20,45,test"))
    assert report.rejected_by_rule == {"conflicting_rows": 1}
    assert table["image"].to_list() == ["0.jpg", "1.jpg"]


def test_equal_rows_are_rejected_as_such(tmp_path):
    report, _ = run(tmp_path, "image,label\n0.jpg,a\n0.jpg,a\n1.jpg,b\n")
    assert report.rejected_by_rule == {"duplicate_row": 1}
