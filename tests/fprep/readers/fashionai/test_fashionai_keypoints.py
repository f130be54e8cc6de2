"""FashionAI keypoint reader: archive layouts, cells and splits; with planted defects, every row is accounted for."""

import hashlib
import io
import json
import os
import random
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageOps

from fprep.convert.command import convert
from fprep.convert.splits import cut_train
from fprep.synthetic.command import find_sample
from fschemas.failures import RejectedError, UsageError
from fschemas.landmarks import FASHIONAI_24, Visibility
from fschemas.table_file import read_table

REAL = Path(os.environ.get("FASHIONKIT_REAL", Path(__file__).parents[5] / "shared" / "real")) / "fashionai_keypoints"
HEADER = ",".join(("image_id", "image_category", *FASHIONAI_24.names))
READER = "fashionai-keypoints"


def name_of(number: int, garment: str) -> str:
    return f"Images/{garment}/{hashlib.md5(str(number).encode()).hexdigest()}.jpg"


def row(number: int, garment: str = "blouse", **cells: str) -> str:
    """A labeled row: keypoint k is at (10 + k, 20 + number), visible; `cells` replaces some."""
    valid = FASHIONAI_24.garments[garment]
    default = [f"{10 + k}_{20 + number % 50}_1" if k in valid else "-1_-1_-1" for k in range(len(FASHIONAI_24))]
    values = [cells.get(point, default[k]) for k, point in enumerate(FASHIONAI_24.names)]
    return ",".join([cells.get("image_id", name_of(number, garment)), cells.get("image_category", garment), *values])


def write_csv(path: Path, rows: list[str], header: str | None = HEADER) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}\n" for line in ([header] if header else []) + rows).encode())
    return path


def write_image(path: Path, shade: int) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((90, 80, 3), shade, np.uint8)).save(buffer, "JPEG")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())


def run(raw: Path | list[Path], out: Path, **options):
    options = {"check_images": "none", "max_rejected": 1.0, **options}
    report = convert(READER, raw if isinstance(raw, list) else [raw], out, **options)
    return report, pl.DataFrame(read_table(out / "table.parquet")), pl.DataFrame(read_table(out / "rejected.parquet"))


def test_cells_become_pixels_and_visibility(tmp_path):
    cells = {"neckline_left": "0_0_1", "neckline_right": "512_7_0", "cuff_left_in": "-1_-1_-1"}
    path = write_csv(tmp_path / "train.csv", [row(1, "blouse", **cells)])
    _, table, _ = run(path, tmp_path / "out")
    x, y, visibility = (table[f"landmark_{name}"][0].to_list() for name in ("x", "y", "visibility"))
    index = FASHIONAI_24.names.index
    assert (x[0], y[0], visibility[0]) == (0, 0, Visibility.VISIBLE)
    assert (x[1], y[1], visibility[1]) == (512, 7, Visibility.OCCLUDED)
    assert visibility[index("cuff_left_in")] == Visibility.ABSENT
    assert visibility[index("crotch")] == Visibility.NOT_APPLICABLE
    assert x[index("cuff_left_in")] == y[index("crotch")] == 0
    assert table["key"][0] == "blouse-" + hashlib.md5(b"1").hexdigest()


