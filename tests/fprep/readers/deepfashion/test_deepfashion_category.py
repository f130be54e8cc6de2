"""Category and Attribute reader: both trees, every list missing or edited, conflicting labels, and the real files."""

import os
import shutil
from pathlib import Path

import polars as pl
import pytest
from tests.trees import tree_of

from fprep.convert.command import convert
from fprep.raw.fingerprints import FINGERPRINTS, git_blob, known_version
from fschemas.failures import UsageError
from fschemas.table_file import read_metadata, read_table
from fschemas.vocabularies import vocabulary

TREE = tree_of("deepfashion-category")
REAL = Path(os.environ.get("FASHIONKIT_REAL", Path(__file__).parents[5] / "shared" / "real"))
BENCHMARK = REAL / "deepfashion_category_attribute"
needs_real = pytest.mark.skipif(not BENCHMARK.is_dir(), reason="the real lists are not here")
CATEGORIES = vocabulary("deepfashion-category-50")


def run(raw: Path, out: Path, **options):
    report = convert("deepfashion-category", [raw], out, **{"check_images": "none", "max_rejected": 1.0, **options})
    return report, pl.DataFrame(read_table(out / "table.parquet")), pl.DataFrame(read_table(out / "rejected.parquet"))


@pytest.fixture
def raw(tmp_path):
    return Path(shutil.copytree(TREE, tmp_path / "raw"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_columns_of_a_row(tmp_path, raw):
    report, table, _ = run(raw, tmp_path / "out")
    row = table.row(0, named=True)
    assert (row["key"], row["split"]) == ("Sheer_Pleated-Front_Blouse-img_00000001", "train")
    assert row["image"] == "Img/img/Sheer_Pleated-Front_Blouse/img_00000001.jpg"
    assert (row["category"], row["garment"], row["box"]) == ("Blouse", "upper", [0, 9, 59, 89])
    assert (row["attributes_positive"], row["attributes_unknown"]) == ([0, 13, 999], [5])
    assert row["landmark_x"] == [15, 41, 15, 41, 0, 0, 15, 41]
    assert row["landmark_y"] == [14, 14, 34, 34, 0, 0, 54, 54]
    assert row["landmark_visibility"] == [1, 2, 2, 2, -1, -1, 1, 2]
    cut_off = table.row(1, named=True)
    assert (cut_off["landmark_visibility"][7], cut_off["landmark_x"][7], cut_off["landmark_y"][7]) == (0, 0, 0)
    assert (row["source_file"], row["source_line"]) == ("Eval/list_eval_partition.txt", 3)
    assert "7 of 50 categories occur" in " ".join(report.notes)
    assert read_metadata(tmp_path / "out/table.parquet")["column_groups"] == [
        "category",
        "attributes",
        "box",
        "landmarks",
    ]


def test_paths_of_the_release_survive(tmp_path, raw):
    _, table, _ = run(raw, tmp_path / "out", check_images="full")
    images = table["image"].to_list()
    assert "Img/img/Piqu&eacute;_Bodycon_Dress/img_00000003.jpg" in images
    assert "Img/img/Women's_St._John,_Tee/img_00000005.jpg" in images
    assert max(len(image) - len("Img/") for image in images) == 71
    assert table["key"].str.contains("^[A-Za-z0-9_-]+$").all()


def test_old_release(tmp_path, raw):
    _, present, _ = run(raw, tmp_path / "a")
    (raw / "Anno_coarse").rename(raw / "Anno")
    (raw / "Img" / "img").rename(raw / "img")
    _, old, _ = run(raw, tmp_path / "b")
    assert old.drop("image", "group").equals(present.drop("image", "group"))
    assert old["image"].to_list() == present["image"].str.strip_prefix("Img/").to_list()


def test_two_given_folders_are_one_benchmark(tmp_path, raw):
    out = tmp_path / "out"
    report = convert(
        "deepfashion-category", [raw / "Anno_coarse", raw / "Eval"], out, check_images="none", max_rejected=1.0
    )
    assert report.kept == 9
    assert read_table(out / "table.parquet")["image"][0].as_py().startswith("Img/img/")


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("list_category_img.txt", ["attributes", "box", "landmarks"]),
        ("list_attr_img.txt", ["category", "box", "landmarks"]),
        ("list_bbox.txt", ["category", "attributes", "landmarks"]),
        ("list_landmarks.txt", ["category", "attributes", "box"]),
    ],
)
def test_a_missing_list_is_a_missing_group(tmp_path, raw, name, groups):
    (raw / "Anno_coarse" / name).unlink()
    report, _, _ = run(raw, tmp_path / "out")
    assert read_metadata(tmp_path / "out/table.parquet")["column_groups"] == groups
    assert f"Anno_coarse: {name} missing; the table is written without" in report.notes


