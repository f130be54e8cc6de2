"""The audit finds what was planted, in the right rows, and nothing else."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageFilter, ImageOps
from tests.audit_tables import jpeg, photograph, write_audit_table
from tests.commands import run_command

from fprep.audit.command import AUDIT_FILE, SUMMARY_FILE, Audit, audit, refuse_findings
from fprep.audit.findings import KINDS, SCHEMA
from fprep.convert.command import convert
from fprep.near_duplicates.alignment import compare_aligned
from fprep.near_duplicates.pairs import candidate_pairs, look_the_same, near_pairs
from fprep.near_duplicates.perceptual_hash import (
    FLIP_MASK,
    ImageTask,
    Views,
    fingerprint,
    hash_image,
    upright,
    without_margins,
)
from fschemas.failures import RejectedError, UsageError
from fschemas.table_file import read_metadata, read_table

REAL = (
    Path(os.environ.get("FASHIONKIT_REAL", Path(__file__).parents[4] / "shared/real"))
    / "deepfashion_fine_course_subset"
)


def seen(folder: Path, content: bytes, orientation: int = 1):
    (folder / "a.jpg").write_bytes(content)
    return hash_image(ImageTask(str(folder), "a.jpg", orientation))


def kinds(result: Audit) -> dict[str, int]:
    return dict(Counter(kind for kind in result.findings["kind"] if kind != "balance"))


def of_kind(result: Audit, kind: str) -> list[dict[str, Any]]:
    return result.findings.filter(pl.col("kind") == kind).to_dicts()


CHANGES: dict[str, Any] = {
    "recompressed": lambda image: jpeg(image, 30),
    "half the size": lambda image: jpeg(image.resize((60, 100), 3)),
    "stretched": lambda image: jpeg(image.resize((150, 200), 3)),
    "cropped by 2%": lambda image: jpeg(image.resize((480, 800), 3).crop((10, 16, 470, 784))),
    "grey": lambda image: jpeg(image.convert("L").convert("RGB")),
    "less contrast": lambda image: jpeg(image.point(lambda value: 20 + 0.9 * value)),
    "in white": lambda image: jpeg(ImageOps.expand(image, (12, 20, 12, 20), "white")),
    "between black bars": lambda image: jpeg(ImageOps.expand(image, (40, 0, 40, 0), "black"), 60),
    "in a grey corner": lambda image: jpeg(ImageOps.expand(image.resize((240, 400), 3), (3, 100, 80, 0), "#808890"), 75),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("is_flipped", [False, True])
def test_changed_copies_are_found_among_others(tmp_path, change, is_flipped):
    others = [seen(tmp_path, jpeg(photograph(seed))) for seed in range(100, 130)]
    for seed in range(6):
        image = photograph(seed)
        copy = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if is_flipped else image
        looks = [seen(tmp_path, jpeg(image)), *others, seen(tmp_path, CHANGES[change](copy))]
        pairs = near_pairs(Views.of(dict(enumerate(looks))))
        assert list(zip(pairs.first, pairs.second, pairs.flipped, strict=True)) == [(0, 31, is_flipped)]


@pytest.mark.parametrize("scale", [1, 2.7])
def test_two_shop_images_of_one_garment_on_white(tmp_path, scale):
    """Each with different margins."""
    garment = photograph(5, 120, 240).filter(ImageFilter.GaussianBlur(3))  # as fine as real photos
    looks = []
    for sides, size in (((60, 80, 60, 80), 1.0), ((100, 20, 40, 60), scale)):
        padded = ImageOps.expand(garment, sides, "#fafafa")
        looks.append(seen(tmp_path, jpeg(padded.resize((int(padded.width * size), int(padded.height * size)), 3), 80)))
    assert len(near_pairs(Views.of(dict(enumerate(looks))))) == 1


@pytest.mark.parametrize(
    ("sides", "expected"),
    [((0, 0, 0, 0), None), ((10, 20, 5, 0), (11, 21, 109, 140)), ((0, 1, 0, 0), None), ((400, 10, 400, 10), None)],
)
@pytest.mark.parametrize("color", ["white", "black", "#778899"])
def test_margins(sides, expected, color):
    image = ImageOps.expand(photograph(4, 100, 120), sides, color)
    noise = np.random.default_rng(0).integers(-4, 5, (image.height, image.width, 3))
    pixels = np.clip(np.asarray(image).astype(int) + noise, 0, 255).astype(np.uint8)
    inside = without_margins(pixels)
    if expected is None:
        assert inside is None
    else:
        left, top, right, bottom = expected
        np.testing.assert_array_equal(inside, pixels[top:bottom, left:right])


def test_a_plain_image_and_a_gradient_have_no_inside():
    assert without_margins(np.full((80, 80, 3), 200, np.uint8)) is None
    gradient = np.broadcast_to(np.linspace(0, 255, 80).astype(np.uint8)[:, None, None], (80, 80, 3))
    inside = without_margins(gradient)
    assert inside is None or inside.shape[0] > 60


def test_another_print_on_the_same_shirt_is_no_twin(tmp_path):
    """Shop images share everything but the product; the silhouette alone must not decide."""
    shirt = np.full((200, 120, 3), 250, np.uint8)
    shirt[40:170, 25:95] = 40
    first, second = shirt.copy(), shirt.copy()
    first[70:110, 45:55] = first[70:110, 65:75] = 220
    second[70:80, 45:75] = second[95:110, 45:75] = 220
    looks = [seen(tmp_path, jpeg(Image.fromarray(image))) for image in (first, second)]
    stack = [np.frombuffer(look.thumbnail, np.uint8)[None] for look in looks]
    assert not look_the_same(stack[0], stack[1], np.array([False]))[0]
    assert look_the_same(stack[0], stack[0], np.array([False]))[0]


def test_pairs_of_which_none_comes_near_are_no_fault():
    generator = np.random.default_rng(0)
    first, second = generator.integers(0, 256, (2, 5, 32, 32), dtype=np.uint8)
    assert (compare_aligned(first, second).correlation < 0.9).all()


def test_candidates_are_those_of_the_definition():
    """Compared with brute force: every pair up to 7 bits, none beyond the limit.

    Each pair occurs once, at its minimum.
    """
    generator = np.random.default_rng(3)
    bits = generator.integers(0, 2**63, 300, dtype=np.uint64) * np.uint64(2) + generator.integers(
        0, 2, 300, dtype=np.uint64
    )
    for row in range(100, 300):  # near and flipped copies of the first hundred
        flips = generator.choice(64, generator.integers(0, 13), replace=False)
        bits[row] = bits[row % 100] ^ np.bitwise_or.reduce(
            np.uint64(1) << flips.astype(np.uint64), initial=np.uint64(0)
        )
        bits[row] ^= np.uint64(FLIP_MASK if row % 2 else 0)
    plain = np.bitwise_count(bits[:, None] ^ bits).astype(int)
    flipped_apart = np.bitwise_count(bits[:, None] ^ bits ^ np.uint64(FLIP_MASK)).astype(int)
    nearest = np.minimum(plain, flipped_apart)
    pairs = candidate_pairs(bits)
    found = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    assert len(found) == len(pairs)
    must = {(i, j) for i, j in zip(*np.nonzero(np.triu(nearest <= 7, 1)), strict=True)}
    may = {(i, j) for i, j in zip(*np.nonzero(np.triu(nearest <= 10, 1)), strict=True)}
    assert must <= found <= may
    assert len(found) > 0.8 * len(may)
    for i, j, distance, is_flipped in zip(pairs.first, pairs.second, pairs.distance, pairs.flipped, strict=True):
        assert distance == (flipped_apart if is_flipped else plain)[i, j]


def test_a_crowd_of_equal_fingerprints_stays_small():
    pairs = candidate_pairs(np.full(5000, 12345, np.uint64))
    assert len(pairs) == 64 * 63 // 2 + 5000 - 64
    assert set(pairs.first.tolist()) | set(pairs.second.tolist()) == set(range(5000))


def test_flipped_image_has_the_masked_fingerprint():
    for seed in range(20):
        luma = np.asarray(photograph(seed, 32, 32).convert("L"))
        assert fingerprint(luma[:, ::-1]) == fingerprint(luma) ^ FLIP_MASK


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_as_pillow_turns(orientation):
    image = photograph(1, 30, 20)
    exif = image.getexif()
    exif[0x0112] = orientation
    flipped_apart = ImageOps.exif_transpose(image)
    assert (upright(np.asarray(image), orientation) == np.asarray(flipped_apart)).all()


def test_images_that_are_not_there_or_broken(tmp_path):
    assert hash_image(ImageTask(str(tmp_path), "no.jpg")).problem == "missing"
    assert seen(tmp_path, b"\xff\xd8 no image").problem == "unreadable"
    assert seen(tmp_path, jpeg(Image.new("RGB", (50, 50), "red"))).contrast < 1
    cmyk = tmp_path / "cmyk.jpg"
    photograph(1).convert("CMYK").save(cmyk)
    assert hash_image(ImageTask(str(tmp_path), "cmyk.jpg")).problem == ""


@pytest.fixture
def planted(tmp_path):
    """A table with one of each kind of leak, duplicate and conflict."""
    twin, near = photograph(1), photograph(2)
    flipped = photograph(3)
    return write_audit_table(tmp_path, [
        {"split": "train", "pixels": twin, "category": "Dress"},  # 0: leak_identical with 1, conflict_category
        {"split": "test", "pixels": twin, "category": "Skirt"},
        {"split": "train", "pixels": jpeg(near.resize((60, 100), 3)), "attributes_positive": [0, 7, 10, 13, 17, 24]},  # 2: leak_near with 3
        {"split": "val", "pixels": near},
        {"split": "train", "pixels": flipped},  # 4: duplicate_near with 5, flipped: no label conflict
        {"split": "train", "pixels": flipped.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "category": "Skirt"},
        {"split": "train", "group": "img/shoot1"},  # 6: leak_group with 7
        {"split": "test", "group": "img/shoot1"},
        {"split": "val", "group": "img/shoot2"},  # 8: a warning: val knows test
        {"split": "test", "group": "img/shoot2"},
        {"split": "train", "pixels": photograph(9)},  # 10: duplicate_identical with 11
        {"split": "train", "pixels": photograph(9)},
        {"split": "train", "pixels": Image.new("RGB", (120, 200), "grey")},  # 12: blank
    ])  # fmt: skip


def test_everything_that_was_planted_is_found(planted):
    result = audit([planted], lock=True)
    assert kinds(result) == {
        "leak_identical": 1, "leak_near": 1, "leak_group": 2, "conflict_category": 1, "conflict_attributes": 1,
        "duplicate_near": 1, "duplicate_identical": 1, "image_blank": 1,
    }  # fmt: skip
    [identical], [near], [flipped] = (
        of_kind(result, kind) for kind in ("leak_identical", "leak_near", "duplicate_near")
    )
    assert (identical["key"], identical["other_key"], identical["split"], identical["other_split"]) == (
        "k0000",
        "k0001",
        "train",
        "test",
    )
    assert (identical["severity"], identical["distance"]) == ("error", 0)
    assert (near["key"], near["other_key"], near["severity"], near["other_split"]) == ("k0002", "k0003", "error", "val")
    assert {flipped["key"], flipped["other_key"]} == {"k0004", "k0005"}
    assert "flipped copy" in flipped["message"]
    assert {(row["key"], row["severity"]) for row in of_kind(result, "leak_group")} == {
        ("k0006", "error"),
        ("k0008", "warning"),
    }
    assert "category is Dress against Skirt" in of_kind(result, "conflict_category")[0]["message"]
    [attributes] = of_kind(result, "conflict_attributes")
    assert "fit is" in attributes["message"]
    assert attributes["distance"] <= 4
    assert result.num_leaks == 3


def test_what_is_written_is_the_contract(planted):
    result = audit([planted], lock=True)
    table = read_table(planted / AUDIT_FILE)
    assert table.column_names == list(SCHEMA)
    assert table.num_rows == len(result.findings)
    metadata = read_metadata(planted / AUDIT_FILE)
    assert metadata["tables"][0] | {"sha256": ""} == {
        "name": "squares",
        "path": "table.parquet",
        "raw_root": "../raw",
        "sha256": "",
    }
    text = (planted / SUMMARY_FILE).read_text()
    assert text == result.text
    assert "LEAKS: 1 leak_identical, 1 leak_near, 1 leak_group" in text
    assert len(text.splitlines()) < 70


def test_same_bytes_whatever_the_workers(planted, tmp_path):
    written: list[dict[str, bytes]] = []
    for workers in (1, 2):
        out = tmp_path / f"out{workers}"
        audit([planted], out=out, lock=True, workers=workers)
        written.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert sorted(written[0]) == ["audit.parquet", "audit.txt", "splits.lock.json"]
    assert written[0] == written[1]


def test_clean_table_has_no_finding(tmp_path):
    rows = [{"split": split} for split in ("train", "train", "train", "val", "test")]
    result = audit([write_audit_table(tmp_path, rows)], dry_run=True)
    assert kinds(result) == {}
    assert "No leak" in result.text
    assert not (tmp_path / "table" / AUDIT_FILE).exists()


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"landmark_x": [70.0, 60.0, 20.0, 60.0, 20.0, 60.0, 20.0, 60.0]}, "label_left_right"),
    ({"landmark_x": [20.0, 60.0, 70.0, 60.0, 20.0, 60.0, 20.0, 60.0]}, ""),  # sleeves may cross
    (
        {"landmark_x": [-0.9, 60.0, 20.0, 60.0, 20.0, 60.0, 20.0, 60.0], "box": [0.0, 10.0, 110.0, 180.0]},
        "label_point_outside_image",
    ),
    ({"box": [10.0, 60.0, 110.0, 180.0]}, "label_point_outside_box"),
    ({"box": [10.0, 35.0, 110.0, 180.0]}, ""),  # slightly outside
    ({"box": [10.0, 10.0, 20.0, 180.0], "landmark_x": [15.0] * 8}, "label_box_tiny"),
    ({"box": [0.0, 0.0, 119.0, 199.0]}, "label_box_whole"),
    ({"landmark_visibility": [0] * 8, "landmark_x": [0.0] * 8, "landmark_y": [0.0] * 8}, "label_no_points"),
    ({"attributes_positive": [0, 7, 10, 13, 17]}, "label_group_empty"),
    ({"attributes_positive": [0, 7, 10, 13, 17], "attributes_unknown": [23, 24, 25]}, ""),
    ({"attributes_positive": [0, 7, 8, 10, 13, 17, 23]}, "label_group_double"),
    ({"category": ""}, "label_missing"),
    ({"attributes_maybe": [24]}, "label_maybe"),
]


@pytest.mark.parametrize(("values", "kind"), FAULTS)
def test_implausible_labels(tmp_path, values, kind):
    groups = ("landmarks", "box", "attributes", "category", "maybe")
    folder = write_audit_table(tmp_path, [{"split": "train"}, {"split": "train", **values}], groups=groups)
    result = audit([folder], near=False, dry_run=True)
    assert kinds(result) == ({kind: 1} if kind else {})
    if kind:
        assert of_kind(result, kind)[0]["key"] == "k0001"


def test_leaks_between_benchmarks(tmp_path):
    """Training image in one table, test image in the other: by bytes, by appearance, and by the fine table's paths."""
    same, near = photograph(1), photograph(2)
    groups = ("category", "coarse_split")
    fine = write_audit_table(tmp_path / "fine", [
        {"split": "train", "pixels": same, "image": "img/A/1.jpg", "coarse_split": "test"},
        {"split": "train", "pixels": near, "image": "img/A/2.jpg", "coarse_split": "train"},
        {"split": "train", "group": "img/Dress"},
        {"split": "test", "image": "img/A/4.jpg"},
    ], groups=groups, dataset="deepfashion-fine")  # fmt: skip
    coarse = write_audit_table(tmp_path / "coarse", [
        {"split": "test", "pixels": same, "image": "img/A/1.jpg"},
        {"split": "test", "pixels": jpeg(near, 40), "image": "img/B/9.jpg"},
        {"split": "val", "group": "img/Dress", "pixels": photograph(50)},
        {"split": "test", "image": "img/A/4.jpg", "pixels": photograph(1003)},
    ], groups=("category",), dataset="deepfashion-category")  # fmt: skip
    result = audit([fine, coarse], dry_run=True)
    assert kinds(result) == {
        "leak_identical": 1, "leak_near": 1, "leak_group": 1, "leak_coarse_split": 1, "duplicate_identical": 1,
    }  # fmt: skip
    assert {row["severity"] for row in result.findings.filter(pl.col("kind").str.starts_with("leak")).to_dicts()} == {
        "error"
    }
    assert of_kind(result, "leak_identical")[0]["other_table"] == "deepfashion-category"
    assert of_kind(result, "duplicate_identical")[0]["severity"] == "info"  # the same test image in both
    alone = audit([fine], dry_run=True)
    assert kinds(alone) == {"leak_coarse_split": 1}
    assert alone.num_leaks == 0


