"""K-Fashion reader: spelling variants, boxes and polygons, unknown labels, shoots, trees on disk, and real files."""

import csv
import io
import json
import os
import random
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from fprep.convert.command import convert
from fprep.readers.kfashion.documents import Parser, Task, TaskResult
from fprep.readers.kfashion.labels import ATTRIBUTES, PARTS, STYLES, shoot_of
from fprep.readers.kfashion.tree import split_of
from fschemas.failures import UsageError
from fschemas.table_file import read_metadata, read_table

REAL = Path(os.environ.get("FASHIONKIT_REAL", Path(__file__).parents[5] / "shared" / "real")) / "kfashion_aihub"
DIAMOND = ((10.0, 4.5), (20.25, 30.0), (10.0, 50.125), (2.5, 30.0))
NBSP_HOUNDSTOOTH = "하운즈\u00a0투스"


def record(parts=None, *, style=None, size=(40, 60), number=7, name="a.jpg", **sections):
    """A record; `parts` maps a part to (rect or None, points or None, labels)."""
    found = {"렉트좌표": {}, "폴리곤좌표": {}, "라벨링": {"스타일": [style or {}]}}
    for part in PARTS:
        rect, points, labels = (parts or {}).get(part, (None, None, {}))
        found["렉트좌표"][part] = [
            {} if rect is None else dict(zip(("X좌표", "Y좌표", "가로", "세로"), rect, strict=True))
        ]
        keys = [(axis, point) for point in range(len(points or ())) for axis in (0, 1)]
        random.Random(1).shuffle(keys)
        found["폴리곤좌표"][part] = [{f"{'XY'[axis]}좌표{point + 1}": points[point][axis] for axis, point in keys}]
        found["라벨링"][part] = [labels]
    image = {"이미지 식별자": number, "이미지 높이": size[1], "이미지 파일명": name, "이미지 너비": size[0]}
    return {"이미지 정보": image, "데이터셋 정보": {"데이터셋 상세설명": found | sections}}


def write(value) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def parse(*values, style="", polygons=True) -> tuple[pl.DataFrame, TaskResult]:
    contents = [value if isinstance(value, bytes) else write(value) for value in values]
    parser = Parser(Task("", "", (), style, polygons))
    for index, content in enumerate(contents):
        parser.parse(f"{index}.json", content)
    result = parser.result()
    return pl.concat([pl.read_ipc_stream(rows) for rows in (result.rows, result.wide)], how="horizontal"), result


def names(ids) -> list[str]:
    return [ATTRIBUTES.values[number] for number in ids]


def unknown_families(ids) -> set[str]:
    found = set(ids)
    families = {family for family, members in ATTRIBUTES.groups.items() if found & set(members)}
    assert found == {number for family in families for number in ATTRIBUTES.groups[family]}, (
        "a family is unknown as a whole"
    )
    return families


def test_vocabulary_has_every_label_once_and_plainly():
    assert len(ATTRIBUTES) == 660
    assert all(value == unicodedata.normalize("NFC", value) and "\u00a0" not in value for value in ATTRIBUTES.values)
    assert all(
        value.startswith(f"{family}/")
        for family, ids in ATTRIBUTES.groups.items()
        for value in map(ATTRIBUTES.values.__getitem__, ids)
    )
    assert {family.split("/")[0] for family in ATTRIBUTES.groups} == set(PARTS)
    assert len(STYLES) == 24


def test_polygon_points_come_in_their_order_and_boxes_in_pixel_centers():
    frame, _ = parse(record({"상의": ((2.0, 4.0, 17, 45), DIAMOND, {"색상": "레드"})}))
    assert frame["garments"].to_list() == [["상의"]]
    assert frame["garment_boxes"].to_list() == [[2.5, 4.5, 19.5, 49.5]]
    assert frame["garment_polygons"].to_list() == [[[value for point in DIAMOND for value in point]]]


