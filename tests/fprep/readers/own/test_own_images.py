"""The readers `folders` and `csv`: `--map`, defaults without it, and real images."""

import csv
import io
import json
import os
import zipfile
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from PIL import Image
from tests.trees import tree_of
from typer.testing import CliRunner

from fprep.cli import app
from fprep.convert.command import convert
from fprep.readers.own.conventions import last_word
from fprep.readers.reader import read_mapping
from fprep.readers.registry import find_reader
from fschemas.failures import UsageError
from fschemas.table_file import read_metadata, read_table

REAL = Path(os.environ.get("FASHIONKIT_REAL", Path(__file__).parents[5] / "shared" / "real"))


def put(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        color = tuple(hash_of(name, channel) for channel in range(3))
        Image.new("RGB", (24, 32), color).save(path, format="PNG" if name.endswith(".png") else "JPEG")
    return root


def hash_of(name: str, channel: int) -> int:
    return (sum(ord(letter) * (37 + 11 * channel) ** (place % 5) for place, letter in enumerate(name)) * 31) % 256


def run(reader: str, raw: Path, out: Path, **mapping: str):
    options = {key.replace("_", "-"): value for key, value in mapping.items()}
    report = convert(reader, [raw], out, check_images="header", max_rejected=1.0, mapping=options)
    return report, pl.DataFrame(read_table(out / "table.parquet"))


def column(table: pl.DataFrame, name: str) -> dict[str, object]:
    return dict(zip(table["image"], table[name], strict=True))


PRODUCTS = ("Red_Dress/1.jpg", "Red_Dress/2.jpg", "Long Blue-Dress/1.jpg", "Coat/1.jpg", "Coat/2.png")


def test_folders_without_a_mapping(tmp_path):
    report, table = run("folders", put(tmp_path / "raw", *PRODUCTS), tmp_path / "out")
    assert report.kept == 5
    assert column(table, "category")["Red_Dress/1.jpg"] == "Red_Dress"
    assert column(table, "item")["Coat/2.png"] == "Coat"
    assert table["group"].n_unique() == 5  # folders are classes: a class in one split only could not be learned
    metadata = read_metadata(tmp_path / "out/table.parquet")
    assert metadata["vocabularies"]["category"]["values"] == ["Coat", "Long Blue-Dress", "Red_Dress"]
    assert "mapping" not in metadata["options"]
    assert metadata["column_groups"] == ["category", "item"]


def test_folders_of_products_stay_on_one_side(tmp_path):
    _, table = run("folders", put(tmp_path / "raw", *PRODUCTS), tmp_path / "out", category="last-word")
    assert sorted(set(table["category"])) == ["Coat", "Dress"]
    assert table["group"].to_list() == table["item"].to_list()
    assert table["item"].n_unique() == 3
    assert read_metadata(tmp_path / "out/table.parquet")["options"]["mapping"] == {"category": "last-word"}


NESTED = ("casual/dress/a/1.jpg", "casual/dress/a/2.jpg", "smart/coat/a/3.jpg", "top.jpg")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("folder", ["a", "a", "a", ""]),
        ("parent", ["dress", "dress", "coat", ""]),
        ("top", ["casual", "casual", "smart", ""]),
        ("path", ["casual/dress/a", "casual/dress/a", "smart/coat/a", ""]),
    ],
)
def test_sources_of_names(tmp_path, source, expected):
    _, table = run("folders", put(tmp_path / "raw", *NESTED), tmp_path / "out", category=source, style="top")
    assert table["category"].to_list() == expected
    assert table["style"].to_list() == ["casual", "casual", "smart", ""]
    assert table["item"].to_list() == ["casual/dress/a", "casual/dress/a", "smart/coat/a", ""]


def test_nothing_but_images(tmp_path):
    _, table = run("folders", put(tmp_path / "raw", *NESTED), tmp_path / "out", category="none", item="none")
    assert not {"category", "item", "style"} & set(table.columns)


def test_a_group_can_be_named(tmp_path):
    _, table = run("folders", put(tmp_path / "raw", *PRODUCTS), tmp_path / "out", group="folder")
    assert column(table, "group")["Coat/2.png"] == "Coat"