@pytest.mark.parametrize(("dataset", "leaks"), [("deepfashion-category", 1), ("kfashion", 0)])
def test_paths_stand_for_images_within_a_family(tmp_path, dataset, leaks):
    """Without digests and images, only the path identifies an image, and only within a family."""
    one = write_audit_table(tmp_path / "a", [{"split": "train"}], digests=False, dataset="deepfashion-fine")
    two = write_audit_table(tmp_path / "b", [{"split": "test"}], digests=False, dataset=dataset)
    assert audit([one, two], near=False, dry_run=True).num_leaks == leaks


def test_items_mean_something_within_a_data_set_only(tmp_path):
    rows = [{"split": "train", "item": "id_1"}, {"split": "query", "item": "id_1"}, {"split": "gallery", "item": "id_2"},
            {"split": "query", "item": "id_2"}]  # fmt: skip
    inshop = write_audit_table(tmp_path / "a", rows, groups=("item",), dataset="deepfashion-inshop")
    other = write_audit_table(
        tmp_path / "b", [{"split": "train", "item": "id_2"}], groups=("item",), dataset="deepfashion-consumer2shop"
    )
    result = audit([inshop, other], near=False, dry_run=True)
    assert [row["message"] for row in of_kind(result, "leak_item")] == ["the item id_1 has 1 in train and 1 in test"]