@pytest.mark.parametrize(
    ("rect", "box", "warning"),
    [
        ((-0.5, -0.5, 39, 59), [0, 0, 39, 59], None),
        ((-3.5, 2, 30, 26), [0, 2.5, 27, 28.5], "box_cut_at_border"),
        ((10.5, 20.5, 20, 44), [11, 21, 31, 59], "box_cut_at_border"),
        ((5.5, 5.5, 0, 0), None, "garment_of_no_size"),
        ((5.5, 5.5, -4, 9), None, "garment_of_no_size"),
        ((50.5, 5.5, 9, 9), None, "garment_outside_image"),
        (("5", 5.5, 9, 9), None, "garment_without_rect"),
        ((5.5, None, 9, 9), None, "garment_without_rect"),
        ((5.5, 1e300, 9, 9), None, "garment_without_rect"),
        ((True, 5.5, 9, 9), None, "garment_without_rect"),
    ],
)
def test_an_impossible_box_drops_the_garment_and_keeps_its_labels(rect, box, warning):
    skirt = ((3.5, 29.5, 25, 26), DIAMOND, {"핏": "와이드"})
    frame, result = parse(record({"하의": skirt, "상의": (rect, DIAMOND[:3], {"색상": "레드"})}))
    expected = [4, 30, 29, 56] + (box or [])
    assert frame["garment_boxes"].to_list() == [expected]
    assert frame["garments"].to_list() == [["하의", "상의"] if box else ["하의"]]
    assert [len(points) for points in frame["garment_polygons"][0]] == ([8, 6] if box else [8])
    assert names(frame["attributes_positive"][0]) == ["하의/핏/와이드", "상의/색상/레드"]
    assert dict(result.warnings) == ({warning: 1} if warning else {})


@pytest.mark.parametrize(
    "points",
    [
        {"X좌표1": 1, "Y좌표1": 1, "X좌표2": 2, "Y좌표2": 2},
        {"X좌표1": 1, "Y좌표1": 1, "X좌표2": 2, "Y좌표2": 2, "X좌표4": 2, "Y좌표4": 9},
        {"X좌표1": 1, "Y좌표1": 1, "X좌표2": 2, "Y좌표2": 2, "X좌표3": 2},
        {"X좌표1": 1, "Y좌표1": "1", "X좌표2": 2, "Y좌표2": 2, "X좌표3": 2, "Y좌표3": 9},
        {"X좌표1": 1, "Y좌표1": 1e300, "X좌표2": 2, "Y좌표2": 2, "X좌표3": 2, "Y좌표3": 9},
        {"X좌표01": 1, "Y좌표1": 1, "X좌표2": 2, "Y좌표2": 2, "X좌표3": 2, "Y좌표3": 9},
        {"Y좌표44": 508.8, "Y좌표43": 499.8, "Y좌표18": 767.7},
    ],
)
def test_a_polygon_with_gaps_is_empty_and_its_neighbors_are_whole(points):
    value = record(
        {"하의": ((2.0, 4.0, 17, 45), DIAMOND, {"핏": "와이드"}), "상의": ((5.5, 5.5, 9, 9), DIAMOND, {"색상": "레드"})}
    )
    value["데이터셋 정보"]["데이터셋 상세설명"]["폴리곤좌표"]["하의"] = [points]
    frame, result = parse(value)
    assert frame["garment_polygons"].to_list() == [[[], [value for point in DIAMOND for value in point]]]
    assert len(frame["garment_boxes"][0]) == 8
    assert dict(result.warnings) == {"polygon_with_gaps": 1}


def test_a_polygon_without_rect_gives_the_box():
    frame, result = parse(record({"하의": ((3.5, 29.5, 25, 26), None, {}), "상의": (None, DIAMOND, {"색상": "레드"})}))
    assert frame["garment_boxes"].to_list() == [[4, 30, 29, 56, 2.5, 4.5, 20.25, 50.125]]
    assert [len(points) for points in frame["garment_polygons"][0]] == [0, 8]
    assert dict(result.warnings) == {"box_from_polygon": 1}


def test_two_garments_of_one_part():
    value = record({"상의": ((5.5, 5.5, 9, 9), DIAMOND, {"색상": "레드", "핏": "루즈"})})
    details = value["데이터셋 정보"]["데이터셋 상세설명"]
    details["렉트좌표"]["상의"].append({"X좌표": 1.5, "Y좌표": 2.5, "가로": 3, "세로": 4})
    details["라벨링"]["상의"].append({"색상": "블루"})
    frame, _ = parse(value)
    assert frame["garment_boxes"].to_list() == [[6, 6, 15, 15, 2, 3, 5, 7]]
    assert frame["garments"].to_list() == [["상의", "상의"]]
    assert names(frame["attributes_positive"][0]) == ["상의/색상/레드", "상의/색상/블루", "상의/핏/루즈"]
    assert not {"상의/색상", "상의/핏"} & unknown_families(frame["attributes_unknown"][0])


