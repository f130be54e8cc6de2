"""DeepFashion fine reader: both layouts, unpacking of landmarks, and files that do not belong together."""

import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fprep.convert.command import convert
from fprep.readers.deepfashion.packed_landmarks import (
    FULL,
    LOWER,
    UPPER,
    garment_of_category,
    garment_of_landmarks,
    unpack,
)
from fschemas.failures import UsageError
from fschemas.landmarks import DEEPFASHION_8, Visibility
from fschemas.table_file import read_table
from fschemas.vocabularies import vocabulary

REAL = (
    Path(os.environ.get("FASHIONKIT_REAL", Path(__file__).parents[5] / "shared" / "real"))
    / "deepfashion_fine_course_subset"
)
PLAIN, DRESS, TEE = "5 2 2 3 5 2", "5 2 1 3 5 2", "5 1 2 0 5 2"
BOX = "1 1 101 201"


def points(*heights: int | None) -> str:
    """Packed pairs at these heights, alternately left and right; None is absent."""
    pairs = ["0 0" if height is None else f"{20 + 50 * (k % 2)} {height:03d}" for k, height in enumerate(heights)]
    return " ".join(pairs + ["0 0"] * (8 - len(pairs)))


def write_course(
    raw: Path, rows: list[tuple[str, str, str]], header: bool = False, landmarks: str = "landmards"
) -> Path:
    columns = {"": [f"img/{k:05d}.jpg" for k in range(len(rows))]}
    columns |= {name: [row[k] for row in rows] for k, name in enumerate(("_attr", "_bbox", f"_{landmarks}"))}
    headers = {"": "image_filename", "_attr": "category1 category2 category3 category4 category5 category6",
               "_bbox": "x1 y1 x2 y2", f"_{landmarks}": " ".join(f"p{k}" for k in range(16))}  # fmt: skip
    (raw / "split").mkdir(parents=True)
    for name, lines in columns.items():
        text = "".join(f"{line}\n" for line in ([headers[name]] if header else []) + lines)
        (raw / "split" / f"train{name}.txt").write_text(text)
    return raw


def run(raw: Path, out: Path, **options):
    report = convert("deepfashion-fine", [raw], out, **{"check_images": "none", "max_rejected": 1.0, **options})
    return report, pl.DataFrame(read_table(out / "table.parquet")), pl.DataFrame(read_table(out / "rejected.parquet"))


GARMENTS = {
    "full: all pairs": (points(10, 10, 30, 30, 90, 90, 190, 190), PLAIN, "full"),
    "full: only a hem in pair 8": (points(*[None] * 7, 190), PLAIN, "full"),
    "upper: hem at the lower edge": (points(10, 10, 90, 90, 185, 185), PLAIN, "upper"),
    "upper: a tunic that is called a dress": (points(10, 10, 90, 90, 185, 185), DRESS, "upper"),
    "full: a dress cut off below its waistline": (points(10, 10, 30, 30, 110, 110), DRESS, "full"),
    "full: a romper without sleeves, cut off": (points(10, 10, 30, 30, 100, 100), PLAIN, "full"),
    "upper: a crop top whose cuffs hang lower": (points(10, 10, 180, 180, 100, 100), TEE, "upper"),
    "lower: waistline and hem": (points(15, 15, 185, 185), PLAIN, "lower"),
    "lower: a skirt that is called mini": (points(15, 15, 185, 185), DRESS, "lower"),
    "lower: waistline only": (points(15, 15), PLAIN, "lower"),
    "upper: a tee with a hidden hem": (points(15, 15, 100, 100), TEE, "upper"),
    "upper: straps at the top": (points(15, 15, 20, 20), PLAIN, "upper"),
    "full: a strapless dress cut off": (points(15, 15, 20, 20), DRESS, "full"),
    "upper: no point, by its neckline": (points(), TEE, "upper"),
    "full: no point and nothing known": (points(), PLAIN, "full"),
}