def test_folders_of_splits(tmp_path):
    names = ("train/dress/1.jpg", "train/coat/2.jpg", "Validation/dress/3.jpg", "test/coat/4.jpg")
    report, table = run("folders", put(tmp_path / "raw", *names), tmp_path / "out")
    assert report.splits == {"test": 1, "train": 2, "val": 1}
    assert set(table["category"]) == {"dress", "coat"}
    _, table = run("folders", tmp_path / "raw", tmp_path / "none", split="none", category="top")
    assert set(table["category"]) == {"train", "Validation", "test"}


def test_missing_splits_are_cut_from_train(tmp_path):
    names = [f"train/dress/{number}.jpg" for number in range(40)] + ["test/dress/t.jpg"]
    report = convert(
        "folders", [put(tmp_path / "raw", *names)], tmp_path / "out", check_images="none", val_share=0.3, test_share=0.3
    )
    assert report.splits["test"] == 1
    assert 4 <= report.splits["val"] <= 20


def test_query_and_gallery_share_items(tmp_path):
    names = ("train/a/1.jpg", "query/b/1.jpg", "gallery/b/2.jpg")
    report, table = run("folders", put(tmp_path / "raw", *names), tmp_path / "out")
    assert {"train", "query", "gallery"} == set(report.splits)
    assert len({item for item, split in zip(table["item"], table["split"], strict=True) if split != "train"}) == 1


def test_folders_pass_over_what_is_no_image(tmp_path):
    raw = put(tmp_path / "raw", *PRODUCTS, ".hidden/1.jpg", "__MACOSX/1.jpg")
    (raw / "list.txt").write_text("x")
    (raw / "elsewhere").symlink_to(raw / "Coat")
    report, _ = run("folders", raw, tmp_path / "out")
    assert report.kept == 5
    assert any("1 .txt" in note for note in report.notes)
    assert any("not followed" in note for note in report.notes)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["catgory=folder"], r"no such key; did you mean category\? choose from category, item"),
        (["category"], "expected KEY=VALUE"),
        (["category=folder", "category=top"], "given twice"),
    ],
)
def test_mappings_that_are_no_mappings(entries, message):
    with pytest.raises(UsageError, match=message):
        read_mapping(find_reader("folders"), entries)


def test_a_reader_of_known_files_takes_no_mapping(tmp_path):
    with pytest.raises(UsageError, match=r"does not accept --map"):
        convert("fashionai-keypoints", [tree_of("fashionai-keypoints")], tmp_path / "out", mapping={"category": "x"})


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"category": "lastword"}, "did you mean last-word"),
        ({"split": "top"}, r"'Coat' is not a split"),
        ({"split": "yes"}, "expected top or none"),
        ({"group": "item"}, "expected folder"),
    ],
)
def test_folder_mappings_that_cannot_be(tmp_path, mapping, message):
    with pytest.raises(UsageError, match=message):
        run("folders", put(tmp_path / "raw", *PRODUCTS), tmp_path / "out", **mapping)


def test_an_empty_folder_is_a_sentence(tmp_path):
    with pytest.raises(UsageError, match="no image below"):
        run("folders", tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "word"), [("Red_Dress", "Dress"), ("long coat-", "coat"), ("Tee", "Tee"), ("", ""), ("__", "")]
)
def test_last_words(name, word):
    assert last_word(name) == word


HEADER = "photo,kind,style,product,part,x1,y1,x2,y2,subset\n"


def shop(tmp_path: Path, text: str, *, images=("a.jpg", "b.jpg", "c.jpg"), folder="", name="shop.csv") -> Path:
    raw = put(tmp_path / "raw", *(f"{folder}{image}" for image in images))
    (raw / name).write_bytes(text.encode())
    return raw


def test_csv_without_a_mapping(tmp_path):
    rows = 'a.jpg,dress,"smart, casual",p1,full,2,3,20,25,train\nb.jpg,coat,,,,,,,,VAL\nc.jpg,coat,formal,p1,full,0.5,1,9,9,\n'
    report, table = run("csv", shop(tmp_path, HEADER + rows, folder="img/"), tmp_path / "out")
    assert (report.kept, report.header) == (3, 1)
    assert table["image"].to_list() == ["img/a.jpg", "img/b.jpg", "img/c.jpg"]
    assert table["category"].to_list() == ["dress", "coat", "coat"]
    assert table["style"].to_list() == ["smart, casual", "", "formal"]
    assert table["item"].to_list() == ["p1", "", "p1"]
    assert table["box"].to_list() == [[2, 3, 20, 25], [0, 0, 23, 31], [0.5, 1, 9, 9]]
    assert table["split"].to_list() == ["train", "val", "train"]
    metadata = read_metadata(tmp_path / "out/table.parquet")
    assert metadata["vocabularies"]["style"]["values"] == ["formal", "smart, casual"]
    assert any("not used: part" in note for note in report.notes)


