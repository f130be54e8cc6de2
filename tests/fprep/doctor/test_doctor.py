"""`fprep doctor` on realistic folders: nested, partly unpacked, edited, saved by the wrong program."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import os
import random
import shlex
import shutil
import subprocess
import tarfile
import unicodedata
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from tests.commands import run_command
from tests.trees import tree_of

from fprep.convert.command import convert
from fprep.doctor.command import doctor
from fprep.doctor.diagnose import best_variant
from fprep.doctor.scan import scan
from fprep.doctor.signatures import recognize, signatures
from fprep.raw.fingerprints import git_blob
from fprep.readers.registry import readers
from fschemas.command_line import printable
from fschemas.failures import UsageError

REAL = Path(os.environ.get("FASHIONKIT_REAL") or Path(__file__).parents[4] / "shared" / "real")
NAMES = [f"img/WOMEN/Dresses/id_0000000{item}/0{view}_1_front.jpg" for item in range(1, 5) for view in range(1, 4)]


def codes(checkup):
    found = [*checkup.findings, *(finding for diagnosis in checkup.diagnoses for finding in diagnosis.findings)]
    return {finding.code for finding in found}


def findings(checkup, code):
    found = [*checkup.findings, *(finding for diagnosis in checkup.diagnoses for finding in diagnosis.findings)]
    return [finding for finding in found if finding.code == code]


def inshop(folder, *, size=(256, 256), images="img", boxes="050 060 200 250"):
    """Write a small in-shop benchmark; `images` replaces `img` in the rows, None for none."""
    (folder / "Anno").mkdir(parents=True)
    (folder / "Eval").mkdir()
    rows = "".join(f"{name:<70} {name.split('/')[3]:<11} {'train':<11}\n" for name in NAMES)
    (folder / "Eval/list_eval_partition.txt").write_text(f"{len(NAMES)}\nimage_name item_id evaluation_status\n{rows}")
    lines = "".join(f"{name} 3 1 {boxes}\n" for name in NAMES)
    (folder / "Anno/list_bbox_inshop.txt").write_text(
        f"{len(NAMES)}\nimage_name clothes_type pose_type x_1 y_1 x_2 y_2\n{lines}"
    )
    for name in NAMES if images else ():
        path = folder / name.replace("img", images, 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, "grey").save(path)
    return folder


@pytest.mark.parametrize("name", sorted(set(readers()) - {"folders", "csv"}))
def test_the_line_converts_every_tiny_tree(name, tmp_path):
    tree = tree_of(name)
    if not tree.is_dir():
        pytest.skip("this reader has no tiny tree yet")
    checkup = doctor(tree)
    chosen = [diagnosis for diagnosis in checkup.diagnoses if diagnosis.reader == name]
    assert len(chosen) == 1, checkup.to_text()
    program, command, reader, raw, out, *options = shlex.split(chosen[0].command)
    assert (program, command, reader, out) == ("fprep", "convert", name, f"tables/{name}")
    images = options[1] if options else "full"
    report = convert(
        reader, [Path(raw)], tmp_path / "out", check_images=images, max_rejected=1.0, workers=1, dry_run=True
    )
    assert report.kept > 0


def test_a_healthy_folder(tmp_path):
    checkup = doctor(inshop(tmp_path / "a folder"), try_rows=10)
    (diagnosis,) = checkup.diagnoses
    assert diagnosis.reader == "deepfashion-inshop"
    assert {finding.code for finding in diagnosis.findings if finding.severity == "good"} == {"images", "trial"}
    assert not {"resolution", "nested-images", "renamed"} & codes(checkup)
    assert diagnosis.command == f"fprep convert deepfashion-inshop '{tmp_path}/a folder' tables/deepfashion-inshop"
    assert "Anno/list_landmarks_inshop.txt is missing: landmarks" in checkup.to_text()


@pytest.mark.parametrize("inner", ["Anno", "Eval", "img", "img/WOMEN/.."])
def test_one_level_too_low(tmp_path, monkeypatch, inner):
    inshop(tmp_path / "inshop")
    monkeypatch.chdir(tmp_path)
    checkup = doctor(Path("inshop") / inner)
    assert "too-deep" in codes(checkup)
    assert checkup.commands == ["fprep convert deepfashion-inshop inshop tables/deepfashion-inshop"]


def test_levels_too_high(tmp_path, monkeypatch):
    inshop(tmp_path / "downloads/benchmark/In-shop (1)")
    monkeypatch.chdir(tmp_path)
    checkup = doctor(Path("downloads"))
    assert "nested" in codes(checkup)
    assert checkup.commands == [
        "fprep convert deepfashion-inshop 'downloads/benchmark/In-shop (1)' tables/deepfashion-inshop"
    ]


def test_two_copies_have_a_line_each(tmp_path):
    inshop(tmp_path / "first")
    inshop(tmp_path / "second")
    assert len(doctor(tmp_path).commands) == 2


def test_images_that_were_not_unpacked(tmp_path):
    folder = inshop(tmp_path, images=None)
    with zipfile.ZipFile(folder / "img.zip", "w") as archive:
        archive.writestr("img/WOMEN/Dresses/id_00000001/01_1_front.jpg", b"")
    checkup = doctor(folder)
    assert {"no-images", "zipped"} <= codes(checkup)
    assert checkup.commands[0].endswith("--check-images none")
    assert "holds 1 image such as img/WOMEN" in findings(checkup, "zipped")[0].message


def test_annotations_that_were_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "In-shop.zip", "w") as archive:
        archive.writestr("x/Anno/list_bbox_inshop.txt", "0")
    checkup = doctor(tmp_path / "In-shop.zip")
    assert not checkup.commands
    assert "annotation files of deepfashion-inshop" in findings(checkup, "zipped")[0].message


def test_a_download_that_broke_off(tmp_path):
    (tmp_path / "img.zip").write_bytes(b"PK\x03\x04" + bytes(1000))
    (tmp_path / "Anno.zip.crdownload").write_bytes(b"PK")
    checkup = doctor(tmp_path)
    assert {"zip-damaged", "unfinished"} <= codes(checkup)


def test_a_damaged_archive_is_one_finding(tmp_path):
    """Whichever bytes of an archive are damaged, the rest of the folder is inspected."""
    plain, packed = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for number in range(4):
            member = tarfile.TarInfo(f"{number}.jpg")
            member.size = 3000
            archive.addfile(member, io.BytesIO(random.Random(number).randbytes(3000)))
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.jpg", b"abc")
    contents = {"a.tar": plain.getvalue(), "a.tar.gz": gzip.compress(plain.getvalue()), "a.tar.xz": lzma.compress(plain.getvalue()),
                "a.tgz": gzip.compress(plain.getvalue()), "a.zip": packed.getvalue()}  # fmt: skip
    for name, content in contents.items():
        for place in (*range(0, 120, 3), *range(len(content) // 2, len(content) // 2 + 30, 5)):
            damaged = bytearray(content)
            damaged[place % len(content)] ^= 0x55
            (tmp_path / name).write_bytes(damaged)
            assert codes(doctor(tmp_path)) <= {"zipped", "zip-damaged"}, (name, place)
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        assert codes(doctor(tmp_path)) == {"zip-damaged"} if name != "a.tar" else {"zipped"}
        (tmp_path / name).unlink()


def test_a_packed_tar_is_unpacked_only_as_far_as_it_is_worth(tmp_path, monkeypatch):
    """A member may claim to contain terabytes of zeros, and its name gigabytes."""
    monkeypatch.setattr("fprep.doctor.archives._MAX_UNPACKED", 1 << 20)
    first, name = tarfile.TarInfo("a.jpg"), tarfile.TarInfo("long")
    first.size, name.size, name.type = 1 << 24, 1 << 30, tarfile.GNUTYPE_LONGNAME
    with gzip.open(tmp_path / "bomb.tar.gz", "wb") as file:
        file.write(first.tobuf() + bytes(1 << 24) + tarfile.TarInfo("b.jpg").tobuf() + bytes(1024))
    (tmp_path / "long.tar").write_bytes(name.tobuf() + bytes(1024))
    said = {finding.path.name: finding for finding in doctor(tmp_path).findings}
    assert "holds 1 image such as a.jpg" in said["bomb.tar.gz"].message
    assert said["long.tar"].code == "zip-damaged"


def test_members_that_leave_the_folder_are_reported(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("../../a.jpg"))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("/etc/b.jpg", b"")
    (tmp_path / "c.zip").write_bytes((tmp_path / "b.zip").read_bytes().replace(b"/etc/b", b"img/cb"))
    said = {finding.path.name: "is outside the folder" in finding.message for finding in doctor(tmp_path).findings}
    assert said == {"a.tar": True, "b.zip": True, "c.zip": False}


def test_a_line_for_a_folder_with_control_characters_works_as_printed(tmp_path):
    raw = tmp_path / "a\x1b[31m'\n$HOME"
    shutil.copytree(tree_of("folders"), raw)
    command = doctor(raw).commands[0]
    assert printable(command) == command
    assert "\n" not in command
    words = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], check=True, capture_output=True).stdout.split(
        b"\0"
    )
    assert words[3] == os.fsencode(raw)


def test_a_pipe_is_no_folder(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="neither a folder nor a regular file"):
        doctor(tmp_path / "pipe")


def test_columns_of_a_box_are_not_called_others(tmp_path):
    Image.new("RGB", (40, 50)).save(tmp_path / "0.jpg")
    (tmp_path / "t.csv").write_text("image,label,x1,y1,x2,y2,price\n0.jpg,a,1,2,30,40,9\n")
    notes = [finding.message for diagnosis in doctor(tmp_path).diagnoses for finding in diagnosis.findings]
    assert any("box 'x1,y1,x2,y2'; others: price; change" in note for note in notes)


def test_no_line_for_a_folder_whose_name_is_no_text(tmp_path):
    raw = Path(os.fsdecode(os.fsencode(tmp_path) + b"/raw\xff"))
    shutil.copytree(tree_of("folders"), raw)
    checkup = doctor(raw)
    assert not checkup.commands
    assert "name-bytes" in codes(checkup)
    with pytest.raises(UsageError, match=r"raw\\xff: the name is not UTF-8; rename the folder"):
        convert("folders", [raw], tmp_path / "out")
    with pytest.raises(UsageError, match=r"out\\xff: the name is not UTF-8; choose another output"):
        convert("folders", [tree_of("folders")], Path(os.fsdecode(os.fsencode(tmp_path) + b"/out\xff")))


def test_images_unpacked_too_deep(tmp_path):
    checkup = doctor(inshop(tmp_path, images="img/img/img_highres_seg-003/img_highres"))
    (finding,) = findings(checkup, "nested-images")
    assert finding.path == tmp_path / "img/img/img_highres_seg-003/img_highres"


@pytest.mark.parametrize(
    ("size", "boxes", "severity"),
    [
        ((750, 1101), "050 060 200 250", "problem"),
        ((128, 128), "050 060 200 250", "problem"),
        ((256, 256), "001 001 256 256", ""),
    ],
)
def test_images_of_another_resolution(tmp_path, size, boxes, severity):
    found = findings(doctor(inshop(tmp_path, size=size, boxes=boxes)), "resolution")
    assert [finding.severity for finding in found] == ([severity] if severity else [])


def test_large_images_without_boxes(tmp_path):
    folder = inshop(tmp_path, size=(750, 1101))
    (folder / "Anno/list_bbox_inshop.txt").unlink()
    (finding,) = findings(doctor(folder), "resolution")
    assert "high-resolution" in finding.message


def recode(path, change):
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("change", "code", "severity"),
    [
        (lambda content: b"\xef\xbb\xbf" + content, "bom", "note"),
        (lambda content: content.replace(b"\n", b"\r\n"), "crlf", "note"),
        (lambda content: content.decode().encode("utf-16"), "utf-16", "problem"),
        (lambda content: content + "한글 설명\n".encode("cp949"), "not-utf-8", "problem"),
        (lambda content: b"\r\n\r\n", "empty", "problem"),
        (lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "lfs-pointer", "problem"),
        (lambda content: b"<!DOCTYPE html><html><title>Google Drive - Quota exceeded", "web-page", "problem"),
    ],
)
def test_encodings_and_what_is_no_annotation(tmp_path, change, code, severity):
    folder = inshop(tmp_path)
    recode(folder / "Anno/list_bbox_inshop.txt", change)
    (finding,) = findings(doctor(folder), code)
    assert (finding.severity, finding.path.name) == (severity, "list_bbox_inshop.txt")


def test_the_released_line_ends_of_consumer2shop_are_no_finding(tmp_path):
    (tmp_path / "Anno").mkdir()
    text = "303\r\nattribute_name (Chinese)   attribute_name (English)   attribute_type\r\n"
    (tmp_path / "Anno/list_attr_cloth.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    checkup = doctor(tmp_path)
    assert [diagnosis.reader for diagnosis in checkup.diagnoses] == ["deepfashion-consumer2shop"]
    assert not {"bom", "crlf"} & codes(checkup)


def test_names(tmp_path):
    (tmp_path / unicodedata.normalize("NFD", "로맨틱")).mkdir()
    (tmp_path / "레트로".encode("cp949").decode("cp437")).mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xb7\xce")).mkdir()
    (tmp_path / "힙합").mkdir()
    checkup = doctor(tmp_path)
    assert [finding.severity for finding in findings(checkup, "nfd")] == ["note"]
    assert {finding.message for finding in findings(checkup, "name-bytes")} == {
        "the name was damaged by unzip and means '레트로'; unpack with `unzip -O cp949`",
        "the name '\\xb7\\xce' is not UTF-8; unpack again with `unzip -O cp949`",
    }
    json.dumps(checkup.to_json()).encode()


def test_an_edited_file_and_the_released_one(tmp_path, monkeypatch):
    from fprep.raw import fingerprints

    folder = inshop(tmp_path)
    released = folder / "Eval/list_eval_partition.txt"
    version = fingerprints.Fingerprint("deepfashion-inshop", git_blob(released))
    monkeypatch.setitem(fingerprints.FINGERPRINTS, "list_eval_partition.txt", (version,))
    assert [finding.path for finding in findings(doctor(folder), "released")] == [released]
    recode(released, lambda content: content.replace(b"train", b"query", 1))
    assert released in [finding.path for finding in findings(doctor(folder), "edited")]


def test_git_blob_is_that_of_git(tmp_path):
    (tmp_path / "file").write_bytes(b"hello\n")
    assert (
        git_blob(tmp_path / "file") == hashlib.sha1(b"blob 6\0hello\n").hexdigest()
    )  # `git hash-object` prints ce013625…
    assert git_blob(tmp_path / "file") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_a_renamed_file_is_known_by_its_content(tmp_path):
    folder = inshop(tmp_path)
    (folder / "Eval/list_eval_partition.txt").rename(folder / "Eval/list_eval_partition (1).txt")
    checkup = doctor(folder)
    assert not checkup.commands
    assert [finding.path.name for finding in findings(checkup, "renamed")] == ["list_eval_partition (1).txt"]
    assert any("Eval/list_eval_partition.txt is missing" in finding.message for finding in findings(checkup, "missing"))


def test_a_file_with_the_name_of_an_annotation_and_other_content(tmp_path):
    (tmp_path / "list_bbox.txt").write_text("shopping: milk, bread\n")
    assert codes(doctor(tmp_path)) == {"unlike"}


def test_documents_without_images(tmp_path):
    (tmp_path / "train/annos").mkdir(parents=True)
    (tmp_path / "train/annos/000001.json").write_text('{"source": "shop", "pair_id": 1, "item1": {}}')
    assert "no-images" in codes(doctor(tmp_path))
    (tmp_path / "train/image").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "train/image/000001.jpg")
    assert "images" in codes(doctor(tmp_path))


def test_nothing_known(tmp_path):
    (tmp_path / "notes.md").write_text("nothing")
    checkup = doctor(tmp_path)
    assert not checkup.diagnoses
    assert "readers: " in checkup.to_text()
    with pytest.raises(UsageError, match="no such file"):
        doctor(tmp_path / "absent")


def test_a_huge_tree_is_looked_at_in_part(tmp_path, monkeypatch):
    inshop(tmp_path)
    for number in range(40):
        (tmp_path / f"more/{number:03d}").mkdir(parents=True)
    checkup = doctor(tmp_path, limit=30)
    assert "were not scanned" in checkup.to_text()
    assert checkup.scan.entries <= 60
    monkeypatch.setattr("fprep.doctor.scan.MAX_IN_FOLDER", 5)
    looked = scan(tmp_path)
    assert looked.folders[tmp_path / "more"].cut
    assert looked.incomplete


def test_links_in_a_circle_end(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/back").symlink_to(tmp_path, target_is_directory=True)
    assert len(scan(tmp_path).folders) == 2


def test_pipes_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "list_bbox.txt")
    os.mkfifo(tmp_path / "img.zip")
    (tmp_path / "img").symlink_to(tmp_path / "gone")
    assert "and 2 more" in findings(doctor(tmp_path), "odd")[0].message


def test_every_place_fits_its_signature():
    for signature in signatures():
        name = signature.location.rpartition("/")[2]
        assert not name or signature.fits(name, b"") or signature.head, signature


def test_the_same_names_of_different_benchmarks():
    heads = {
        b"289222\nimage_name  evaluation_status\nimg/Sheer_Blouse/img_00000001.jpg  train\n": "deepfashion-category",
        b"52712\nimage_name item_id evaluation_status\nimg/WOMEN/Tees/id_00000001/01_1_front.jpg id train\n": "deepfashion-inshop",
        b"9\na b c d\nimg/TOPS/Blouse/id_00000001/comsumer_01.jpg img/TOPS/x.jpg id train\n": "deepfashion-consumer2shop",
        b"123016\nimage_name evaluation_status\nimg/img_00000001.jpg train\n": "deepfashion-landmarks",
    }
    for head, reader in heads.items():
        assert [signature.reader for signature in recognize(Path("list_eval_partition.txt"), head)] == [reader]


def test_the_nearest_variant():
    reader = readers()["deepfashion-fine"]
    names = ["Anno_fine/train.txt", "Anno_fine/train_attr.txt", "split/train.txt"]
    assert best_variant(reader, names) == ("official", ["Anno_fine/train_bbox.txt", "Anno_fine/train_land*.txt"])


def test_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tree_of("deepfashion-fine"), tmp_path / "raw")
    done = run_command("fprep", "doctor", "raw", "--json")
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert [entry["command"] for entry in value["datasets"]] == [
        "fprep convert deepfashion-fine raw tables/deepfashion-fine"
    ]
    assert str(tmp_path) not in done.stdout
    shutil.rmtree(tmp_path / "raw/split")
    done = run_command("fprep", "doctor", "raw")
    assert done.returncode in (0, 2)  # the images may belong to any data set


@pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not here")
@pytest.mark.parametrize(
    ("folder", "reader", "released"),
    [
        ("deepfashion_inshop", "deepfashion-inshop", {"list_item_inshop.txt", "list_eval_partition.txt"}),
        ("deepfashion_consumer2shop", "deepfashion-consumer2shop", {"list_attr_cloth.txt", "list_attr_type.txt", "list_item_consumer2shop.txt"}),
        ("deepfashion_category_attribute", "deepfashion-category", {"list_attr_cloth.txt", "list_category_cloth.txt"}),
        ("deepfashion_fine_course_subset", "deepfashion-fine", set()),
        ("fashionai_keypoints", "fashionai-keypoints", set()),
        ("fashionai_attributes", "fashionai-attributes", set()),
        ("kfashion_asen_layout", "kfashion-asen", set()),
        ("asen_fashionai", "kfashion-asen", set()),
        ("kfashion_aihub", "kfashion", set()),
        ("deepfashion2", "deepfashion2", set()),
    ],
)  # fmt: skip
def test_real_folders(folder, reader, released):
    checkup = doctor(REAL / folder)
    assert reader in [diagnosis.reader for diagnosis in checkup.diagnoses], checkup.to_text()
    assert {finding.path.name for finding in findings(checkup, "released")} == released


def test_kfashion_begins_above_its_splits(tmp_path):
    for split in ("Training", "Validation"):
        folder = tmp_path / "K-Fashion 이미지" / split
        (folder / "라벨링데이터/로맨틱").mkdir(parents=True)
        (folder / "원천데이터/로맨틱").mkdir(parents=True)
        (folder / f"라벨링데이터/로맨틱/{len(split)}.json").write_text('{"이미지 정보":{}}', encoding="utf-8")
        Image.new("RGB", (20, 20)).save(folder / f"원천데이터/로맨틱/{len(split)}.jpg")
    for given in (tmp_path, tmp_path / "K-Fashion 이미지"):
        (diagnosis,) = doctor(given).diagnoses
        assert (diagnosis.reader, diagnosis.home) == ("kfashion", tmp_path / "K-Fashion 이미지")
        assert [finding.code for finding in diagnosis.findings if finding.severity == "good"] == ["images"]


def test_paths_with_commas_and_entities_are_found(tmp_path):
    (tmp_path / "Anno_coarse").mkdir()
    names = [
        "img/Piqu&eacute;_Dress/img_00000001.jpg",
        "img/It's_a_Tee,_Too/img_00000002.jpg",
        "img/Fit_&_Flare/img_00000003.jpg",
    ]
    rows = "".join(f"{name:<70} 41\n" for name in names)
    (tmp_path / "Anno_coarse/list_category_img.txt").write_text(f"3\nimage_name category_label\n{rows}")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("RGB", (300, 200)).save(tmp_path / name)
    assert [finding.message for finding in findings(doctor(tmp_path), "images")] == ["all of 3 sampled images exist"]


def test_own_folders(tmp_path):
    for name in ("Floral_Dress", "Red_Dress", "Denim_Shorts"):
        (tmp_path / "shop" / name).mkdir(parents=True)
        Image.new("RGB", (20, 20)).save(tmp_path / "shop" / name / "1.jpg")
    (diagnosis,) = [found for found in doctor(tmp_path).diagnoses if found.reader == "folders"]
    assert diagnosis.home == tmp_path / "shop"
    assert "2 last words, such as Dress, Shorts" in diagnosis.findings[0].message


def test_own_table(tmp_path):
    (tmp_path / "img").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "img/jean 1.jpg")
    (tmp_path / "labels.csv").write_text("image_file_name,style,season\njean 1.jpg,casual,winter\n")
    (diagnosis,) = [found for found in doctor(tmp_path).diagnoses if found.reader == "csv"]
    line = f"fprep convert csv {tmp_path}/labels.csv tables/csv --map image=image_file_name --map style=style"
    assert diagnosis.command == line
    assert [finding.code for finding in diagnosis.findings] == ["own-table", "images"]


def test_images_alone_are_reported_how_to_get_labels_and_who_takes_them_as_they_are(tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.jpg")
    assert "convert with `folders`" in doctor(tmp_path).to_text()
    assert "`ftrain predict`" in doctor(tmp_path).to_text()


def test_file_names_in_variants_are_the_signatures_of_a_reader_without_any():
    base = readers()["fashionpedia"]
    own = replace(
        base, name="own", signatures=(), variants={"all": ("**/mine_*.json", "labels/**/*.json", "**/list_bbox.txt")}
    )
    assert [entry.reader for entry in own.signatures] == ["own", "own"]
    json_files, lists = own.signatures
    assert json_files.fits("mine_2.JSON", b'{"images"')
    assert not json_files.fits("other.json", b'{"images"')
    assert lists.fits("list_bbox.txt", b"")
    order = [(entry.fallback, not entry.head) for entry in signatures()]  # those with a head first, `coco` last
    assert order == sorted(order)