DEFECTS = {
    "bad_cell": [{"crotch": ""}, {"crotch": "1_2"}, {"crotch": "1_000_2_1"}, {"crotch": "nan_2_1"}, {"crotch": "1.5_2_1"},
                 {"crotch": "٣_2_1"}, {"crotch": "1_ 2_1"}, {"neckline_left": "-1_5_1"}, {"neckline_left": "5_5_-1"},
                 {"crotch": "1_2_1\x0b"}, {"neckline_left": "123456_1_1"}, {"image_id": ""}],
    "bad_visibility": [{"neckline_left": "5_5_2"}, {"neckline_left": "5_5_-2"}, {"neckline_left": "5_5_01"}],
    "wrong_columns": [{"crotch": "1_2_1,1_2_1"}, {"image_id": "a,b"}],
    "quoted_row": [{"image_id": '"Images/blouse/a.jpg'}, {"image_id": 'Images/blouse/a".jpg'}],
    "unknown_category": [{"image_category": "Blouse"}, {"image_category": "shoe"}],
    "category_folder_mismatch": [{"image_category": "dress", "armpit_left": "1_1_1"}, {"image_id": "blouse.jpg"}],
    "path_escape": [{"image_id": "Images/../blouse/a.jpg"}, {"image_id": "Images\\..\\blouse\\a.jpg"}],
    "absolute_path": [{"image_id": "/etc/blouse/a.jpg"}, {"image_id": "C:/blouse/a.jpg"}, {"image_id": "http://a/blouse/a.jpg"}],
    "bad_path": [{"image_id": "Images/blouse/a\x00.jpg"}, {"image_id": "Images//blouse/a.jpg"}, {"image_id": "Images/blouse/"},
                 {"image_id": "Images/blouse/a\u2028.jpg"}, {"image_id": "Images/blouse/" + "x" * 300 + ".jpg"}],
    "not_applicable_point": [{"crotch": "5_5_1"}],
    "point_outside": [{"neckline_left": "-7_5_1"}, {"neckline_left": "5_-2_0"}],
}  # fmt: skip


@pytest.mark.parametrize(("rule", "cells"), [(rule, cells) for rule, variants in DEFECTS.items() for cells in variants])
def test_defect_is_rejected_at_its_line(tmp_path, rule, cells):
    path = write_csv(tmp_path / "train.csv", [row(1), row(2, **cells), row(3)])
    _, table, rejected = run(path, tmp_path / "out")
    assert table["source_line"].to_list() == [2, 4]
    assert rejected.select("rule", "source_file", "source_line").rows() == [(rule, "train.csv", 3)]


def test_fuzzed_files_lose_no_good_row_and_let_no_bad_one_in(tmp_path):
    """60 files of 12 rows with planted defects, some with CRLF, byte order mark, blank line or no final newline."""
    rng = random.Random(11)
    defects = [(rule, cells) for rule, variants in DEFECTS.items() for cells in variants]
    for trial in range(60):
        lines, good, bad, blank = [HEADER.encode()], [], [], 0
        for number in range(12):
            garment = rng.choice(list(FASHIONAI_24.garments))
            kind = rng.random()
            if kind < 0.3:
                rule, cells = rng.choice(defects)
                lines.append(row(trial * 100 + number, "blouse", **cells).encode())
                bad.append((len(lines), rule))
            elif kind < 0.35:
                lines.append(row(number).encode() + b"\xff")
                bad.append((len(lines), "bad_encoding"))
            elif kind < 0.4:
                lines.append(b" " * rng.randrange(3))
                blank += 1
            else:
                lines.append(row(trial * 100 + number, garment).encode())
                good.append(len(lines))
        end = rng.choice([b"\n", b"\r\n"])
        content = rng.choice([b"", b"\xef\xbb\xbf"]) + end.join(lines) + rng.choice([b"", end])
        path = tmp_path / f"{trial}.csv"
        path.write_bytes(content)
        if not good:
            continue
        report, table, rejected = run(path, tmp_path / "out")
        assert table["source_line"].to_list() == good
        found = rejected.filter(pl.col("rule") != "duplicate_row").select("source_line", "rule").rows()
        expected = [(line, rule) for line, rule in bad]
        assert [line for line, _ in found] == [line for line, _ in expected]
        assert dict(found) == dict(expected)
        trailing = int(not content.endswith(b"\n") and lines[-1].strip() == b"" and lines[-1] == b"")
        assert report.blank == blank - trailing


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\n \n", "only blank lines"),
        (HEADER.encode("utf-16"), "UTF-16"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 80, "binary"),
        (b"image_id,label\nImages/a.jpg,x\n", "column 2 of the header is 'label', expected 'image_category'"),
        ((HEADER + ",extra\n").encode(), "27 columns, expected 26"),
        (b"just some text\n", "column 1 of the header is 'just some text'"),
    ],
)
def test_file_of_another_shape_is_one_sentence(tmp_path, content, message):
    path = tmp_path / "train.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        run(path, tmp_path / "out")
    assert str(caught.value).startswith("train.csv")
    assert not any((tmp_path / "out").iterdir())