def test_csv_with_a_mapping(tmp_path):
    text = "file;what;where\na.jpg;dress;2 3 10 5\nb.jpg;coat;[1, 1, 4, 4]\nc.jpg;;\n"
    mapping = {"image": "file", "category": "what", "box": "where", "box_form": "size", "attributes": "what"}
    _, table = run("csv", shop(tmp_path, text), tmp_path / "out", **mapping)
    assert table["box"].to_list() == [[2, 3, 11, 7], [1, 1, 4, 4], [0, 0, 23, 31]]
    assert table["attributes_positive"].to_list() == [[1], [0], []]
    assert table["attributes_unknown"].to_list() == [[], [], [0, 1]]
    stored = read_metadata(tmp_path / "out/table.parquet")
    assert stored["vocabularies"]["attributes"]["values"] == ["what/coat", "what/dress"]
    assert stored["options"]["mapping"]["box-form"] == "size"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_dialects(tmp_path, delimiter, start, end):
    text = (
        start
        + end.join(delimiter.join(row) for row in (("path", "label"), ("a.jpg", "dress"), ("b.jpg", "coat")))
        + end
    )
    _, table = run("csv", shop(tmp_path, text), tmp_path / "out")
    assert table["category"].to_list() == ["dress", "coat"]


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        (b"a.jpg,dress", "wrong_columns"),
        (b'a.jpg,"dress,1 2 3 4,train', "quoted_row"),
        (b'a.jpg,dr"ess",1 2 3 4,train', None),
        (b"a.jpg,dr\xffess,1 2 3 4,train", "bad_encoding"),
        (b"../a.jpg,dress,1 2 3 4,train", "path_escape"),
        (b"/a.jpg,dress,1 2 3 4,train", "absolute_path"),
        (b",dress,1 2 3 4,train", "bad_path"),
        (b"a.jpg,dress,1 2 3,train", "bad_cell"),
        (b"a.jpg,dress,1 2 3 nan,train", "bad_cell"),
        (b"a.jpg,dress,1 2 3 1_0,train", "bad_cell"),
        (b"a.jpg,dress,9 2 3 4,train", "box_inverted"),
        (b"a.jpg,dress,1 2 99 4,train", "box_outside"),
        (b"a.jpg,dress,1 2 3 4,hold-out", "unknown_split"),
        (b"nowhere.jpg,dress,1 2 3 4,train", "missing_image"),
        (b"./a.jpg,dress,1 2 3 4,train", None),
        (b"a.jpg," + b"d" * (1 << 20) + b",1 2 3 4,train", "line_too_long"),
    ],
)
def test_csv_rows_are_kept_or_rejected(tmp_path, row, rule):
    raw = shop(tmp_path, "")
    (raw / "shop.csv").write_bytes(
        b"path,label,box,split\nb.jpg,coat,1 2 3 4,val\n" + row + b"\nc.jpg,coat,1 2 3 4,val\n"
    )
    report, table = run("csv", raw, tmp_path / "out", box="box", split="split")
    assert report.rejected_by_rule == ({rule: 1} if rule else {})
    assert [name[0] for name in table["image"]] == ["b", "c"] if rule else ["b", "a", "c"]


@pytest.mark.parametrize(
    ("text", "mapping", "message"),
    [
        ("a,b\n1,2\n", {}, r"no column is called image .* there are a, b"),
        ("path,label\n", {"category": "lable"}, r"no such column; did you mean label"),
        ("path,path\n", {}, "two columns are called 'path'"),
        ("path,box\n", {"box": "box,path"}, "expected one column or four"),
        ("path,box\n", {"box-form": "polygon"}, "expected corners or size"),
        ("path,box\n", {"folder": "../.."}, "no such folder"),
        ("\n\n", {}, "no row"),
        ('"path,label\n', {}, "not closed"),
    ],
)
def test_csv_files_that_cannot_be_read(tmp_path, text, mapping, message):
    with pytest.raises(UsageError, match=message):
        run("csv", shop(tmp_path, text), tmp_path / "out", **mapping)


