"""Messages of a conversion: counts for every exit code, the input folder, empty splits, similar names."""

import json

import numpy as np
import pytest
from PIL import Image
from tests.fprep.readers.test_reader_conformance import READERS
from tests.trees import tree_of
from typer.testing import CliRunner

from fprep.audit.command import audit
from fprep.audit.labels import _percent
from fprep.cli import app
from fprep.convert.command import convert
from fprep.convert.report import ConversionRejected
from fprep.readers.class_names import difference_between, similar_names
from fprep.report.command import write_page
from fschemas.failures import UsageError, did_you_mean
from fschemas.progress import Reporter
from fschemas.wording import count


def images_of(folder, rows, header="image,category"):
    """Write a CSV of these rows after the image name, with one image each."""
    folder.mkdir(parents=True)
    lines = [header]
    for number, row in enumerate(rows):
        pixels = np.random.default_rng(number).integers(0, 255, (24, 24, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{row}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def say(*arguments):
    """Run a command line in this process; return stdout and the error."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.stdout, result.exception


def test_exit_code_3_says_all_that_success_says(tmp_path):
    tree, rules = (
        tree_of(READERS["coco"]),
        json.loads((tree_of(READERS["coco"]) / "expected.json").read_text())["rejected_by_rule"],
    )
    good, nothing = say("convert", "coco", tree, tmp_path / "out", "--max-rejected", "1", "--workers", 1, "-q")
    bad, error = say("convert", "coco", tree, tmp_path / "out", "--max-rejected", "0", "--workers", 1, "-q")
    assert nothing is None
    assert isinstance(error, ConversionRejected)
    assert bad == good
    assert all(f"{rule} {count}" in bad and f"{rule} ({count})" in str(error) for rule, count in rules.items())
    assert "fprep report" in bad
    assert "fprep report" in str(error)
    as_json, _ = say("convert", "coco", tree, tmp_path / "out", "--max-rejected", "0", "--workers", 1, "-q", "--json")
    assert json.loads(as_json)["rejected_by_rule"] == rules


@pytest.mark.parametrize(
    ("reader", "tree"),
    [
        ("deepfashion-inshop", "deepfashion-category"), ("deepfashion-category", "deepfashion-inshop"), ("kfashion", "deepfashion2"),
        ("deepfashion2", "kfashion"), ("deepfashion2", "coco"), ("coco", "fashionai-keypoints"), ("fashionai-keypoints", "fashionai-attributes"),
        ("deepfashion-fine", "deepfashion-landmarks"), ("kfashion-asen", "deepfashion-consumer2shop"),
    ],
)  # fmt: skip
def test_the_wrong_reader_is_reported_the_right_one(tmp_path, reader, tree):
    folder = tree_of(READERS[tree])
    _, error = say("convert", reader, folder, tmp_path / "out", "-q", "--workers", 1)
    assert f"{folder} looks like {tree}; use that reader: fprep convert {tree} {folder}" in str(error)


@pytest.mark.parametrize(
    ("file", "content", "what"),
    [
        ("dataset.json", '{"format": "fashionkit-shards/1"}', "a shard set"), ("report.json", '{"rejected_by_rule": {}}', "a table folder"),
        ("index.json", '{"format": "fashionkit-index/1"}', "a search index"), ("export.json", '{"export": "", "to": ""}', "an exported data set"),
    ],
)  # fmt: skip
def test_folders_of_ours_are_named(tmp_path, file, content, what):
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / file).write_text(content)
    _, error = say("convert", "deepfashion-fine", tmp_path / "given", tmp_path / "out", "-q")
    assert f" is {what}" in str(error).partition(str(tmp_path / "given"))[2]


def test_arguments_in_another_order(tmp_path):
    raw = images_of(tmp_path / "raw", ["a"])
    _, error = say("convert", "csv", tmp_path / "out", raw, "-q")
    assert "the folder to write comes last" in str(error)
    _, error = say("convert", raw, "csv", tmp_path / "out", "-q")
    assert "the reader comes first" in str(error)
    assert "looks like csv" in str(error)


@pytest.mark.parametrize("group_split", [False, True])
def test_an_empty_split_is_reported(tmp_path, group_split):
    raw = images_of(tmp_path / "raw", ["a,one"] * 4, "image,category,group")
    report = convert("csv", [raw], tmp_path / "out", workers=1, group_split=group_split)
    empty = {"train", "val", "test"} - set(report.splits)
    assert len(empty) == 2
    assert report.warnings["empty_split"] == 2
    assert all(any(f"the split {split} is empty" in note for note in report.notes) for split in empty)


@pytest.mark.parametrize("shares", [{"val_share": 0, "test_share": 0}, {"test_share": 0}])
def test_a_split_that_nobody_wants_may_be_empty(tmp_path, shares):
    report = convert("csv", [images_of(tmp_path / "raw", ["a"] * 40)], tmp_path / "out", workers=1, **shares)
    assert "empty_split" not in report.warnings


NAMES = ["Dress", "dress ", "Coat", "Co at", "Skirt", "Skіrt", "Top", "Ｔop", "Tee", "Polo"]


def test_near_equal_names_by_hand():
    assert similar_names(NAMES) == [["Co at", "Coat"], ["Dress", "dress "], ["Skirt", NAMES[5]], ["Top", NAMES[7]]]
    assert difference_between(["Dress", "dress"]) == "case"
    assert difference_between(["caf\u00e9", "cafe\u0301"]) == "Unicode form"
    assert difference_between(["Coat", "Co at"]) == "whitespace"
    assert difference_between(["Skirt", NAMES[5]]).startswith("look-alike letters")
    assert similar_names(["size 1", "size l", "red", "reed", "A", "B"]) == []


@pytest.mark.parametrize("column", ["category", "style", "item", "attributes"])
def test_near_equal_classes_are_reported_by_convert_and_audit(tmp_path, column):
    raw = images_of(tmp_path / "raw", [name.strip() for name in NAMES for _ in range(2)], "image,named")
    mapping = {"category": "", "style": "", "item": "", column: "named"}
    report = convert("csv", [raw], tmp_path / "out", workers=1, mapping=mapping)
    assert report.warnings["near_equal_names"] == 4
    assert any(note.startswith(f"{column}: ") and "differ only in case" in note for note in report.notes)
    assert any("look-alike letters" in note and "\\u0456" in note for note in report.notes)
    findings = audit([tmp_path / "out"], near=False, dry_run=True).findings
    assert findings["kind"].to_list().count("label_near_equal") == 4


@pytest.mark.parametrize("reader", ["csv", "folders", "coco"])
def test_names_that_look_the_same_are_one_class_and_reported(tmp_path, reader):
    names = ["Caf\u00e9", "Cafe\u0301"] + (["Dress", " Dress"] if reader != "folders" else [])
    raw = tmp_path / "raw"
    raw.mkdir()
    places = [f"{name}/{number}.png" if reader == "folders" else f"{number}.png" for number, name in enumerate(names)]
    for number, place in enumerate(places):
        (raw / place).parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 20), (number * 9, 0, 0)).save(raw / place)
    if reader == "csv":
        lines = ["image,category", *(f"{place},{name}" for place, name in zip(places, names, strict=True))]
        (raw / "list.csv").write_text("\n".join(lines), encoding="utf-8")
    elif reader == "coco":
        (raw / "list.json").write_text(json.dumps({
            "images": [{"id": number, "file_name": place, "width": 20, "height": 20} for number, place in enumerate(places)],
            "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
            "annotations": [
                {"id": number, "image_id": number, "category_id": number, "bbox": [1, 1, 9, 9]} for number in range(len(names))
            ],
        }))  # fmt: skip
    report = convert(reader, [raw], tmp_path / "out", workers=1)
    assert report.kept == len(names)
    assert report.warnings["respelled_names"] == len(names) // 2
    told = [note for note in report.notes if "are read as one" in note]
    assert "'Cafe\\u0301', 'Caf\\xe9' are read as one, 'Café'" in told[0]


def test_map_keys_are_in_the_help():
    text = CliRunner().invoke(app, ["convert", "--help"]).stdout
    keys = {key for reader in READERS.values() for key in reader.mapping}
    assert {key for key in keys if key not in " ".join(text.split())} == set()


def test_readers_say_what_they_recognize():
    text, _ = say("readers")
    for reader in READERS.values():
        assert all(pattern in text for patterns in reader.variants.values() for pattern in patterns)
        assert all(f"--map {key}=" in text for key in reader.mapping)


@pytest.mark.parametrize("name", ["report.pdf", "report.png", "report"])
def test_a_page_has_a_name_of_html(tmp_path, name):
    with pytest.raises(UsageError, match=r"the page is HTML; choose a name that ends in .html, such as report.html"):
        write_page(tmp_path / "table.parquet", tmp_path / name)


def test_the_last_line_of_progress_is_printed_once(capsys):
    with Reporter() as report:
        for _ in range(3):
            report("images", 8, 8)
    assert capsys.readouterr().err.splitlines() == ["images: 8/8"]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("fashionai_keypoint", "fashionai-keypoints"), ("inshop", "deepfashion-inshop"), ("ligth", "light"), ("xyzzy", ""), ("abc", ""),
        ("42", ""), ("nope", ""), ("kfasion", "kfashion"),
    ],
)  # fmt: skip
def test_nonsense_gets_no_suggestion(name, nearest):
    assert did_you_mean(name, [*READERS, "light", "geometric"]) == (f"did you mean {nearest}? " if nearest else "")


def test_a_mistake_in_an_option_is_not_blamed_on_the_folder(tmp_path):
    _, error = say(
        "convert", "folders", tree_of(READERS["coco"]), tmp_path / "out", "--map", "category=last_word", "-q"
    )
    assert str(error).startswith("--map category=last_word: did you mean last-word?")
    assert "use that reader" not in str(error)


def test_files_of_others_are_no_rejected_rows(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/a.json").write_text('{"a": 1}')
    said, error = say("convert", "kfashion", tmp_path / "raw", tmp_path / "out", "-q")
    assert "no row is left for a table: no file contains any" in str(error)
    assert "0 folders" not in said


def test_numbers_in_words():
    assert [count(0, "row"), count(1, "row"), count(2, "row"), count(2, "class", "classes")] == [
        "0 rows",
        "1 row",
        "2 rows",
        "2 classes",
    ]
    assert [_percent(share) for share in (1.0, 0.996, 0.12, 0.034, 0.00001)] == [
        "100%",
        "100%",
        "12%",
        "3.4%",
        "0.001%",
    ]