def test_several_garments_of_one_image_are_no_twins(tmp_path):
    rows = [{"split": split, "image": "img/a.jpg", "pixels": photograph(1), "category": name}
            for split, name in (("train", "Dress"), ("train", "Skirt"), ("val", "Tee"))]  # fmt: skip
    result = audit([write_audit_table(tmp_path, rows)], dry_run=True)
    assert set(kinds(result)) == {"leak_identical", "balance_unseen"}


def test_images_that_changed_or_went(planted):
    raw = planted.parent / "raw/img"
    (raw / "0006.jpg").unlink()
    (raw / "0007.jpg").write_bytes(jpeg(photograph(77)))
    (raw / "0008.jpg").write_bytes(b"\xff\xd8")
    found = kinds(audit([planted], dry_run=True))
    assert {name: found[name] for name in found if name.startswith("image_")} == {
        "image_missing": 1, "image_changed": 1, "image_unreadable": 1, "image_blank": 1,
    }  # fmt: skip


def test_baseline_is_the_share_of_the_most_frequent_class(tmp_path):
    rows = [{"split": "train", "category": name} for name in ("Dress", "Dress", "Dress", "Tee")]
    rows += [{"split": "test", "category": name} for name in ("Dress", "Tee", "Tee", "Skirt", "")]
    result = audit([write_audit_table(tmp_path, rows)], near=False, dry_run=True)
    baselines = {(baseline.label, baseline.split): baseline for baseline in result.baselines}
    train, test = baselines["category", "train"], baselines["category", "test"]
    assert (train.majority, train.share, train.classes, train.rarest_rows) == ("Dress", 0.75, 2, 1)
    assert (test.majority, test.share, test.rows) == ("Tee", 0.5, 4)  # the row without a category does not count
    assert [row["message"] for row in of_kind(result, "balance_unseen")] == [
        "category Skirt is in 1 rows of test, but never in train"
    ]
    assert baselines["attribute fit", "test"].share == 1.0