@pytest.mark.parametrize("names", [(), ("one.csv", "two.csv")])
def test_exactly_one_csv(tmp_path, names):
    for name in names:
        (tmp_path / name).write_text("path\n")
    with pytest.raises(UsageError, match="pass exactly one"):
        run("csv", tmp_path, tmp_path / "out")


def test_images_given_beside_the_csv(tmp_path):
    put(tmp_path / "photos", "a.jpg")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/shop.csv").write_text("path,label\na.jpg,dress\n")
    report = convert("csv", [tmp_path / "lists/shop.csv", tmp_path / "photos"], tmp_path / "out", check_images="header")
    assert report.kept == 1
    assert read_table(tmp_path / "out/table.parquet")["image"].to_pylist() == ["photos/a.jpg"]


def test_map_on_the_command_line(tmp_path):
    raw = shop(tmp_path, "photo,kind\na.jpg,Red Dress\n")
    options = ["--map", "image=photo", "--map", "category=kind", "--json", "--quiet"]
    result = CliRunner().invoke(app, ["convert", "csv", str(raw / "shop.csv"), str(tmp_path / "out"), *options])
    assert json.loads(result.stdout)["kept"] == 1
    assert read_metadata(tmp_path / "out/table.parquet")["options"]["mapping"] == {"category": "kind", "image": "photo"}


@pytest.mark.skipif(not (REAL / "deepfashion_category_folders").is_dir(), reason="real files are not here")
def test_real_product_folders(tmp_path):
    raw = REAL / "deepfashion_category_folders"
    report, table = run("folders", raw, tmp_path / "out", category="last-word", split="none")
    assert (report.lines, report.kept, report.rejected) == (3830, 3830, 0)
    assert table["item"].n_unique() == 86
    assert table["category"].n_unique() == len({last_word(path.name) for path in (raw / "img").iterdir()})
    assert table.group_by("item").agg(pl.col("split").n_unique())["split"].max() == 1


@pytest.mark.skipif(not (REAL / "style_photographs").is_dir(), reason="real files are not here")
def test_real_style_photographs(tmp_path):
    report, table = run("csv", REAL / "style_photographs/labels.csv", tmp_path / "out", attributes="color,season,part")
    assert (report.lines, report.kept, report.rejected) == (1503, 1502, 0)
    with open(REAL / "style_photographs/labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert Counter(table["style"]) == Counter(row["style"] for row in rows)
    assert len(read_metadata(tmp_path / "out/table.parquet")["vocabularies"]["style"]["values"]) == 13


@pytest.mark.slow
@pytest.mark.skipif(not (REAL / "kfashion_aihub").is_dir(), reason="real files are not here")
def test_real_rows_with_odd_names_and_quotes(tmp_path):
    """64,026 rows of K-Fashion's validation labels as CSV, with commas, brackets and Korean sentences in the names."""
    with zipfile.ZipFile(REAL / "kfashion_aihub/derived/fashion_data_cleaned_val.zip") as archive:
        content = archive.read(archive.namelist()[0])
    (tmp_path / "labels.csv").write_bytes(content)
    mapping = {"image": "이미지파일명", "style": "스타일"}
    report = convert(
        "csv", [tmp_path / "labels.csv"], tmp_path / "out", check_images="none", max_rejected=1.0, mapping=mapping
    )
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))
    repeated = len(rows) - len({row["이미지파일명"] for row in rows})
    styles: dict[str, set[str]] = {}
    for row in rows:
        styles.setdefault(row["이미지파일명"], set()).add(row["스타일"])
    contradictions = sum(len(found) > 1 for found in styles.values())  # few images share a name
    assert report.kept + report.rejected + report.joined == len(rows) == 64026
    assert report.rejected_by_rule == {
        "bad_path": 14,
        "conflicting_rows": contradictions,
    }  # 14 names have more than 255 bytes
    assert report.joined == repeated - contradictions
