"""`fprep report`: the page is complete, escaped and reproducible, and shows the table and its problems."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import simplejpeg
from PIL import Image
from tests.commands import run_command
from tests.small_tables import row_of, write_small_table
from tests.trees import tree_of

from fprep.convert.command import convert
from fprep.readers.registry import readers
from fprep.report.command import write_page
from fprep.report.data import evenly
from fprep.report.image_selection import allot
from fprep.report.overlays import LandmarkNames, marks
from fprep.report.page import TEMPLATES, escape, percent
from fschemas.failures import IntegrityError, UsageError
from fschemas.landmarks import DEEPFASHION_8
from fschemas.publish import sha256_of
from fschemas.table_file import write_table
from fschemas.tables import GROUPS, table_class
from fschemas.vocabularies import vocabulary

COUNTS = {"train": 9, "val": 4}
VOID = {"meta", "img", "input", "br", "wbr"}


class Page(HTMLParser):
    """Tags, attributes and texts of a page; checks that every tag is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)

    def of_class(self, *names: str) -> list[dict[str, str]]:
        return [attributes for _, attributes in self.tags if set(names) <= set(attributes.get("class", "").split())]

    @property
    def images(self) -> list[bytes]:
        addresses = [attributes["src"] for tag, attributes in self.tags if tag == "img"]
        return [
            base64.b64decode(address.removeprefix("data:image/jpeg;base64,"), validate=True) for address in addresses
        ]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small table with its images; read-only."""
    return write_small_table(tmp_path_factory.mktemp("small"), COUNTS).parent


@pytest.fixture
def table(small: Path, tmp_path: Path) -> Path:
    """A copy that may be modified."""
    return Path(shutil.copytree(small.parent, tmp_path / "copy")) / "table"


def full_row(raw: Path, number: int) -> dict[str, Any]:
    """A row of a table with all column groups, with texts that require escaping."""
    width, height = 60 + number, 90
    image = np.full((height, width, 3), 40 + 5 * number, np.uint8)
    row = row_of(
        raw, number, ("train", "query", "gallery")[number % 3], simplejpeg.encode_jpeg(image, 90), (width, height),
        group=f"g{number // 3}", source_file="라벨/a&b.json",
    )  # fmt: skip
    return row | {
        "attributes_maybe": [3], "category": ("원피스", 'Tee & "Top"')[number % 2], "item": f"상품 <{number // 3}>", "pairs": [],
        "domain": ("shop", "consumer")[number % 2], "gender": "women", "pose": "front", "color": "빨강", "description": "</figure>",
        "style": "<script>alert(1)</script>", "substyle": "", "variation": "unknown", "joint_x": [9.0], "joint_y": [9.0],
        "joint_visibility": [2], "garments": ["상의", "<b>"], "garment_boxes": [4.0, 4.0, 30.0, 30.0, 5.0, 40.0, 30.0, 80.0],
        "garment_polygons": [[4.0, 4.0, 30.0, 4.0, 30.0, 30.0], []], "polygons": [[1.0, 1.0, 20.0, 1.0, 20.0, 20.0]],
        "coarse_split": "",
    }  # fmt: skip


def write_full_table(folder: Path) -> Path:
    rows = [full_row(folder / "raw", number) for number in range(9)]
    (folder / "raw" / rows[4]["image"]).unlink()
    table = table_class(*GROUPS)
    vocabularies = {
        "attributes": vocabulary("deepfashion-fine-26").to_json(),
        "joint": {"name": "joint", "values": ["left & <wrist>"], "groups": {}, "exclusive": False},
    }
    metadata = {
        "dataset": "모든 <것>", "table": "+".join(GROUPS), "raw_root": "../raw", "landmark_set": DEEPFASHION_8.to_json(),
        "vocabularies": vocabularies, "license": "Made <i>for</i> tests.", "column_groups": list(GROUPS),
    }  # fmt: skip
    path = folder / "table" / "table.parquet"
    write_table(path, table.validate(pl.DataFrame(rows, infer_schema_length=None), cast=True).to_arrow(), metadata)
    return path


def test_page_needs_nothing_but_itself_and_is_the_same_every_time(small: Path, tmp_path: Path):
    summary = write_page(small, tmp_path / "a.html")
    write_page(small / "table.parquet", tmp_path / "deeper" / "b.html")
    page = Page(tmp_path / "a.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "deeper" / "b.html").read_bytes()
    assert summary["bytes"] == (tmp_path / "a.html").stat().st_size
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    policies = [attributes["content"] for tag, attributes in page.tags if tag == "meta" and "http-equiv" in attributes]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    for _, attributes in page.tags:
        assert all(
            value.startswith(("#", "data:image/jpeg;")) for name, value in attributes.items() if name in ("src", "href")
        )
    assert not re.search(r"@import|url\(|https?:", page.source)
    assert str(small.parent) not in page.source
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_page_shows_every_image_of_a_small_table_with_its_marks(small: Path, tmp_path: Path):
    summary = write_page(small, tmp_path / "a.html")
    page = Page(tmp_path / "a.html")
    frame = pl.read_parquet(small / "table.parquet")
    assert summary["images"] == len(page.images) == len(frame) == 13
    sizes = sorted(Image.open(io.BytesIO(content)).size for content in page.images)
    assert sizes == sorted(frame.select("width", "height").rows())
    present = (frame["landmark_visibility"].explode() > 0).sum()
    occluded = (frame["landmark_visibility"].explode() == 1).sum()
    assert len(page.of_class("landmark")) == present
    assert len(page.of_class("landmark", "occluded")) == occluded > 0
    assert len(page.of_class("box")) == len(frame)
    assert "train 9 of 9 images" in page.text
    assert "val 4 of 4 images" in page.text
    assert "floral" in page.text


def test_coordinates_are_pixel_centers():
    row = {
        "box": [1.0, 2.0, 3.0, 7.0],
        "landmark_x": [0.0, 9.5, 0.0],
        "landmark_y": [0.0, 4.0, 0.0],
        "landmark_visibility": [2, 1, 0],
    }
    names = LandmarkNames(("neck_left", "neck_right", "hem"), ("left", "right", "middle"), ((0, 1), (1, 2)))
    drawn = marks(row, names, LandmarkNames(), 2.0)
    assert (
        '<circle cx="1" cy="1" r="5" class="landmark visible left"><title>neck_left, visible</title></circle>' in drawn
    )
    assert '<circle cx="20" cy="9" r="5" class="landmark occluded right">' in drawn
    assert "hem" not in drawn
    assert 'class="box" x="2" y="4" width="6" height="12"' in drawn  # the outer edges of pixels 1 to 3 and 2 to 7
    assert 'd="M1 1L20 9" class="bones"' in drawn  # the edge to a missing point is left out


def test_sides_come_from_names_or_partners():
    named = LandmarkNames.of(DEEPFASHION_8.to_json())
    assert named.sides[:2] == ("left", "right")
    numbered = {"points": ["1", "2", "3"], "partners": [2, 1, 0], "skeleton": []}
    assert LandmarkNames.of(numbered).sides == ("left", "middle", "right")


def test_every_column_group_is_shown_and_escaped(tmp_path: Path):
    table = write_full_table(tmp_path)
    summary = write_page(table, tmp_path / "a.html")
    page = Page(tmp_path / "a.html")
    assert "<script" not in page.source
    for words in ("모든 <것>", "원피스", 'Tee & "Top"', "<script>alert(1)</script>", "</figure>", "Made <i>for</i> tests.", "빨강",
                  "상품 <0>", "left & <wrist>, visible", "라벨/a&b.json:1", "embroidered", "consumer"):  # fmt: skip
        assert words in page.text, words
    assert [attributes["id"] for tag, attributes in page.tags if tag == "section"] == summary["sections"]
    assert {"items", "attributes", "landmarks", "sizes", "images"} <= set(summary["sections"])
    shown = len(page.of_class("frame"))
    assert len(page.of_class("joint")) - 1 == len(page.of_class("name")) // 2 == shown  # one more in the legend
    assert len(page.of_class("outline")) == 2 * shown


def test_an_image_that_is_gone_keeps_its_place_and_its_marks(tmp_path: Path):
    summary = write_page(write_full_table(tmp_path), tmp_path / "a.html")
    assert summary["missing"] == {"img/0004.jpg": "the image is missing"}
    page = Page(tmp_path / "a.html")
    assert len(page.of_class("gone")) == 2  # in its sheet, and among the images of its item
    assert len(page.images) == len(page.of_class("frame")) - 2


def change_image(raw: Path) -> str:
    (raw / "img" / "0000.jpg").write_bytes(simplejpeg.encode_jpeg(np.zeros((40, 40, 3), np.uint8), 90))
    return "changed since convert"


def cut_image(raw: Path) -> str:
    path = raw / "img" / "0000.jpg"
    path.write_bytes(path.read_bytes()[:-30])
    return "missing"


def lead_out(raw: Path) -> str:
    outside = raw.parent / "outside.jpg"
    (raw / "img" / "0000.jpg").rename(outside)
    (raw / "img" / "0000.jpg").symlink_to(outside)
    return "symbolic link"


def pipe(raw: Path) -> str:
    (raw / "img" / "0000.jpg").unlink()
    os.mkfifo(raw / "img" / "0000.jpg")
    return "not a regular file"


@pytest.mark.parametrize("spoil", [change_image, cut_image, lead_out, pipe])
def test_a_bad_image_is_a_sentence(table: Path, tmp_path: Path, spoil: Any):
    words = spoil(table.parent / "raw")
    summary = write_page(table, tmp_path / "a.html")
    assert list(summary["missing"]) == ["img/0000.jpg"]
    assert words in summary["missing"]["img/0000.jpg"]
    assert words in Page(tmp_path / "a.html").text


def test_pages_without_images_say_why(table: Path, tmp_path: Path):
    out = tmp_path / "a.html"
    write_page(table, out, images="none")
    assert "without images (--no-images)" in Page(out).text
    assert Page(out).images == []
    shutil.move(table.parent / "raw", tmp_path / "moved")
    write_page(table, out)
    assert "not where convert found them" in Page(out).text
    assert write_page(table, out, images=str(tmp_path / "moved"))["images"] == 13
    (tmp_path / "empty").mkdir()
    assert write_page(table, out, images=str(tmp_path / "empty"))["images"] == 0
    assert "None of 13 chosen images can be shown" in Page(out).text
    with pytest.raises(UsageError, match="no such folder"):
        write_page(table, out, images=str(tmp_path / "nowhere"))


def test_a_table_whose_images_nobody_looked_at(tmp_path: Path):
    table = write_small_table(tmp_path, {"train": 3}, checked=False)
    assert write_page(table, tmp_path / "a.html")["images"] == 3
    page = Page(tmp_path / "a.html")
    assert "nothing is known of their sizes" in page.text
    frame = pl.read_parquet(table)
    assert len(page.of_class("landmark")) == (frame["landmark_visibility"].explode() > 0).sum()


@pytest.mark.parametrize("max_images", [0, 1, 5, 13, 60])
def test_the_number_of_images_is_bounded(small: Path, tmp_path: Path, max_images: int):
    write_page(small, tmp_path / "a.html", max_images=max_images)
    assert len(Page(tmp_path / "a.html").images) == min(13, max_images)


def test_limit_takes_rows_evenly(small: Path, tmp_path: Path):
    assert write_page(small, tmp_path / "a.html", limit=4)["rows"] == 4
    page = Page(tmp_path / "a.html")
    assert "uses 4 of 13 rows" in page.text
    assert len(page.images) == 4


def test_rejected_rows_and_warnings_of_a_conversion(tmp_path: Path):
    report = convert(
        "fashionai-keypoints", [tree_of("fashionai-keypoints")], tmp_path / "table", max_rejected=1.0, workers=1
    )
    write_page(tmp_path / "table", tmp_path / "a.html")
    text = Page(tmp_path / "a.html").text
    rejected = pl.read_parquet(tmp_path / "table" / "rejected.parquet")
    assert len(rejected) > 0
    assert set(rejected["rule"]) == set(report.rejected_by_rule)
    for rule in report.rejected_by_rule:
        first = rejected.filter(pl.col("rule") == rule).row(0, named=True)
        place = f"{first['source_file']}:{first['source_line']}"
        assert rule in text
        assert place in text
        assert escape(first["message"].removeprefix(f"{place}: "))[:60] in escape(text, 10**9)
    assert all(name in text for name in report.warnings)
    assert all(escape(note) in escape(text, 10**9) for note in report.notes)
    assert f"{report.lines:,} lines of raw files" in text


@pytest.mark.parametrize("name", sorted(readers()))
def test_tables_of_all_readers_have_a_page(name: str, tmp_path: Path):
    tree = tree_of(name)
    if not tree.is_dir():
        pytest.skip("no tiny raw tree yet")
    convert(name, [tree], tmp_path / "table", max_rejected=1.0, workers=1, check_images="header")
    summary = write_page(tmp_path / "table", tmp_path / "a.html", max_images=8)
    assert summary["images"] > 0
    assert summary["missing"] == {}
    assert "internal" not in Page(tmp_path / "a.html").text


def test_a_report_of_other_rejected_rows_is_reported(tmp_path: Path):
    convert("fashionai-keypoints", [tree_of("fashionai-keypoints")], tmp_path / "table", max_rejected=1.0, workers=1)
    write_table(tmp_path / "table" / "rejected.parquet", pl.DataFrame({"rule": ["x"]}).to_arrow())
    remarks = write_page(tmp_path / "table", tmp_path / "a.html")["remarks"]
    assert remarks == [
        "rejected.parquet does not match its digest in report.json, so no rejected row is shown; run fprep convert again."
    ]
    (tmp_path / "table" / "report.json").unlink()
    assert "There is no report.json" in write_page(tmp_path / "table", tmp_path / "a.html")["remarks"][0]


def finding(
    kind: str,
    severity: str,
    table: str,
    key: str,
    other_table: str = "",
    other_key: str = "",
    distance: int | None = None,
) -> dict:
    return {
        "kind": kind, "severity": severity, "table": table, "key": key, "other_table": other_table, "other_key": other_key,
        "split": "train", "other_split": "val" if other_key else "", "distance": distance, "message": f"{key} <is> {kind}",
    }  # fmt: skip


def write_audit(path: Path, rows: list[dict], tables: dict[str, Path]) -> None:
    entries = [
        {"name": name, "path": os.path.relpath(place, path.parent), "sha256": sha256_of(place)}
        for name, place in tables.items()
    ]
    write_table(path, pl.DataFrame(rows, infer_schema_length=None).to_arrow(), {"tables": entries})


def test_worst_pairs_stand_side_by_side(table: Path, tmp_path: Path):
    other = write_small_table(tmp_path / "other", {"test": 2})
    rows = [
        finding("label_box_tiny", "info", "squares", "k0003"), finding("balance", "info", "squares", ""),
        finding("leak_near", "error", "squares", "k0001", "squares", "k0010", 3),
        finding("leak_near", "error", "squares", "k0000", "squares#2", "k0001", 9),
        finding("leak_identical", "error", "squares", "k0002", "gone", "k7", 0),
    ]  # fmt: skip
    write_audit(table / "audit.parquet", rows, {"squares": table / "table.parquet", "squares#2": other})
    summary = write_page(table, tmp_path / "a.html", max_images=40)
    page = Page(tmp_path / "a.html")
    assert (summary["pairs"], summary["remarks"][1:]) == (4, [])
    assert len(page.of_class("finding")) == 4
    places = [page.source.index(f"<b>{kind}") for kind in ("leak_near", "leak_identical", "label_box_tiny")]
    assert places == sorted(places)  # errors first, grouped by kind
    cells = page.source.split('class="finding"')[1:]
    assert [cell.count("<img") for cell in cells] == [2, 1, 2, 1]
    assert "squares#2" in cells[2]
    assert "not in this table" in cells[1]
    assert "k0001 &lt;is&gt; leak_near" in cells[0]


def test_an_audit_of_something_else_is_reported(table: Path, tmp_path: Path):
    other = write_small_table(tmp_path / "other", {"test": 2})
    write_audit(tmp_path / "audit.parquet", [finding("leak_near", "error", "x", "k0001")], {"x": other})
    summary = write_page(table, tmp_path / "a.html", audit=tmp_path)
    assert any("run fprep audit again" in remark for remark in summary["remarks"])
    assert "leak_near" in Page(tmp_path / "a.html").text
    write_table(table / "audit.parquet", pl.DataFrame({"kind": ["x"]}).to_arrow())
    assert any("lacks the columns severity" in remark for remark in write_page(table, tmp_path / "a.html")["remarks"])
    with pytest.raises(UsageError, match="not an audit of fprep"):
        write_page(table, tmp_path / "a.html", audit=table / "audit.parquet")
    with pytest.raises(UsageError, match="no such table"):
        write_page(table, tmp_path / "a.html", audit=tmp_path / "no.parquet")


def test_nothing_but_a_page_is_replaced(table: Path, tmp_path: Path):
    before = (table / "table.parquet").read_bytes()
    with pytest.raises(UsageError, match="not a page of `fprep report`"):
        write_page(table, table / "table.parquet")
    assert (table / "table.parquet").read_bytes() == before
    with pytest.raises(UsageError, match="this is a table folder"):
        write_page(table, table)
    (tmp_path / "a.html").write_bytes(b"")
    write_page(table, tmp_path / "a.html")
    write_page(table, tmp_path / "a.html", max_images=1)
    assert len(Page(tmp_path / "a.html").images) == 1


def test_a_damaged_table_is_an_error(table: Path, tmp_path: Path):
    content = bytearray((table / "table.parquet").read_bytes())
    content[len(content) // 3] ^= 1
    (table / "table.parquet").write_bytes(content)
    with pytest.raises(IntegrityError):
        write_page(table, tmp_path / "a.html")
    assert not (tmp_path / "a.html").exists()


def test_a_very_large_table_stays_a_small_page(tmp_path: Path):
    rows = [
        row_of(
            tmp_path / "raw", number, "train", b"none", (50, 50), item=f"i{number}", category=f"category_{number:05d}"
        )
        for number in range(2000)
    ]
    table = table_class("category", "item")
    frame = table.validate(pl.DataFrame(rows).select(table.column_names()), cast=True)
    write_table(
        tmp_path / "table.parquet", frame.to_arrow(), {"table": "category+item", "dataset": "d", "raw_root": "raw"}
    )
    summary = write_page(tmp_path / "table.parquet", tmp_path / "a.html", images="none")
    assert summary["bytes"] < 300_000
    assert "and 1,580 more" in Page(tmp_path / "a.html").text  # 20 are visible, 400 collapsed


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('<a href="x">&', "&lt;a href=&#34;x&#34;&gt;&amp;"),
        ("a\0b\x1b[1m", "a\\u0000b\\u001b[1m"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("half \ud800 pair", "half \\ud800 pair"),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af", "한글"),  # decomposed, as macOS writes file names
        ("two\nlines\tapart\r", "two lines apart\\u000d"),
        ("x" * 301, "x" * 299 + "…"),
    ],
)
def test_foreign_text_is_escaped(text: str, shown: str):
    assert escape(text) == shown
    assert escape(escape(text)) == shown
    template = TEMPLATES.from_string('<p title="{{ text }}">{{ text }}</p>')
    assert template.render(text=text) == f'<p title="{shown}">{shown}</p>'


@pytest.mark.parametrize(
    ("sizes", "budget", "shares"),
    [
        ({"a": 10, "b": 10}, 5, {"a": 3, "b": 2}),
        ({"a": 1, "b": 10}, 6, {"a": 1, "b": 5}),
        ({"a": 2, "b": 1}, 9, {"a": 2, "b": 1}),
        ({"a": 9, "b": 5, "c": 3, "d": 1}, 2, {"a": 0, "b": 1, "c": 0, "d": 1}),
        ({}, 3, {}),
    ],
)
def test_budgets_are_shared_out(sizes: dict[str, int], budget: int, shares: dict[str, int]):
    assert allot(sizes, budget) == shares


@pytest.mark.parametrize(("total", "wanted", "numbers"), [(10, 3, [1, 5, 8]), (2, 5, [0, 1]), (0, 3, []), (5, 0, [])])
def test_rows_are_evenly_spread(total: int, wanted: int, numbers: list[int]):
    assert evenly(total, wanted) == numbers


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [(1, 2, "50%"), (1, 5000, "<0.1%"), (4999, 5000, ">99%"), (0, 0, "0%"), (7, 200, "3.5%")],
)
def test_percent(part: int, whole: int, shown: str):
    assert percent(part, whole) == shown


def test_command_line(small: Path, tmp_path: Path):
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_command("fprep", "report", small, *arguments)

    out = tmp_path / "a.html"
    planned = run(str(out), "--json", "--dry-run", "-q")
    assert (planned.returncode, planned.stderr, out.exists()) == (0, "", False)
    done = run(str(out), "--max-images", "3")
    assert done.returncode == 0
    assert "13 rows, 3 images" in done.stdout
    assert "images: 3/3" in done.stderr
    assert json.loads(planned.stdout)["images"] == 13
