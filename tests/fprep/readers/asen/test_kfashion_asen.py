"""Lists in the ASEN format: styles and attribute triples, query and candidates, both forms of meta.json."""

import json
import os
import unicodedata
from pathlib import Path

import polars as pl
import pytest

from fprep.convert.command import convert
from fschemas.failures import UsageError
from fschemas.table_file import read_metadata, read_table
from fschemas.vocabularies import vocabulary

REAL = Path(os.environ.get("FASHIONKIT_REAL", Path(__file__).parents[5] / "shared" / "real"))
STYLE = {
    "Kfashion": {"attributes": [{"name": "style", "num": 3}]},
    "DARN": {"attributes": [{"name": "collar", "num": 4}]},
}
SIZES = {"skirt_length": 6, "sleeve_length": 9, "coat_length": 8, "pant_length": 6, "collar_design": 5, "lapel_design": 5,
         "neckline_design": 10, "neck_design": 5}  # fmt: skip
FASHIONAI = {"ATTRIBUTES": list(SIZES), "ATTRIBUTES_NUM": SIZES, "ATTRIBUTES_VALUES": {}}
GROUPS = {"ATTRIBUTES": ["shape", "part"], "ATTRIBUTES_NUM": {"shape": 2, "part": 3},
          "ATTRIBUTES_VALUES": {"shape": ["a-line", "boxy"]}}  # fmt: skip