def test_missing_partition_is_one_sentence(tmp_path, raw):
    (raw / "Eval" / "list_eval_partition.txt").unlink()
    with pytest.raises(
        UsageError, match=r"Anno_coarse: Eval/list_eval_partition\.txt is missing, which lists the splits"
    ):
        run(raw, tmp_path / "out")


def test_folder_without_lists_is_one_sentence(tmp_path):
    with pytest.raises(UsageError, match=r"no list_category_img\.txt or list_attr_img\.txt here"):
        run(tmp_path, tmp_path / "out")


def test_nothing_outside_the_given_folders_is_read(tmp_path, raw):
    with pytest.raises(UsageError, match=r"choose the folder above"):
        run(raw / "Anno_coarse", tmp_path / "out")


DEFECTS = [
    (
        "list_category_img.txt",
        "00000001.jpg                        3",
        "00000001.jpg  32",
        "garment_mismatch",
        "list_landmarks.txt:3",
    ),
    (
        "list_category_img.txt",
        "00000001.jpg                        3",
        "00000001.jpg  0",
        "unknown_category",
        "list_category_img.txt:3",
    ),
    ("list_bbox.txt", "001 010 060 090", "001 010 060 09O", "bad_cell", "list_bbox.txt:3"),
    ("list_landmarks.txt", "1  1 016 015", "1  3 016 015", "bad_visibility", "list_landmarks.txt:3"),
    ("list_landmarks.txt", "1  1 016 015", "4  1 016 015", "bad_clothes_type", "list_landmarks.txt:3"),
    ("list_landmarks.txt", "1  1 016 015", "1  1 016", "wrong_columns", "list_landmarks.txt:3"),
    (
        "list_attr_img.txt",
        "00000001.jpg                         1 -1",
        "00000001.jpg  1 -1 -1",
        "wrong_columns",
        "list_attr_img.txt:3",
    ),
    (
        "list_attr_img.txt",
        "00000001.jpg                         1 -1",
        "00000001.jpg  1 - 1",
        "bad_cell",
        "list_attr_img.txt:3",
    ),
]


@pytest.mark.parametrize(("name", "old", "new", "rule", "place"), DEFECTS)
def test_defect_is_rejected_where_it_is(tmp_path, raw, name, old, new, rule, place):
    before, _, _ = run(raw, tmp_path / "before")
    edit(raw / "Anno_coarse" / name, old, new)
    report, _, rejected = run(raw, tmp_path / "out")
    row = rejected.row(0, named=True)
    assert (row["rule"], f"{row['source_file']}:{row['source_line']}") == (rule, f"Anno_coarse/{place}")
    assert (row["row_file"], row["row_line"]) == ("Eval/list_eval_partition.txt", 3)
    assert (report.kept, report.rejected) == (before.kept - 1, before.rejected + 1)


def test_labels_that_the_folder_denies_are_warned_of(tmp_path, raw):
    edit(
        raw / "Anno_coarse/list_category_img.txt", "00000001.jpg                        3", "00000001.jpg  1"
    )  # Anorak
    report, _, _ = run(raw, tmp_path / "out")
    assert report.warnings["category_differs_from_folder"] == 1
    assert report.warning_examples["category_differs_from_folder"] == ["Anno_coarse/list_category_img.txt:3: Anorak"]


def test_merged_category_is_warned_of(tmp_path, raw):
    edit(raw / "Anno_coarse/list_category_img.txt", "00000003.jpg                        41", "00000003.jpg  50")
    report, _, _ = run(raw, tmp_path / "out")
    assert report.warnings["merged_category"] == 1


def test_folders_that_differ_in_case_are_warned_of(tmp_path, raw):
    for path in raw.rglob("*.txt"):
        text = path.read_text()
        path.write_text(
            text.replace("img/Denim_Jeans/img_00000009", "img/denim_Jeans/img_00000009").replace(
                "050 079 009 012", "9 9 50 50"
            )
        )
    report, _, _ = run(raw, tmp_path / "out")
    assert report.warning_examples["folders_differ_in_case"] == ["img/Denim_Jeans and img/denim_Jeans"]


EDITED = {
    "tab separated": (lambda text: text.partition("\n")[2].replace("  ", "\t"), ""),
    "empty count line": (lambda text: "\n" + text.partition("\n")[2], ""),
    "46 rows": (lambda text: text.replace("Cape           3\n", ""), "'Coat' of type 3, expected 'Cape' of type 3"),
    "another type": (
        lambda text: text.replace("Cape           3", "Cape           1"),
        "'Cape' of type 1, expected 'Cape' of type 3",
    ),
    "cut": (lambda text: text[: text.index("Robe")], "46 names, the released list has 50"),
    "one more": (lambda text: text + "Sari           3\n", "'Sari' of type 3, expected '' of type"),
}


