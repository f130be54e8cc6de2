"""Fashion Landmark Detection reader: columns, derived joints, missing lists, and real images with real landmarks."""

import json
import os
import shutil
from pathlib import Path

import polars as pl
import pytest
from tests.trees import tree_of

from fprep.convert.command import convert
from fschemas.failures import UsageError
from fschemas.landmarks import Visibility
from fschemas.table_file import read_metadata, read_table

TREE = tree_of("deepfashion-landmarks")
REAL = Path(os.environ.get("FASHIONKIT_REAL", Path(__file__).parents[5] / "shared" / "real")) / "deepfashion_fld"


def run(raw: Path, out: Path, **options):
    report = convert("deepfashion-landmarks", [raw], out, **{"check_images": "none", "max_rejected": 1.0, **options})
    return report, pl.DataFrame(read_table(out / "table.parquet")), pl.DataFrame(read_table(out / "rejected.parquet"))


@pytest.fixture
def raw(tmp_path):
    return Path(shutil.copytree(TREE, tmp_path / "raw"))


def rewrite(path: Path, change) -> None:
    """Rewrite the rows of a list; `change` maps path and numbers to the text after the path."""
    count, header, *rows = path.read_text().removesuffix("\n").split("\n")
    parts = [row.split() for row in rows]
    path.write_text("\n".join([count, header, *(f"{name} {change(numbers)}" for name, *numbers in parts), ""]))


def test_columns_of_a_row(tmp_path, raw):
    _, table, _ = run(raw, tmp_path / "out")
    lower = table.row(1, named=True)
    assert (lower["image"], lower["key"], lower["split"]) == ("img/img_00000008.jpg", "img_00000008", "val")
    assert (lower["garment"], lower["variation"], lower["box"]) == ("lower", "medium-pose", [4, 9, 54, 84])
    assert lower["landmark_x"] == [0, 0, 0, 0, 19, 39, 19, 39]
    assert lower["landmark_visibility"] == [-1, -1, -1, -1, 2, 2, 2, 2]
    joints = table.row(2, named=True)
    assert joints["joint_visibility"] == [
        2,
        2,
        2,
        0,
        2,
        2,
        2,
        2,
        1,
        2,
        2,
        2,
        2,
        0,
    ]  # invisible, with and without coordinates
    assert (joints["joint_x"][8], joints["joint_y"][8], joints["joint_x"][3]) == (19, 51, 0)
    names = read_metadata(tmp_path / "out/table.parquet")["vocabularies"]["joint"]["values"]
    assert names == [f"joint_{number}" for number in range(1, 15)]
    without = table.row(-1, named=True)  # not in the list of joints
    assert set(without["joint_visibility"]) == {0}


@pytest.mark.parametrize(
    ("lead", "group"), [("without both types", []), ("without variation", ["0"]), ("with both", ["0", "1"])]
)
def test_leading_columns_of_joints_by_arithmetic(tmp_path, raw, lead, group):
    _, expected, _ = run(raw, tmp_path / "a")
    rewrite(raw / "Anno/list_joints.txt", lambda numbers: " ".join(["1"] * len(group) + numbers[2:]))
    _, table, _ = run(raw, tmp_path / "b")
    assert table.select(pl.col("^joint.*$")).equals(expected.select(pl.col("^joint.*$"))), lead


def test_landmarks_without_variation(tmp_path, raw):
    _, expected, _ = run(raw, tmp_path / "a")
    rewrite(raw / "Anno/list_landmarks.txt", lambda numbers: " ".join([numbers[0], *numbers[2:]]))
    _, table, _ = run(raw, tmp_path / "b")
    both = table.join(expected, on="key", how="inner", suffix="_before")
    assert both["landmark_x"].equals(both["landmark_x_before"].alias("landmark_x"))
    assert table["variation"].unique().to_list() == ["unknown"]


