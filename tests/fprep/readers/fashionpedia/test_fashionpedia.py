"""Fashionpedia: rows of the tiny tree against values worked out by hand, and the files that are not read."""

import json
import shutil

import polars as pl
from tests.trees import tree_of

from fprep.convert.command import convert
from fprep.doctor.command import doctor
from fprep.readers.registry import find_reader
from fschemas.table_file import read_table

ATTRIBUTES = find_reader("fashionpedia").vocabularies["attributes"].values


def test_rows(tmp_path):
    convert("fashionpedia", [tree_of("fashionpedia")], tmp_path / "out", max_rejected=1.0, workers=1)
    table = pl.DataFrame(read_table(tmp_path / "out/table.parquet"))
    shirt, skirt, sleeve, dress = (table.row(by_predicate=pl.col("key") == f"train-{name}", named=True) for name in ("a1-1", "a1-2", "a1-3", "a2-4"))  # fmt: skip
    assert (shirt["category"], shirt["image"], shirt["split"]) == ("shirt, blouse", "train/a1.jpg", "train")
    assert shirt["box"] == [10, 10, 50, 50]  # the raw box is 10, 10, 41, 41
    assert shirt["polygons"] == [[9.5, 9.5, 50.5, 9.5, 50.5, 50.5, 9.5, 50.5]]
    names = [ATTRIBUTES[number] for number in shirt["attributes_positive"]]  # raw ids 136, 295, 317
    assert names == ["regular (fit)", "no non-textile material", "plain (pattern)"]
    assert shirt["attributes_unknown"] == []
    assert (skirt["polygons"], skirt["box"]) == ([], [15, 51, 45, 85])  # run-length encoded
    assert (sleeve["category"], sleeve["attributes_unknown"]) == ("sleeve", list(range(294)))
    assert len(dress["polygons"]) == 2
    assert set(table.filter(split="val")["image"]) == {"test/b1.jpg"}


def test_labels_of_whole_images_and_names_of_test_images_are_not_read(tmp_path):
    raw = shutil.copytree(tree_of("fashionpedia"), tmp_path / "raw")
    images = [{"id": 1, "file_name": "t1.jpg", "width": 60, "height": 90}]
    (raw / "info_test2020.json").write_text(json.dumps({"images": images, "info": {}}))
    labels = {"info": {}, "attributes": [], "images": images, "annotations": [{"image_id": 1, "attribute_ids": [317]}]}
    (raw / "attributes_train2020.json").write_text(json.dumps(labels))
    options = {"max_rejected": 1.0, "workers": 1}
    alone = convert("fashionpedia", [tree_of("fashionpedia")], tmp_path / "alone", **options)
    report = convert("fashionpedia", [raw], tmp_path / "out", **options)
    assert read_table(tmp_path / "out/table.parquet").equals(read_table(tmp_path / "alone/table.parquet"))
    assert report.files == alone.files
    assert [found.reader for found in doctor(raw).diagnoses] == ["fashionpedia"]
