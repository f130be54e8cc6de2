"""Raw trees as disks and tools leave them: junk, spelling variants, links, pipes; each applied to every reader.

A tree `tests/raw/<module>` is copied, altered in one way, and converted; the table must be that of the clean tree.
"""

import hashlib
import json
import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from tests.trees import tree_of

from fprep.audit.command import audit
from fprep.convert.command import convert
from fprep.convert.report import ConvertReport
from fprep.doctor.command import doctor
from fprep.raw.image_names import ImageFinder, clean_path
from fprep.readers.registry import readers
from fprep.report.command import write_page
from fprep.shard.command import shard
from fschemas.failures import RejectedError, UsageError
from fschemas.table_file import read_table
from fschemas.walk import Walked, is_junk, is_stored_by_content, walk

READERS = readers()
NAMED = sorted(set(READERS) - {"folders"})  # readers with image names in rows
IMAGES = (".jpg", ".png")
JUNK = (
    "._{}", ".DS_Store", "Thumbs.db", "desktop.ini", "{}~", "#{}#", ".#{}", ".{}.swp", "__MACOSX/._{}", "__MACOSX/{}",
)  # fmt: skip


def copied(name: str, folder: Path) -> Path:
    shutil.copytree(tree_of(name), folder / "raw")
    return folder / "raw"


def files_of(raw: Path, *, images: bool | None = None) -> list[Path]:
    found = sorted(path for path in raw.rglob("*") if path.is_file() and path.name != "expected.json")
    return [path for path in found if images is None or (path.suffix in IMAGES) == images]


def converted(name: str, raw: Path, out: Path, images: str = "full", **options) -> tuple[ConvertReport, pl.DataFrame]:
    report = convert(name, [raw], out, check_images=images, max_rejected=1.0, workers=1, **options)
    return report, pl.DataFrame(read_table(out / "table.parquet"))


@pytest.fixture(scope="session")
def clean(tmp_path_factory) -> Callable[[str], tuple[ConvertReport, pl.DataFrame]]:
    found: dict[str, tuple[ConvertReport, pl.DataFrame]] = {}

    def of(name: str) -> tuple[ConvertReport, pl.DataFrame]:
        if name not in found:
            found[name] = converted(name, tree_of(name), tmp_path_factory.mktemp("clean"))
        return found[name]

    return of


@pytest.mark.parametrize("name", sorted(READERS))
def test_what_systems_and_editors_leave_is_passed_over(name, tmp_path, clean):
    raw = copied(name, tmp_path)
    for path in files_of(raw):
        for pattern in JUNK:
            junk = path.parent / pattern.format(path.name)
            junk.parent.mkdir(exist_ok=True)
            junk.write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        ")
    report, table = converted(name, raw, tmp_path / "out")
    expected, expected_table = clean(name)
    assert table.equals(expected_table)
    assert (report.lines, report.rejected_by_rule, report.notes) == (
        expected.lines,
        expected.rejected_by_rule,
        expected.notes,
    )


def test_doctor_passes_over_the_same(tmp_path):
    raw = copied("csv", tmp_path)
    before = doctor(raw)
    for pattern in JUNK:
        junk = raw / pattern.format("shop.csv")
        junk.parent.mkdir(exist_ok=True)
        junk.write_bytes(b"\0\5\x16\7")
    after = doctor(raw)
    assert after.commands == before.commands
    assert [finding.code for finding in after.findings] == ["junk"]


def test_names_of_users_are_no_junk():
    assert not any(is_junk(name) for name in ("#sale.jpg", "a~b.jpg", "thumbs.db.jpg", "MACOSX", "a.swp.jpg"))
    assert not any(is_junk(name, is_folder=True) for name in ("#sale#", "old~", "x.swp"))


def upper(name: str) -> str:
    return name.upper()


def escaped(name: str) -> str:
    return f"%{ord(name[0]):02X}{name[1:]}" if name[0].isascii() else name.replace(".", "%2E")


def jpeg(name: str) -> str:
    return name.rpartition(".")[0] + ".jpeg"


def html(name: str) -> str:
    return f"&#{ord(name[0])};{name[1:]}"