def test_absent_parts_are_known_to_be_absent_and_unnamed_families_are_unknown():
    frame, _ = parse(record({"하의": ((2.0, 4.0, 17, 45), None, {"색상": "블랙", "소재": ["데님", "스판덱스"]})}))
    assert names(frame["attributes_positive"][0]) == ["하의/색상/블랙", "하의/소재/데님", "하의/소재/스판덱스"]
    expected = {family for family in ATTRIBUTES.groups if family.startswith("하의/")} - {"하의/색상", "하의/소재"}
    assert unknown_families(frame["attributes_unknown"][0]) == expected


def test_where_nobody_looked_everything_is_unknown():
    frame, _ = parse(record())
    assert frame["attributes_unknown"].to_list() == [list(range(660))]
    assert frame["garments"].to_list() == [[]]


@pytest.mark.parametrize(
    ("family", "spelling", "value"),
    [
        ("프린트", [NBSP_HOUNDSTOOTH], "하운즈투스"),
        ("프린트", ["하운즈 투스"], "하운즈투스"),
        ("기장", "노말", "노멀"),
        ("넥라인", "홀토넥", "홀터넥"),
        ("넥라인", "원 숄더", "원숄더"),
        ("옷깃", "테일러칼라", "테일러드칼라"),
        ("색상", unicodedata.normalize("NFD", "스카이블루"), "스카이블루"),
        ("소재", "데님", "데님"),
        ("소재", ["비닐/PVC", "비닐/PVC"], "비닐/PVC"),
    ],
)
def test_spellings(family, spelling, value):
    frame, result = parse(record({"아우터": ((2.0, 4.0, 17, 45), None, {family: spelling})}))
    assert names(frame["attributes_positive"][0]) == [f"아우터/{family}/{value}"]
    assert not result.warnings


@pytest.mark.parametrize("value", ["모름", "", None, 5, [], ["모름"], [["레드"]], {"a": 1}])
def test_an_unknown_value_leaves_its_family_unknown(value):
    frame, result = parse(record({"상의": ((2.0, 4.0, 17, 45), None, {"색상": value, "칼라": "x", "핏": "루즈"})}))
    assert names(frame["attributes_positive"][0]) == ["상의/핏/루즈"]
    assert "상의/색상" in unknown_families(frame["attributes_unknown"][0])
    assert result.warnings["unknown_label"] == 2


@pytest.mark.parametrize(
    ("entry", "folder", "expected", "warning"),
    [
        ({"스타일": "레트로", "서브스타일": "페미닌"}, "레트로", ("레트로", "페미닌"), None),
        ({"스타일": "키치/키덜트"}, "키치", ("키치", ""), None),
        ({}, "기타", ("기타", ""), None),
        ({}, "", ("", ""), None),
        ({"스타일": "모던"}, "스트리트", ("모던", ""), "style_is_not_the_folder"),
        ({"스타일": "놈코어"}, "스트리트", ("스트리트", ""), "unknown_style"),
        ({"스타일": ["모던"]}, "스트리트", ("스트리트", ""), "unknown_style"),
    ],
)
def test_styles(entry, folder, expected, warning):
    frame, result = parse(record(style=entry), style=folder)
    styles = [*STYLES.values, ""]
    assert (styles[frame["style"][0]], styles[frame["substyle"][0]]) == expected
    assert dict(result.warnings) == ({warning: 1} if warning else {})


def _without(*path):
    value = record()
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return value


DETAILS = ("데이터셋 정보", "데이터셋 상세설명")


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "empty_file"),
        (b" \n", "empty_file"),
        (b"{", "bad_json"),
        (b"[1]", "bad_json"),
        (write(record())[:-1], "bad_json"),
        (write(record()) + b"x", "bad_json"),
        (write(record()).replace("너비".encode(), b"\xff\xfe"), "bad_encoding"),
        (b'{"a": NaN}', "bad_json"),
        (b"[" * 100_000, "bad_json"),
        (b" " * (1 << 20) + b"{}", "file_too_long"),
        (b"{}", "missing_key"),
        (_without("이미지 정보"), "missing_key"),
        (_without("데이터셋 정보"), "missing_key"),
        (_without(*DETAILS, "라벨링"), "missing_key"),
        (_without(*DETAILS, "렉트좌표"), "missing_key"),
        (record(라벨링=[]), "missing_key"),
    ],
)
@pytest.mark.parametrize("polygons", [True, False])
def test_a_file_that_is_no_record_is_rejected(content, rule, polygons):
    frame, result = parse(record(), content, record(), polygons=polygons)
    assert frame["file"].to_list() == ["0.json", "2.json"]
    assert [(name, found) for name, found, *_ in result.rejects] == [("1.json", rule)]


