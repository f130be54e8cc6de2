"""COCO files are read by their own names and ids, and `fprep export` output converts back to the same table."""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from tests.fprep.readers.test_reader_conformance import READERS, tree_of

from fprep.convert.command import convert
from fprep.doctor.command import doctor
from fprep.export.command import export
from fschemas.failures import RejectedError, UsageError
from fschemas.landmarks import DEEPFASHION_8
from fschemas.table_file import read_metadata, read_table

REAL = Path(__file__).parents[5].parent / "shared/real/fashionpedia/sample.json"


def write(folder, document, name="instances_train2017.json", size=(64, 112)):
    """Write a COCO file with its images next to it."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(document["images"]):
        pixels = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / image["file_name"])
    (folder / name).write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize(("place", "front"), [("photos of 2020", ""), ("a/b/deep", ""), ("shop/set one", "set one/")])
def test_images_in_a_folder_of_any_name(tmp_path, place, front):
    raw = write(tmp_path / "raw", document())
    (raw / place).parent.mkdir(parents=True, exist_ok=True)
    (raw / "images").rename(raw / place)
    file = raw / "instances_train2017.json"
    file.write_text(file.read_text().replace('"file_name": "', f'"file_name": "{front}'))
    convert("coco", [raw], tmp_path / "out", workers=1, max_rejected=1.0, check_images="header")
    assert set(pl.DataFrame(read_table(tmp_path / "out/table.parquet"))["image"]) <= {
        f"{place}/a.png",
        f"{place}/b.png",
    }
    assert all("--check-images none" not in command for command in doctor(raw).commands)


def document(**annotation):
    """Two images and three garments, with non-consecutive ids."""
    images = [
        {"id": 70, "file_name": "a.png", "width": 64, "height": 112},
        {"id": "x", "file_name": "b.png", "width": 64, "height": 112},
    ]
    shared = {"bbox": [4, 6, 20, 30], "segmentation": [[4, 6, 24, 6, 24, 36]], "iscrowd": 0, **annotation}
    annotations = [
        {"id": 1, "image_id": 70, "category_id": 9, **shared}, {"id": 2, "image_id": 70, "category_id": 4, **shared},
        {"id": 3, "image_id": "x", "category_id": 9, **shared},
    ]  # fmt: skip
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 9, "name": "Dress"}, {"id": 4, "name": "shirt, blouse"}],
    }


def table_of(folder, out, **options):
    report = convert("coco", [folder], out, workers=1, max_rejected=1.0, val_share=0, test_share=0, **options)
    return report, pl.DataFrame(read_table(out / "table.parquet"))


@pytest.mark.parametrize("keys", [("images", "annotations", "categories"), ("categories", "annotations", "images")])
def test_keys_in_any_order_and_ids_of_any_kind(tmp_path, keys):
    whole = {"info": {"filler": "x" * 40_000}} | document()
    write(tmp_path / "raw", {key: whole[key] for key in ("info", *keys)})
    report, table = table_of(tmp_path / "raw", tmp_path / "out")
    assert table["category"].to_list() == ["Dress", "shirt, blouse", "Dress"]
    assert table["image"].to_list() == ["images/a.png", "images/a.png", "images/b.png"]
    assert table["box"].to_list() == [[4, 6, 23, 35]] * 3
    assert table["polygons"][0].to_list() == [[3.5, 5.5, 23.5, 5.5, 23.5, 35.5]]
    assert report.splits == {"train": 3}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("instances_val2017.json", "val"), ("valid/_annotations.coco.json", "val"), ("annotations/test.json", "test"),
        ("training.json", "train"), ("instances.json", "train"),
    ],
)  # fmt: skip
def test_splits_are_those_of_names(tmp_path, name, split):
    (tmp_path / "raw" / name).parent.mkdir(parents=True)
    write(tmp_path / "raw", document(), name)
    _, table = table_of(tmp_path / "raw", tmp_path / "out")
    assert table["split"].unique().to_list() == [split]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"image_id": 99}, "unknown_image"), ({"category_id": 99}, "unknown_category"), ({"bbox": [1, 2, 3]}, "bad_number"),
        ({"bbox": [4, 6, 900, 30]}, "box_outside"), ({"bbox": [4, 6, 0, 30]}, "box_inverted"),
        ({"segmentation": [[1, 2, 3]]}, "bad_polygon"),
    ],
)  # fmt: skip
def test_an_annotation_that_is_wrong_is_one_rejected_row(tmp_path, change, rule):
    whole = document()
    whole["annotations"][1] |= change
    write(tmp_path / "raw", whole)
    report, table = table_of(tmp_path / "raw", tmp_path / "out")
    assert (len(table), report.rejected_by_rule) == (2, {rule: 1})
    (row,) = read_table(tmp_path / "out/rejected.parquet").to_pylist()
    if rule.startswith("box"):
        assert " ".join(map(str, change["bbox"])) in row["message"]


def test_points_of_a_landmark_set_are_read_by_their_names(tmp_path):
    names = ["hem_right", "hem_left", "waistline_left", "waistline_right"]
    whole = document(keypoints=[30, 40, 2, 10, 41, 1, 0, 0, 0, 31, 20, 2])
    whole["categories"] = [
        {"id": 9, "name": "lower", "keypoints": names},
        {"id": 4, "name": "trousers", "keypoints": names},
    ]
    write(tmp_path / "raw", whole)
    _, table = table_of(tmp_path / "raw", tmp_path / "out")
    assert read_metadata(tmp_path / "out/table.parquet")["landmark_set"]["name"] == DEEPFASHION_8.name
    assert table["garment"].to_list() == ["lower"] * 3
    place = DEEPFASHION_8.names.index("hem_right")
    assert (table["landmark_x"][1][place], table["landmark_y"][1][place]) == (30, 40)
    assert table["landmark_visibility"][0].to_list() == [-1, -1, -1, -1, 0, 2, 1, 2]


def test_points_of_no_known_set_are_left_out_with_a_note(tmp_path):
    whole = document(keypoints=[1, 2, 2])
    whole["categories"] = [
        {"id": 9, "name": "person", "keypoints": ["nose"]},
        {"id": 4, "name": "dog", "keypoints": ["nose"]},
    ]
    report, table = table_of(write(tmp_path / "raw", whole), tmp_path / "out")
    assert "landmark_x" not in table.columns
    assert any("are not those of a known landmark set" in note for note in report.notes)


def test_no_coco_file_and_nothing_like_it(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/list.json").write_text("[1, 2]")
    with pytest.raises(UsageError, match="no COCO file here"):
        convert("coco", [tmp_path / "raw"], tmp_path / "out")
    (tmp_path / "raw/x.json").write_text('{"images": [1], "annotations": []}')
    with pytest.raises(UsageError, match="images is not a list of objects"):
        convert("coco", [tmp_path / "raw"], tmp_path / "out")


@pytest.mark.parametrize("name", sorted(READERS))
def test_our_own_export_comes_back_as_an_equal_table(name, tmp_path):
    """Every reader's table, through COCO: only annotation file and line numbers differ."""
    raw, first = tmp_path / "raw", tmp_path / "first"
    shutil.copytree(tree_of(READERS[name]), raw)
    convert(name, [raw], first, max_rejected=1.0, workers=1)
    export(first, tmp_path / "coco", "coco")
    for path in [path for path in raw.rglob("*") if path.suffix in (".json", ".csv", ".txt") and path.is_file()]:
        path.unlink()
    shutil.copytree(tmp_path / "coco/annotations", raw / "annotations", dirs_exist_ok=True)
    report = convert("coco", [raw], tmp_path / "second", max_rejected=0.0, workers=1)
    tables = [
        pl.DataFrame(read_table(tmp_path / folder / "table.parquet")).sort("key") for folder in ("first", "second")
    ]
    left, right = (table.drop("source_file", "source_line") for table in tables)
    assert left.columns == right.columns
    for column in left.columns:
        assert left[column].to_list() == right[column].to_list(), column
    metadata = [read_metadata(tmp_path / folder / "table.parquet") for folder in ("first", "second")]
    same = ("table", "vocabularies", "landmark_set", "column_groups", "splits")
    assert {key: metadata[0][key] for key in same} == {key: metadata[1][key] for key in same}
    assert report.rejected == 0