@pytest.mark.parametrize("case", GARMENTS)
def test_clothes_type_of_packed_points(tmp_path, case):
    landmarks, attributes, garment = GARMENTS[case]
    _, table, _ = run(write_course(tmp_path / "raw", [(attributes, BOX, landmarks)]), tmp_path / "out")
    assert table["garment"].to_list() == [garment]
    visibility = np.array(table["landmark_visibility"][0].to_list())
    assert (visibility >= Visibility.ABSENT).nonzero()[0].tolist() == list(DEEPFASHION_8.garments[garment])
    assert (visibility == Visibility.VISIBLE).sum() == np.array(landmarks.split(), int).reshape(8, 2).any(1).sum()


def test_unpacking_moves_pairs_to_their_slots():
    packed = np.zeros((3, 8, 2), int)
    packed[:, :4] = np.arange(1, 9).reshape(4, 2)
    packed[0, 4:6] = [[9, 10], [11, 12]]
    upper, lower, full = unpack(packed, np.array([UPPER, LOWER, FULL]))
    assert upper[[0, 1, 2, 3, 6, 7], 0].tolist() == [1, 3, 5, 7, 9, 11]
    assert not upper[4:6].any()
    assert lower[[4, 5, 6, 7], 0].tolist() == [1, 3, 5, 7]
    assert not lower[:4].any()
    assert (full == packed[2]).all()


def test_columns_of_a_row(tmp_path):
    raw = write_course(
        tmp_path / "raw", [("6 0 1 2 3 1", "021 011 080 190", points(15, 20, 30, None, 110, 110, 185, 185))]
    )
    _, table, _ = run(raw, tmp_path / "out")
    row = table.row(0, named=True)
    assert row["box"] == [20, 10, 79, 189]
    assert row["landmark_x"] == [19, 69, 19, 0, 19, 69, 19, 69]
    assert row["landmark_y"] == [14, 19, 29, 0, 109, 109, 184, 184]
    names = [vocabulary("deepfashion-fine-26").values[index] for index in row["attributes_positive"]]
    assert names == ["lattice", "long_sleeve", "mini_length", "square_neckline", "leather", "loose"]
    assert row["attributes_unknown"] == []
    assert (row["key"], row["image"], row["split"]) == ("00000", "img/00000.jpg", "train")


@pytest.mark.parametrize(("header", "landmarks"), [(True, "landmards"), (False, "landmarks")])
def test_variants_give_the_same_rows(tmp_path, header, landmarks):
    rows = [(PLAIN, BOX, points(15, 15, 185, 185)), (TEE, BOX, points(10, 10, 90, 90, 185, 185))]
    _, plain, _ = run(write_course(tmp_path / "plain", rows), tmp_path / "a")
    report, other, _ = run(write_course(tmp_path / "other", rows, header, landmarks), tmp_path / "b")
    assert plain.drop("source_line").equals(other.drop("source_line"))
    assert report.header == 4 * header
    assert report.warnings.get("header_line", 0) == 4 * header


DEFECTS = [
    ((PLAIN, "50 1 40 201", points(15)), "box_inverted", "split/train_bbox.txt", "x_2 (40) is not right of x_1 (50)"),
    ((PLAIN, "1 9 40 9", points(15)), "box_inverted", "split/train_bbox.txt", "y_2 (9) is not below y_1 (9)"),
    ((PLAIN, "-5 1 40 201", points(15)), "box_outside", "split/train_bbox.txt", "-5 1 40 201"),
    ((PLAIN, "1 1 40", points(15)), "wrong_columns", "split/train_bbox.txt", "3 numbers, expected 4"),
    ((PLAIN, "1 1 4_0 50", points(15)), "bad_cell", "split/train_bbox.txt", "'4_0' is not a whole number"),
    ((PLAIN, BOX, points(15) + " 7"), "wrong_columns", "split/train_landmards.txt", "17 numbers, expected 16"),
    ((PLAIN, BOX, "5 0 " + "0 0 " * 7), "bad_cell", "split/train_landmards.txt", "point 1 is (5, 0)"),
    ((PLAIN, BOX, "-9 5 " + "0 0 " * 7), "point_outside", "split/train_landmards.txt", "waistline_left (-9, 5)"),
    (("7 2 2 3 5 2", BOX, points(15)), "unknown_attribute", "split/train_attr.txt", "texture is 7, expected 0 to 6"),
    (("0 2 2 3 5", BOX, points(15)), "wrong_columns", "split/train_attr.txt", "5 numbers"),
    (("1 " * 26, BOX, points(15)), "attribute_group", "split/train_attr.txt", "7 attributes of the group texture"),
]