@pytest.mark.parametrize("case", EDITED)
def test_edited_list_of_categories(tmp_path, raw, case):
    change, message = EDITED[case]
    path = raw / "Anno_coarse/list_category_cloth.txt"
    path.write_text(change(path.read_text()))
    if message:
        with pytest.raises(UsageError, match=rf"list_category_cloth\.txt:?\d*: {message}.*restore the file"):
            run(raw, tmp_path / "out")
    else:
        report, _, _ = run(raw, tmp_path / "out")
        assert report.warnings["edited_list"] == 1


@needs_real
def test_fingerprints_of_the_real_lists():
    for name in ("list_category_cloth.txt", "list_attr_cloth.txt"):
        path = BENCHMARK / "Anno_coarse" / name
        version = known_version(path)
        assert version is not None
        assert (version.reader, version.git_blob, version.num_bytes) == (
            "deepfashion-category",
            git_blob(path),
            path.stat().st_size,
        )
        assert version.edited == ""
    assert all(version.reader for versions in FINGERPRINTS.values() for version in versions)


@needs_real
@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "count50_but_46_rows",
            "'Coat' of type 3, expected 'Cape' of type 3; it is a copy that somebody edited: 46 of the 50",
        ),
        ("empty_count_line", ""),
        ("tab_separated_no_count_line", ""),
    ],
)
def test_real_edited_lists(tmp_path, raw, name, message):
    shutil.copy(
        BENCHMARK / f"edited_variants/list_category_cloth__{name}.txt", raw / "Anno_coarse/list_category_cloth.txt"
    )
    (raw / "Anno_coarse/list_category_cloth.txt").chmod(0o644)
    if message:
        with pytest.raises(UsageError, match=message):
            run(raw, tmp_path / "out")
    else:
        report, _, _ = run(raw, tmp_path / "out")
        assert "it is a copy that somebody edited: " in report.warning_examples["edited_list"][0]


@needs_real
def test_real_first_rows(tmp_path):
    rows = (BENCHMARK / "Anno_coarse/list_category_img__first_rows.txt").read_text()
    for folder in ("Anno_coarse", "Eval"):
        (tmp_path / "raw" / folder).mkdir(parents=True)
    (tmp_path / "raw/Anno_coarse/list_category_img.txt").write_text(rows)
    for name in ("list_category_cloth.txt", "list_attr_cloth.txt"):
        shutil.copy(BENCHMARK / "Anno_coarse" / name, tmp_path / "raw/Anno_coarse" / name)
    header, *names = [line.split()[0] for line in rows.split("\n")[1:] if line]
    splits = ("train", "train", "val", "train", "test", "train", "test")
    partition = [f"{name:<70} {split}" for name, split in zip(names, splits, strict=False)]
    text = "\n".join([str(len(names)), f"{header:<70} evaluation_status", *partition])
    (tmp_path / "raw/Eval/list_eval_partition.txt").write_text(text)
    report, table, _ = run(tmp_path / "raw", tmp_path / "out")
    assert (report.kept, report.rejected) == (len(names), 0) == (6, 0)
    assert table["category"].unique().to_list() == ["Blouse"]
    assert report.warnings["count_differs"] == 1  # an excerpt


@needs_real
def test_real_test_set(tmp_path):
    """All 40,000 test images with their categories, from a public copy; the lists are reconstructed from them."""
    tsv = (BENCHMARK / "derived/coarse_test_40000_category_and_path.tsv").read_text().split("\n")
    pairs = [line.split("\t") for line in tsv[1:] if line]
    assert len(pairs) == 40_000
    for folder in ("Anno_coarse", "Eval"):
        (tmp_path / "raw" / folder).mkdir(parents=True)
    shutil.copy(BENCHMARK / "Anno_coarse/list_category_cloth.txt", tmp_path / "raw/Anno_coarse")
    for path, header, values in (
        (
            "Anno_coarse/list_category_img.txt",
            "category_label",
            [str(CATEGORIES.ids[category] + 1) for category, _ in pairs],
        ),
        ("Eval/list_eval_partition.txt", "evaluation_status", ["test"] * len(pairs)),
    ):
        rows = [f"{name:<70} {value}" for (_, name), value in zip(pairs, values, strict=True)]
        (tmp_path / "raw" / path).write_text("\n".join([str(len(rows)), f"{'image_name':<70} {header}", *rows, ""]))
    report, table, _ = run(tmp_path / "raw", tmp_path / "out")
    assert (report.kept, report.rejected, report.splits) == (40_000, 0, {"test": 40_000})
    assert table["category"].to_list() == [category for category, _ in pairs]
    assert "46 of 50 categories occur" in " ".join(report.notes)
    assert "category_differs_from_folder" not in report.warnings
    assert table["key"].n_unique() == 40_000
    assert report.files["Eval/list_eval_partition.txt"]["kept"] == 40_000
    assert report.warnings == {"totals_differ": 3}