@pytest.mark.parametrize("spelling", [upper, escaped, html, jpeg])
@pytest.mark.parametrize("name", NAMED)
def test_images_are_found_under_other_spellings(name, spelling, tmp_path, clean):
    raw = copied(name, tmp_path)
    for path in files_of(raw, images=True):
        path.rename(path.with_name(spelling(path.name)))
    report, table = converted(name, raw, tmp_path / "out")
    expected, expected_table = clean(name)
    assert report.rejected_by_rule == expected.rejected_by_rule
    others = [column for column in table.columns if column not in ("image", "pairs", "group")]
    assert table.select(others).equals(expected_table.select(others))
    assert report.warnings["near_image_name"] > 0
    assert any(note.startswith("images whose names are spelled differently") for note in report.notes)
    assert all((raw / image).is_file() for image in table["image"])
    if "pairs" in table.columns:
        assert all((raw / other).is_file() for pairs in table["pairs"] for other in pairs)
    for images in ("header", "none") if spelling is upper else ():
        other, other_table = converted(name, raw, tmp_path / images, images)
        assert other.warnings["near_image_name"] == report.warnings["near_image_name"]
        lines = ["source_file", "source_line"]
        pairs = other_table.join(table, on=lines, how="semi"), table.join(other_table, on=lines, how="semi")
        assert len(pairs[0]) > 0
        assert (
            pairs[0]
            .select(*lines, "image")
            .unique()
            .sort(pl.all())
            .equals(pairs[1].select(*lines, "image").unique().sort(pl.all()))
        )


@pytest.mark.parametrize("name", NAMED)
def test_folders_of_images_are_found_decomposed_and_in_capitals(name, tmp_path, clean):
    """macOS decomposes Hangul, and some file systems ignore case. Folders that differ only in case stay separate."""
    raw = copied(name, tmp_path)
    places = (
        {path.parent for path in files_of(raw, images=True)}
        - {path.parent for path in files_of(raw, images=False)}
        - {raw}
    )
    lower = [str(place).lower() for place in places]
    places = {place for place in places if lower.count(str(place).lower()) == 1}
    for place in sorted(places, key=lambda place: -len(place.parts)):
        place.rename(place.with_name(unicodedata.normalize("NFD", place.name).swapcase()))
    report, table = converted(name, raw, tmp_path / "out")
    assert report.rejected_by_rule == clean(name)[0].rejected_by_rule
    assert table["sha256"].equals(clean(name)[1]["sha256"])


@pytest.mark.parametrize("name", NAMED)
def test_backslashes_in_the_lists(name, tmp_path, clean):
    """A list written on Windows; JSON documents contain no image paths."""
    raw = copied(name, tmp_path)
    suffixes = (b".jpg", b".png")
    for path in files_of(raw, images=False):
        if path.suffix in (".txt", ".csv"):
            content = path.read_bytes()
            lines = [
                b".\\" + line.replace(b"/", b"\\") if any(end in line for end in suffixes) else line
                for line in content.split(b"\n")
            ]
            path.write_bytes(b"\n".join(lines))
    report, table = converted(name, raw, tmp_path / "out")
    expected, expected_table = clean(name)
    assert sorted(table["image"]) == sorted(expected_table["image"])
    assert report.kept == expected.kept


def test_a_near_file_is_taken_only_if_nobody_else_means_it(tmp_path):
    for name in ("a.jpg", "B.jpg", "c.png", "c.webp", "%2e%2e"):
        (tmp_path / name).write_bytes(b"")
    finder = ImageFinder(str(tmp_path))
    matches = finder.match(["A.JPG", "b.JPG", "c.jpg", "../a.jpg", "gone.jpg"], {"a.jpg"})
    assert {name: near.path for name, near in matches.found.items()} == {"b.JPG": "B.jpg"}
    assert matches.refused.keys() == {"A.JPG", "c.jpg"}
    assert "another row names that file exactly" in matches.refused["A.JPG"]
    assert "c.png, c.webp" in matches.refused["c.jpg"]
    assert finder.match(["b.jpg", "b.JPEG"], set()).refused.keys() == {"b.jpg", "b.JPEG"}


def test_a_rejected_row_names_the_near_file(tmp_path):
    raw = copied("csv", tmp_path)
    (raw / "shop.csv").write_text("image,category\n0.jpg,a\n0.PNG,b\n1,c\n")
    report, table = converted("csv", raw, tmp_path / "out")
    assert table["image"].to_list() == ["images/0.jpg", "images/1.jpg"]
    message = read_table(tmp_path / "out/rejected.parquet").to_pylist()[0]["message"]
    assert report.rejected_by_rule == {"missing_image": 1}
    assert "images/0.jpg has nearly this name" in message


