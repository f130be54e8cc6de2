"""Consumer-to-shop reader: splits and pairs from the partition, spellings of copies, vocabulary, and damaged rows."""

import os
import shutil
from pathlib import Path

import polars as pl
import pytest
from tests.trees import tree_of

from fprep.convert.command import convert
from fprep.readers.deepfashion.consumer2shop import attribute_names
from fschemas.failures import UsageError
from fschemas.table_file import read_metadata, read_table
from fschemas.vocabularies import vocabulary

TREE = tree_of("deepfashion-consumer2shop")
REAL = (
    Path(os.environ.get("FASHIONKIT_REAL", Path(__file__).parents[5] / "shared" / "real")) / "deepfashion_consumer2shop"
)
PARTITION, BOXES, LANDMARKS = (
    "Eval/list_eval_partition.txt",
    "Anno/list_bbox_consumer2shop.txt",
    "Anno/list_landmarks_consumer2shop.txt",
)
SHIRT = "img/TOPS/T_Shirt/id_00000001"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not here")


@pytest.fixture
def raw(tmp_path) -> Path:
    """The annotation files of the tiny tree, without images."""
    shutil.copytree(TREE, tmp_path / "raw", ignore=shutil.ignore_patterns("img", "expected.json"))
    return tmp_path / "raw"


def run(raw: Path, out: Path, **options):
    report = convert(
        "deepfashion-consumer2shop", [raw], out, **{"check_images": "none", "max_rejected": 1.0, **options}
    )
    return report, pl.DataFrame(read_table(out / "table.parquet")), pl.DataFrame(read_table(out / "rejected.parquet"))


def edit(path: Path, old: str, new: str, count: int = 1) -> None:
    text = path.read_bytes().decode()
    assert text.count(old) == count, f"{old!r} stands {text.count(old)} times in {path.name}"
    path.write_bytes(text.replace(old, new).encode())


def test_columns_of_a_row(raw, tmp_path):
    _, table, _ = run(raw, tmp_path / "out")
    row = table.row(by_predicate=pl.col("image") == f"{SHIRT}/comsumer_02.jpg", named=True)
    assert (row["key"], row["split"], row["domain"]) == ("TOPS-T_Shirt-id_00000001-comsumer_02", "train", "consumer")
    assert (row["item"], row["group"], row["variation"]) == ("id_00000001", "id_00000001", "medium-pose")
    assert row["pairs"] == [f"{SHIRT}/shop_01.jpg"]
    assert row["box"] == [19, 41, 225, 300]
    assert row["landmark_x"] == [80, 145, 49, 189, 0, 0, 75, 149]
    assert row["landmark_visibility"] == [2, 2, 1, 2, -1, -1, 2, 2]
    assert (row["attributes_positive"], row["attributes_unknown"]) == ([0, 12, 302], [])
    shop = table.row(by_predicate=pl.col("image") == f"{SHIRT}/shop_01.jpg", named=True)
    assert shop["pairs"] == [f"{SHIRT}/comsumer_01.jpg", f"{SHIRT}/comsumer_02.jpg"]


def test_splits_follow_pairs_items_and_domains(raw, tmp_path):
    report, table, rejected = run(raw, tmp_path / "out")
    found = {(item, domain): split for item, domain, split in table.select("item", "domain", "split").rows()}
    assert found == {
        ("id_00000001", "consumer"): "train", ("id_00000001", "shop"): "train",
        ("id_00000023", "consumer"): "train", ("id_00000023", "shop"): "train",
        ("id_00001704", "consumer"): "val_query", ("id_00001704", "shop"): "val_gallery",
        ("id_00033886", "consumer"): "query", ("id_00033886", "shop"): "gallery",
    }  # fmt: skip
    alone = table.row(by_predicate=pl.col("image").str.ends_with("id_00000023/shop_02.jpg"), named=True)
    assert (alone["split"], alone["pairs"]) == ("train", [])
    assert report.warnings["image_without_pair"] == 1
    assert rejected.filter(pl.col("rule") == "no_split").select("source_file", "source_line").rows() == [
        (BOXES, 14),
        (BOXES, 15),
    ]


