"""DeepFashion2 reader: garments of a document, items and domains, copies of images, and invalid documents."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from fprep.convert.command import convert
from fschemas.failures import RejectedError, UsageError
from fschemas.landmarks import DEEPFASHION2_294, Visibility
from fschemas.table_file import read_metadata, read_table

REAL = Path(os.environ.get("FASHIONKIT_REAL", Path(__file__).parents[5] / "shared" / "real")) / "deepfashion2"
CATEGORIES = list(DEEPFASHION2_294.garments)


def item(category: str = "skirt", **changes: object) -> dict[str, object]:
    number = len(DEEPFASHION2_294.garments[category])
    points = [value for point in range(number) for value in (point + 1, point + 2, 2)]
    return {
        "category_name": category, "category_id": CATEGORIES.index(category) + 1, "style": 1, "bounding_box": [1, 2, 50, 60],
        "landmarks": points, "segmentation": [[1, 2, 50, 2, 50, 60], [1, 2, 3, 4]], "scale": 1, "occlusion": 1, "zoom_in": 1,
        "viewpoint": 2, **changes,
    }  # fmt: skip


def write(raw: Path, split: str, number: int, document: object = None, **items: object) -> Path:
    path = raw / split / "annos" / f"{number:06d}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document or {"source": "shop", "pair_id": 7, **items}))
    return path


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 255, (80, 64, 3), np.uint8))


def run(raw: Path, out: Path, **options):
    report = convert("deepfashion2", [raw], out, **{"check_images": "none", "max_rejected": 1.0, **options})
    return report, pl.DataFrame(read_table(out / "table.parquet")), pl.DataFrame(read_table(out / "rejected.parquet"))


def test_columns_of_a_garment(tmp_path):
    garment = item("trousers", style=3)
    garment["landmarks"][0:6] = [0, 0, 0, 40, 41, 1]
    write(tmp_path, "train", 12, item2=garment, item10=item("vest", style=0), source="user", pair_id=5)
    _, table, _ = run(tmp_path, tmp_path / "out")
    row, other = table.to_dicts()
    assert (row["key"], row["image"], row["split"]) == ("train-000012-2", "train/image/000012.jpg", "train")
    assert (row["source_file"], row["source_line"]) == ("train/annos/000012.json", 2)
    assert (row["category"], row["garment"], row["domain"]) == ("trousers", "trousers", "consumer")
    assert (row["item"], row["group"], other["item"], other["group"]) == ("train-5-3", "train-5", "", "train-5")
    assert row["box"] == [1, 2, 50, 60]
    assert row["polygons"] == [[1, 2, 50, 2, 50, 60], [1, 2, 3, 4]]
    visibility, own = np.array(row["landmark_visibility"]), list(DEEPFASHION2_294.garments["trousers"])
    assert visibility[own[:3]].tolist() == [Visibility.ABSENT, Visibility.OCCLUDED, Visibility.VISIBLE]
    assert np.flatnonzero(visibility >= Visibility.ABSENT).tolist() == own
    assert (row["landmark_x"][own[1]], row["landmark_y"][own[1]]) == (40, 41)
    assert sum(row["landmark_x"]) == 40 + sum(range(3, 15))
    assert (other["source_line"], other["category"]) == (10, "vest")
    metadata = read_metadata(tmp_path / "out/table.parquet")
    assert set(metadata["column_groups"]) == {"category", "landmarks", "box", "polygons", "item", "domain"}


def test_same_pair_and_style_is_the_same_item_within_a_split(tmp_path):
    write(tmp_path, "train", 1, item1=item(style=1), item2=item(style=2))
    write(tmp_path, "train", 2, item1=item(style=1), source="user")
    write(tmp_path, "validation", 1, item1=item(style=1))
    _, table, _ = run(tmp_path, tmp_path / "out")
    assert table["item"].to_list() == ["train-7-1", "train-7-2", "train-7-1", "val-7-1"]
    assert table["split"].to_list() == ["train", "train", "train", "val"]
    assert table["domain"].to_list() == ["shop", "shop", "consumer", "shop"]


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_category_has_its_own_points(tmp_path, category):
    write(tmp_path, "train", 1, item1=item(category))
    _, table, _ = run(tmp_path, tmp_path / "out")
    visible = np.flatnonzero(np.array(table["landmark_visibility"][0].to_list()) == Visibility.VISIBLE)
    assert tuple(visible.tolist()) == DEEPFASHION2_294.garments[category]


def test_rows_of_one_image_stay_and_copies_go_whole(tmp_path):
    for split, number, seed in (("train", 1, 1), ("train", 2, 2), ("train", 3, 1), ("validation", 1, 2)):
        write(tmp_path, split, number, item1=item(), item2=item("vest"))
        draw(tmp_path / split / "image" / f"{number:06d}.jpg", seed)
    _, table, rejected = run(tmp_path, tmp_path / "out", check_images="full")
    assert table["key"].to_list() == ["train-000001-1", "train-000001-2", "val-000001-1", "val-000001-2"]
    assert rejected.select("rule", "row_file", "row_line").rows() == [
        ("leaked_image", "train/annos/000002.json", 1), ("leaked_image", "train/annos/000002.json", 2),
        ("duplicate_image", "train/annos/000003.json", 1), ("duplicate_image", "train/annos/000003.json", 2),
    ]  # fmt: skip


DEFECTS = [
    (item(category_id=14), "unknown_category", "category_id is 14, expected 1 to 13"),
    (item(category_id="9"), "unknown_category", "expected a whole number"),
    (item(category_id=True), "unknown_category", "expected a whole number"),
    (item(category_name="vest"), "category_mismatch", "category_id 9 is 'skirt', but category_name is 'vest'"),
    (item(style=-1), "bad_number", "style is '-1'"),
    (item(style=None), "bad_number", "style is 'None'"),
    (item(bounding_box=[1, 2, 3]), "bad_number", "the box has 3 numbers"),
    (item(bounding_box=[1, 2, "3", 4]), "bad_number", "bounding_box holds '3'"),
    (item(bounding_box=[50, 2, 10, 60]), "box_inverted", "x_2 (10) is not right of x_1 (50)"),
    (item(bounding_box=[-9, 2, 10, 60]), "box_outside", "box"),
    (item(landmarks=[1, 2, 2]), "wrong_number_of_points", "landmarks has 3 numbers, but a skirt has 8 points"),
    (item(landmarks=[1, 2, 3] * 8), "bad_visibility", "the visibility of point 1 is 3"),
    (item(landmarks=[-5, 2, 2] * 8), "point_outside", "waist_1/skirt (-5, 2) lies outside"),
    (item(landmarks=[10**400, 2, 2] * 8), "bad_number", "a number beyond 100000"),
    (item(landmarks=None), "bad_number", "landmarks is NoneType"),
    (item(segmentation=[[1, 2, 3]]), "bad_polygon", "polygon 1 has 3 numbers"),
    (item(segmentation=[[1, 2], 5]), "bad_polygon", "polygon 2"),
    (item(segmentation={"counts": "x"}), "bad_polygon", "segmentation is dict"),
    ([1], "bad_item", "this is list, expected an object"),
]


@pytest.mark.parametrize(("defect", "rule", "message"), DEFECTS)
def test_defect_costs_one_garment(tmp_path, defect, rule, message):
    write(tmp_path, "train", 1, item1=item(), item2=defect, item3=item("vest"))
    report, table, rejected = run(tmp_path, tmp_path / "out")
    assert table["source_line"].to_list() == [1, 3]
    assert rejected.select("rule", "row_file", "row_line").rows() == [(rule, "train/annos/000001.json", 2)]
    assert message in rejected["message"][0]
    assert report.files == {
        "train/annos/*.json": {"lines": 3, "kept": 2, "rejected": 1, "superseded": 0, "left_out": 0, "joined": 0, "header": 0,
                               "blank": 0}
    }  # fmt: skip


DOCUMENTS = [
    (b"", "empty_file", 1),
    (b"[]", "bad_json", 1),
    (b'{"source": "shop", "pair_id": 1, "item1": NaN}', "bad_json", 1),
    (b'{"source": "shop", "pair_id": 1, "item1": {"style": ' + b"9" * 5000 + b"}}", "bad_json", 1),
    (b"\xff\xfe", "bad_encoding", 1),
    (b"[" * 200_000, "bad_json", 1),
    (b'{"source": "shop", "pair_id": 1, "x": "' + b"y" * (1 << 20) + b'"}', "line_too_long", 1),
    (json.dumps({"source": "shop", "pair_id": -1, "item1": item(), "item2": item()}).encode(), "bad_number", 2),
    (json.dumps({"source": "thief", "pair_id": 1, "item1": item(), "item2": item()}).encode(), "unknown_source", 2),
    (json.dumps({"source": "shop", "pair_id": 1, "item0": item()}).encode(), "unknown_key", 1),
]


@pytest.mark.parametrize(("content", "rule", "rows"), DOCUMENTS)
def test_document_that_is_wrong_costs_its_own_rows(tmp_path, content, rule, rows):
    write(tmp_path, "train", 1, item1=item())
    write(tmp_path, "train", 2, item1=item()).write_bytes(content)
    report, table, rejected = run(tmp_path, tmp_path / "out")
    assert table["key"].to_list() == ["train-000001-1"]
    assert rejected["rule"].to_list() == [rule] * rows
    assert rejected["message"].str.starts_with("train/annos/000002.json:1: ").all()
    assert report.lines == 1 + rows


def test_document_without_garments_is_counted(tmp_path):
    write(tmp_path, "train", 1, item1=item())
    write(tmp_path, "train", 2, scale=3)
    report, table, _ = run(tmp_path, tmp_path / "out")
    assert (len(table), report.lines, report.blank, report.warnings["no_garment"]) == (1, 2, 1, 1)


def test_folders_that_are_no_dataset(tmp_path):
    with pytest.raises(UsageError, match=r"expected train/annos/000001\.json"):
        run(tmp_path, tmp_path / "out")
    folder = write(tmp_path / "raw", "train", 1, item1=item()).parent
    with pytest.raises(UsageError, match="choose its parent"):
        run(folder, tmp_path / "out")
    _, table, _ = run(folder.parent, tmp_path / "out")  # the folder of one split is enough
    assert table.select("image", "split").rows() == [("image/000001.jpg", "train")]


def coco(raw: Path, **changes: object) -> Path:
    first = DEEPFASHION2_294.garments["skirt"][0]
    points = [0.0] * (3 * 294)
    points[3 * first : 3 * first + 3] = [5, 6, 2]
    entry = {"id": 1, "image_id": 3, "category_id": 9, "bbox": [1, 2, 30, 40], "keypoints": points, "pair_id": 8, "style": 2,
             "segmentation": [[1, 2, 3, 4, 5, 6]], **changes}  # fmt: skip
    raw.mkdir(parents=True, exist_ok=True)
    path = raw / "deepfashion2_validation.json"
    path.write_text(
        json.dumps({"images": [{"id": 3, "file_name": "000003.jpg"}], "annotations": [entry], "categories": []})
    )
    return path


def test_coco_conversion(tmp_path):
    coco(tmp_path / "raw")
    _, table, _ = run(tmp_path / "raw", tmp_path / "out")
    (row,) = table.to_dicts()
    assert (row["box"], row["item"], row["split"], row["domain"]) == ([1, 2, 31, 42], "val-8-2", "val", "unknown")
    assert (row["image"], row["key"], row["category"]) == ("000003.jpg", "val-000003-1", "skirt")
    assert np.array(row["landmark_visibility"]).max() == Visibility.VISIBLE
    (tmp_path / "raw/train").mkdir()
    write(tmp_path / "raw", "train", 1, item1=item())
    report, table, _ = run(tmp_path / "raw", tmp_path / "out")
    assert table["key"].to_list() == ["train-000001-1"]
    assert any("COCO conversion next to the documents" in note for note in report.notes)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"keypoints": [1.0] * (3 * 294)}, "not_applicable_point"),
        ({"keypoints": [1.0] * 24}, "wrong_number_of_points"),
        ({"image_id": 4}, "bad_path"),
        ({"category_id": 0}, "unknown_category"),
        ({"bbox": None}, "bad_number"),
    ],
)
def test_coco_annotation_that_is_wrong(tmp_path, changes, rule):
    coco(tmp_path / "raw", **changes)
    with pytest.raises(RejectedError, match=rule):
        run(tmp_path / "raw", tmp_path / "out")
    rejected = pl.DataFrame(read_table(tmp_path / "out/rejected.parquet"))
    assert rejected["rule"].to_list() == [rule]


@pytest.mark.skipif(not REAL.is_dir(), reason="the real images are not here")
def test_every_real_row_is_accounted_for(tmp_path):
    report, table, rejected = run(REAL, tmp_path / "out", check_images="full")
    assert (report.lines, report.kept, len(rejected)) == (2, 2, 0)
    assert table["item"].to_list() == ["train-22-1", "train-22-2"]
    x, visibility = (np.array(table[f"landmark_{name}"].to_list()) for name in ("x", "visibility"))
    assert (visibility > 0).sum(1).tolist() == [28, 31]
    # Neck point 2 is on the left of the image, its counterpart on the right: the numbering matches the real data.
    left, right = (DEEPFASHION2_294.names.index(f"neck_{number}/long sleeve dress") for number in (2, 6))
    assert DEEPFASHION2_294.flip_index[left] == right
    assert (x[:, left] < x[:, right]).all()
    partners = np.array(DEEPFASHION2_294.flip_index)
    both = (visibility > 0) & (visibility[:, partners] > 0) & (np.arange(294) < partners)
    assert (x < x[:, partners])[both].all()
