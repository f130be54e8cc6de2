"""The synthetic garments and the FashionAI sample made of them."""

import hashlib
import io
import json
import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fprep.raw.marker import MARKER
from fprep.synthetic.command import find_sample
from fprep.synthetic.garments.canvas import Camera, Canvas
from fprep.synthetic.garments.design import CATEGORIES
from fprep.synthetic.garments.prints import PRINTS, TILE_SIDE, Print, cloth_tile
from fprep.synthetic.garments.render import render
from fprep.synthetic.garments.shapes import Part, points_of
from fprep.synthetic.garments.wardrobe import draw_design
from fprep.synthetic.layouts.fashionai_keypoints import (
    ANSWER_CSV,
    TEST_A,
    TEST_CSV,
    TRAIN,
    TRAIN_CSV,
    WARM_UP_CSV,
    cells_of,
    draw_image,
)
from fschemas.failures import UsageError
from fschemas.landmarks import FASHIONAI_24, Visibility

IMAGES = 30
write_sample = find_sample("fashionai-keypoints")
REAL = Path(os.environ.get("FASHIONKIT_REAL", Path(__file__).parents[4] / "shared" / "real"))


def tree(folder):
    """Map the relative path of every file to its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def lines_of(content):
    assert content.endswith(b"\n")
    return content[:-1].decode("utf-8").split("\n")


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample") / "raw"
    counts = write_sample(folder, images=IMAGES, seed=3, workers=1)
    assert counts == {"train": 24, "test": 6}
    return tree(folder)


@pytest.fixture(scope="module")
def small_sample(tmp_path_factory):
    write_sample(folder := tmp_path_factory.mktemp("small") / "raw", images=10, seed=3, workers=1)
    return tree(folder)


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spoilt") / "raw"
    counts = write_sample(folder, images=60, seed=5, workers=1, defects=True)
    files = tree(folder)
    defects = json.loads(files["defects.json"])
    assert counts["defects"] == len(defects)
    return files, defects


@pytest.fixture(scope="module")
def images():
    return [draw_image(11, index) for index in range(65)]


@pytest.mark.parametrize("workers", [2, 3])
def test_same_bytes_for_any_number_of_workers(small_sample, tmp_path, workers):
    calls = []
    write_sample(tmp_path / "raw", images=10, seed=3, workers=workers, progress=calls.append)
    assert tree(tmp_path / "raw") == small_sample
    assert calls == [1] * 10


def test_another_seed_draws_other_images(sample, tmp_path):
    write_sample(tmp_path / "raw", images=3, seed=4, workers=1)
    assert not {path for path in tree(tmp_path / "raw") if path.endswith(".jpg")} & set(sample)


def test_a_larger_sample_continues_a_smaller_one(sample, small_sample):
    small = {path: content for path, content in small_sample.items() if path.endswith(".jpg")}
    assert len(small) == 10
    assert small.items() <= sample.items()


def test_csv_files_are_those_of_the_archives(sample):
    assert {path for path in sample if not path.endswith(".jpg")} == {TRAIN_CSV, TEST_CSV, ANSWER_CSV, MARKER}
    for path in (TRAIN_CSV, ANSWER_CSV):
        assert b"\r" not in sample[path]
        assert not sample[path].startswith(b"\xef\xbb\xbf")
        header, *rows = lines_of(sample[path])
        assert header.split(",") == ["image_id", "image_category", *FASHIONAI_24.names]
        categories = []
        for row in rows:
            image, category, *cells = row.split(",")
            assert re.fullmatch(rf"Images/{category}/[0-9a-f]{{32}}\.jpg", image)
            assert len(cells) == 24
            assert all(re.fullmatch(r"-1_-1_-1|\d{1,3}_\d{1,3}_[01]", cell) for cell in cells)
            categories.append(category)
        assert categories == sorted(categories, key=CATEGORIES.index)
        assert set(categories) == set(CATEGORIES)
    assert lines_of(sample[TEST_CSV]) == [",".join(row.split(",")[:2]) for row in lines_of(sample[ANSWER_CSV])]


def test_header_equals_that_of_the_real_answers(sample):
    real = REAL / "fashionai_keypoints" / "round1_test_a" / ANSWER_CSV
    if not real.exists():
        pytest.skip("the real excerpts are not here")
    with real.open("rb") as file:
        assert file.readline() == sample[ANSWER_CSV].partition(b"\n")[0] + b"\n"


def test_images_are_named_after_their_bytes_and_listed_once(sample):
    listed = Counter()
    for archive, path in ((TRAIN, TRAIN_CSV), (TEST_A, TEST_CSV)):
        listed.update(f"{archive}/{row.split(',')[0]}" for row in lines_of(sample[path])[1:])
    assert listed == Counter(path for path in sample if path.endswith(".jpg"))
    for path in listed:
        assert Path(path).stem == hashlib.md5(sample[path]).hexdigest()
        with Image.open(io.BytesIO(sample[path])) as image:
            assert (image.format, image.mode, max(image.size)) == ("JPEG", "RGB", 512)
    assert 30_000 < np.median([len(sample[path]) for path in listed]) < 70_000


def test_points_lie_in_the_image_and_fit_the_category(sample):
    for archive, path in ((TRAIN, TRAIN_CSV), (TEST_A, ANSWER_CSV)):
        for row in lines_of(sample[path])[1:]:
            image, category, *cells = row.split(",")
            with Image.open(io.BytesIO(sample[f"{archive}/{image}"])) as opened:
                width, height = opened.size
            known = {index: cell.split("_") for index, cell in enumerate(cells) if cell != "-1_-1_-1"}
            assert set(known) <= set(FASHIONAI_24.valid_landmarks(category))
            assert len(known) >= 2
            assert all(0 <= int(x) < width and 0 <= int(y) < height for x, y, _ in known.values())


@pytest.mark.slow
def test_every_point_of_every_category_is_seen_and_left_is_left(images):
    seen, swapped, pairs = Counter(), 0, 0
    for image in images:
        visible = image.visibility == Visibility.VISIBLE
        seen.update((image.category, int(index)) for index in np.flatnonzero(visible))
        known = image.visibility >= Visibility.OCCLUDED
        assert not image.points[~known].any()
        for left, right in enumerate(FASHIONAI_24.flip_index):
            if left < right and known[left] and known[right]:
                swapped, pairs = swapped + (image.points[left, 0] > image.points[right, 0]), pairs + 1
    assert set(seen) == {
        (category, index) for category in CATEGORIES for index in FASHIONAI_24.valid_landmarks(category)
    }
    assert pairs > 200
    assert swapped < 0.03 * pairs


def test_visible_occluded_and_absent_points_all_occur(images):
    shares = Counter(int(value) for image in images for value in image.visibility if value != Visibility.NOT_APPLICABLE)
    total = shares.total()
    assert 0.6 < shares[Visibility.VISIBLE] / total < 0.9
    assert 0.08 < shares[Visibility.OCCLUDED] / total < 0.35
    assert 0.02 < shares[Visibility.ABSENT] / total < 0.3


def test_the_mean_pose_is_a_poor_guess(images):
    """Poses, sizes and positions vary enough that a model that ignores the image has a large normalized error."""
    errors = []
    for category in CATEGORIES:
        group = [image for image in images if image.category == category]
        for index in FASHIONAI_24.valid_landmarks(category):
            shown = [image for image in group if image.visibility[index] == Visibility.VISIBLE]
            mean = np.mean([image.points[index] for image in shown], axis=0)
            left, right = FASHIONAI_24.normalizer_pairs[category]
            for image in shown:
                if image.visibility[[left, right]].min() >= Visibility.OCCLUDED:
                    scale = np.hypot(*(image.points[left] - image.points[right]))
                    errors.append(np.hypot(*(image.points[index] - mean)) / scale)
    assert 0.4 < np.mean(errors) < 1.2


def test_a_garment_stays_the_same_over_photographs():
    """The cloth belongs to the design, pose and position to the image."""
    design = draw_design(np.random.default_rng(0), "dress")
    red = replace(design, color=(200.0, 20.0, 30.0), cloth=replace(design.cloth, kind="plain"))
    blue = replace(red, color=(20.0, 30.0, 200.0))
    first, second = (render(each, np.random.default_rng(1)) for each in (red, blue))
    assert np.array_equal(first.points, second.points)
    difference = first.image.astype(int) - second.image
    changed = np.abs(difference).max(axis=2) > 60
    assert 0.02 < changed.mean() < 0.8
    assert (difference[changed][:, 0] > 0).mean() > 0.95
    assert not np.array_equal(render(red, np.random.default_rng(2)).points, first.points)


@pytest.mark.parametrize("category", CATEGORIES)
def test_points_scale_with_the_size(category):
    design = draw_design(np.random.default_rng(7), category)
    large, small = (render(design, np.random.default_rng(8), size) for size in (512, 256))
    assert max(small.image.shape) == 256
    known = (large.visibility >= Visibility.OCCLUDED) & (small.visibility >= Visibility.OCCLUDED)
    assert known.sum() >= 2
    np.testing.assert_allclose(small.points[known], (large.points[known] + 0.5) / 2 - 0.5, atol=1.5)


def test_a_point_is_visible_as_long_as_its_part_is():
    def square(x, y, side):
        return points_of((x, y), (x + side, y), (x + side, y + side), (x, y + side))

    canvas = Canvas(
        np.full((80, 80, 3), 128, np.uint8), Camera(np.eye(3), 1.0), np.array([0.3, -0.5]), np.random.default_rng(0)
    )
    corners = {0: np.array([10.0, 10.0]), 1: np.array([50.0, 10.0]), 2: np.array([300.0, 10.0])}
    canvas.paint(Part([square(10, 10, 40)], (200.0, 10.0, 10.0), landmarks=corners))
    assert [canvas.visible()[index][1] for index in (0, 1, 2)] == [True, True, False]
    canvas.paint(Part([square(40, 0, 25)], (10.0, 10.0, 200.0)))
    assert [canvas.visible()[index][1] for index in (0, 1, 2)] == [True, False, False]
    assert canvas.lit()[30, 20, 0] > 3 * canvas.lit()[30, 20, 2]


@pytest.mark.parametrize("kind", PRINTS)
def test_prints_wrap_without_a_seam(kind):
    """Across the border of the tile, neighboring pixels differ no more than anywhere inside."""
    colors = ((240.0, 240.0, 240.0), (30.0, 120.0, 40.0))
    tile = cloth_tile(Print(kind, colors, 5.0, 1), (60.0, 30.0, 120.0), "smooth").astype(float)
    assert tile.shape == (TILE_SIDE, TILE_SIDE, 3)
    for axis in (0, 1):
        step = np.abs(tile - np.roll(tile, 1, axis=axis)).mean(axis=(1 - axis, 2))
        assert step[0] <= 1.3 * np.sort(step)[-2] + 3


def test_cells_round_and_keep_absent_points_apart():
    image = draw_image(0, 0)
    points = np.zeros((24, 2), np.float32)
    visibility = np.full(24, Visibility.NOT_APPLICABLE, np.int8)
    points[:3] = (10.4, 20.6), (0.0, 511.0), (5.0, 5.0)
    visibility[:4] = Visibility.VISIBLE, Visibility.OCCLUDED, Visibility.VISIBLE, Visibility.ABSENT
    cells = cells_of(replace(image, points=points, visibility=visibility))
    assert cells == ("10_21_1", "0_511_0", "5_5_1", *("-1_-1_-1",) * 21)


@pytest.mark.parametrize(
    ("images", "workers", "defects", "words"),
    [
        (0, 1, False, "use --num-images 1 or more"),
        (5, 0, False, "--workers 0: must be at least 1"),
        (47, 1, True, r"use --num-images \d+ or more"),
    ],
)
def test_impossible_samples_are_refused(tmp_path, images, workers, defects, words):
    with pytest.raises(UsageError, match=words):
        write_sample(tmp_path / "raw", images=images, seed=0, workers=workers, defects=defects)
    assert not list(tmp_path.iterdir())


def test_an_occupied_folder_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="choose another output folder"):
        write_sample(tmp_path, images=1, seed=0, workers=1)


def test_an_interrupted_sample_leaves_nothing(tmp_path):
    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sample(tmp_path / "raw", images=3, seed=0, workers=1, progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == [".raw.lock"]


RULES = {
    "missing_image": "rejected", "truncated_image": "rejected", "zero_byte_image": "rejected", "not_an_image": "rejected",
    "wrong_extension": "kept", "exif_orientation": "kept", "grayscale_image": "kept", "cmyk_image": "kept",
    "wrong_columns": "rejected", "bad_cell": "rejected", "bad_visibility": "rejected", "unknown_category": "rejected",
    "category_folder_mismatch": "rejected", "point_outside": "rejected", "point_at_border": "kept", "path_escape": "rejected",
    "absolute_path": "rejected", "duplicate_row": "rejected", "duplicate_image": "rejected", "leaked_image": "rejected",
    "swapped_left_right": "kept", "missing_normalizer": "kept", "not_applicable_point": "rejected", "empty_row": "blank",
    "bom": "kept", "crlf": "kept",
}  # fmt: skip


def test_every_defect_is_listed_with_its_verdict(spoilt):
    _, defects = spoilt
    assert {defect["rule"]: defect["verdict"] for defect in defects} == RULES
    places = [(defect["file"], defect["line"]) for defect in defects if defect["line"] is not None]
    assert len(places) == len(set(places))


def defects_of(spoilt, *rules):
    """(line, image content or None, defect) of every planted defect of these rules."""
    files, defects = spoilt
    chosen = [defect for defect in defects if defect["rule"] in rules]
    assert chosen
    for defect in chosen:
        archive = TRAIN if defect["file"] == TRAIN_CSV else WARM_UP_CSV.split("/")[0]
        line = files[defect["file"]].split(b"\n")[defect["line"] - 1].decode().rstrip("\r")
        assert (line.split(",")[0] or None) == defect["image"]
        yield line, files.get(f"{archive}/{defect['image']}"), defect


def test_planted_images_are_what_the_list_says(spoilt):
    for _, content, _ in defects_of(spoilt, "missing_image", "path_escape", "absolute_path"):
        assert content is None
    for _, content, _ in defects_of(spoilt, "zero_byte_image"):
        assert content == b""
    for _, content, _ in defects_of(spoilt, "not_an_image"):
        assert content.startswith(b"<html>")
    for _, content, _ in defects_of(spoilt, "truncated_image"):
        with Image.open(io.BytesIO(content)) as image, pytest.raises(OSError, match="truncated"):
            image.load()
    expected = {"wrong_extension": ("PNG", "RGB", None), "grayscale_image": ("JPEG", "L", None),
                "cmyk_image": ("JPEG", "CMYK", None), "exif_orientation": ("JPEG", "RGB", 6)}  # fmt: skip
    for _, content, defect in defects_of(spoilt, *expected):
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            assert (image.format, image.mode, image.getexif().get(0x0112)) == expected[defect["rule"]]
        assert Path(defect["image"]).stem == hashlib.md5(content).hexdigest()


def test_planted_rows_are_what_the_list_says(spoilt):
    assert sorted(line.count(",") + 1 for line, _, _ in defects_of(spoilt, "wrong_columns")) == [25, 27]
    bad = [re.search(r"12_x_1|1_000_5_1|nan_3_1", line)[0] for line, _, _ in defects_of(spoilt, "bad_cell")]
    assert sorted(bad) == ["12_x_1", "1_000_5_1", "nan_3_1"]
    for line, _, _ in defects_of(spoilt, "bad_visibility"):
        assert re.search(r",\d+_\d+_3(,|$)", line)
    for line, content, _ in defects_of(spoilt, "unknown_category"):
        assert line.startswith("Images/hat/")
        assert ",hat," in line
        assert content
    for line, content, _ in defects_of(spoilt, "category_folder_mismatch"):
        assert line.split(",")[1] not in line.split("/")[1]
        assert content
    for line, _, _ in defects_of(spoilt, "path_escape"):
        assert line.startswith("Images/../../../")
    for line, _, _ in defects_of(spoilt, "absolute_path"):
        assert line.startswith("/")
    for line, _, _ in defects_of(spoilt, "missing_normalizer"):
        assert line.split(",")[7] == "-1_-1_-1"
    for line, _, _ in defects_of(spoilt, "not_applicable_point"):
        assert line.split(",")[1:3] == ["skirt", "100_50_1"]
    for line, _, _ in defects_of(spoilt, "empty_row"):
        assert line == ""


def test_planted_points_are_what_the_list_says(spoilt):
    outside = []
    for line, content, defect in defects_of(spoilt, "point_outside", "point_at_border"):
        with Image.open(io.BytesIO(content)) as image:
            width = image.width
        xs, ys = zip(
            *[map(int, cell.split("_")[:2]) for cell in line.split(",")[2:] if cell != "-1_-1_-1"], strict=True
        )
        if defect["rule"] == "point_at_border":
            assert max(xs) == width
        else:
            outside.append((max(xs) - width, min(ys)))
    assert outside[0][0] == 7 or outside[1][0] == 7
    assert min(outside[0][1], outside[1][1]) == -5
    for line, _, _ in defects_of(spoilt, "swapped_left_right"):
        cells = line.split(",")[2:]
        assert int(cells[5].split("_")[0]) > int(cells[6].split("_")[0])


def test_planted_repetitions_are_what_the_list_says(spoilt):
    files, _ = spoilt
    train = files[TRAIN_CSV].split(b"\n")
    for _, _, defect in defects_of(spoilt, "duplicate_row"):
        assert train[defect["line"] - 1] == train[defect["line"] - 2]
    copies = Counter(path.split("/")[0] for path in files if path.endswith(".jpg"))
    assert copies == {TRAIN: 48 - 1 + 2, TEST_A: 12, WARM_UP_CSV.split("/")[0]: 6}
    for _, content, defect in defects_of(spoilt, "duplicate_image", "leaked_image"):
        twins = [path.split("/")[0] for path, other in files.items() if other == content]
        assert len(twins) == 2
        assert (TEST_A in twins) == (defect["rule"] == "leaked_image")


def test_warm_up_archive_has_a_byte_order_mark_and_crlf(spoilt):
    content = spoilt[0][WARM_UP_CSV]
    assert content.startswith(b"\xef\xbb\xbfimage_id,")
    assert content.count(b"\r\n") == content.count(b"\n") == 7