def write(folder: Path, meta: object = None, **files: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if meta is not None:
        (folder / "meta.json").write_text(json.dumps(meta))
    for name, lines in files.items():
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    return folder


def run(raw: Path, out: Path, **options):
    report = convert("kfashion-asen", [raw], out, **{"check_images": "none", "max_rejected": 1.0, **options})
    return report, pl.DataFrame(read_table(out / "table.parquet")), pl.DataFrame(read_table(out / "rejected.parquet"))


def test_styles_and_splits(tmp_path):
    raw = write(tmp_path / "Kfashion", STYLE, filenames_train=["모던/1.jpg", "모던/2.jpg"], label_train=["0 0 2", "1 0 0"],
                filenames_valid=["a/3.jpg", "a/4.jpg", "a/5.jpg"], query_valid=["2 0 1"], candidate_valid=["0 0 1"],
                label_valid=["0 0 1", "1 0 2", "2 0 1"],
                filenames_test=["a/6.jpg", "a/7.jpg"], query_test=["0 0 0"], candidate_test=["1 0 2"])  # fmt: skip
    report, table, _ = run(raw, tmp_path / "out")
    assert table.select("image", pl.col("split").cast(pl.String), "style").rows() == [
        ("모던/1.jpg", "train", "style_2"), ("모던/2.jpg", "train", "style_0"), ("a/3.jpg", "val_gallery", "style_1"),
        ("a/4.jpg", "val", "style_2"), ("a/5.jpg", "val_query", "style_1"), ("a/6.jpg", "query", "style_0"),
        ("a/7.jpg", "gallery", "style_2"),
    ]  # fmt: skip
    assert (table["key"].to_list()[:3], table["substyle"].unique().to_list()) == (["1", "2", "a-3"], [""])
    metadata = read_metadata(tmp_path / "out/table.parquet")
    assert metadata["column_groups"] == ["style"]
    assert metadata["vocabularies"]["style"]["values"] == ["style_0", "style_1", "style_2"]
    assert (report.joined, report.rejected) == (9, 0)


def test_attributes_of_fashionai_have_the_vocabulary_of_the_challenge(tmp_path):
    raw = write(
        tmp_path / "x", FASHIONAI, filenames_test=["test/Images/neck_design_labels/1.jpg"], query_test=["0 7 2"]
    )
    _, table, _ = run(raw, tmp_path / "out")
    words = vocabulary("fashionai-attribute-54")
    assert [words.values[value] for value in table["attributes_positive"][0]] == ["neck_design/Ruffle Semi-High Collar"]
    assert set(table["attributes_unknown"][0]) == set(range(54)) - set(words.groups["neck_design"])
    assert read_metadata(tmp_path / "out/table.parquet")["vocabularies"]["attributes"] == words.to_json()


def test_several_pairs_in_a_line_and_several_lines(tmp_path):
    raw = write(tmp_path / "x", GROUPS, filenames_train=["1.jpg", "2.jpg", "3.jpg"], label_train=["0 0 1 1 0", "1 1 2 1 0", "2 0 0"],
                filenames_test=["4.jpg"], query_test=["0 0 1"], candidate_test=["0 1 2"])  # fmt: skip
    report, table, _ = run(raw, tmp_path / "out")
    assert table.select("attributes_positive", "attributes_unknown").rows() == [
        ([1, 2], []), ([2, 4], [0, 1]), ([0], [2, 3, 4]), ([1, 4], [])
    ]  # fmt: skip
    stored = read_metadata(tmp_path / "out/table.parquet")["vocabularies"]["attributes"]
    assert stored["values"] == ["shape/a-line", "shape/boxy", "part/0", "part/1", "part/2"]
    assert (table["split"][3], report.warnings["several_label_lines"]) == ("query", 1)


DEFECTS = [
    (
        {"label_train": ["0 0 1", "1 0 3", "2 0 1"]},
        "unknown_attribute",
        "filenames_train.txt",
        "value 3 of style, expected 0 to 2",
    ),
    (
        {"label_train": ["0 0 1", "1 1 0", "2 0 1"]},
        "unknown_attribute",
        "filenames_train.txt",
        "attribute 1, expected 0 to 0",
    ),
    ({"label_train": ["0 0 1", "1 0 1 0 2", "2 0 1"]}, "label_conflict", "filenames_train.txt", "style is 2, but 1 at"),
    (
        {"label_train": ["0 0 1", "1 0 1", "2 0 1", "1 0 2"]},
        "label_conflict",
        "filenames_train.txt",
        "but 1 at label_train.txt:2",
    ),
    ({"label_train": ["0 0 1", "x 0 1", "2 0 1", "1 0 0"]}, "bad_label", "label_train.txt", "is not an image index"),
    ({"label_train": ["0 0 1", "1 0", "2 0 1", "1 0 0"]}, "bad_label", "label_train.txt", "is not an image index"),
    ({"label_train": ["0 0 1", "-1 0 0", "2 0 1", "1 0 0"]}, "bad_label", "label_train.txt", "is not an image index"),
    ({"label_train": ["0 0 1", "3 0 1", "2 0 1", "1 0 0"]}, "unknown_image", "label_train.txt", "there is no image 3"),
    ({"filenames_train": ["1.jpg", "../2.jpg", "3.jpg"]}, "path_escape", "filenames_train.txt", "leaves the archive"),
]


@pytest.mark.parametrize(("change", "rule", "file", "message"), DEFECTS)
def test_defect_is_rejected_where_it_is(tmp_path, change, rule, file, message):
    files = {"filenames_train": ["1.jpg", "2.jpg", "3.jpg"], "label_train": ["0 0 1", "1 0 1", "2 0 1"]}
    _, table, rejected = run(write(tmp_path / "kfashion", STYLE, **(files | change)), tmp_path / "out")
    assert rejected.select("rule", "row_file").rows() == [(rule, file)]
    assert message in rejected["message"][0]
    assert {1, 3} <= set(table["source_line"])
    assert (2 in set(table["source_line"])) == (file == "label_train.txt")


def test_image_without_a_label_is_unlabeled(tmp_path):
    raw = write(
        tmp_path / "x", GROUPS, filenames_train=["1.jpg", "2.jpg"], label_train=["0 0 1 1 0"], filenames_test=["3.jpg"]
    )
    report, table, _ = run(raw, tmp_path / "out")
    assert table["split"].to_list() == ["train", "unlabeled", "unlabeled"]
    assert table["attributes_unknown"].to_list() == [[], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]
    assert report.warnings["no_label"] == 2
    assert any("names without label files" in note for note in report.notes)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("home", ["", "train/images/", "Kfashion-images/"])
def test_images_are_found_where_they_were_unpacked(tmp_path, form, home):
    raw = write(tmp_path / "kfashion", STYLE, filenames_train=["스트리트/1.jpg"], label_train=["0 0 1"])
    folder = raw / home / unicodedata.normalize(form, "스트리트")
    folder.mkdir(parents=True)
    (folder / "1.jpg").write_bytes(b"")
    _, table, _ = run(raw, tmp_path / "out")
    assert (raw / table["image"][0]).is_file()


def test_meta_of_several_datasets_above_the_folder(tmp_path):
    write(tmp_path / "data", STYLE)
    write(tmp_path / "data/darn", filenames_train=["1.jpg"], label_train=["0 0 3"])
    _, table, _ = run(tmp_path / "data", tmp_path / "out")
    assert table["attributes_positive"].to_list() == [[3]]


def test_known_dataset_without_meta(tmp_path):
    raw = write(tmp_path / "DeepFashion", filenames_train=["1.jpg"], label_train=["0 1 0 4 229"])
    report, table, _ = run(raw, tmp_path / "out")
    assert table["attributes_positive"].to_list() == [[156, 999]]
    assert table["attributes_unknown"][0].to_list() == [*range(156), *range(374, 770)]
    assert any("no meta.json" in note for note in report.notes)


BAD = [
    ({"meta": None}, "meta.json is missing; put it next to"),
    ({"meta": [1]}, "expected a JSON object"),
    ({"meta": {"A": {"attributes": [{"name": "x"}]}}}, "the attributes are not in ASEN's format"),
    ({"meta": {"A": {"attributes": [{"name": "x", "num": "3"}]}}}, "is not a number of values"),
    ({"meta": {"A": 1, "B": 2}}, "no section for the folder 'x', only A, B"),
    ({"meta": GROUPS, "query_test": ["0 0 0"]}, "filenames_test.txt is missing"),
]


@pytest.mark.parametrize(("files", "message"), BAD)
def test_what_cannot_be_read_is_one_sentence(tmp_path, files, message):
    raw = write(tmp_path / "x", filenames_train=["1.jpg"], label_train=["0 0 0"], **files)
    with pytest.raises(UsageError, match=message):
        run(raw, tmp_path / "out")


def test_no_lists_and_several_datasets(tmp_path):
    with pytest.raises(UsageError, match="no lists in the layout of ASEN"):
        run(tmp_path, tmp_path / "out")
    for name in ("a", "b"):
        write(tmp_path / name, filenames_train=["1.jpg"])
    with pytest.raises(UsageError, match="a, b: several data sets"):
        run(tmp_path, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.skipif(not (REAL / "kfashion_asen_layout").is_dir(), reason="the real lists are not here")
def test_every_real_row_of_kfashion(tmp_path):
    report, table, rejected = run(REAL / "kfashion_asen_layout", tmp_path / "out")
    assert (report.lines, report.kept, report.joined, report.header, len(rejected)) == (599298, 252949, 346166, 183, 0)
    assert report.splits == {"train": 159732, "val_gallery": 18644, "val_query": 74573}
    assert report.warnings == {"crlf": 1}
    counts = {(split, style): count for split, style, count in table.group_by("split", "style").len().rows()}
    assert [counts["train", f"style_{style}"] for style in range(3)] == [52082, 58133, 49517]
    assert any("filenames_test.txt, query_test.txt, candidate_test.txt" in note for note in report.notes)


@pytest.mark.skipif(not (REAL / "asen_fashionai").is_dir(), reason="the real lists are not here")
def test_every_real_row_of_fashionai(tmp_path):
    report, table, rejected = run(REAL / "asen_fashionai", tmp_path / "out")
    assert (report.lines, report.kept, report.joined, report.header, len(rejected)) == (90094, 36000, 54000, 94, 0)
    assert report.splits == {"gallery": 14400, "query": 3600, "val_gallery": 14400, "val_query": 3600}
    assert "label_csv_differs" not in report.warnings  # all 18,000 values of label.csv match the lists
    groups = list(vocabulary("fashionai-attribute-54").groups.items())
    folder = table["image"].str.extract(r"/([a-z]+)_[a-z]+_labels/").to_list()
    for part, (value,) in zip(folder, table["attributes_positive"].to_list(), strict=True):
        assert any(name.startswith(f"{part}_") and value in members for name, members in groups)
