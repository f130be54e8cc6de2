"""`convert --group-split`: groups stay together, shares are met, and nothing depends on the order of rows."""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from tests.audit_tables import jpeg, photograph

from fprep.audit.command import audit
from fprep.convert.command import convert
from fprep.convert.group_split import connected, near_rows, split_by_groups
from fschemas.landmarks import FASHIONAI_24
from fschemas.table_file import read_metadata, read_table


def frame_of(**columns) -> pl.DataFrame:
    length = len(next(iter(columns.values())))
    base = {"image": [f"img/{row}.jpg" for row in range(length)], "sha256": [f"{row:064x}" for row in range(length)],
            "split": ["train"] * length}  # fmt: skip
    frame = pl.DataFrame({**base, **columns})
    return frame.with_columns(group=pl.col("group") if "group" in columns else pl.col("image"))


def test_connected_parts_against_a_plain_search():
    generator = np.random.default_rng(0)
    for _ in range(20):
        edges = [tuple(pair) for pair in generator.integers(0, 200, (120, 2)).tolist()]
        neighbors = defaultdict(set)
        for a, b in edges:
            neighbors[a].add(b)
            neighbors[b].add(a)
        expected = [-1] * 200
        for start in range(200):
            stack = [start] if expected[start] < 0 else []
            while stack:
                row = stack.pop()
                if expected[row] < 0:
                    expected[row] = start
                    stack += neighbors[row]
        assert connected(200, edges).tolist() == expected
    assert connected(1000, [(row, row + 1) for row in range(999)]).max() == 0
    assert connected(3, []).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("columns", "pairs"),
    [
        ({"group": ["a", "a", "b", "b", "c", "d"]}, [(1, 2)]),
        ({"item": ["", "x", "x", "", "y", "y"]}, [(0, 1), (3, 4)]),
        ({"sha256": ["1", "1", "1", "2", "2", "3"]}, [(3, 0)]),
        ({"pairs": [["img/1.jpg", "img/2.jpg"], [], [], ["img/5.jpg"], [], []]}, []),
        ({"image": ["p", "p", "q", "r", "r", "s"], "group": list("abcdef")}, []),
    ],
)
def test_what_belongs_together_stays_together(columns, pairs):
    """Many copies of a small pattern, so that every way to separate it would be seen."""
    copies = 40
    spread = {name: [f"{value}/{copy}" if value else value for copy in range(copies) for value in values] if name != "pairs"
              else [[f"img/{int(path[4:-4]) + 6 * copy}.jpg" for path in value] for copy in range(copies) for value in values]
              for name, values in columns.items()}  # fmt: skip
    rows = frame_of(**spread)
    edges = [(a + 6 * copy, b + 6 * copy) for copy in range(copies) for a, b in pairs]
    cut = split_by_groups(rows, val_share=0.2, test_share=0.2, pairs=edges)
    frame = rows.with_columns(new=pl.Series(cut.splits), part=pl.Series(cut.groups))
    for name in ("group", "item", "sha256", "image"):
        if name in frame.columns:
            parted = (
                frame.filter(pl.col(name) != "").group_by(name).agg(pl.col("new").n_unique(), pl.col("part").n_unique())
            )
            assert parted.select("new", "part").max().row(0) == (1, 1)
    assert all(cut.splits[a] == cut.splits[b] for a, b in edges)
    if "pairs" in columns:
        split = dict(frame.select("image", "new").rows())
        assert all(split[path] == new for paths, new in frame.select("pairs", "new").rows() for path in paths)
    assert set(cut.splits) == {"train", "val", "test"}


@pytest.mark.parametrize("largest", [1, 30, 700])
def test_shares_are_met(largest):
    """Even if one group is larger than a share: it goes to train."""
    groups = [f"g{row}" if row >= largest else "large" for row in range(1000)]
    cut = split_by_groups(frame_of(group=groups), val_share=0.1, test_share=0.15)
    counts = {split: cut.splits.count(split) for split in ("val", "test")}
    assert abs(counts["val"] - 100) <= 15
    assert abs(counts["test"] - 150) <= 15
    assert cut.splits[0] == "train" or largest < 100


def test_classes_are_spread_over_the_splits():
    """A hash alone put all three folders of a class into test, so that a quarter of test could not be classified."""
    folders = {"Dress": 23, "Top": 20, "Shorts": 10, "Blouse": 3, "Tee": 2, "Sweater": 1}
    rows = [
        (name, f"{name}/{folder}") for name, number in folders.items() for folder in range(number) for _ in range(40)
    ]
    frame = frame_of(category=[name for name, _ in rows], group=[group for _, group in rows])
    cut = split_by_groups(frame, val_share=0.1, test_share=0.3)
    found = frame.with_columns(new=pl.Series(cut.splits)).group_by("category", "new").agg(pl.col("group").n_unique())
    numbers = {(name, split): number for name, split, number in found.rows()}
    assert {(name, "train") for name in folders} <= numbers.keys()
    assert {name for name, split in numbers if split == "test"} == set(folders) - {"Sweater"}
    assert numbers["Dress", "test"] in (6, 7, 8)
    assert abs(cut.splits.count("test") / len(rows) - 0.3) < 0.03
    assert abs(cut.splits.count("val") / len(rows) - 0.1) < 0.03


