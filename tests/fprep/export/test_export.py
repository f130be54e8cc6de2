"""Outputs of `fprep export` open in the tools they are meant for, with the content of the table."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import numpy as np
import polars as pl
import pytest
import yaml
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tests.commands import run_command
from tests.small_tables import write_rows, write_small_table

from fprep.export.command import export, formats
from fprep.export.geometry import corner_box, polygon_area
from fprep.export.job import may_be_published
from fschemas.failures import IntegrityError, UsageError
from fschemas.landmarks import DEEPFASHION_8
from fschemas.table_file import read_metadata, read_table, write_table
from fschemas.tables import table_named

COUNTS = {"train": 4, "val": 1, "unlabeled": 2}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_small_table(tmp_path_factory.mktemp("squares"), COUNTS)


def rows_of(path, split=None):
    frame = pl.DataFrame(read_table(path))
    return {row["key"]: row for row in frame.to_dicts() if split in (None, row["split"])}


def in_groups(folder, groups, rows, vocabularies=None):
    """Write a table of these column groups with the images of a small table."""
    base = pl.DataFrame(read_table(write_small_table(folder, {"train": len(rows)})))
    kind = table_named(groups)
    plain = [{**image, **row} for image, row in zip(base.to_dicts(), rows, strict=True)]
    names = [name for name in kind.column_names() if name in plain[0]]
    frame = kind.validate(pl.DataFrame(plain, infer_schema_length=None).select(names), cast=True)
    metadata = {
        "dataset": "parts", "table": groups, "raw_root": "../raw", "license": "CC BY 4.0", "citation": "",
        "vocabularies": vocabularies or {}, "column_groups": groups.split("+"), "landmark_set": None,
    }  # fmt: skip
    write_table(folder / "table" / "table.parquet", frame.to_arrow(), metadata)
    return folder / "table" / "table.parquet"


def digest_of(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def coco_points(row):
    columns = zip(row["landmark_x"], row["landmark_y"], row["landmark_visibility"], strict=True)
    return [value for x, y, v in columns for value in ((x, y, v) if v > 0 else (0, 0, 0))]


def test_coco_is_read_by_pycocotools(table, tmp_path):
    export(table, tmp_path / "coco", "coco")
    coco = COCO(str(tmp_path / "coco/annotations/train.json"))
    rows = rows_of(table, "train")
    assert sorted(coco.imgs) == sorted(coco.anns) == list(range(1, len(rows) + 1))
    for annotation in coco.loadAnns(coco.getAnnIds()):
        image = coco.imgs[annotation["image_id"]]
        row = rows[image["key"]]
        assert (image["file_name"], image["width"], image["height"]) == (row["image"], row["width"], row["height"])
        x, y, width, height = annotation["bbox"]
        assert [x, y, x + width - 1, y + height - 1] == pytest.approx(row["box"])
        assert annotation["keypoints"] == pytest.approx(coco_points(row))
        assert annotation["num_keypoints"] == sum(v > 0 for v in row["landmark_visibility"])
        category = coco.cats[annotation["category_id"]]
        assert (category["name"], tuple(category["keypoints"])) == (row["garment"], DEEPFASHION_8.names)
        assert [number - 1 for number in annotation["attribute_ids"]] == row["attributes_positive"]
    full = next(category for category in coco.cats.values() if category["name"] == "full")
    edges = {tuple(edge) for edge in full["skeleton"]}
    assert edges == {(first + 1, second + 1) for first, second in DEEPFASHION_8.skeleton}
    assert coco.dataset["attributes"][0] == {"id": 1, "name": "floral", "supercategory": "texture"}


def test_coco_labels_score_one_against_themselves(table, tmp_path):
    export(table, tmp_path / "coco", "coco")
    truth = COCO(str(tmp_path / "coco/annotations/train.json"))
    guesses = truth.loadRes([{**annotation, "score": 1.0} for annotation in truth.dataset["annotations"]])
    evaluation = COCOeval(truth, guesses, "keypoints")
    evaluation.params.kpt_oks_sigmas = np.full(8, 0.05)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == 1.0


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside pycocotools
def test_coco_of_parts_has_an_annotation_each_with_its_outline(tmp_path):
    square = [2.0, 3.0, 11.0, 3.0, 11.0, 22.0, 2.0, 22.0]
    rows = [
        {
            "garments": ["top", "skirt"],
            "garment_boxes": [2.0, 3.0, 11.0, 22.0, -0.5, 0.0, 5.0, 9.0],
            "garment_polygons": [square, []],
        },
        {"garments": [], "garment_boxes": [], "garment_polygons": []},
    ]
    part = {"name": "part", "values": ["top", "skirt"], "groups": {}, "exclusive": False}
    export(in_groups(tmp_path, "garments", rows, {"part": part}), tmp_path / "coco", "coco")
    coco = COCO(str(tmp_path / "coco/annotations/train.json"))
    top, skirt = coco.loadAnns([1, 2])
    assert [coco.cats[entry["category_id"]]["name"] for entry in (top, skirt)] == ["top", "skirt"]
    mask = coco.annToMask(top)
    assert mask[4:22, 3:11].all()
    assert mask.sum() == 9 * 19
    assert top["area"] == pytest.approx(9 * 19)  # between the centers of the corner pixels
    assert top["bbox"] == [2, 3, 10, 20]
    assert skirt["bbox"] == [0, 0, 6, 10]
    assert skirt["segmentation"] == []
    assert len(coco.imgs) == 2


def test_coco_of_categories_uses_the_whole_image_and_reports_so(tmp_path):
    rows = [{"category": "Tee"}, {"category": ""}, {"category": "Dress"}]
    summary = export(in_groups(tmp_path, "category", rows), tmp_path / "coco", "coco")
    coco = COCO(str(tmp_path / "coco/annotations/train.json"))
    assert [category["name"] for category in coco.dataset["categories"]] == ["Dress", "Tee"]
    assert [annotation["image_id"] for annotation in coco.dataset["annotations"]] == [1, 3]
    assert coco.anns[1]["bbox"] == [0, 0, coco.imgs[1]["width"], coco.imgs[1]["height"]]
    assert any("whole image" in note for note in summary["notes"])


def test_boxes_around_points_stay_in_the_image(tmp_path, table):
    metadata, frame = (
        read_metadata(table),
        pl.DataFrame(read_table(table)).drop("box", "attributes_positive", "attributes_unknown"),
    )
    metadata |= {"table": "landmarks", "column_groups": ["landmarks"], "vocabularies": {}}
    write_table(tmp_path / "table.parquet", frame.to_arrow(), metadata)
    summary = export(tmp_path / "table.parquet", tmp_path / "coco", "coco")
    coco = COCO(str(tmp_path / "coco/annotations/train.json"))
    assert any("those of the landmarks" in note for note in summary["notes"])
    for annotation in coco.dataset["annotations"]:
        x, y, width, height = annotation["bbox"]
        image = coco.imgs[annotation["image_id"]]
        assert 0 <= x <= x + width <= image["width"]
        points = np.array(annotation["keypoints"]).reshape(-1, 3)
        points = points[points[:, 2] > 0]
        assert ((points[:, :2] >= (x, y)) & (points[:, :2] <= (x + width, y + height))).all()


@pytest.mark.parametrize("copy", [False, True])
def test_yolo_pose_layout(table, tmp_path, copy):
    export(table, tmp_path / "yolo", "yolo-pose", copy=copy)
    data = yaml.safe_load((tmp_path / "yolo/data.yaml").read_text())
    assert data["kpt_shape"] == [8, 3]
    assert data["flip_idx"] == list(DEEPFASHION_8.flip_index)
    assert [tmp_path / "yolo" / data[split] for split in ("train", "val")] == [
        tmp_path / "yolo/images" / s for s in ("train", "val")
    ]
    for key, row in rows_of(table, "train").items():
        image = tmp_path / f"yolo/images/train/{key}.jpg"
        assert image.is_symlink() != copy
        assert image.read_bytes() == (table.parent.parent / "raw" / row["image"]).read_bytes()
        if not copy:
            assert not image.readlink().is_absolute()
        (line,) = (tmp_path / f"yolo/labels/train/{key}.txt").read_text().splitlines()
        numbers = [float(token) for token in line.split(" ")]
        assert data["names"][int(numbers[0])] == row["garment"]
        assert len(numbers) == 5 + 3 * 8
        assert min(numbers) >= 0
        assert max(numbers[1:5]) <= 1
        center_x, center_y, width, height = np.array(numbers[1:5]) * np.tile([row["width"], row["height"]], 2)
        box = [center_x - width / 2, center_y - height / 2, center_x + width / 2 - 1, center_y + height / 2 - 1]
        assert box == pytest.approx(row["box"], abs=1e-3)
        points = np.array(numbers[5:]).reshape(-1, 3)
        places = points[:, :2] * (row["width"], row["height"]) - 0.5
        expected = np.array(coco_points(row)).reshape(-1, 3)
        assert points[:, 2].tolist() == expected[:, 2].tolist()
        seen = expected[:, 2] > 0
        np.testing.assert_allclose(places[seen], expected[seen, :2], atol=1e-3)
    assert not (tmp_path / "yolo/images/unlabeled").exists()


def test_label_studio_regions_and_configuration_agree(table, tmp_path):
    export(table, tmp_path / "studio", "label-studio")
    tasks = json.loads((tmp_path / "studio/tasks.json").read_text())
    config = ET.parse(tmp_path / "studio/labeling_config.xml").getroot()
    controls = {
        control.get("name"): {child.get("value") for child in control} for control in config if control.get("toName")
    }
    rows = rows_of(table)
    assert [task["id"] for task in tasks] == list(range(1, len(rows) + 1))
    assert sum("annotations" in task for task in tasks) == COUNTS["train"] + COUNTS["val"]
    for task in tasks:
        row = rows[task["data"]["key"]]
        assert unquote(task["data"]["image"]) == f"/data/local-files/?d={row['image']}"
        results = task["annotations"][0]["result"] if "annotations" in task else []
        for part in results:
            kind = part["type"]
            assert set(part["value"][kind]) <= controls[part["from_name"]]
        size = np.array([row["width"], row["height"]]) / 100
        points = [part["value"] for part in results if part["type"] == "keypointlabels"]
        places = {value["keypointlabels"][0]: np.array([value["x"], value["y"]]) * size - 0.5 for value in points}
        columns = zip(
            DEEPFASHION_8.names, row["landmark_x"], row["landmark_y"], row["landmark_visibility"], strict=True
        )
        expected = {name: (x, y) for name, x, y, v in columns if v > 0 and results}
        assert set(places) == set(expected)
        for name, place in places.items():
            assert place == pytest.approx(expected[name], abs=1e-3)
        chosen = [part["value"]["choices"] for part in results if part["from_name"] == "attributes"]
        assert chosen == ([["floral", "long_sleeve"]] if results else [])


def test_label_studio_predictions(table, tmp_path):
    export(table, tmp_path / "studio", "label-studio", predictions=True, limit=1)
    (task,) = json.loads((tmp_path / "studio/tasks.json").read_text())
    assert task["predictions"][0]["model_version"] == "squares"
    assert "annotations" not in task


@pytest.mark.parametrize("include", [False, True])
def test_hf_folder_is_loaded_by_datasets(table, tmp_path, monkeypatch, include):
    import datasets

    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    summary = export(table, tmp_path / "hf", "hf", include_images=include)
    assert any("--include-images" in note for note in summary["notes"]) != include
    assert any((tmp_path / "hf").rglob("*.jpg")) == include
    loaded = datasets.load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"))
    assert {split: loaded[split].num_rows for split in loaded} == COUNTS
    expected = rows_of(table)
    for record in loaded["train"]:
        row = expected[record["key"]]
        assert record["source_image"] == row["image"]
        for name in (
            "landmark_x",
            "landmark_y",
            "landmark_visibility",
            "box",
            "attributes_positive",
            "attributes_unknown",
        ):
            assert record[name] == pytest.approx(row[name], abs=1e-4), name
        if include:
            assert record["image"].size == (row["width"], row["height"])
            with Image.open(table.parent.parent / "raw" / row["image"]) as raw:
                assert np.array_equal(np.asarray(record["image"]), np.asarray(raw))


def test_hf_folder_of_parts_is_loaded(tmp_path, monkeypatch):
    import datasets

    datasets.disable_progress_bars()
    rows = [
        {"garments": [], "garment_boxes": [], "garment_polygons": []},
        {
            "garments": ["top"],
            "garment_boxes": [1.0, 2.0, 3.5, 4.0],
            "garment_polygons": [[1.0, 2.0, 3.5, 2.0, 3.5, 4.0]],
        },
    ]
    export(in_groups(tmp_path, "garments", rows), tmp_path / "hf", "hf")
    loaded = datasets.load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"), split="train")
    assert [record["garment_polygons"] for record in loaded] == [[], [[1, 2, 3.5, 2, 3.5, 4]]]
    with Image.open(tmp_path / "raw/img/0000.jpg") as image:
        assert loaded[0]["image"].size == image.size  # CC BY: images are included


@pytest.mark.filterwarnings("ignore")  # of rdflib and pandas inside mlcroissant
def test_croissant_is_valid_and_gives_the_rows(table, tmp_path):
    import mlcroissant

    export(table, tmp_path / "croissant", "croissant")
    dataset = mlcroissant.Dataset(jsonld=tmp_path / "croissant/croissant.json")
    assert not dataset.metadata.ctx.issues.errors
    rows = rows_of(table)
    records = list(dataset.records("rows"))
    assert len(records) == len(rows)
    for record in records:
        row = rows[record["rows/key"].decode()]
        assert record["rows/split"].decode() == row["split"]
        assert list(record["rows/landmark_x"]) == pytest.approx(row["landmark_x"])
        assert list(record["rows/attributes_positive"]) == row["attributes_positive"]
    points = [record["landmarks/name"] for record in dataset.records("landmarks")]
    assert tuple(points) == DEEPFASHION_8.names
    assert [record["splits/name"] for record in dataset.records("splits")] == list(COUNTS)


@pytest.mark.parametrize("to", sorted(formats()))
def test_same_table_same_bytes_and_nothing_of_this_machine(table, tmp_path, to):
    first = export(table, tmp_path / "first", to)
    export(table, tmp_path / "deeper/second", to)
    assert digest_of(tmp_path / "first") == digest_of(tmp_path / "deeper/second")
    assert first["files"] == len(digest_of(tmp_path / "first"))
    assert export(table, tmp_path / "first", to)["unchanged"]
    for path in (tmp_path / "first").rglob("*"):
        if path.is_file():
            assert str(table.parent.parent).encode() not in path.read_bytes()
    with pytest.raises(UsageError, match="other options"):
        export(table, tmp_path / "first", to, limit=2)


@pytest.mark.parametrize("to", sorted(formats()))
def test_limit_and_dry_run(table, tmp_path, to):
    assert export(table, tmp_path / "out", to, limit=3, dry_run=True)["rows"] == 3
    assert not (tmp_path / "out").exists()
    summary = export(table, tmp_path / "out", to, limit=3)
    assert sum(summary["splits"].values()) == 3


def test_a_failed_export_leaves_nothing(tmp_path):
    table = write_small_table(tmp_path, {"train": 3})
    (tmp_path / "raw/img/0002.jpg").unlink()
    with pytest.raises(UsageError, match=r"0002\.jpg"):
        export(table, tmp_path / "out", "yolo-pose")
    with pytest.raises(IntegrityError, match=r"0002\.jpg"):
        export(table, tmp_path / "out", "yolo-pose", copy=True)
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".out.lock")) == ["raw", "table"]


def test_an_image_with_a_dollar_and_a_space_is_linked(tmp_path):
    table = write_small_table(tmp_path, {"train": 1})
    frame, metadata = pl.DataFrame(read_table(table)), read_metadata(table)
    (tmp_path / "raw/img/0000.jpg").rename(tmp_path / "raw/img/a $ü b.jpg")
    write_table(table, frame.with_columns(image=pl.lit("img/a $ü b.jpg")).to_arrow(), metadata)
    export(table, tmp_path / "out", "yolo-pose")
    assert (tmp_path / "out/images/train/k0000.jpg").read_bytes() == (tmp_path / "raw/img/a $ü b.jpg").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "coca"}, "did you mean coco"),
        ({"to": "coco", "copy": True}, "--copy is an option of yolo-pose"),
        ({"to": "coco", "include_images": True}, "--include-images is an option of hf"),
    ],
)
def test_wrong_options(table, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        export(table, tmp_path / "out", **options)


def test_other_folders_are_not_touched(table, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("precious")
    with pytest.raises(UsageError, match="a folder with other things"):
        export(table, tmp_path / "out", "coco")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_sizes_must_be_known(tmp_path):
    table = write_small_table(tmp_path, {"train": 2}, checked=False)
    with pytest.raises(UsageError, match="--check-images header"):
        export(table, tmp_path / "out", "coco")
    assert export(table, tmp_path / "out", "hf")["rows"] == 2


def test_yolo_pose_needs_landmarks(tmp_path):
    table = in_groups(tmp_path, "category", [{"category": "Tee"}])
    with pytest.raises(UsageError, match="needs landmarks"):
        export(table, tmp_path / "out", "yolo-pose")


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"license": "non-commercial research and educational purposes only"}, False),
        ({"license": "Tianchi terms of the FashionAI challenge: research use, no redistribution"}, False),
        ({"license": "CC BY-NC 4.0"}, True),
        ({"license": "CC BY-NC 4.0, no redistribution of images"}, False),
        ({"license": "permitted for nobody"}, False),
        ({"license": None}, False),
        ({"license": "research use", "synthetic": True}, True),
    ],
)
def test_licenses(metadata, expected):
    assert may_be_published(metadata) == expected


def test_hand_worked_geometry():
    assert corner_box([2, 3, 4, 5], 10, 10) == (2, 3, 5, 6)
    assert corner_box([-1, -1, 10, 12], 10, 12) == (0, 0, 10, 12)
    assert polygon_area([0, 0, 4, 0, 4, 3]) == 6


def test_command(tmp_path):
    table = write_rows(tmp_path, rows=list(rows_of(write_small_table(tmp_path, {"train": 2, "val": 1})).values()))
    done = run_command("fprep", "export", table, tmp_path / "out", "--to", "coco", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"] == {"images": 3, "annotations": 3}
    again = run_command("fprep", "export", table, tmp_path / "out", "--to", "nothing")
    assert again.returncode == 2
    assert "choose from" in again.stderr
    assert Path(tmp_path / "out/annotations/val.json").is_file()