def test_folder_without_annotation(tmp_path):
    (tmp_path / "raw").mkdir()
    with pytest.raises(UsageError, match=r"expected Annotations/train\.csv"):
        run(tmp_path / "raw", tmp_path / "out")


def test_header_less_copy(tmp_path):
    path = write_csv(tmp_path / "val.txt", [row(number) for number in range(4)], header=None)
    report, table, _ = run(path, tmp_path / "out")
    assert (report.kept, report.header, report.warnings["no_header"]) == (4, 0, 1)
    assert table["source_line"].to_list() == [1, 2, 3, 4]


def test_long_line_is_rejected(tmp_path):
    path = write_csv(tmp_path / "train.csv", [row(1), row(2, crotch="1" * (1 << 20)), row(3)])
    report, _, rejected = run(path, tmp_path / "out")
    assert (report.kept, rejected["rule"].to_list()) == (2, ["line_too_long"])
    assert len(rejected["raw"][0]) == 4096


@pytest.fixture
def archives(tmp_path):
    """Train, warm-up and test archives, with an answer file for one of two test rows next to them."""
    train = tmp_path / "fashionAI_key_points_train_20180227"
    warm_up = tmp_path / "fashionAI_key_points_train_warm_up_20180222"
    test = tmp_path / "fashionAI_key_points_test_a_20180227"
    for number in range(8):
        write_image(train / name_of(number, "blouse"), 20 * number)
    write_csv(train / "Annotations" / "train.csv", [row(number) for number in range(8)])
    write_image(warm_up / name_of(0, "blouse"), 0)  # the same bytes as in train
    write_image(warm_up / name_of(10, "dress"), 220)
    write_csv(warm_up / "Annotations" / "annotations.csv", [row(0), row(10, "dress")])
    write_image(test / name_of(20, "skirt"), 100)  # the bytes of train image 5
    write_image(test / name_of(21, "skirt"), 240)
    rows = [f"{name_of(number, 'skirt')},skirt" for number in (20, 21)]
    write_csv(test / "test.csv", rows, header="image_id,image_category")
    answer = write_csv(tmp_path / "fashionAI_key_points_test_a_answer_20180426.csv", [row(20, "skirt")])
    return train, warm_up, test, answer


def test_several_archives_together(archives, tmp_path):
    report, table, rejected = run(list(archives), tmp_path / "out", check_images="full", val_share=0.3)
    assert {row["rule"]: row["source_file"] for row in rejected.to_dicts()} == {
        "duplicate_image": "fashionAI_key_points_train_warm_up_20180222/Annotations/annotations.csv",
        "leaked_image": "fashionAI_key_points_train_20180227/Annotations/train.csv",
    }
    assert (report.superseded, report.kept, report.splits["test"], report.splits["unlabeled"]) == (1, 10, 1, 1)
    test = table.filter(pl.col("split") == "test")
    assert test["image"][0] == f"fashionAI_key_points_test_a_20180227/{name_of(20, 'skirt')}"
    unlabeled = table.filter(pl.col("split") == "unlabeled")["landmark_visibility"][0].to_list()
    assert [unlabeled[index] for index in FASHIONAI_24.garments["skirt"]] == [Visibility.ABSENT] * 4
    assert sorted(set(unlabeled)) == [Visibility.NOT_APPLICABLE, Visibility.ABSENT]
    assert (table["group"] == table["sha256"]).all()


def test_parent_folder_finds_the_same_archives(archives, tmp_path):
    first, _, _ = run(list(archives), tmp_path / "a", check_images="full")
    second, _, _ = run(tmp_path, tmp_path / "b", check_images="full")
    assert first.to_json() | {"table_sha256": ""} == second.to_json() | {"table_sha256": ""}


