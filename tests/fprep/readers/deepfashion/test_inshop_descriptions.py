"""Descriptions of In-shop items: assignment to images, and damaged records."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from tests.trees import tree_of

from fprep.convert.command import convert
from fschemas.table_file import read_table

TREE = tree_of("deepfashion-inshop")
DESCRIPTIONS, COLORS = "Anno/list_description_inshop.json", "Anno/attributes/list_color_cloth.txt"


@pytest.fixture
def raw(tmp_path) -> Path:
    """The annotation files of the tiny tree, without images."""
    shutil.copytree(TREE, tmp_path / "raw", ignore=shutil.ignore_patterns("img", "expected.json"))
    return tmp_path / "raw"


def run(raw: Path, out: Path):
    report = convert("deepfashion-inshop", [raw], out, check_images="none", max_rejected=1.0)
    return report, pl.DataFrame(read_table(out / "table.parquet")), pl.DataFrame(read_table(out / "rejected.parquet"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path.name}"
    path.write_text(text.replace(old, new))


def test_colors_of_descriptions_are_believed_of_items_with_one_variant(raw, tmp_path):
    (raw / COLORS).unlink()
    _, table, _ = run(raw, tmp_path / "out")
    colors = dict(table.select("item", "color").unique().rows())
    assert colors == {
        "id_00000002": "",
        "id_00000004": "Medium blue",
        "id_00000230": "",
        "id_00000296": "Red",
        "id_00000500": "",
    }


def test_description_of_the_color_of_the_image(raw, tmp_path):
    records = json.loads((raw / DESCRIPTIONS).read_text())
    records.append({"item": "id_00000230", "color": "White", "description": ["A blouse. ", "Sheer"]})
    (raw / DESCRIPTIONS).write_text(json.dumps(records))  # on one line
    _, table, _ = run(raw, tmp_path / "out")
    found = dict(table.filter(pl.col("item") == "id_00000230").select("color", "description").rows())
    assert found == {"White": "A blouse.\nSheer", "Black-white": "A striped tee.", "": ""}


DAMAGED_RECORDS = [
    ('"color": "Medium blue",', '"color" "Medium blue",', "the record is not a JSON object"),
    ('"item": "id_00000004",', '"item": 4,', "the item is '4', expected id_ and eight digits"),
    ('"color": "Medium blue",', '"color": ["Medium blue"],', "the color of id_00000004 is not text"),
    ('"color": "Medium blue",', '"color": "Medium \\ud800",', "is not valid UTF-8"),
    ('"100% cotton"', "100", "the description of id_00000004 is not a list of texts"),
]


@pytest.mark.parametrize(("old", "new", "message"), DAMAGED_RECORDS)
def test_damaged_description_costs_itself_only(raw, tmp_path, old, new, message):
    edit(raw / DESCRIPTIONS, old, new)
    _, table, rejected = run(raw, tmp_path / "out")
    bad = rejected.filter(pl.col("rule") == "bad_description")
    line = (raw / DESCRIPTIONS).read_text().split("\n").index('        "color": "Cream",') + 8
    assert bad.select("source_file", "source_line", "row_line").rows() == [(DESCRIPTIONS, line, line)]
    assert message in bad["message"][0]
    descriptions = dict(table.select("item", "description").unique().rows())
    assert (descriptions["id_00000004"], descriptions["id_00000230"]) == ("", "A striped tee.")


def test_records_that_contradict_each_other_and_a_cut_file(raw, tmp_path):
    text = (raw / DESCRIPTIONS).read_text()
    records = json.loads(text)
    records.append(records[0] | {"description": ["Something else."]})
    (raw / DESCRIPTIONS).write_text(json.dumps(records, indent=4).removesuffix("\n]"))
    report, table, _ = run(raw, tmp_path / "out")
    assert (report.warnings["conflicting_description"], report.warnings["description_file_cut"]) == (1, 1)
    assert set(table.filter(pl.col("item") == "id_00000002")["description"]) == {""}
    assert report.files[DESCRIPTIONS]["joined"] == report.files[DESCRIPTIONS]["lines"]