@pytest.mark.parametrize(
    ("name", "groups"),
    [("list_bbox.txt", ["landmarks", "variation", "joints"]), ("list_joints.txt", ["box", "landmarks", "variation"])],
)
def test_a_missing_list_is_a_missing_group(tmp_path, raw, name, groups):
    (raw / "Anno" / name).unlink()
    report, _, _ = run(raw, tmp_path / "out")
    assert read_metadata(tmp_path / "out/table.parquet")["column_groups"] == groups
    assert f"Anno: {name} missing; the table is written without" in report.notes


def test_tree_of_the_other_benchmark_is_refused(tmp_path, raw):
    (raw / "Anno/list_category_img.txt").write_text("0\n")
    with pytest.raises(UsageError, match=r"no list_landmarks\.txt here"):
        run(raw, tmp_path / "out")


@pytest.mark.parametrize("folder", ["img", "Img/img", "img/img"])
def test_images_are_found_where_they_were_unpacked(tmp_path, raw, folder):
    (raw / "img").rename(raw / "images")
    (raw / folder).parent.mkdir(parents=True, exist_ok=True)
    (raw / "images").rename(raw / folder)
    report, table, _ = run(raw, tmp_path / "out", check_images="header")
    assert table["image"].str.starts_with(f"{folder}/").all()
    assert report.kept == 8


@pytest.mark.skipif(not REAL.is_dir(), reason="the real images are not here")
def test_real_images_and_points(tmp_path):
    """Two released images from a library's tests; their landmarks, in COCO's codes, are converted back."""
    labels = json.loads((REAL / "mmpose_fld/test_fld.json").read_text())
    names = {image["id"]: image["file_name"] for image in labels["images"]}
    lists = {"Eval/list_eval_partition": [], "Anno/list_bbox": [], "Anno/list_landmarks": []}
    for entry in labels["annotations"]:
        name, (x, y, width, height), points = f"img/{names[entry['image_id']]}", entry["bbox"], entry["keypoints"]
        triples = [f"{2 - int(v)} {int(px):03d} {int(py):03d}" for px, py, v in zip(*[iter(points)] * 3, strict=True)]
        lists["Eval/list_eval_partition"].append(f"{name} test")
        lists["Anno/list_bbox"].append(f"{name} {x:03d} {y:03d} {x + width:03d} {y + height:03d}")
        lists["Anno/list_landmarks"].append(f"{name} 3 1 {' '.join(triples)}")
    for path, rows in lists.items():
        (tmp_path / "raw" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"raw/{path}.txt").write_text("\n".join([str(len(rows)), "image_name labels", *rows, ""]))
    (tmp_path / "raw/img").mkdir()
    for name in names.values():
        shutil.copy(REAL / "mmpose_fld" / name, tmp_path / "raw/img")
    report, table, _ = run(tmp_path / "raw", tmp_path / "out", check_images="full")
    assert (report.kept, report.rejected) == (len(labels["annotations"]), 0) == (2, 0)
    for row, entry in zip(table.iter_rows(named=True), labels["annotations"], strict=True):
        assert row["landmark_visibility"] == [int(v) for v in entry["keypoints"][2::3]]
        assert row["landmark_x"] == [max(x - 1, 0) for x in entry["keypoints"][0::3]]
        assert (row["width"], row["height"]) == (200, 250)
        points = zip(row["landmark_x"], row["landmark_y"], row["landmark_visibility"], strict=True)
        x1, y1, x2, y2 = row["box"]
        assert all(x1 <= x <= x2 and y1 <= y <= y2 for x, y, v in points if v >= Visibility.OCCLUDED)
    assert table["box"].to_list()[1] == [0, 0, 199, 249]


@pytest.mark.skipif(not REAL.is_dir(), reason="the real images are not here")
def test_real_crops_without_lists_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no list_landmarks\.txt here; choose the folder that contains Anno"):
        run(REAL, tmp_path / "out")