def test_looks_that_chain_everything_cost_their_rows_instead():
    """As in results of text searches: the same image is returned for different words."""
    groups = [f"g{row // 10}" for row in range(400)]
    pairs = [(10 * group, 10 * group + 10) for group in range(39)]
    cut = split_by_groups(frame_of(group=groups), val_share=0.1, test_share=0.2, pairs=pairs)
    assert cut.groups == groups
    assert {name: cut.splits.count(name) for name in ("val", "test")} == {"val": 40, "test": 80}
    gone, order = {row for row, _ in cut.twins}, ("train", "val", "test")
    assert all(order.index(cut.splits[row]) < order.index(cut.splits[other]) for row, other in cut.twins)
    assert all(cut.splits[a] == cut.splits[b] or {a, b} & gone for a, b in pairs)
    assert 0 < len(gone) < 39
    assert f"rejected for looking like a row of a more held-out split: {len(gone)} row" in cut.note
    whole = split_by_groups(frame_of(group=groups), val_share=0.1, test_share=0.2, pairs=pairs[:5])
    assert whole.twins == []
    assert len(set(whole.groups)) == 35


def test_order_of_the_rows_does_not_matter():
    groups = [f"g{row // 3}" for row in range(300)]
    frame = frame_of(group=groups)
    order = np.random.default_rng(1).permutation(300)
    one = split_by_groups(frame, val_share=0.2, test_share=0.2)
    two = split_by_groups(frame[order.tolist()], val_share=0.2, test_share=0.2)
    assert [one.splits[row] for row in order] == two.splits


def test_query_and_gallery_share_items_but_not_with_train():
    items = [f"i{row // 4}" for row in range(400)]
    splits = [("train", "query", "gallery", "train")[row % 4] for row in range(400)]
    cut = split_by_groups(frame_of(item=items, split=splits), val_share=0.0, test_share=0.3)
    sides = defaultdict(set)
    for item, split in zip(items, cut.splits, strict=True):
        sides[item].add(split)
    assert {frozenset(found) for found in sides.values()} == {frozenset({"train"}), frozenset({"query", "gallery"})}
    assert cut.splits.count("query") == sum(found == {"query", "gallery"} for found in sides.values())
    domains = ["consumer", "shop", "shop", "consumer"] * 100
    asked = split_by_groups(frame_of(item=items, split=splits, domain=domains), val_share=0.0, test_share=0.3).splits
    assert {(domain, split) for domain, split in zip(domains, asked, strict=True) if split != "train"} == {
        ("consumer", "query"), ("shop", "gallery"),
    }  # fmt: skip


def test_unlabeled_rows_stay():
    cut = split_by_groups(frame_of(split=["unlabeled", *["train"] * 30]), val_share=0.3, test_share=0.3)
    assert cut.splits[0] == "unlabeled"
    assert "unlabeled" not in cut.splits[1:]


@pytest.fixture
def raw(tmp_path):
    """Sixty images, half of them smaller copies of another one: a split by image would separate about ten pairs."""
    folder = tmp_path / "raw"
    (folder / "Images/skirt").mkdir(parents=True)
    points = [f"{20 + k}_{30 + k}_1" if k in FASHIONAI_24.garments["skirt"] else "-1_-1_-1" for k in range(24)]
    rows = [["image_id", "image_category", *FASHIONAI_24.names]]
    for number in range(60):
        image = photograph(number % 30)
        name = f"Images/skirt/{hashlib.md5(str(number).encode()).hexdigest()}.jpg"
        (folder / name).write_bytes(jpeg(image if number < 30 else image.resize((108, 180), Image.Resampling.BICUBIC)))
        rows.append([name, "skirt", *points])
    with open(folder / "train.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    return folder


def leaks(folder: Path) -> int:
    return audit([folder], dry_run=True).num_leaks


def test_convert_makes_a_split_without_leaks(raw, tmp_path):
    convert("fashionai-keypoints", [raw], tmp_path / "plain", check_images="header", val_share=0.2, test_share=0.2)
    assert leaks(tmp_path / "plain") > 0
    report = convert(
        "fashionai-keypoints",
        [raw],
        tmp_path / "cut",
        check_images="header",
        val_share=0.2,
        test_share=0.2,
        group_split=True,
    )
    assert leaks(tmp_path / "cut") == 0
    assert set(report.splits) == {"train", "val", "test"}
    assert any(note.startswith("--group-split: 60 rows in 30 parts") for note in report.notes)
    assert read_metadata(tmp_path / "cut/table.parquet")["options"]["group_split"] is True
    frame = pl.DataFrame(read_table(tmp_path / "cut/table.parquet"))
    assert frame["group"].n_unique() == 30
    assert len(near_rows(frame, raw, follow_links=False, workers=0, progress=lambda *_: None)) == 30


def test_without_images_groups_are_all_that_is_known(raw, tmp_path):
    report = convert("fashionai-keypoints", [raw], tmp_path / "cut", check_images="none", group_split=True)
    assert any("60 rows in 60 parts" in note for note in report.notes)


def test_rows_that_look_like_a_held_out_one_are_rejected(tmp_path):
    """Twelve folders of four images; each shares an image with the next one, in another size."""
    for folder in range(12):
        place = tmp_path / f"raw/{folder:02}_Dress"
        place.mkdir(parents=True)
        for number in range(3):
            (place / f"{number}.jpg").write_bytes(jpeg(photograph(4 * folder + number)))
        shared = photograph(4 * ((folder + 1) % 12)).resize((108, 180), Image.Resampling.BICUBIC)
        (place / "3.jpg").write_bytes(jpeg(shared))
    report = convert(
        "folders", [tmp_path / "raw"], tmp_path / "cut", mapping={"item": "folder"}, val_share=0.1, test_share=0.3,
        group_split=True, max_rejected=0.5,
    )  # fmt: skip
    assert leaks(tmp_path / "cut") == 0
    rejected = pl.DataFrame(read_table(tmp_path / "cut/rejected.parquet"))
    assert set(rejected["rule"]) == {"leaked_twin"}
    assert len(rejected) == report.rejected > 0
    assert "looks like" in rejected["message"][0]
    assert pl.DataFrame(read_table(tmp_path / "cut/table.parquet"))["group"].n_unique() == 12