def test_landmark_list_alone_gives_rows_without_boxes(raw, tmp_path):
    (raw / BOXES).unlink()
    report, table, _ = run(raw, tmp_path / "out")
    assert read_metadata(tmp_path / "out/table.parquet")["column_groups"] == [
        "attributes", "landmarks", "item", "domain", "pairs", "variation",
    ]  # fmt: skip
    assert set(table["source_file"]) == {LANDMARKS}
    assert report.splits == {"train": 6, "val_query": 1, "query": 2, "gallery": 1}
    assert table["domain"].value_counts().sort("domain").rows() == [("consumer", 6), ("shop", 4)]


def test_box_list_alone_gives_rows_without_landmarks(raw, tmp_path):
    (raw / LANDMARKS).unlink()
    _, table, _ = run(raw, tmp_path / "out")
    assert read_metadata(tmp_path / "out/table.parquet")["column_groups"] == [
        "attributes",
        "box",
        "item",
        "domain",
        "pairs",
    ]
    assert table.height == 10


def test_partition_alone_is_one_sentence(raw, tmp_path):
    (raw / BOXES).unlink()
    (raw / LANDMARKS).unlink()
    with pytest.raises(UsageError, match="the partition lists pairs only"):
        run(raw, tmp_path / "out")


@pytest.mark.parametrize("files", [(PARTITION,), (BOXES,), (PARTITION, BOXES, LANDMARKS)])
def test_repaired_spelling_of_lists_is_undone(raw, tmp_path, files):
    for name in files:
        (raw / name).write_text((raw / name).read_text().replace("comsumer_", "consumer_"))
    report, table, _ = run(raw, tmp_path / "out")
    assert report.warnings["repaired_spelling"] == len(files)
    assert table.filter(pl.col("image").str.contains("consumer_")).height == 0
    assert (report.kept, report.rejected) == (10, 3)


@pytest.mark.parametrize(
    ("old", "new"), [("comsumer_01.jpg", "consumer_01.jpg"), ("TOPS/Summer_Wear", "TOPS/Summer_Suit")]
)
def test_images_are_found_under_the_other_spelling(tmp_path, old, new):
    raw = tmp_path / "raw"
    shutil.copytree(TREE, raw)
    for path in sorted(raw.glob("img/*/*") if "/" in old else raw.glob("img/*/*/*/*")):
        name = path.relative_to(raw / "img").as_posix()
        if old in name:
            path.rename(raw / "img" / name.replace(old, new))
    for path in (raw / "img").rglob("comsumer_*"):
        path.rename(path.with_name(path.name.replace("comsumer", new.partition("_")[0] if "." in old else "comsumer")))
    report, table, _ = run(raw, tmp_path / "out", check_images="header")
    assert (report.kept, report.rejected_by_rule) == (10, {"box_inverted": 1, "no_split": 2})
    assert any(new.partition("_")[0] in note for note in report.notes)
    assert table.filter(pl.col("image").str.contains(new, literal=True)).height > 0
    images = set(table["image"])
    partners = set(table["pairs"].explode().drop_nulls())
    assert {image for image in partners - images if "comsumer_03" not in image and "consumer_03" not in image} == set()


PAIR_DEFECTS = [
    ("id_00001704 val", "id_00001705 val", "item_path_mismatch"),
    ("id_00001704 val", "id_00001704 valid", "unknown_split"),
    ("id_00001704 val", "id_00001704", "wrong_columns"),
    ("id_00001704/comsumer_01.jpg", "id_00001704/shop_02.jpg", "not_a_pair"),
    ("DRESSES/Lace_Dress/id_00001704/shop_01.jpg", "DRESSES/id_00001704/shop_01.jpg", "unexpected_path"),
    ("img/DRESSES/Lace_Dress/id_00001704/comsumer", "/img/DRESSES/Lace_Dress/id_00001704/comsumer", "absolute_path"),
]


