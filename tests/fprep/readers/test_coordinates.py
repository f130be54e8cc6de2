"""Coordinates checked against the images: pixel frame, unit and form, and the values quoted in messages."""

import json
import re
import shutil

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageOps
from tests.trees import tree_of

from fprep.convert.command import convert
from fprep.export.command import export
from fprep.readers.orientation import coordinate_orientations, upright_point
from fprep.readers.registry import readers
from fschemas.failures import RejectedError, UsageError
from fschemas.table_file import read_table

WIDTH, HEIGHT = 64, 112
BOX = [5, 20, 40, 90]
_UNDO = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}


def stored(box, orientation, size=(WIDTH, HEIGHT)):
    """A box of the upright image in stored pixels."""
    width, height = size if orientation < 5 else size[::-1]
    corners = [upright_point(x, y, _UNDO[orientation], width, height) for x, y in (box[:2], box[2:])]
    (x1, y1), (x2, y2) = corners
    return [min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)]


def draw(folder, orientations, size=(WIDTH, HEIGHT)):
    """Write images with this size when displayed, each stored with its orientation."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, orientation in enumerate(orientations):
        upright = Image.fromarray(np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), np.uint8))
        turned = upright.copy()
        turned.getexif()[0x0112] = _UNDO[orientation]
        pixels = ImageOps.exif_transpose(turned)
        tag = Image.Exif()
        tag[0x0112] = orientation
        pixels.save(folder / f"{number}.jpg", exif=tag.tobytes(), quality=95)


def csv_of(folder, boxes, names="x1,y1,x2,y2"):
    rows = [f"{number}.jpg,shirt,{','.join(map(str, box))}" for number, box in enumerate(boxes)]
    (folder / "list.csv").write_text("\n".join([f"image,category,{names}", *rows]) + "\n")
    return folder


def coco_of(folder, boxes, sizes, **more):
    images = [
        {"id": n, "file_name": f"{n}.jpg", **({"width": s[0], "height": s[1]} if s else {})}
        for n, s in enumerate(sizes)
    ]
    annotations = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [x1, y1, x2 - x1 + 1, y2 - y1 + 1], **more}
        for n, (x1, y1, x2, y2) in enumerate(boxes)
    ]
    categories = [{"id": 1, "name": "shirt"}]
    (folder / "list.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return folder


def run(reader, raw, out, **options):
    report = convert(reader, [raw], out, workers=1, val_share=0, test_share=0, max_rejected=1.0, **options)
    return report, pl.DataFrame(read_table(out / "table.parquet")).sort("image")


EVERY = range(1, 9)


@pytest.mark.parametrize("states", ["upright", "stored"])
def test_a_stated_size_decides(tmp_path, states):
    """The size distinguishes the two; 180 degree rotations and flips keep the size, and are assumed upright."""
    draw(tmp_path / "raw", EVERY)
    as_stored = [states == "stored" and orientation >= 5 for orientation in EVERY]
    boxes = [stored(BOX, o) if flag else BOX for o, flag in zip(EVERY, as_stored, strict=True)]
    sizes = [(HEIGHT, WIDTH) if flag else (WIDTH, HEIGHT) for flag in as_stored]
    report, table = run("coco", coco_of(tmp_path / "raw", boxes, sizes), tmp_path / "out")
    assert table["box"].to_list() == [BOX] * 8
    assert any("coordinates of 3 rows on images with an EXIF orientation" in note for note in report.notes)


@pytest.mark.parametrize(
    ("option", "frame"),
    [({}, "upright"), ({"orientation": "upright"}, "upright"), ({"orientation": "stored"}, "stored")],
)
@pytest.mark.parametrize("reader", ["csv", "coco"])
def test_without_a_size_the_option_decides(tmp_path, reader, option, frame):
    draw(tmp_path / "raw", EVERY)
    boxes = [stored(BOX, orientation) if frame == "stored" else BOX for orientation in EVERY]
    raw = csv_of(tmp_path / "raw", boxes) if reader == "csv" else coco_of(tmp_path / "raw", boxes, [None] * 8)
    report, table = run(reader, raw, tmp_path / "out", mapping=option)
    assert table["box"].to_list() == [BOX] * 8
    assert any(f"taken to belong to the {frame} pixels" in note for note in report.notes)


@pytest.mark.parametrize("frame", ["upright", "stored"])
@pytest.mark.parametrize("reader", ["csv", "coco"])
def test_boxes_that_fit_the_other_pixels_name_the_orientation(tmp_path, reader, frame):
    """Not `--map axes=yx`, which also fits if all images are rotated, but reads the wrong pixels."""
    orientations, box = (1, 6, 5, 8, 7), [4, 10, 30, 100]
    draw(tmp_path / "raw", orientations)
    boxes = [stored(box, orientation) if frame == "stored" else box for orientation in orientations]
    if reader == "csv":
        csv_of(tmp_path / "raw", boxes)
    else:
        coco_of(tmp_path / "raw", boxes, [None] * len(boxes))
    wrong = "upright" if frame == "stored" else "stored"
    with pytest.raises(
        UsageError,
        match=rf"4 of 4 boxes on images whose EXIF orientation rotates .* run again with --map orientation={frame};",
    ):
        run(reader, tmp_path / "raw", tmp_path / "out", mapping={"orientation": wrong})
    _, table = run(reader, tmp_path / "raw", tmp_path / "out", mapping={"orientation": frame})
    assert [[round(x) for x in found] for found in table["box"].to_list()] == [box] * len(orientations)


def test_squares_are_reported_to_be_ambiguous(tmp_path):
    draw(tmp_path / "raw", [6, 6, 1], size=(64, 64))
    raw = coco_of(tmp_path / "raw", [[5, 20, 40, 50]] * 3, [(64, 64)] * 3)
    report, table = run("coco", raw, tmp_path / "out")
    assert table["box"].to_list() == [[5, 20, 40, 50]] * 3
    assert any(
        "2 rows" in note and "2 on square images" in note and "--map orientation=stored" in note
        for note in report.notes
    )


def test_an_image_turned_after_it_was_labeled_is_refused(tmp_path):
    """Without an orientation tag, neither frame is right."""
    draw(tmp_path / "raw", [1, 1])
    raw = coco_of(tmp_path / "raw", [BOX, [20, 5, 90, 40]], [(WIDTH, HEIGHT), (HEIGHT, WIDTH)])
    report, _ = run("coco", raw, tmp_path / "out")
    assert report.rejected_by_rule == {"size_differs": 1}


def test_turning_depends_on_nothing_else():
    """Hand-worked: orientation, upright size, stated size (0: none), assumption."""
    orientations = np.array([1, 6, 6, 6, 3, 6], np.int8)
    upright = np.array([[64, 112]] * 5 + [[64, 64]])
    sizes = np.array([[64, 112], [64, 112], [112, 64], [0, 0], [64, 112], [64, 64]])
    turned, assumed = coordinate_orientations(orientations, upright, sizes, "stored")
    assert turned.tolist() == [1, 1, 6, 6, 3, 6]
    assert assumed.tolist() == [False, False, False, True, True, True]
    assert coordinate_orientations(orientations, upright, sizes, "upright")[0].tolist() == [1, 1, 6, 1, 1, 1]


@pytest.mark.parametrize(
    ("mapping", "box"),
    [
        ({"orientation": "stored"}, [3, 7, 300, 40]), ({}, [3, 7, 30, 500]), ({"box-form": "size"}, [3, 7, 99, 40]),
        ({"axes": "yx"}, [3, 7, 300, 40]), ({"unit": "percent"}, [3, 7, 300, 40]),
    ],
)  # fmt: skip
def test_messages_quote_the_file(tmp_path, mapping, box):
    draw(tmp_path / "raw", [6] * 4)
    good = [[1, 2, 30, 40]] * 3
    report, _ = run("csv", csv_of(tmp_path / "raw", [*good, box]), tmp_path / "out", mapping=mapping)
    assert report.rejected == 1
    (row,) = read_table(tmp_path / "out/rejected.parquet").to_pylist()
    assert row["found"] == " ".join(map(str, box))
    assert f"({row['found']})" in row["message"]


FORMS = {
    "relative": ({"unit": "relative"}, lambda x1, y1, x2, y2: [x1 / WIDTH, y1 / HEIGHT, (x2 + 1) / WIDTH, (y2 + 1) / HEIGHT]),
    "size": ({"box-form": "size"}, lambda x1, y1, x2, y2: [x1, y1, x2 - x1 + 1, y2 - y1 + 1]),
    "yx": ({"axes": "yx"}, lambda x1, y1, x2, y2: [y1, x1, y2, x2]),
}  # fmt: skip
BOXES = [[30, 70, 50, 100], [20, 60, 45, 110], [40, 90, 60, 105], [33, 71, 60, 99]]


@pytest.mark.parametrize("name", sorted(FORMS))
def test_boxes_in_another_form_are_refused_and_the_named_option_reads_them(tmp_path, name):
    mapping, write = FORMS[name]
    draw(tmp_path / "raw", [1, 6, 1, 1])
    csv_of(tmp_path / "raw", [write(*box) for box in BOXES])
    ((key, value),) = mapping.items()
    with pytest.raises(UsageError, match=f"run again with --map {key}={value}"):
        run("csv", tmp_path / "raw", tmp_path / "out")
    assert not (tmp_path / "out/table.parquet").exists()
    _, table = run("csv", tmp_path / "raw", tmp_path / "out", mapping=mapping)
    assert np.allclose(np.array(table["box"].to_list()), BOXES, atol=1e-4)


def test_centers_in_shares_as_yolo_has_them(tmp_path):
    draw(tmp_path / "raw", [1] * 4)
    boxes = [
        [(x1 + x2 + 1) / 2 / WIDTH, (y1 + y2 + 1) / 2 / HEIGHT, (x2 - x1 + 1) / WIDTH, (y2 - y1 + 1) / HEIGHT]
        for x1, y1, x2, y2 in BOXES
    ]
    csv_of(tmp_path / "raw", boxes)
    _, table = run("csv", tmp_path / "raw", tmp_path / "out", mapping={"unit": "relative", "box-form": "center"})
    assert np.allclose(np.array(table["box"].to_list()), BOXES, atol=1e-4)


def test_coco_boxes_that_are_corners(tmp_path):
    draw(tmp_path / "raw", [1] * 4)
    coco_of(tmp_path / "raw", [[x1, y1, x1 + x2 - 1, y1 + y2 - 1] for x1, y1, x2, y2 in BOXES], [(WIDTH, HEIGHT)] * 4)
    with pytest.raises(UsageError, match="--map box-form=corners"):
        run("coco", tmp_path / "raw", tmp_path / "out")
    _, table = run("coco", tmp_path / "raw", tmp_path / "out", mapping={"box-form": "corners"})
    assert table["box"].to_list() == BOXES


def test_coco_points_in_shares(tmp_path):
    """Points, boxes and outlines together."""
    names = ["waistline_left", "waistline_right", "hem_left", "hem_right"]
    points = [0.25, 0.25, 2, 0.5, 0.25, 2, 0.25, 0.75, 1, 0, 0, 0]
    draw(tmp_path / "raw", [1])
    shape = {"bbox": [0.25, 0.25, 0.5, 0.5], "segmentation": [[0, 0, 1, 0, 1, 1]], "keypoints": points}
    coco_of(tmp_path / "raw", [BOX], [(WIDTH, HEIGHT)])
    document = json.loads((tmp_path / "raw/list.json").read_text())
    document["annotations"][0] |= shape
    document["categories"] = [{"id": 1, "name": "lower", "keypoints": names}]
    (tmp_path / "raw/list.json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match="lie within 0 to 1"):
        run("coco", tmp_path / "raw", tmp_path / "out")
    _, table = run("coco", tmp_path / "raw", tmp_path / "out", mapping={"unit": "relative"})
    (row,) = table.to_dicts()
    assert row["box"] == [16, 28, 47, 83]
    assert row["polygons"] == [[-0.5, -0.5, 63.5, -0.5, 63.5, 111.5]]
    assert row["landmark_x"] == [0, 0, 0, 0, 15.5, 31.5, 15.5, 0]
    assert row["landmark_y"] == [0, 0, 0, 0, 27.5, 27.5, 83.5, 0]


def test_single_rows_in_shares_are_rejected(tmp_path):
    draw(tmp_path / "raw", [1] * 4)
    report, _ = run("csv", csv_of(tmp_path / "raw", [*BOXES[:3], [0.1, 0.1, 0.8, 0.9]]), tmp_path / "out")
    assert report.rejected_by_rule == {"not_pixels": 1}


def test_percentages_are_suspected(tmp_path):
    draw(tmp_path / "raw", [1] * 4, size=(320, 240))
    report, _ = run("csv", csv_of(tmp_path / "raw", [[10, 20, 90, 95]] * 4), tmp_path / "out")
    assert any("--map unit=percent" in note for note in report.notes)


def _shares_of_kfashion(raw):
    for path in raw.rglob("*.json"):
        if path.name != "expected.json":
            try:
                document = json.loads(path.read_bytes())
            except ValueError:
                continue
            for rects in document.get("데이터셋 정보", {}).get("데이터셋 상세설명", {}).get("렉트좌표", {}).values():
                for rect in rects:
                    rect.update(dict.fromkeys(rect, 0.25))
            path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


def _shares_of_deepfashion2(raw):
    for path in raw.rglob("annos/*.json"):
        try:
            document = json.loads(path.read_text())
        except ValueError:
            continue
        for item in document.values():
            if isinstance(item, dict) and isinstance(item.get("bounding_box"), list):
                item["bounding_box"] = [0.1, 0.1, 0.8, 0.9]
        path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("name", "change"), [("kfashion", _shares_of_kfashion), ("deepfashion2", _shares_of_deepfashion2)]
)
def test_official_readers_refuse_shares_too(tmp_path, name, change):
    """They have no option to read them; the message describes the expected content."""
    shutil.copytree(tree_of(name), tmp_path / "raw")
    change(tmp_path / "raw")
    with pytest.raises(UsageError, match=rf"lie within 0 to 1.*{name} has x1, y1, x2, y2"):
        convert(name, [tmp_path / "raw"], tmp_path / "out", workers=1, max_rejected=1.0, check_images="none")


def test_a_few_strange_boxes_prove_nothing(tmp_path):
    """Two inverted boxes of two are two rejected rows, as usual."""
    draw(tmp_path / "raw", [1, 1])
    with pytest.raises(RejectedError, match="box_inverted"):
        run("csv", csv_of(tmp_path / "raw", [[30, 70, 20, 30]] * 2), tmp_path / "out")


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"unit": "relativ"}, "did you mean relative"), ({"axes": "xx"}, "expected xy or yx"),
        ({"orientation": "turned"}, "expected stored or upright"), ({"box-form": "corner"}, "corners"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("reader", ["csv", "coco"])
def test_options_that_are_none(tmp_path, reader, mapping, message):
    draw(tmp_path / "raw", [1])
    csv_of(tmp_path / "raw", [BOX])
    coco_of(tmp_path / "raw", [BOX], [None])
    with pytest.raises(UsageError, match=message):
        run(reader, tmp_path / "raw", tmp_path / "out", mapping=mapping)


def test_shares_need_the_sizes_of_the_images(tmp_path):
    draw(tmp_path / "raw", [1])
    with pytest.raises(UsageError, match="needs the sizes of the images"):
        run(
            "csv",
            csv_of(tmp_path / "raw", [[0.1, 0.1, 0.8, 0.9]]),
            tmp_path / "out",
            mapping={"unit": "relative"},
            check_images="none",
        )


_STATED = ("width", "height", "이미지 너비", "이미지 높이")


def scale_stated_sizes(value, share):
    """Reduce the image sizes stated in a document, but keep all coordinates."""
    if isinstance(value, list):
        return [scale_stated_sizes(entry, share) for entry in value]
    if not isinstance(value, dict):
        return value
    return {
        name: max(1, int(entry * share))
        if name in _STATED and isinstance(entry, int)
        else scale_stated_sizes(entry, share)
        for name, entry in value.items()
    }


def shrink(raw, share):
    """Shrink the images and the sizes stated in documents, but not the annotations."""
    for path in sorted(raw.rglob("*")):
        if path.suffix in (".jpg", ".png") and path.stat().st_size > 100:
            with Image.open(path) as image:
                size = [max(1, int(side * share)) for side in image.size]
                image.resize(size).save(path, format=image.format)
        elif path.suffix == ".json" and path.name != "expected.json":
            try:
                document = json.loads(path.read_text())
            except ValueError:
                continue
            path.write_text(json.dumps(scale_stated_sizes(document, share), ensure_ascii=False))


def boxes_outside(table):
    """How far the boxes reach (largest share of a side), and those beyond their image by more than one pixel."""
    reach, outside = 0.0, []
    for row in table.iter_rows(named=True):
        flat = [*(row.get("box") or []), *(row.get("garment_boxes") or [])]
        for x1, y1, x2, y2 in zip(*[iter(flat)] * 4, strict=True):
            reach = max(reach, x2 / row["width"], y2 / row["height"])
            if x1 < -1 or y1 < -1 or x2 > row["width"] or y2 > row["height"]:
                outside.append((row["image"], x1, y1, x2, y2))
    return reach, outside


@pytest.fixture(scope="module")
def trees_with_boxes(tmp_path_factory):
    """The tiny raw trees of readers with garment boxes, by reader; COCO both per image and per garment."""
    trees = {name: tree_of(name) for name in readers()}
    home = tmp_path_factory.mktemp("garments")
    convert("kfashion", [trees["kfashion"]], home / "table", check_images="full", max_rejected=1.0, workers=1)
    export(home / "table/table.parquet", home / "coco", "coco")
    shutil.copytree(trees["kfashion"], home / "coco/images", ignore=shutil.ignore_patterns("*.json"))
    return {**trees, "coco of garments": home / "coco"}


WITH_BOXES = ["coco of garments", *(
    name for name, entry in readers().items()
    if {"box", "garment_boxes"} & set(entry.table.column_names()) or "unit" in entry.mapping  # of any file with boxes
)]  # fmt: skip


@pytest.mark.parametrize("name", WITH_BOXES)
def test_no_box_is_kept_outside_its_image(name, trees_with_boxes, tmp_path):
    """With annotations of larger images than those present, boxes are clipped, or their rows rejected."""
    shutil.copytree(trees_with_boxes[name], tmp_path / "raw")
    options = {"check_images": "full", "max_rejected": 1.0, "workers": 1}
    before = convert(name.split(" ")[0], [tmp_path / "raw"], tmp_path / "before", **options)
    reach, outside = boxes_outside(pl.DataFrame(read_table(tmp_path / "before/table.parquet")))
    assert reach > 0
    assert not outside
    shrink(tmp_path / "raw", min(0.6, 0.8 * reach))
    try:
        report = convert(name.split(" ")[0], [tmp_path / "raw"], tmp_path / "out", **options)
    except RejectedError as error:  # no row is left
        refused = str(error)
    else:
        refused = ""
    if refused:
        assert re.search("box_outside|point_outside", refused), refused
        return
    _, outside = boxes_outside(pl.DataFrame(read_table(tmp_path / "out/table.parquet")))
    assert not outside
    told = {**report.rejected_by_rule, **report.warnings}
    assert any(told.get(rule, 0) > before.rejected_by_rule.get(rule, 0) + before.warnings.get(rule, 0) for rule in (
        "box_outside", "garment_box_outside", "garment_outside_image", "box_cut_at_border", "point_outside",
    )), told  # fmt: skip


def test_a_garment_box_outside_is_reported_with_its_garment(trees_with_boxes, tmp_path):
    shutil.copytree(trees_with_boxes["coco of garments"], tmp_path / "raw")
    shrink(tmp_path / "raw", 0.75)
    convert("coco", [tmp_path / "raw"], tmp_path / "out", check_images="full", max_rejected=1.0, workers=1)
    rejected = pl.DataFrame(read_table(tmp_path / "out/rejected.parquet")).filter(rule="garment_box_outside")
    assert rejected.height > 0
    assert rejected["column"].unique().to_list() == ["garment_boxes"]
    assert rejected["message"].str.contains(r"the box of the \S+ \([-\d. ]+\) leaves the image of \d+ x \d+").all()