@pytest.mark.parametrize(("text", "path"), [
    ("a\\b.jpg", "a/b.jpg"), ("./a.jpg", "a.jpg"), (".\\a\\.\\b.jpg", "a/b.jpg"), ("a\\\\b.jpg", "a/b.jpg"), ("a./b.jpg", "a./b.jpg"),
    ("..\\a.jpg", "../a.jpg"),
])  # fmt: skip
def test_separators(text, path):
    assert clean_path(text) == path


def store(raw: Path, links: Path, cache: Path, *, digest: bool) -> None:
    """Replace every file of `raw` by a link in `links` to a file in `cache`, named by its digest or by a number."""
    cache.mkdir()
    for number, path in enumerate(sorted(path for path in raw.rglob("*") if path.is_file())):
        name = hashlib.md5(path.read_bytes()).hexdigest() if digest else f"{number}{path.suffix}"
        target = cache / name[:2] / name[2:] if digest and number % 2 else cache / name  # DVC puts two digits first
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
        link = links / path.relative_to(raw)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)


@pytest.mark.parametrize("digest", [True, False], ids=["store", "--follow-links"])
@pytest.mark.parametrize("name", sorted(READERS))
def test_links_into_a_store_or_with_the_option_are_the_files(name, digest, tmp_path, clean):
    store(tree_of(name), tmp_path / "links", tmp_path / "cache", digest=digest)
    report, table = converted(name, tmp_path / "links", tmp_path / "out", follow_links=not digest)
    assert table.equals(clean(name)[1])
    assert report.rejected_by_rule == clean(name)[0].rejected_by_rule
    assert report.warnings["link_out_of_root"] >= len(set(table["image"]))
    assert doctor(tmp_path / "links", follow_links=not digest).commands


def move_behind_links(raw: Path, elsewhere: Path, *, images: bool) -> None:
    """Move the images, or the annotation files, out of the tree and leave links to them."""
    elsewhere.mkdir()
    for number, path in enumerate(files_of(raw, images=images)):
        target = elsewhere / f"{number}{path.suffix}"
        path.rename(target)
        path.symlink_to(target)


@pytest.mark.parametrize("name", sorted(READERS))
def test_links_out_of_the_folder_are_refused_with_the_option_that_follows_them(name, tmp_path):
    raw = copied(name, tmp_path)
    move_behind_links(raw, tmp_path / "elsewhere", images=True)
    with pytest.raises(RejectedError):
        convert(name, [raw], tmp_path / "out", max_rejected=1.0, workers=1)
    rejected = pl.DataFrame(read_table(tmp_path / "out/rejected.parquet")).filter(pl.col("rule") == "path_escape")
    assert rejected["message"].str.contains("--follow-links", literal=True).sum() > 0
    findings = doctor(raw).findings
    assert any(finding.code == "links" and "--follow-links" in finding.message for finding in findings)


@pytest.mark.parametrize("name", NAMED)
def test_annotation_behind_a_link_out_is_refused_with_the_option(name, tmp_path):
    raw = copied(name, tmp_path)
    move_behind_links(raw, tmp_path / "elsewhere", images=False)
    with pytest.raises((UsageError, RejectedError)) as caught:
        convert(name, [raw], tmp_path / "out", max_rejected=1.0, workers=1)
    messages = str(caught.value)
    if (tmp_path / "out/rejected.parquet").exists():
        messages += " ".join(read_table(tmp_path / "out/rejected.parquet")["message"].to_pylist())
    assert "--follow-links" in messages


def test_later_commands_follow_the_links_that_convert_followed(tmp_path, capsys):
    store(tree_of("csv"), tmp_path / "links", tmp_path / "cache", digest=False)
    converted("csv", tmp_path / "links", tmp_path / "table", follow_links=True)
    assert shard(tmp_path / "table", tmp_path / "shards", workers=1)["shards"] > 0
    assert (
        not audit([tmp_path / "table"], out=tmp_path / "audit", workers=1)
        .findings.filter(pl.col("kind") == "image_missing")
        .height
    )
    assert write_page(tmp_path / "table", tmp_path / "page.html")["missing"] == {}


def test_folders_behind_links(tmp_path):
    raw = copied("folders", tmp_path)
    (raw / "Long_Coat").rename(tmp_path / "Long_Coat")
    (raw / "Long_Coat").symlink_to(tmp_path / "Long_Coat")
    (raw / "again").symlink_to(raw / "Red_Dress")  # inside the tree: its images are found anyway
    report, table = converted("folders", raw, tmp_path / "out")
    assert not table["image"].str.starts_with("Long_Coat").any()
    assert any("1 leave the raw folder" in note and "--follow-links" in note for note in report.notes)
    _, followed = converted("folders", raw, tmp_path / "followed", follow_links=True)
    assert followed["image"].str.starts_with("Long_Coat").any()
    assert not followed["image"].str.starts_with("again").any()