def test_without_images_the_md5_names_tell_duplicates(archives, tmp_path):
    _, table, rejected = run(list(archives), tmp_path / "out")
    assert rejected["rule"].to_list() == ["duplicate_image"]
    assert table["width"].null_count() == table.height


def test_answer_inside_the_archive(archives, tmp_path):
    _, _, test, answer = archives
    answer.rename(test / answer.name)
    report, table, _ = run(test, tmp_path / "out", check_images="full")
    assert (report.superseded, report.kept) == (1, 2)
    assert sorted(table["split"].to_list()) == ["test", "unlabeled"]


def test_equal_names_of_different_images_get_different_keys(tmp_path):
    for archive, shade in (("a", 10), ("b", 200)):
        write_image(tmp_path / archive / "Images/dress/00.jpg", shade)
        write_csv(tmp_path / archive / "Annotations/train.csv", [row(1, "dress", image_id="Images/dress/00.jpg")])
    _, table, _ = run([tmp_path / "b", tmp_path / "a"], tmp_path / "out", check_images="full")
    keys = table["key"].to_list()
    assert keys[0] == "dress-00"
    assert keys[1].startswith("dress-00-")
    assert len(keys) == 2


def test_foreign_names_become_safe_keys(tmp_path):
    names = ["Images/dress/a.b.jpg", "Images/dress/ä é.jpg", "Images/dress/衣.jpg", "Images/dress/=1+1.jpg"]
    rows = [row(number, "dress", image_id=name) for number, name in enumerate(names)]
    _, table, _ = run(write_csv(tmp_path / "train.csv", rows), tmp_path / "out")
    assert table["image"].to_list() == names
    assert table["key"].n_unique() == 4
    assert table["key"].str.contains(r"^[A-Za-z0-9_-]+$").all()


def test_split_is_a_function_of_the_group_alone():
    groups = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(4000)]
    splits = cut_train(groups, val_share=0.1, test_share=0.2)
    assert splits == cut_train(groups[:2000], val_share=0.1, test_share=0.2) + cut_train(
        groups[2000:], val_share=0.1, test_share=0.2
    )
    assert abs(splits.count("val") / 4000 - 0.1) < 0.02
    assert abs(splits.count("test") / 4000 - 0.2) < 0.02


def test_test_is_cut_from_train_only_without_test_rows(tmp_path):
    train = write_csv(tmp_path / "train.csv", [row(number) for number in range(200)])
    alone, _, _ = run(train, tmp_path / "a", test_share=0.3)
    answer = write_csv(tmp_path / "test_answer.csv", [row(1000, "skirt")])
    both, _, _ = run([train, answer], tmp_path / "b", test_share=0.3)
    assert 30 < alone.splits["test"] < 90
    assert both.splits["test"] == 1


@pytest.mark.parametrize(
    ("cells", "warning"),
    [
        ({"armpit_left": "70_5_1", "armpit_right": "20_5_1"}, "swapped_left_right"),
        ({"armpit_left": "-1_-1_-1"}, "missing_normalizer"),
        ({"hemline_left": "-1_-1_-1", "neckline_left": "80_90_1"}, "point_at_border"),
    ],
)
def test_odd_rows_are_kept_and_counted(tmp_path, cells, warning):
    write_image(tmp_path / name_of(1, "dress"), 9)
    cells = {"neckline_right": "-1_-1_-1", **cells}
    path = write_csv(tmp_path / "train.csv", [row(1, "dress", **cells)])
    report, _, _ = run(path, tmp_path / "out", check_images="full")
    assert report.warnings == {warning: 1, "empty_split": 2}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_points_of_rotated_images_stay_on_their_pixels(tmp_path, orientation):
    """A white dot at the stored coordinates is at the table's coordinates in the upright image."""
    stored = np.zeros((96, 64, 3), np.uint8)
    stored[30:33, 10:13] = 255
    block = Image.Exif()
    block[0x0112] = orientation
    path = tmp_path / name_of(1, "dress")
    path.parent.mkdir(parents=True)
    Image.fromarray(stored).save(path, quality=95, exif=block)
    cells = dict.fromkeys(FASHIONAI_24.names, "-1_-1_-1") | {"armpit_left": "11_31_1", "armpit_right": "11_31_0"}
    _, table, _ = run(
        write_csv(tmp_path / "train.csv", [row(1, "dress", **cells)]), tmp_path / "out", check_images="full"
    )
    upright = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    assert (table["height"][0], table["width"][0]) == upright.shape[:2]
    x, y = (int(table[f"landmark_{axis}"][0][FASHIONAI_24.names.index("armpit_left")]) for axis in "xy")
    assert upright[y, x].min() > 200
    assert upright[y - 1 : y + 2, x - 1 : x + 2].mean() > 200


