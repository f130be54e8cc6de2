"""In-shop reader: joins by image and by item, resolutions, releases without some lists, and damaged rows."""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
from tests.trees import tree_of

from fprep.convert.command import convert
from fschemas.failures import UsageError
from fschemas.table_file import read_metadata, read_table
from fschemas.vocabularies import vocabulary

TREE = tree_of("deepfashion-inshop")
REAL = Path(os.environ.get("FASHIONKIT_REAL", Path(__file__).parents[5] / "shared" / "real")) / "deepfashion_inshop"
PARTITION, BOXES = "Eval/list_eval_partition.txt", "Anno/list_bbox_inshop.txt"
LANDMARKS, DESCRIPTIONS = "Anno/list_landmarks_inshop.txt", "Anno/list_description_inshop.json"
ATTRIBUTES, COLORS = "Anno/attributes/list_attr_items.txt", "Anno/attributes/list_color_cloth.txt"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not here")


@pytest.fixture
def raw(tmp_path) -> Path:
    """The annotation files of the tiny tree, without images."""
    shutil.copytree(TREE, tmp_path / "raw", ignore=shutil.ignore_patterns("img", "expected.json"))
    return tmp_path / "raw"


def run(raw: Path, out: Path, **options):
    report = convert("deepfashion-inshop", [raw], out, **{"check_images": "none", "max_rejected": 1.0, **options})
    return report, pl.DataFrame(read_table(out / "table.parquet")), pl.DataFrame(read_table(out / "rejected.parquet"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_bytes().decode()
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path.name}"
    path.write_bytes(text.replace(old, new).encode())


def row_of(table: pl.DataFrame, key: str) -> dict:
    return table.row(by_predicate=pl.col("key") == key, named=True)


def test_columns_of_a_row(raw, tmp_path):
    _, table, _ = run(raw, tmp_path / "out")
    row = row_of(table, "WOMEN-Dresses-id_00000002-02_1_front")
    assert (row["image"], row["split"]) == ("img/WOMEN/Dresses/id_00000002/02_1_front.jpg", "train")
    assert (row["item"], row["group"], row["category"]) == ("id_00000002", "id_00000002", "Dresses")
    assert (row["gender"], row["pose"], row["color"], row["variation"]) == ("women", "front", "Cream", "normal")
    assert row["description"] == 'A sheer dress by Bouclé™ with 3/4 sleeves.\nUnlined\n24" full length, 38" chest'
    assert row["box"] == [64, 44, 232, 251]
    assert row["garment"] == "full"
    assert row["landmark_x"] == [108, 145, 89, 0, 99, 159, 88, 205]
    assert row["landmark_y"] == [62, 63, 119, 0, 119, 119, 233, 229]
    assert row["landmark_visibility"] == [2, 2, 2, 0, 2, 2, 2, 2]
    assert (row["attributes_positive"], row["attributes_unknown"]) == ([0, 1, 2], [])


def test_garments_use_their_slots_and_occluded_points_keep_their_place(raw, tmp_path):
    _, table, _ = run(raw, tmp_path / "out")
    lower = row_of(table, "MEN-Denim-id_00000004-01_1_front")
    assert lower["landmark_visibility"] == [-1, -1, -1, -1, 2, 2, 2, 1]
    assert (lower["landmark_x"][7], lower["landmark_y"][7]) == (157, 240)
    assert row_of(table, "MEN-Tees_Tanks-id_00000296-05_1_front")["landmark_visibility"] == [2, 2, 1, 2, -1, -1, 2, 2]


def test_category_is_of_the_image_and_item_is_the_group(raw, tmp_path):
    _, table, _ = run(raw, tmp_path / "out")
    item = table.filter(pl.col("item") == "id_00000230")
    assert set(item["category"]) == {"Blouses_Shirts", "Tees_Tanks"}
    assert set(item["group"]) == {"id_00000230"}
    assert set(item["split"]) == {"query", "gallery"}


def test_items_named_twice_know_what_both_rows_say(raw, tmp_path):
    report, table, _ = run(raw, tmp_path / "out")
    row = row_of(table, "WOMEN-Tees_Tanks-id_00000230-02_1_front")
    assert (row["attributes_positive"], row["attributes_unknown"]) == ([3], [17, 18])
    assert row_of(table, "MEN-Denim-id_00000004-01_1_front")["attributes_unknown"] == [462]
    missing = row_of(table, "WOMEN-Leggings-id_00000500-01_1_front")
    assert (missing["attributes_positive"], missing["attributes_unknown"]) == ([], list(range(463)))
    found = {
        name: report.warnings[name] for name in ("conflicting_attributes", "repeated_row", "item_without_attributes")
    }
    assert found == {"conflicting_attributes": 1, "repeated_row": 1, "item_without_attributes": 1}


@pytest.mark.parametrize(
    ("removed", "groups"),
    [
        (("Anno/attributes",), ["category", "box", "landmarks", "item", "shop", "variation"]),
        (("Anno/attributes", LANDMARKS), ["category", "box", "item", "shop"]),
        (("Anno",), ["category", "item", "shop"]),
    ],
)
def test_releases_with_fewer_lists(raw, tmp_path, removed, groups):
    for name in removed:
        shutil.rmtree(raw / name) if (raw / name).is_dir() else (raw / name).unlink()
    _, table, _ = run(raw, tmp_path / "out")
    assert read_metadata(tmp_path / "out/table.parquet")["column_groups"] == groups
    assert table.height == (14 if "Anno" in removed else 13 if LANDMARKS in removed else 12)
    row = row_of(table, "WOMEN-Dresses-id_00000002-02_1_front")
    assert (row["color"], row["pose"]) == ("", "front")  # three variants; the description mentions one color


def image(path: Path, width: int, height: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(str(path))).integers(0, 255, (4, 3, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(noise, (width, height)))


@pytest.mark.parametrize("folder", ["img_highres", "Img/img/img_highres_seg-003/img_highres", "img"])
def test_images_of_high_resolution_have_no_boxes(raw, tmp_path, folder):
    for name in ("WOMEN/Dresses/id_00000002/02_1_front.jpg", "MEN/Denim/id_00000004/01_1_front.jpg"):
        image(raw / folder / name, 75 * 4, 110 * 4)
    report, table, _ = run(raw, tmp_path / "out", check_images="header")
    assert set(table["image"]) == {
        f"{folder}/WOMEN/Dresses/id_00000002/02_1_front.jpg",
        f"{folder}/MEN/Denim/id_00000004/01_1_front.jpg",
    }
    groups = read_metadata(tmp_path / "out/table.parquet")["column_groups"]
    assert groups == ["category", "attributes", "item", "shop"]
    assert report.warnings["high_resolution"] == 1
    assert "boxes and landmarks are left out" in " ".join(report.notes)


@pytest.mark.parametrize("folder", ["img", "Img/img", "img/img"])
def test_low_resolution_comes_first(raw, tmp_path, folder):
    name = "WOMEN/Dresses/id_00000002/02_1_front.jpg"
    image(raw / folder / name, 256, 256)
    image(raw / "Img/img_highres" / name, 300, 440)
    report, table, _ = run(raw, tmp_path / "out", check_images="header")
    assert table["image"].to_list() == [f"{folder}/{name}"]
    assert table["box"][0].to_list() == [64, 44, 232, 251]
    assert "Img/img_highres" in " ".join(report.notes)


FRONT = "img/WOMEN/Dresses/id_00000002/02_1_front.jpg"
DEFECTS = [
    (PARTITION, f"{FRONT}                           id_00000002", f"{FRONT} id_00000003", "item_path_mismatch", 3),
    (PARTITION, FRONT, FRONT.replace("Dresses", "Gowns"), "unknown_category", 3),
    (PARTITION, FRONT, FRONT.removeprefix("img/"), "unexpected_path", 3),
    (PARTITION, FRONT, FRONT.replace("img/", "../"), "path_escape", 3),
    (BOXES, "065 045 233 252", "065 045 233", "wrong_columns", 3),
    (BOXES, "3 1 065 045 233 252", "4 1 065 045 233 252", "bad_clothes_type", 3),
    (BOXES, "065 045 233 252", "065 045 2e3 252", "bad_cell", 3),
    (BOXES, "065 045 233 252", "065 045 233 252 \x07", "bad_cell", 3),
    (LANDMARKS, f"{FRONT}                           3 1", f"{FRONT} 3 6", "bad_variation_type", 3),
    (LANDMARKS, f"{FRONT}                           3 1  0", f"{FRONT} 3 1  3", "bad_visibility", 3),
    (LANDMARKS, f"{FRONT}                           3 1", f"{FRONT} 2 1", "wrong_columns", 3),
]


@pytest.mark.parametrize(("file", "old", "new", "rule", "line"), DEFECTS)
def test_defect_is_rejected_where_it_is(raw, tmp_path, file, old, new, rule, line):
    _, before, _ = run(raw, tmp_path / "before")
    edit(raw / file, old, new)
    report, table, rejected = run(raw, tmp_path / "out")
    bad = rejected.filter(pl.col("rule") == rule, pl.col("source_line") == line)
    assert bad.select("source_file", "row_file", "row_line").rows() == [(file, PARTITION, 3)]
    assert table["key"].to_list() == before["key"].to_list()[1:]
    assert bad["message"][0].startswith(f"{file}:{line}: ")
    assert report.files[PARTITION]["rejected"] == 3


def test_unknown_split_and_leaked_item(raw, tmp_path):
    edit(
        raw / PARTITION,
        "id_00000230 query      \nimg/WOMEN/Tees_Tanks/id_00000230/02_1",
        "id_00000230 train      \nimg/WOMEN/Tees_Tanks/id_00000230/02_1",
    )
    edit(raw / PARTITION, f"{FRONT}                           id_00000002 train", f"{FRONT} id_00000002 test ")
    _, _, rejected = run(raw, tmp_path / "out")
    found = rejected.filter(pl.col("rule").is_in(["unknown_split", "leaked_item"]))
    assert found.select("rule", "source_line").rows() == [("unknown_split", 3), ("leaked_item", 8)]


def test_attribute_row_that_is_bad_leaves_its_item_unknown(raw, tmp_path):
    edit(raw / ATTRIBUTES, "id_00000004 -1 -1", "id_00000004 -1 256")
    _, table, rejected = run(raw, tmp_path / "out")
    assert "an attribute label is 256" in rejected.filter(pl.col("source_file") == ATTRIBUTES)["message"][0]
    assert row_of(table, "MEN-Denim-id_00000004-01_1_front")["attributes_unknown"] == list(range(463))


def test_rows_missing_in_a_list_are_warnings(raw, tmp_path):
    for name in (BOXES, LANDMARKS):
        lines = (raw / name).read_text().split("\n")
        (raw / name).write_text("\n".join(lines[:2] + (lines[3:] if name == LANDMARKS else lines[2:4] + lines[5:])))
    image(raw / "img/WOMEN/Dresses/id_00000002/87_7_additional.jpg", 256, 256)
    image(raw / FRONT, 256, 256)
    report, table, _ = run(raw, tmp_path / "out", check_images="header")
    assert table["landmark_visibility"].to_list() == [[0] * 8, [2, 2, 2, 0, 2, 2, 2, 2]]
    assert table["box"].to_list() == [[64, 44, 232, 251], [0, 0, 255, 255]]
    assert table["variation"].to_list() == ["unknown", "large-zoom"]
    assert report.warnings["missing_row"] == 3


def test_clothes_types_that_differ_and_odd_views_are_warnings(raw, tmp_path):
    edit(raw / BOXES, "3 1 065 045 233 252", "1 2 065 045 233 252")
    for name in (PARTITION, BOXES, LANDMARKS):
        edit(raw / name, "02_4_full", "02_full__")
    report, table, _ = run(raw, tmp_path / "out", check_images="none")
    found = {name: report.warnings[name] for name in ("clothes_type_differs", "pose_differs", "unknown_view")}
    assert found == {"clothes_type_differs": 1, "pose_differs": 1, "unknown_view": 1}
    assert row_of(table, "WOMEN-Dresses-id_00000002-02_1_front")["garment"] == "full"


UNUSABLE = [
    (BOXES, b"\r\n\r\n", r"list_bbox_inshop.txt: no row that begins with the path of an image"),
    (DESCRIPTIONS, b'{"item": 1}', "not a JSON array"),
    ("Anno/attributes/list_attr_cloth.txt", b"463\nattribute_name\npolyester\n", r"list_attr_cloth.txt:3: 'polyester', expected 'light"),
    ("Anno/attributes/list_attr_cloth.txt", b"463\nattribute_name\nlightweight\n", "1 names, expected 463"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "content", "message"), UNUSABLE)
def test_unusable_file_is_one_sentence(raw, tmp_path, file, content, message):
    (raw / file).write_bytes(content)
    with pytest.raises(UsageError, match=message):
        run(raw, tmp_path / "out")


def test_folder_without_partition(tmp_path):
    with pytest.raises(UsageError, match=r"no Eval/list_eval_partition\.txt here"):
        run(tmp_path, tmp_path / "out")


@needs_real
def test_real_partition_and_items(tmp_path):
    report, table, _ = run(REAL, tmp_path / "out")
    assert (
        report.files[PARTITION] | {"lines": 52714, "kept": 52712, "header": 2, "rejected": 0} == report.files[PARTITION]
    )
    assert (
        report.files["Anno/list_item_inshop.txt"] | {"joined": 7982, "header": 1}
        == report.files["Anno/list_item_inshop.txt"]
    )
    assert (report.rejected, report.warnings) == (0, {})
    assert report.splits == {"train": 25882, "query": 14218, "gallery": 12612}
    assert table.group_by("item").agg(pl.col("category").n_unique() > 1)["category"].sum() == 99
    assert set(table["category"]) == set(vocabulary("deepfashion-inshop-category-17").values)
    poses = dict(table["pose"].value_counts().rows())
    assert poses == {"front": 12861, "side": 10923, "back": 10661, "full": 6670, "flat": 683, "additional": 10914}
    assert table.filter(pl.col("gender") == "unknown").height == 0


@needs_real
@pytest.mark.parametrize("letter", "abc")
def test_real_excerpts_without_header(tmp_path, letter):
    path = REAL / "Eval" / f"list_eval_partition__row_excerpt_{letter}.txt"
    report, table, _ = run(path, tmp_path / "out")
    assert report.kept == table.height == len(path.read_bytes().split(b"\r\n")) - 1
    assert set(report.warnings) >= {"crlf", "no_header", "no_count_line"}


@needs_real
def test_real_colors_descriptions_and_attribute_names(tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(REAL / "Eval", raw / "Eval", ignore=shutil.ignore_patterns("*excerpt*"))
    (raw / "Anno").mkdir()
    shutil.copy(REAL / "Anno/list_description_inshop__4_records.json", raw / "Anno/list_description_inshop.json")
    shutil.copy(REAL / "Anno/attributes/list_attr_cloth__count_line_removed.txt", raw / "Anno/list_attr_cloth.txt")
    rows = (REAL / "derived/list_color_cloth.csv").read_text("utf-8-sig").removesuffix("\n").split("\n")[1:]
    lines = [f"{name:<72}  {color}\n" for name, _, color in (row.partition(",") for row in rows)]
    (raw / "Anno/list_color_cloth.txt").write_text(f"{len(rows)}\nimage_name  clothes_color\n{''.join(lines)}")
    report, table, _ = run(raw, tmp_path / "out")
    assert (report.kept, report.warnings) == (52712, {})
    assert report.files["Anno/list_color_cloth.txt"]["joined"] == 52712
    assert (
        report.files["Anno/list_attr_cloth.txt"] | {"joined": 463, "header": 1}
        == report.files["Anno/list_attr_cloth.txt"]
    )
    assert table.filter(pl.col("color") == "").height == 0
    assert table["color"].n_unique() == 961
    described = table.filter(pl.col("description") != "")
    assert set(described["item"]) == {"id_00000001", "id_00000007", "id_00000009", "id_00000023"}
    assert "Snoop Dogg™" in described.filter(pl.col("item") == "id_00000007")["description"][0]