def test_exit_codes_and_json(planted, tmp_path):
    done = run_command("fprep", "audit", planted, "--json", "--dry-run", "-q")
    assert done.returncode == 0
    assert json.loads(done.stdout)["findings"]["error"] == {"leak_identical": 1, "leak_near": 1, "leak_group": 1}
    failed = run_command("fprep", "audit", planted, "--fail-on", "leak", "--no-near")
    assert failed.returncode == 3
    assert "the audit found 2 leaks" in failed.stderr
    assert (planted / AUDIT_FILE).exists()
    missing = run_command("fprep", "audit", tmp_path / "no")
    assert missing.returncode == 2


def test_refused_options(planted):
    for options, words in (
        ({"images": Path("/nowhere")}, "no such folder"), ({"distance": 11}, "--distance 11"), ({"limit": 0}, "--limit 0"),
        ({"limit": 2, "lock": True}, "--write-lock needs all rows"), ({"out": planted / "table.parquet"}, "this is a file"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=words):
            audit([planted], **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="given twice"):
        audit([planted, planted / "table.parquet"])
    with pytest.raises(RejectedError):
        refuse_findings(audit([planted], dry_run=True, near=False), "error")
    refuse_findings(audit([planted], dry_run=True, limit=3), None)


def test_every_kind_has_words():
    assert all(meaning and remedy for meaning, remedy in KINDS.values())


@pytest.mark.skipif(not REAL.is_dir(), reason="the real photographs are not here")
def test_real_photographs(tmp_path):
    """Six thousand photos: exactly the pairs found by manual inspection; half of them have different labels."""
    convert(
        "deepfashion-fine", [REAL], tmp_path, check_images="header"
    )  # without digests, so that identical images are kept
    result = audit([tmp_path], dry_run=True)
    pairs = {tuple(sorted((row["key"], row["other_key"]))) for row in of_kind(result, "duplicate_near")}
    assert pairs == {("00557", "03415"), ("02740", "03716"), ("03343", "04639"), ("00570", "01579"), ("02762", "03240")}
    assert (kinds(result)["duplicate_identical"], kinds(result)["conflict_attributes"]) == (5, 5)
    [leak] = of_kind(result, "leak_near")  # a copy with a white frame, which no hash of the whole image detects
    assert (leak["key"], leak["other_key"], result.num_leaks) == ("00352", "05370", 1)