def test_walk_ends_where_links_go_in_circles(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "up").symlink_to(tmp_path)
        (tmp_path / name / "file").write_bytes(b"")
    (tmp_path / "a/b").symlink_to(tmp_path / "b")
    (tmp_path / "a/root").symlink_to("/")
    walked = Walked()
    found = [place for place, _, _ in walk(tmp_path / "a", walked=walked)]
    assert found == [tmp_path / "a"]
    assert (walked.links, walked.outside) == (3, 3)
    followed = [place.name for place, _, _ in walk(tmp_path / "a", follow_links=True)]
    assert followed == ["a", "b"]  # never an ancestor, which would cause a cycle


def test_doctor_does_not_follow_a_link_to_everything(tmp_path):
    (tmp_path / "raw/a").mkdir(parents=True)
    (tmp_path / "raw/a/slash").symlink_to("/")
    (tmp_path / "raw/zero.csv").symlink_to("/dev/zero")
    (tmp_path / "raw/loop.csv").symlink_to("loop.csv")
    os.mkfifo(tmp_path / "raw/pipe.zip")
    checkup = doctor(tmp_path / "raw")
    assert len(checkup.scan.folders) == 2
    assert {(finding.code, finding.path.name) for finding in checkup.findings} >= {
        ("links", "zero.csv"),
        ("odd", "loop.csv"),
    }


def test_dangling_link_is_named_as_one(tmp_path):
    (tmp_path / "raw").symlink_to(tmp_path / "gone")
    for look in (lambda: convert("folders", [tmp_path / "raw"], tmp_path / "out"), lambda: doctor(tmp_path / "raw")):
        with pytest.raises(UsageError, match=r"a link to .*gone, which does not exist"):
            look()


@pytest.mark.parametrize("name", sorted(READERS))
def test_one_bad_image_is_one_rejected_row(name, tmp_path, clean):
    """A cyclic link, a pipe or a device is rejected quickly, and nothing else is affected."""
    raw = copied(name, tmp_path)
    images = dict.fromkeys(clean(name)[1]["image"])
    spoiled = list(images)[:3] if len(images) > 3 else list(images)[:1]
    for image, spoil in zip(
        spoiled, (lambda p: p.symlink_to(p.name), os.mkfifo, lambda p: p.symlink_to("/dev/zero")), strict=False
    ):
        (raw / image).unlink()
        spoil(raw / image)
    report, table = converted(name, raw, tmp_path / "out")
    kept = clean(name)[1].filter(~pl.col("image").is_in(spoiled))
    assert set(table["image"]) >= set(kept["image"])
    assert report.rejected_by_rule["image_not_a_file"] >= 1
    assert json.loads((tmp_path / "out/report.json").read_text())["published"]


def test_a_broken_link_out_of_the_folder_is_no_matter_of_trust(tmp_path):
    raw = copied("folders", tmp_path)
    (raw / "Long_Coat/gone.jpg").symlink_to("/gone/x.jpg")
    converted("folders", raw, tmp_path / "out")
    rejected = pl.DataFrame(read_table(tmp_path / "out/rejected.parquet")).filter(
        pl.col("source_file") == "Long_Coat/gone.jpg"
    )
    assert rejected["rule"].to_list() == ["missing_image"]
    assert "a link to /gone/x.jpg, which does not exist" in rejected["message"][0]


@pytest.mark.parametrize("name", ["folders", "kfashion", "deepfashion2"])
def test_a_name_that_is_not_utf_8_is_one_rejected_row(name, tmp_path, clean):
    raw = copied(name, tmp_path)
    image = clean(name)[1]["image"][0]
    suffix, place = (".jpg", raw / image) if name == "folders" else (".json", next(raw.rglob("*/1001.json"), None))
    place = place or next(raw.rglob("annos/*.json"))
    shutil.copy(place, os.path.join(os.fsencode(place.parent), b"\xff\xfe" + os.fsencode(suffix)))
    report, table = converted(name, raw, tmp_path / "out")
    assert table.equals(clean(name)[1])
    assert report.rejected_by_rule["bad_name"] >= 1
    bad = pl.DataFrame(read_table(tmp_path / "out/rejected.parquet")).filter(pl.col("rule") == "bad_name")
    assert bad["source_file"].str.contains(r"\xff\xfe", literal=True).all()