@pytest.mark.parametrize(("defect", "rule", "file", "message"), DEFECTS)
def test_defect_is_rejected_in_the_file_where_it_is(tmp_path, defect, rule, file, message):
    good = (PLAIN, BOX, points(15, 15, 185, 185))
    report, table, rejected = run(write_course(tmp_path / "raw", [good, defect, good]), tmp_path / "out")
    assert table["source_line"].to_list() == [1, 3]
    assert rejected.select("rule", "source_file", "source_line", "row_file", "row_line").rows() == [
        (rule, file, 2, "split/train.txt", 2)
    ]
    assert message in rejected["message"][0]
    assert report.files["split/train.txt"]["rejected"] == 1


@pytest.mark.parametrize("name", ["", "_attr", "_bbox", "_landmards"])
def test_files_of_different_length_are_one_sentence(tmp_path, name):
    raw = write_course(tmp_path / "raw", [(PLAIN, BOX, points(15))] * 3)
    path = raw / "split" / f"train{name}.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(UsageError, match=r"(2 rows, but .* names 3|3 rows, but .* names 2) images"):
        run(raw, tmp_path / "out")


def test_missing_label_file_is_one_sentence(tmp_path):
    raw = write_course(tmp_path / "raw", [(PLAIN, BOX, points(15))])
    (raw / "split" / "train_bbox.txt").unlink()
    with pytest.raises(UsageError, match=r"train_bbox\.txt is missing"):
        run(raw, tmp_path / "out")


def test_folder_without_annotation(tmp_path):
    with pytest.raises(UsageError, match=r"expected split/train\.txt or Anno_fine/train\.txt"):
        run(tmp_path, tmp_path / "out")


def official(raw: Path, category: int, landmarks: str) -> Path:
    folder = raw / "Anno_fine"
    folder.mkdir(parents=True)
    flags = ["0"] * 26
    for group in vocabulary("deepfashion-fine-26").groups.values():
        flags[group[0]] = "1"
    columns = {"": "img/Sweet_Crochet_Blouse/img_00000070.jpg", "_attr": " ".join(flags) + " ", "_bbox": BOX + " ",
               "_cate": str(category), "_landmarks": landmarks + " "}  # fmt: skip
    for name, line in columns.items():
        (folder / f"train{name}.txt").write_text(line + "\n")
    (raw / "Img" / "img").mkdir(parents=True)
    return raw


@pytest.mark.parametrize(
    ("category", "landmarks", "garment", "height_of_hem"),
    [
        (3, points(15, 15, 100, 100, 150, 150), "upper", 149),
        (32, points(15, 15, 185, 185), "lower", 184),
        (41, points(15, 15, 30, 30), "full", 0),
        (3, points(15, 15, 100, 100, None, None, 150, 150), "upper", 149),
    ],
)
def test_official_layout_with_categories(tmp_path, category, landmarks, garment, height_of_hem):
    report, table, _ = run(official(tmp_path / "raw", category, landmarks), tmp_path / "out")
    row = table.row(0, named=True)
    assert (row["garment"], row["landmark_y"][6]) == (garment, height_of_hem)
    assert row["image"] == "Img/img/Sweet_Crochet_Blouse/img_00000070.jpg"
    assert row["key"] == "Sweet_Crochet_Blouse-img_00000070"
    assert row["attributes_positive"] == [0, 7, 10, 13, 17, 23]
    assert report.joined == 4


def test_point_that_the_category_does_not_have(tmp_path):
    raw = official(tmp_path / "raw", 32, points(15, 15, 185, 185, 60))
    for name in ("", "_attr", "_bbox", "_cate", "_landmarks"):
        path = raw / "Anno_fine" / f"train{name}.txt"
        good = {"": "img/b.jpg", "_landmarks": points(15, 15, 185, 185)}.get(name, path.read_text().strip())
        path.write_text(path.read_text() + good + "\n")
    _, table, rejected = run(raw, tmp_path / "out")
    assert (rejected["rule"].to_list(), table["source_line"].to_list()) == (["not_applicable_point"], [2])


def test_slots_are_recognized_by_pairs_that_packing_never_uses():
    present = np.zeros((3, 8), bool)
    present[:2, 6:] = True
    assert garment_of_category(present, np.array([3, 30, 41]))[1]
    assert not garment_of_category(~present, np.array([41, 42, 50]))[1]