@pytest.mark.parametrize(("old", "new", "rule"), PAIR_DEFECTS)
def test_bad_pair_is_rejected_by_itself(raw, tmp_path, old, new, rule):
    text = " ".join((raw / PARTITION).read_text().replace("\n", " \n ").split(" "))
    (raw / PARTITION).write_text("\n".join(" ".join(line.split()) for line in text.split("\n") if line.strip()) + "\n")
    edit(raw / PARTITION, old, new)
    _, table, rejected = run(raw, tmp_path / "out")
    assert rejected.filter(pl.col("source_file") == PARTITION).select("rule", "row_line").rows() == [(rule, 6)]
    assert "id_00001704" not in set(table["item"])  # its only pair
    assert table.height == 8


def test_item_in_several_splits_is_held_out(raw, tmp_path):
    lines = (raw / PARTITION).read_text().split("\n")
    (raw / PARTITION).write_text("\n".join([*lines[:3], lines[3].replace("train", "test"), *lines[4:]]))
    report, table, _ = run(raw, tmp_path / "out")
    assert set(table.filter(pl.col("item") == "id_00000001")["split"]) == {"query", "gallery"}
    assert report.warning_examples["item_in_several_splits"] == [f"{PARTITION}:3"]


def test_pairs_of_images_that_no_list_names(raw, tmp_path):
    with (raw / PARTITION).open("a") as file:
        file.write(f"{SHIRT}/comsumer_09.jpg {SHIRT}/shop_01.jpg id_00000001 train\n")
        file.write(
            "img/TOPS/T_Shirt/id_00000009/comsumer_01.jpg img/TOPS/T_Shirt/id_00000009/shop_01.jpg id_00000009 train\n"
        )
        file.write(f"{SHIRT}/comsumer_02.jpg {SHIRT}/shop_01.jpg id_00000001 train\n")
    report, table, _ = run(raw, tmp_path / "out")
    counts = report.files[PARTITION]
    assert (counts["joined"], counts["left_out"]) == (8, 1)
    assert (report.warnings["pair_without_image"], report.warnings["repeated_row"]) == (2, 2)
    shop = table.row(by_predicate=pl.col("image") == f"{SHIRT}/shop_01.jpg", named=True)
    assert shop["pairs"] == [f"{SHIRT}/comsumer_01.jpg", f"{SHIRT}/comsumer_02.jpg"]


def test_names_that_stand_twice_get_what_tells_them_apart():
    rows = [("a", "Lace", "1"), ("b", "Lace", "2"), ("c", "Lace", "2"), ("d", "Slit", "1"), ("e", "Odd", "9")]
    expected = ["Lace (cut)", "Lace (cloth: b)", "Lace (cloth: c)", "Slit", "Odd"]
    assert attribute_names(rows, ["cut", "cloth"]) == expected


UNUSABLE = [
    (
        "Anno/list_attr_cloth.txt",
        "Puff Sleeves  18\r\n衬",
        "Puff Sleeves  17\r\n衬",
        r"list_attr_cloth.txt:298: 'Puff Sleeves",
    ),
    ("Anno/list_attr_cloth.txt", "Raglan  18", "Raglan 18", r"list_attr_cloth.txt:301: 2 columns, expected 3"),
    ("Anno/list_attr_type.txt", "fabric of clothes", "material", r"list_attr_type.txt:9: 'material', expected 'fabric"),
]


@pytest.mark.parametrize(("file", "old", "new", "message"), UNUSABLE)
def test_another_vocabulary_is_one_sentence(raw, tmp_path, file, old, new, message):
    edit(raw / file, old, new)
    with pytest.raises(UsageError, match=message):
        run(raw, tmp_path / "out")


def test_corrupt_box_list_of_four_bytes(raw, tmp_path):
    (raw / BOXES).write_bytes(b"\r\n\r\n")
    with pytest.raises(UsageError, match="no row that begins with the path of an image"):
        run(raw, tmp_path / "out")


def write_lists(raw: Path, boxes: list[str], pairs: list[str]) -> None:
    (raw / "Eval").mkdir(parents=True, exist_ok=True)
    (raw / "Anno").mkdir(exist_ok=True)
    (raw / BOXES).write_text(f"{len(boxes)}\nimage_name clothes_type source_type x_1 y_1 x_2 y_2\n" + "".join(boxes))
    (raw / PARTITION).write_text(
        f"{len(pairs)}\nimage_pair_name_1 image_pair_name_2 item_id evaluation_status\n" + "".join(pairs)
    )