@pytest.mark.parametrize("name", NAMED)
def test_an_annotation_that_leads_to_itself_is_reported_in_a_sentence(name, tmp_path):
    raw = copied(name, tmp_path)
    for path in files_of(raw, images=False):
        path.unlink()
        path.symlink_to(path.name)
    with pytest.raises((UsageError, RejectedError)):
        convert(name, [raw], tmp_path / "out", max_rejected=1.0, workers=1)


@pytest.mark.parametrize("spoil", [lambda path: path.symlink_to("/gone/file"), os.mkfifo], ids=["link", "pipe"])
@pytest.mark.parametrize("name", NAMED)
def test_an_annotation_file_that_cannot_be_read_is_never_passed_over(name, spoil, tmp_path):
    """A checkout without its cache: labels at a broken link are not the same as missing labels."""
    raw = copied(name, tmp_path)
    silent: list[str] = []
    for path in files_of(raw, images=False)[:16]:
        content = path.read_bytes()
        path.unlink()
        spoil(path)
        said = ""
        try:
            report = convert(name, [raw], tmp_path / "out", check_images="none", max_rejected=1.0, workers=1)
            said = " ".join(report.notes)
        except (UsageError, RejectedError) as error:
            said = str(error)
        if (tmp_path / "out/rejected.parquet").exists():
            said += " ".join(pl.DataFrame(read_table(tmp_path / "out/rejected.parquet"))["message"])
        silent += [] if path.name in said else [str(path.relative_to(raw))]
        path.unlink()
        path.write_bytes(content)
    assert not silent


@pytest.mark.parametrize("name", ["coco", "deepfashion2", "kfashion"])
def test_a_pipe_among_annotation_files_costs_no_good_row(name, tmp_path):
    raw = copied(name, tmp_path)
    options = {"check_images": "none", "max_rejected": 1.0, "workers": 1}
    convert(name, [raw], tmp_path / "plain", **options)
    for number, folder in enumerate({path.parent for path in raw.rglob("*.json")}):
        os.mkfifo(folder / f"pipe-{number}.json")
    convert(name, [raw], tmp_path / "piped", **options)
    tables = [pl.DataFrame(read_table(tmp_path / out / "table.parquet")) for out in ("plain", "piped")]
    assert tables[0].equals(tables[1])
    assert "pipe-0.json" in " ".join(read_table(tmp_path / "piped/rejected.parquet")["message"].to_pylist())


@pytest.mark.parametrize("name", ["coco", "deepfashion2", "kfashion"])
def test_json_with_a_byte_order_mark_is_read_and_in_utf_16_called_so(name, tmp_path):
    raw = copied(name, tmp_path)
    options = {"check_images": "none", "max_rejected": 1.0, "workers": 1}
    convert(name, [raw], tmp_path / "plain", **options)
    for path in raw.rglob("*.json"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    convert(name, [raw], tmp_path / "marked", **options)
    tables = [pl.DataFrame(read_table(tmp_path / out / "table.parquet")) for out in ("plain", "marked")]
    assert tables[0].equals(tables[1])
    for path in raw.rglob("*.json"):
        path.write_bytes(path.read_bytes().decode("utf-8-sig", "replace").encode("utf-16"))
    with pytest.raises((UsageError, RejectedError)) as caught:
        convert(name, [raw], tmp_path / "wide", **options)
    rejected = tmp_path / "wide/rejected.parquet"
    said = str(caught.value) + " ".join(read_table(rejected)["message"].to_pylist() if rejected.exists() else [])
    assert "UTF-16" in said
    assert "UTF-8" in said


@pytest.mark.parametrize(("path", "stored"), [
    ("/c/files/md5/d4/1d8cd98f00b204e9800998ecf8427e", True), ("/hub/blobs/" + "a" * 40, True), ("/hub/blobs/" + "0" * 64, True),
    ("/r/.git/annex/objects/x/SHA256E-s5--" + "0" * 64 + ".jpg", True), ("/etc/passwd", False), ("/home/u/" + "a" * 31, False),
    ("/data/" + "a" * 32 + ".jpg", False), ("/dev/zero", False),
])  # fmt: skip
def test_stores_are_known_by_their_names(path, stored):
    assert is_stored_by_content(path) is stored