def test_no_rows_are_no_error():
    empty = garment_of_landmarks(np.zeros((0, 8), bool), np.zeros((0, 4)), np.zeros((0, 8, 2)), np.zeros((0, 6), int))
    assert empty.shape == (0,)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real course subset is not here")
def test_real_course_subset(tmp_path):
    report, table, rejected = run(REAL, tmp_path / "out", check_images="full", max_rejected=0.01)
    assert report.files["split/train.txt"]["lines"] == 5000
    assert (report.splits, report.rejected_by_rule) == ({"train": 4995, "val": 1000}, {"duplicate_image": 5})
    assert report.files["split/test.txt"]["left_out"] == 1000
    assert "983 of 5000 rows have points in pairs 1-4 only" in report.notes[0]
    box = np.array(table["box"].to_list())
    x, y, v = (np.array(table[f"landmark_{name}"].to_list()) for name in ("x", "y", "visibility"))
    inside = (x >= box[:, :1]) & (x <= box[:, 2:3]) & (y >= box[:, 1:2]) & (y <= box[:, 3:4])
    assert inside[v > 0].all()
    assert table.filter(pl.col("image_format") != "JPEG").height == 0
    hems, collars = y[:, 6:8], y[:, 0:2]
    both = (v[:, 0] > 0) & (v[:, 6] > 0)
    assert (hems[both, 0] > collars[both, 0]).mean() > 0.99
    assert rejected["message"].str.contains("is already used at").all()


FINE = REAL.with_name("deepfashion_category_attribute")


def with_partition(raw: Path, rows: list[str], home: str = "Eval") -> Path:
    (raw / home).mkdir()
    text = "".join(f"{row}\n" for row in [str(len(rows)), "image_name evaluation_status", *rows])
    (raw / home / "list_eval_partition.txt").write_text(text)
    return raw


def test_split_of_the_coarse_benchmark(tmp_path):
    raw = write_course(tmp_path / "raw", [(PLAIN, BOX, points(15, 15, 185, 185))] * 3)
    with_partition(raw, ["img/00002.jpg test", "img/00000.jpg   train", "img/9.jpg val", "/img/00001.jpg test"])
    report, table, _ = run(raw, tmp_path / "out")
    assert table["coarse_split"].to_list() == ["train", "", "test"]
    assert report.warnings["in_coarse_test"] == report.warnings["bad_partition_row"] == 1
    assert report.warning_examples["in_coarse_test"] == ["split/train.txt:3"]
    assert report.files["Eval/list_eval_partition.txt"]["joined"] == 4
    assert "1 of 3 train" in report.notes[-1]


def test_without_the_coarse_partition_nothing_is_reported(tmp_path):
    raw = write_course(tmp_path / "raw", [(PLAIN, BOX, points(15, 15, 185, 185))])
    with_partition(tmp_path, ["img/00000.jpg test"])  # above the given folder
    _, table, _ = run(raw, tmp_path / "out")
    assert "coarse_split" not in table.columns


@pytest.mark.skipif(not FINE.is_dir(), reason="the real fine lists are not here")
def test_real_fine_lists_against_the_coarse_test_set(tmp_path):
    """Paths and attributes of all 20,000 images; no public copy has boxes and landmarks."""
    raw = tmp_path / "raw"
    shutil.copytree(FINE / "Anno_fine", raw / "Anno_fine")
    pairs = (FINE / "derived/coarse_test_40000_category_and_path.tsv").read_text().split("\n")[1:]
    with_partition(raw, [pair.partition("\t")[2] + " test" for pair in pairs if pair])
    report, table, _ = run(raw, tmp_path / "out")
    assert (report.kept, report.rejected, report.splits) == (20_000, 0, {"test": 4000, "train": 14_000, "val": 2000})
    assert report.warnings["in_coarse_test"] == 4188 + 653
    assert table.filter(pl.col("coarse_split") == "test")["split"].value_counts().sort("split").rows() == [
        ("test", 1156), ("train", 4188), ("val", 653)
    ]  # fmt: skip
    assert table["attributes_positive"].list.len().unique().to_list() == [6]
    assert "box" not in table.columns