def test_polygons_that_are_no_object_are_a_fault():
    assert [rule for _, rule, *_ in parse(record(폴리곤좌표=[]))[1].rejects] == ["missing_key"]


def test_other_json_is_no_record_and_a_missing_polygon_section_no_fault():
    frame, result = parse(b'{"kept": 3}', _without(*DETAILS, "폴리곤좌표"))
    assert result.foreign == ["0.json"]
    assert frame["file"].to_list() == ["1.json"]


def test_byte_order_mark_and_line_breaks_do_not_matter():
    value = record({"상의": ((2.0, 4.0, 17, 45), DIAMOND, {"색상": "레드"})})
    plain = write(value)
    frame, result = parse(plain, b"\xef\xbb\xbf" + plain, json.dumps(value, indent=4).encode(), plain + b"\n")
    assert not result.rejects
    assert frame.drop("file").n_unique() == 1


@pytest.mark.parametrize("polygons", [True, False])
def test_order_of_sections_does_not_matter(polygons):
    value = record({"상의": ((2.0, 4.0, 17, 45), DIAMOND, {"색상": "레드"})})
    details = value["데이터셋 정보"]["데이터셋 상세설명"]
    value["데이터셋 정보"]["데이터셋 상세설명"] = {key: details[key] for key in ("폴리곤좌표", "렉트좌표", "라벨링")}
    frame, _ = parse(value, polygons=polygons)
    assert names(frame["attributes_positive"][0]) == ["상의/색상/레드"]
    assert [len(points) for points in frame["garment_polygons"][0]] == [8 if polygons else 0]


def test_an_image_of_unknown_size_cuts_no_box():
    frame, result = parse(record({"상의": ((2.0, 4.0, 700, 45), None, {})}, size=("40", 60)))
    assert frame["garment_boxes"].to_list() == [[2.5, 4.5, 702.5, 49.5]]
    assert frame.select("width", "height").row(0) == (0, 0)
    assert dict(result.warnings) == {"no_image_size": 1}


@pytest.mark.parametrize(
    ("name", "shoot"),
    [
        ("Shop_409_05.jpg", "shop_409"),
        ("Shop_409_img.JPG", "shop_409"),
        ("012-345-6,789-01,234-Shop_409_05.jpg", "shop_409"),
        ("Shop_016_01_1.jpg", "shop_016"),
        ("ab1234k05-ab1234k05-s_7.jpg", "ab1234k05"),
        ("AB1234K05-600_3.jpg", "ab1234k05"),
        ("20190604-ab1234k05(2)가게(4번)-DSC01234.JPG", "ab1234k05"),
        ("ab1234-ab1234-s_1.jpg", "ab1234"),
        ("2015-01-02 in studio 12345.jpg", "2015-01-02 in studio"),
        ("IMG_1234.JPG", None),
        ("IMG_1234_1.JPG", None),
        ("2-ab1234k05-1 (1234).jpg", None),
        ("1 (12345).JPG", None),
        ("150000000000000000_1200000000.jpg", None),
        ("", None),
    ],
)
def test_shoots(name, shoot):
    expected = None if shoot is None else f"shoot-{shoot}"
    assert pl.DataFrame({"name": [name]}).select(shoot_of(pl.col("name"))).item() == expected


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("Training/라벨링데이터/모던", "train"),
        ("2.Validation/x", "val"),
        ("모던", "train"),
        ("K-Fashion 이미지/Validation/모던", "val"),
    ],
)
def test_splits(path, split):
    assert split_of(path) == split


def put(
    root: Path, folder: str, number: int, *, labels="labels", images="images", name=None, end=".jpg", style="모던"
) -> None:
    value = record({"상의": ((2.0, 4.0, 17, 45), DIAMOND, {"색상": "레드"})}, number=number, style={"스타일": style})
    for kind in (labels, images):
        (root / folder.format(kind)).mkdir(parents=True, exist_ok=True)
    (root / folder.format(labels) / f"{name or number}.json").write_bytes(write(value))
    array = np.full((60, 40, 3), number % 256, np.uint8)
    Image.fromarray(array).save(root / folder.format(images) / f"{number}{end}")