@needs_real
def test_real_boxes_pairs_and_vocabularies(tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(REAL / "Anno", raw / "Anno")
    meta = pl.read_csv(REAL / "derived" / "meta_c2s_pairs_with_bbox.csv")
    boxes: dict[str, str] = {}
    for prefix, source, column in (("cons", 2, "consumer_path"), ("shop", 1, "shop_path")):
        corners = [f"{prefix}_{corner}" for corner in ("x1", "y1", "x2", "y2")]
        for name, *box in meta.select(column, *corners).rows():
            boxes[name] = f"{name:<70} 1 {source} {' '.join(f'{value:03d}' for value in box)}\n"
    pairs = (
        meta.select(pl.format("{} {} {} {}\n", "consumer_path", "shop_path", "item_id", "split")).to_series().to_list()
    )
    write_lists(raw, list(boxes.values()), pairs)
    report, table, rejected = run(raw, tmp_path / "out")
    assert (len(boxes), len(pairs)) == (10546, 14474)
    assert (report.kept, report.rejected_by_rule) == (10546, {})
    assert report.files[PARTITION]["joined"] == 14474
    accounts = {name: report.files[f"Anno/{name}.txt"]["joined"] for name in ("list_attr_cloth", "list_attr_type")}
    assert accounts == {"list_attr_cloth": 303, "list_attr_type": 18}
    assert report.files["Anno/list_item_consumer2shop.txt"]["joined"] == 33881
    assert report.warnings["item_without_image"] == 33881 - 1467
    assert report.warnings["repaired_spelling"] == 2
    assert rejected.height == 0
    by_split = dict(meta.group_by("split").agg(pl.col("consumer_path").n_unique()).rows())
    found = [report.splits[name] for name in ("query", "val_query")]
    assert found == [by_split["test"], by_split["val"]]
    directed = meta.select("consumer_path", "shop_path").unique().height
    assert table["pairs"].list.len().sum() == 2 * directed
    assert table["box"].explode().max() == 300  # 1-based 301


@needs_real
def test_real_pairs_of_shop_images(tmp_path):
    lines = (REAL / "derived" / "test_pairs_grouped_by_shop_image.txt").read_text().removesuffix("\n").split("\n")
    groups = [["img/" + path.rpartition("/img/")[2] for path in line.split("\t") if path] for line in lines]
    names = sorted({name for group in groups for name in group})
    boxes = [f"{name} 1 {1 if '/shop_' in name else 2} 001 001 200 200\n" for name in names]
    pairs = sorted({f"{one} {shop} {shop.split('/')[-2]} test\n" for shop, *others in groups for one in others})
    write_lists(tmp_path / "raw", boxes, pairs)
    report, table, _ = run(tmp_path / "raw", tmp_path / "out")
    assert len(lines) == 800
    assert (report.kept, report.rejected, report.files[PARTITION]["joined"]) == (len(names), 0, len(pairs))
    assert set(table["split"]) == {"query", "gallery"}
    assert "repaired_spelling" not in report.warnings
    assert table.filter(pl.col("image").str.contains("/comsumer_")).height == table["domain"].eq("consumer").sum() > 0


@needs_real
def test_vocabulary_is_the_real_one():
    lines = (REAL / "Anno" / "list_attr_cloth.txt").read_text("utf-8-sig").replace("\r\n", "\n").split("\n")[2:-1]
    names = [[part for part in line.split("  ") if part.strip()] for line in lines]
    rows = [[part.strip() for part in name] for name in names]
    known = vocabulary("deepfashion-consumer2shop-attribute-303")
    assert attribute_names(rows, list(known.groups)) == list(known.values)
    groups = {member: group for group, members in known.groups.items() for member in members}
    assert [list(known.groups).index(groups[index]) + 1 for index in range(303)] == [int(row[2]) for row in rows]
