"""The synthetic raw tree of every data set: reproducible, read without rejects, learnable, with the listed defects."""

import hashlib
import io
import json
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

import fprep.synthetic.layouts
from fprep.convert.command import convert
from fprep.raw.marker import MARKER
from fprep.synthetic.command import find_layout, find_sample, layouts, published_images
from fprep.synthetic.skeleton import Request, draw_groups
from fschemas.failures import UsageError
from fschemas.vocabularies import vocabulary

IMAGES = 16
TREES = [name for name in layouts() if name not in ("fashionai-keypoints", "deepfashion-fine")]
SMALL_TREES = ("deepfashion-landmarks", "kfashion-asen")  # 40 images hold all of their defects
REAL = Path(os.environ.get("FASHIONKIT_REAL", Path(__file__).parents[4] / "shared" / "real"))


def tree(folder):
    """Map the relative path of every file to its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    """Function from a data set to the folder of its sample."""
    folders = {}

    def draw(name):
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name) / "raw"
            find_sample(name)(folders[name], images=IMAGES, seed=3, workers=1)
        return folders[name]

    return draw


def lines_of(folder, path):
    content = (folder / path).read_bytes()
    assert content.endswith(b"\n")
    assert b"\r" not in content
    return content[:-1].decode().split("\n")


def test_every_module_named_after_a_dataset_is_found():
    from fprep.readers.registry import readers

    modules = {path.stem.replace("_", "-") for path in Path(fprep.synthetic.layouts.__file__).parent.glob("*.py")}
    assert set(layouts()) == modules & set(readers())


@pytest.mark.parametrize("name", [TREES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in TREES[1:])])
def test_same_bytes_for_any_number_of_workers(name, synthetic, tmp_path):
    calls = []
    find_sample(name)(tmp_path / "raw", images=IMAGES, seed=3, workers=2, progress=calls.append)
    assert tree(tmp_path / "raw") == tree(synthetic(name))
    assert sum(calls) == IMAGES


@pytest.mark.parametrize("name", TREES)
def test_images_are_whole_and_every_row_is_taken(name, synthetic, tmp_path):
    folder = synthetic(name)
    files = tree(folder)
    assert MARKER in files
    assert sum(path.endswith(".jpg") for path in files) == IMAGES
    summary = convert(name, [folder], tmp_path / "table").to_json()
    assert summary["rejected"] == 0
    table = pl.read_parquet(tmp_path / "table/table.parquet")
    annotated = {path for path in files if path.endswith(".jpg") and not path.startswith("test/")}  # of DeepFashion2
    assert set(table["image"]) == annotated
    for path in table["image"].unique()[:3]:
        with Image.open(folder / path) as image:
            assert (image.format, image.mode) == ("JPEG", "RGB")
            assert np.asarray(image).std() > 5


@pytest.mark.parametrize("name", TREES)
def test_annotations_alone_are_read_too(name, tmp_path):
    find_sample(name)(tmp_path / "raw", images=300, seed=4, workers=1, with_images=False)
    assert not list((tmp_path / "raw").rglob("*.jpg"))
    summary = convert(name, [tmp_path / "raw"], tmp_path / "table", check_images="none").to_json()
    assert summary["rejected"] == 0
    assert summary["kept"] >= 0.7 * 300


@pytest.mark.parametrize("name", TREES)
def test_small_samples_are_read_too(name, tmp_path):
    """A split without images has no list, because an empty list is a damaged file."""
    for images in (2, 3, 8):
        find_sample(name)(tmp_path / f"raw{images}", images=images, seed=0, workers=1, with_images=False)
        report = convert(name, [tmp_path / f"raw{images}"], tmp_path / f"table{images}", check_images="none")
        assert report.kept > 0


@pytest.mark.parametrize("name", TREES)
def test_another_seed_draws_other_images(name, synthetic, tmp_path):
    find_sample(name)(tmp_path / "raw", images=3, seed=9, workers=1)
    images = {content for path, content in tree(tmp_path / "raw").items() if path.endswith(".jpg")}
    assert len(images) == 3
    assert not images & set(tree(synthetic(name)).values())


@pytest.mark.parametrize("name", TREES)
def test_occupied_folders_and_odd_requests_are_refused(name, tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="a folder with other things"):
        find_sample(name)(tmp_path / "raw", images=8, seed=0, workers=1)
    with pytest.raises(UsageError, match="too few"):
        find_sample(name)(tmp_path / "new", images=8, seed=0, workers=1, defects=True)
    with pytest.raises(UsageError, match="--no-images"):
        find_sample(name)(tmp_path / "new", images=500, seed=0, workers=1, defects=True, with_images=False)
    assert not (tmp_path / "new").exists()
    assert published_images(name) > 50_000


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in SMALL_TREES)) for name in TREES]
)
def test_planted_defects_get_the_verdict_that_is_listed(name, tmp_path):
    least = find_layout(name).least_for_defects
    counts = find_sample(name)(tmp_path / "raw", images=least, seed=1, workers=1, defects=True)
    listed = json.loads((tmp_path / "raw/defects.json").read_text(encoding="utf-8"))
    listed = listed["defects"] if isinstance(listed, dict) else listed
    assert counts["defects"] == len(listed) >= 7
    summary = convert(name, [tmp_path / "raw"], tmp_path / "table", max_rejected=1.0).to_json()
    images = pl.read_parquet(tmp_path / "table/table.parquet")["image"].to_list()
    rejected = pl.read_parquet(tmp_path / "table/rejected.parquet").to_dicts()
    places = {(row["source_file"], row["source_line"]) for row in rejected} | {
        (row["row_file"], row["row_line"]) for row in rejected
    }
    rules = {rule for row in rejected for rule in row["rules"]}
    for defect in listed:
        if defect["verdict"] == "rejected":
            gone = defect["image"] is not None and not any(image.endswith(defect["image"]) for image in images)
            assert gone or (defect["file"], defect["line"]) in places, defect
            assert defect["rule"] in rules, defect
        elif defect["image"] is not None:
            assert any(image.endswith(defect["image"]) for image in images), defect
    assert summary["rejected"] <= len(listed) + 2


def test_category_lists_have_the_released_layout(synthetic):
    folder = synthetic("deepfashion-category")
    for stem, tail in (("list_bbox", r"(\d{3} ){3}\d{3}"), ("list_category_img", r"\d+"), ("list_attr_img", r"[ -]\d( [ -]\d){999}"),
                       ("list_landmarks", r"[123](  [012] \d{3} \d{3}){4,8} ")):  # fmt: skip
        count, header, *rows = lines_of(folder, f"Anno_coarse/{stem}.txt")
        assert int(count) == len(rows) == IMAGES
        assert header.startswith("image_name" + " " * 60)
        for row in rows:
            assert re.fullmatch(rf"img/[^ /]+/img_\d{{8}}\.jpg +{tail}", row), row[:200]
            assert row[70] == " "
    assert {len(row) for row in lines_of(folder, "Anno_coarse/list_attr_img.txt")[2:]} == {3070}
    content = (folder / "Anno_coarse/list_category_cloth.txt").read_bytes()
    assert hashlib.sha256(content).hexdigest() == "ec4a1be64f61c5f6ce2113df602b6eca3f27c14a67694cdad78d83654a15ab81"
    assert (
        (folder / "Anno_fine/list_attr_cloth.txt")
        .read_bytes()
        .startswith(b"26 \nattribute_name   attribute_type\nfloral")
    )


def test_fine_rows_belong_together(synthetic):
    folder = synthetic("deepfashion-category")
    categories = vocabulary("deepfashion-category-50").values
    for split in ("train", "val", "test"):
        names, *labels = (
            lines_of(folder, f"Anno_fine/{split}{end}.txt") for end in ("", "_attr", "_bbox", "_cate", "_landmarks")
        )
        assert len({len(names), *map(len, labels)}) == 1
        for name, flags, box, category, points in zip(names, *labels, strict=True):
            assert name.split("/")[1].split("_")[-1] == categories[int(category) - 1]
            assert len(flags) == 52
            assert flags.count("1") == 6
            assert len(box.split()) == 4
            assert len(points.split()) == 16


def test_labels_do_not_depend_on_the_images(synthetic, tmp_path):
    """The labels of an item are the same whether it is rendered or not; only coordinates differ."""
    find_sample("deepfashion-category")(tmp_path / "raw", images=IMAGES, seed=3, workers=1, with_images=False)
    for path in ("Anno_coarse/list_attr_img.txt", "Anno_coarse/list_category_img.txt", "Eval/list_eval_partition.txt"):
        assert (tmp_path / "raw" / path).read_bytes() == (synthetic("deepfashion-category") / path).read_bytes()


def test_inshop_partition_has_the_released_bytes(synthetic):
    count, header, *rows = lines_of(synthetic("deepfashion-inshop"), "Eval/list_eval_partition.txt")
    assert (int(count), header) == (IMAGES, "image_name item_id evaluation_status")
    assert {len(row) for row in rows} == {94}
    splits = {}
    for row in rows:
        path, item, status = row.split()
        assert re.fullmatch(r"img/(WOMEN|MEN)/\w+/id_\d{8}/\d\d_[1-7]_\w+\.jpg", path)
        assert path.split("/")[3] == item
        splits.setdefault(item, set()).add(status)
    assert {frozenset(found) for found in splits.values()} <= {frozenset({"train"}), frozenset({"query", "gallery"})}
    images = [content for path, content in tree(synthetic("deepfashion-inshop")).items() if path.endswith(".jpg")]
    assert {Image.open(io.BytesIO(content)).size for content in images} == {(256, 256)}


def test_kfashion_documents_look_like_the_released_ones(synthetic):
    real = json.loads((REAL / "kfashion_aihub/100026.json").read_text()) if REAL.exists() else None
    paths = list(synthetic("kfashion").rglob("*.json"))
    for path in paths:
        content = path.read_bytes()
        document = json.loads(content)
        assert b"\n" not in content
        assert b": " not in content
        details = document["데이터셋 정보"]["데이터셋 상세설명"]
        assert str(document["이미지 정보"]["이미지 식별자"]) == path.stem
        if real is not None:
            assert list(document["이미지 정보"]) == list(real["이미지 정보"])
            assert list(document["데이터셋 정보"]) == list(real["데이터셋 정보"])
            assert list(details) == list(real["데이터셋 정보"]["데이터셋 상세설명"])
        for part, (box,) in details["렉트좌표"].items():
            polygon = details["폴리곤좌표"][part][0]
            if box:
                xs = [value for key, value in polygon.items() if key[0] == "X"]
                assert box["X좌표"] == pytest.approx(min(xs) - 0.5, abs=0.01)
                assert box["가로"] == pytest.approx(max(xs) - min(xs), abs=1.0)
            else:
                assert polygon == {}
    assert len(paths) == IMAGES


def test_consumer_to_shop_lists_have_their_oddities(synthetic):
    folder = synthetic("deepfashion-consumer2shop")
    content = (folder / "Anno/list_attr_cloth.txt").read_bytes()
    assert content.startswith(b"\xef\xbb\xbf303\r\nattribute_name (Chinese)")
    assert content.count(b"\r\n") == content.count(b"\n") == 305
    count, _, *rows = lines_of(folder, "Eval/list_eval_partition.txt")
    assert int(count) == len(rows)
    for row in rows:
        consumer, shop, item, split = row.split()
        assert "/comsumer_" in consumer
        assert "/shop_" in shop
        assert item in consumer
        assert item in shop
        assert split in ("train", "val", "test")


def group_sizes(images, *options, **more):
    return [group.count for group in draw_groups(Request(images, 0, 1), *options, **more)]


def test_groups_share_all_images():
    for images in (1, 5, 100, 30_000):
        assert sum(group_sizes(images, 2, 9, 50, 1)) == images
    assert min(group_sizes(101, 3, 9, least=2)) >= 2
    assert Counter(group_sizes(30_000, 2, 9, 50)).most_common(1)[0][0] > 20