def run(raw: Path, out: Path, **options):
    report = convert("kfashion", [raw], out, **{"check_images": "header", "max_rejected": 1.0, **options})
    return report, pl.DataFrame(read_table(out / "table.parquet"))


@pytest.mark.parametrize(
    ("folder", "kinds", "extra"),
    [
        ("모던/", (".", "."), {}),
        ("Training/{}/모던", ("라벨링데이터", "원천데이터"), {}),
        ("Training/{}/모던", ("라벨링 데이터", "원천 데이터"), {}),
        ("Training/{}/모던", ("라벨링데이터", "원천데이터_3"), {}),
        ("{}/모던", ("labels", "images"), {}),
        ("{}/모던", ("labels", "images"), {"name": "(116)IMG_1"}),
        ("{}/모던", ("labels", "images"), {"end": ".JPG"}),
        (unicodedata.normalize("NFD", "{}/모던"), tuple(unicodedata.normalize("NFD", kind) for kind in ("라벨링데이터", "원천데이터")), {}),
    ],
)  # fmt: skip
def test_images_are_found(tmp_path, folder, kinds, extra):
    for number in (1, 2):
        put(
            tmp_path / "raw",
            folder,
            number,
            labels=kinds[0],
            images=kinds[1],
            **({**extra, "name": f"{extra['name']}{number}"} if "name" in extra else extra),
        )
    report, table = run(tmp_path / "raw", tmp_path / "out")
    assert report.kept == 2
    assert table["style"].to_list() == ["모던"] * 2
    assert all((tmp_path / "raw" / name).is_file() for name in table["image"])
    assert report.warnings.get("file_name_is_not_the_id", 0) == (2 if "name" in extra else 0)


def test_mixed_spellings_of_labels_and_images(tmp_path):
    put(
        tmp_path / "raw",
        "Training/{}",
        1,
        labels="라벨링데이터/모던",
        images=unicodedata.normalize("NFD", "원천데이터/모던"),
    )
    report, table = run(tmp_path / "raw", tmp_path / "out")
    assert report.kept == 1
    assert table["image"][0] == unicodedata.normalize("NFD", "Training/원천데이터/모던/1.jpg").replace(
        unicodedata.normalize("NFD", "Training"), "Training"
    )


def test_images_in_several_archives(tmp_path):
    raw = tmp_path / "raw"
    for number in (1, 2):
        put(raw, "{}", number, labels="Training/라벨링데이터/모던", images=f"Training/원천데이터_{number}/모던")
    report, table = run(raw, tmp_path / "out")
    assert report.kept == 2
    assert [name.split("/")[1] for name in table["image"]] == ["원천데이터_1", "원천데이터_2"]


def test_given_splits_stay_and_others_are_cut_by_shoot(tmp_path):
    for number in range(1, 5):
        put(tmp_path / "given", "Training/{}/모던" if number < 4 else "Validation/{}/모던", number)
    report, _ = run(tmp_path / "given", tmp_path / "first", val_share=0.5)
    assert report.splits == {"train": 3, "val": 1}
    for number in range(1, 31):
        put(tmp_path / "flat", "모던", number)
    report, _ = run(tmp_path / "flat", tmp_path / "second", val_share=0.4, test_share=0.2)
    assert set(report.splits) == {"train", "val", "test"}


def test_many_files_in_several_processes_give_the_same_table(tmp_path):
    raw = tmp_path / "raw" / "모던"
    raw.mkdir(parents=True)
    for number in range(2100):
        value = record(
            {"상의": ((2.0, 4.0, 17, 45), DIAMOND, {"색상": "레드" if number % 2 else "블루"})}, number=number
        )
        (raw / f"{number}.json").write_bytes(b"{" if number % 500 == 7 else write(value))
    alone, first = run(tmp_path / "raw", tmp_path / "one", check_images="none", workers=1)
    together, second = run(tmp_path / "raw", tmp_path / "two", check_images="none", workers=2)
    assert alone.rejected == 5
    assert alone.to_json() == together.to_json()
    assert first.equals(second)


def test_links_folders_and_pipes_called_json_are_no_records(tmp_path):
    put(tmp_path / "raw", "모던", 1)
    here = tmp_path / "raw" / "모던"
    (here / "2.json").mkdir()
    (here / "3.json").symlink_to(here / "1.json")
    os.mkfifo(here / "4.json")
    (tmp_path / "raw" / "elsewhere").symlink_to(here)
    (here / "._1.json").write_bytes(b"Mac")
    report, _ = run(tmp_path / "raw", tmp_path / "out")
    assert (report.kept, report.rejected_by_rule) == (1, {"duplicate_image": 1, "unreadable_file": 1})