@pytest.mark.slow
def test_defective_sample_is_seen_through(tmp_path):
    """Every planted defect of a synthetic archive is found in its row; poses may add warnings, but no rejections."""
    find_sample("fashionai-keypoints")(tmp_path / "raw", images=70, seed=0, workers=1, defects=True)
    report, _, rejected = run(tmp_path / "raw", tmp_path / "out", check_images="full")
    defects = json.loads((tmp_path / "raw/defects.json").read_text())
    planted = {(entry["file"], entry["line"]): entry["rule"] for entry in defects if entry["verdict"] == "rejected"}
    assert {(row["source_file"], row["source_line"]): row["rule"] for row in rejected.to_dicts()} == planted
    kept = Counter(entry["rule"] for entry in defects if entry["verdict"] == "kept")
    by_pose = ("swapped_left_right", "missing_normalizer", "totals_differ")
    assert {rule: count for rule, count in report.warnings.items() if rule not in by_pose} == {
        rule: count for rule, count in kept.items() if rule not in by_pose
    }
    assert all(report.warnings[rule] >= count for rule, count in kept.items())
    assert report.blank == sum(entry["verdict"] == "blank" for entry in defects)


needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="real annotation files are not here")


@needs_real
def test_real_answers_of_test_a(tmp_path):
    report, table, _ = run(REAL / "round1_test_a", tmp_path / "out")
    assert (report.lines, report.kept, report.rejected, report.header) == (9997, 9996, 0, 1)
    assert report.categories == {"blouse": 1977, "dress": 2038, "outwear": 2043, "skirt": 1980, "trousers": 1958}
    assert report.warnings == {"missing_normalizer": 53, "swapped_left_right": 8}  # counted by hand
    assert all(total["published"] == total["found"] for total in report.totals.values())
    assert table["split"].unique().to_list() == ["test"]


@needs_real
@pytest.mark.parametrize(
    ("name", "kept", "rejected"),
    [
        ("round1_test_b/test.csv", 9970, {}),
        ("round2_test_a/test.csv", 13101, {}),
        ("train_excerpt/val.csv", 6412, {"duplicate_row": 3}),
    ],
)
def test_real_files(tmp_path, name, kept, rejected):
    report, _, _ = run(REAL / name, tmp_path / "out")
    assert (report.kept, report.rejected_by_rule) == (kept, rejected)


@needs_real
def test_real_answers_without_images_say_what_to_do(tmp_path):
    with pytest.raises(RejectedError, match="unpack the images next to the annotation or use --check-images none"):
        run(REAL / "round1_test_a", tmp_path / "out", check_images="full", limit=50)


def test_long_equal_names_get_different_keys_that_fit(tmp_path):
    name = "Images/dress/" + "x" * 150 + ".jpg"
    for archive in "ab":
        write_csv(tmp_path / archive / "train.csv", [row(1, "dress", image_id=name)])
    _, table, _ = run([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert table["key"].n_unique() == 2
    assert table["key"].str.len_chars().max() <= 90
