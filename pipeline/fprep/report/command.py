"""`fprep report`: one page of HTML that shows what is in a table: counts, images with their labels drawn, and what is wrong.

The page needs nothing but itself: no script, no file beside it, no network. The same table and images give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from fprep.report.audit_findings import Neighbours
from fprep.report.choice import Choice, choose
from fprep.report.data import PageData, load
from fprep.report.faults import rejected_section, warning_section
from fprep.report.figure import NO_IMAGES, Images, read_images
from fprep.report.html import Markup, Section, details, document, element, join, percent
from fprep.report.numbers import attribute_section, rows_section, split_section
from fprep.report.shapes import landmark_section, size_section
from fprep.report.sheets import audit_section, item_section, sheet_section
from fschemas.failures import UsageError
from fschemas.folders import claim_file
from fschemas.publish import publish_bytes, remove_leftovers_of
from fschemas.wording import count

_BEGIN, _END = b"<!doctype html>", b"Made by fprep report."
_MOST_IMAGES = 2000

Progress = Callable[[str, int, int], None]


def write_page(
    table: Path, out: Path, *, audit: Path | None = None, images: str | None = None, max_images: int = 60,
    limit: int | None = None, follow_links: bool = False, dry_run: bool = False, progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Publish the page of a table as the file `out` and return a summary.

    `table` is a table.parquet or its folder, `audit` an audit.parquet elsewhere than beside it. `images` is the raw root, if
    it is no longer where convert found it, or "none" for a page without images. `max_images` bounds their number in all,
    `limit` the rows that are looked at, evenly spread. `follow_links`: images may lie behind links
    that leave the raw root, which the table says itself where it was converted so. `dry_run` makes the page and publishes nothing.

    Raises `UsageError` for a wrong option or a missing table, `IntegrityError` for a damaged one, `OSError` for what the disk
    refuses. An image that is gone or damaged is no error: the page says so in its place.
    """
    _check(max_images, limit)
    out = claim_file(Path(out), "a page of `fprep report`", _is_page)
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(
            f"{out}: the page is HTML; give it a name that ends in .html, such as {out.with_suffix('.html').name}"
        )
    tell = progress or _say_nothing
    data = load(table, audit, limit)
    neighbours = Neighbours(data)
    choice = choose(data, neighbours, 0 if images == NO_IMAGES else max_images)
    drawn = read_images(
        data,
        neighbours,
        choice.rows(),
        images,
        lambda done, total: tell("images", done, total),
        follow_links=follow_links,
    )
    parts = _sections(data, drawn, choice)
    page = document(f"{data.dataset}: report", _header(data), parts, _footer(data))
    if not dry_run:
        remove_leftovers_of(out)
        publish_bytes(out, page)
    num_shown = sum(bool(entry.content) for entry in drawn.small.values())
    missing = {drawn.rows[number]["image"]: entry.problem for number, entry in drawn.small.items() if entry.problem}
    return {
        "out": str(out), "written": not dry_run, "bytes": len(page), "dataset": data.dataset, "rows": len(data.frame),
        "images": num_shown, "missing": dict(sorted(missing.items())), "sections": [part.name for part in parts],
        "pairs": len(choice.findings), "items": len(choice.items), "remarks": [*data.remarks, *([drawn.nothing] if drawn.nothing else [])],
    }  # fmt: skip


def _check(max_images: int, limit: int | None) -> None:
    if not 0 <= max_images <= _MOST_IMAGES:
        raise UsageError(f"--max-images {max_images}: expected 0 to {_MOST_IMAGES}")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: expected at least 1 row")


def _is_page(content: bytes) -> bool:
    return content.lower().startswith(_BEGIN) and _END in content


def _say_nothing(stage: str, done: int, total: int) -> None:
    pass


def _sections(data: PageData, images: Images, choice: Choice) -> list[Section]:
    parts = [
        split_section(data), sheet_section(images, choice), item_section(images, choice), attribute_section(data),
        landmark_section(data, images.styles[""].landmarks, images.styles[""].joints), size_section(data), rows_section(data),
        rejected_section(data), warning_section(data), audit_section(images, choice),
    ]  # fmt: skip
    return [part for part in parts if part is not None]


def _header(data: PageData) -> Markup:
    metadata, report = data.metadata, data.report
    facts = [(len(data.frame), "image" if data.frame["image"].n_unique() == len(data.frame) else "row")]
    facts.append((len(data.splits), "split"))
    column = data.class_column()
    if column is not None:
        number = int(data.frame.filter(pl.col(column) != "")[column].n_unique())
        facts.append((number, column))
    if data.has("item"):
        facts.append((data.frame.filter(pl.col("item") != "")["item"].n_unique(), "item"))
    facts.append((data.frame["group"].n_unique(), "group"))
    if report:
        facts.append((int(report.get("rejected", 0)), "rejected row"))
        facts.append((sum((report.get("warnings") or {}).values()), "warning"))
    if data.audit is not None:
        facts.append((len(data.audit), "finding"))
    cards = [
        element("div", element("b", count(number)), element("span", _plural(name, number))) for number, name in facts
    ]
    synthetic = (
        element("p", "Synthetic images, rendered by fprep sample, not photographs.", class_="notice")
        if metadata.get("synthetic")
        else None
    )
    lines = [
        element("p", element("b", name), " ", element("span", metadata[key]))
        for name, key in (("Paper", "paper"), ("License", "license")) if metadata.get(key)
    ]  # fmt: skip
    citation = details("Citation", element("pre", metadata["citation"])) if metadata.get("citation") else None
    remarks = [element("p", remark, class_="notice") for remark in data.remarks]
    return element(
        "header", element("h1", data.dataset), synthetic, *remarks, element("div", *cards, class_="cards"), *lines, citation
    )  # fmt: skip


def _plural(name: str, number: int) -> str:
    if number == 1:
        return name
    return f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"


def _footer(data: PageData) -> Markup:
    metadata = data.metadata
    groups = ", ".join(metadata.get("column_groups") or ()) or "none"
    options = ", ".join(
        f"{name} {value}" for name, value in (metadata.get("options") or {}).items() if value is not None
    )
    share = percent(len(data.frame), data.total)
    words = [
        f"Column groups: {groups}.",
        f"Options of the conversion: {options}." if options else "",
        f"Rows on this page: {share}.",
    ]
    digest = element("p", "Table ", element("code", data.source.sha256))
    return element("footer", element("p", join(words, " ")), digest, element("p", _END.decode()))