def test_our_own_export_of_deepfashion2_is_read_by_its_reader_too(tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(tree_of(READERS["deepfashion2"]), raw)
    convert("deepfashion2", [raw], tmp_path / "first", max_rejected=1.0, workers=1)
    export(tmp_path / "first", tmp_path / "coco", "coco")
    for folder in raw.rglob("annos"):
        shutil.rmtree(folder)
    shutil.copytree(tmp_path / "coco/annotations", raw / "annotations")
    convert("deepfashion2", [raw], tmp_path / "second", workers=1)
    first, second = (
        pl.DataFrame(read_table(tmp_path / name / "table.parquet")).sort("key") for name in ("first", "second")
    )
    assert first.drop("source_file", "source_line").equals(second.drop("source_file", "source_line"))


def test_doctor_names_the_reader_and_its_line(tmp_path):
    (diagnosis,) = doctor(write(tmp_path / "raw", document())).diagnoses
    assert (diagnosis.reader, diagnosis.command) == ("coco", f"fprep convert coco {tmp_path / 'raw'} tables/coco")


@pytest.mark.skipif(not REAL.is_file(), reason="the real file is not here")
def test_real_fashionpedia_sample(tmp_path):
    shutil.copy(REAL, tmp_path / "sample.json")
    report, table = table_of(tmp_path, tmp_path / "out", check_images="none")
    assert (report.kept, report.rejected) == (12, 0)
    assert set(table["category"]) <= set(
        read_metadata(tmp_path / "out/table.parquet")["vocabularies"]["category"]["values"]
    )
    assert table["attributes_positive"].list.len().max() > 0
    with pytest.raises(RejectedError, match="missing_image"):
        convert("coco", [tmp_path], tmp_path / "out")