def test_polygons_can_be_left_out(tmp_path):
    put(tmp_path / "raw", "모던", 1)
    _, table = run(tmp_path / "raw", tmp_path / "out", mapping={"polygons": "no"})
    assert table["garment_polygons"].to_list() == [[[]]]
    assert read_metadata(tmp_path / "out/table.parquet")["options"]["mapping"] == {"polygons": "no"}
    with pytest.raises(UsageError, match="expected yes or no"):
        run(tmp_path / "raw", tmp_path / "out", mapping={"polygons": "maybe"})


@pytest.mark.parametrize("archive", ["라벨링데이터.zip", "notes.txt"])
def test_a_folder_without_labels_is_a_sentence(tmp_path, archive):
    (tmp_path / archive).write_bytes(b"PK")
    with pytest.raises(UsageError, match=r"no label file.*unpack" if archive.endswith("zip") else "no label file"):
        convert("kfashion", [tmp_path], tmp_path / "out")


def real_rows(archive: str):
    with zipfile.ZipFile(REAL / "derived" / archive) as packed:
        for name in packed.namelist():
            if name.endswith(".csv"):
                yield from csv.DictReader(io.TextIOWrapper(packed.open(name), "utf-8-sig"))


@pytest.mark.skipif(not REAL.is_dir(), reason="real files are not here")
def test_real_records(tmp_path):
    report, table = run(REAL, tmp_path / "out", check_images="full")
    assert (report.lines, report.kept) == (4, 2)
    assert report.rejected_by_rule == {"missing_image": 2}
    assert report.warnings == {"file_name_is_not_the_id": 2, "polygon_with_gaps": 1, "empty_split": 2}
    assert table["style"].to_list() == ["로맨틱", ""]
    assert table["group"].n_unique() == 2
    for boxes, polygons in table.select("garment_boxes", "garment_polygons").iter_rows():
        for box, points in zip(np.array(boxes).reshape(-1, 4), polygons, strict=True):
            extent = np.array(points).reshape(-1, 2)
            np.testing.assert_allclose(box[:2], extent.min(0), atol=0.01)
            assert (extent.max(0) - box[2:] >= -0.01).all()
            assert (extent.max(0) - box[2:] < 1).all()


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="real files are not here")
def test_real_rects():
    """65,487 records of rects: the reader treats them as counted in formats.md."""
    contents: list[bytes] = []
    order = ("아우터", "상의", "하의", "원피스")  # of the derived lists
    num_rects = 0
    for row in real_rows("image_id_rects_8_styles.zip"):
        columns = [
            [None if cell == "None" else float(cell) for cell in row[key][1:-1].split(", ")]
            for key in ("X좌표", "Y좌표", "가로", "세로")
        ]
        rects = {part: (rect, None, {}) for part, *rect in zip(order, *columns, strict=True) if rect[0] is not None}
        num_rects += len(rects)
        contents.append(write(record(rects, size=(int(row["너비"]), int(row["높이"])))))
    frame, result = parse(*contents)
    assert (len(contents), num_rects, len(frame)) == (65487, 96971, 65487)
    assert not result.rejects
    boxes = frame["garment_boxes"].explode(empty_as_null=False).to_numpy().reshape(-1, 4)
    assert len(boxes) == num_rects - result.warnings["garment_of_no_size"] - result.warnings["garment_outside_image"]
    assert dict(result.warnings) == {"garment_of_no_size": 15, "box_cut_at_border": 1266}
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (frame["garments"].list.len() == 0).sum() >= 3413


@pytest.mark.skipif(not REAL.is_dir(), reason="real files are not here")
def test_real_names_and_styles():
    """64,026 rows of the validation labels: every style is known, and most names identify a shoot."""
    rows = pl.DataFrame(list(real_rows("fashion_data_cleaned_val.zip")))
    assert len(rows) == 64026
    assert set(rows["스타일"]) <= set(STYLES.values)
    shoots = rows.select(shoot_of(pl.col("이미지파일명"))).to_series()
    assert shoots.is_not_null().sum() == 40031
    assert shoots.value_counts()["count"].max() < 24100  # null is the largest group
    assert shoots.drop_nulls().value_counts()["count"].max() <= 40
