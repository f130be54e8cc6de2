"""`fprep report`: one HTML page about a table, with counts, annotated images and problems.

The page is self-contained: no script, no other file, no network. The same table and images give the same bytes.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from fprep.report.audit_findings import OtherTables
from fprep.report.data import PageData, load
from fprep.report.geometry_sections import landmark_section, size_section
from fprep.report.image_sections import audit_section, item_section, sheet_section
from fprep.report.image_selection import Choice, choose
from fprep.report.images import NO_IMAGES, Images, read_images
from fprep.report.labels import attribute_section, rows_section, split_section
from fprep.report.page import Section, document, percent
from fprep.report.rejections import rejected_section, warning_section
from fschemas.failures import UsageError
from fschemas.folders import claim_file
from fschemas.progress import Progress, no_progress
from fschemas.publish import publish_bytes, remove_leftovers_of

_BEGIN, _END = b"<!doctype html>", b"Made by fprep report."
_MAX_IMAGES = 2000


def write_page(
    table: Path,
    out: Path,
    *,
    audit: Path | None = None,
    images: str | None = None,
    max_images: int = 60,
    limit: int | None = None,
    follow_links: bool = False,
    dry_run: bool = False,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Write the page of a table to the file `out` and return a summary.

    `table` is a table.parquet or its folder, `audit` an audit.parquet that is not next to it. `images` is the raw root
    if it has moved, or "none" for a page without images. `max_images` is the maximum number of images, `limit` the
    number of evenly spaced rows to use. `follow_links` allows images behind links that leave the raw root, even if the
    table was converted without it. `dry_run` creates the page but does not publish it.

    Raises `UsageError` for a wrong option or a missing table, `IntegrityError` for a damaged one, and `OSError`. A
    missing or damaged image is not an error: the page shows the problem in its place.
    """
    if not 0 <= max_images <= _MAX_IMAGES:
        raise UsageError(f"--max-images {max_images}: expected 0 to {_MAX_IMAGES}")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: expected at least 1 row")
    out = claim_file(Path(out), "a page of `fprep report`", _is_page)
    if out.suffix.lower() not in (".html", ".htm"):
        example = out.with_suffix(".html").name
        raise UsageError(f"{out}: the page is HTML; choose a name that ends in .html, such as {example}")
    data = load(table, audit, limit)
    others = OtherTables(data)
    choice = choose(data, others, 0 if images == NO_IMAGES else max_images)
    shown = read_images(data, others, choice.rows(), images, partial(progress, "images"), follow_links=follow_links)
    parts = _sections(data, shown, choice)
    page = document(
        f"{data.dataset}: report", parts, dataset=data.dataset, metadata=data.metadata, remarks=data.remarks,
        facts=[(number, name if number == 1 else {"category": "categories"}.get(name, f"{name}s")) for number, name in _facts(data)], about=_about(data), digest=data.source.sha256,
    )  # fmt: skip
    if not dry_run:
        remove_leftovers_of(out)
        publish_bytes(out, page)
    num_shown = sum(bool(entry.content) for entry in shown.small.values())
    missing = {shown.rows[number]["image"]: entry.problem for number, entry in shown.small.items() if entry.problem}
    return {
        "out": str(out), "written": not dry_run, "bytes": len(page), "dataset": data.dataset, "rows": len(data.frame),
        "images": num_shown, "missing": dict(sorted(missing.items())), "sections": [part.name for part in parts],
        "pairs": len(choice.findings), "items": len(choice.items), "remarks": [*data.remarks, *([shown.nothing] if shown.nothing else [])],
    }  # fmt: skip


def _is_page(content: bytes) -> bool:
    return content.lower().startswith(_BEGIN) and _END in content


def _sections(data: PageData, images: Images, choice: Choice) -> list[Section]:
    style = images.styles[""]
    parts = [
        split_section(data), sheet_section(images, choice), item_section(images, choice), attribute_section(data),
        landmark_section(data, style.landmarks, style.joints), size_section(data), rows_section(data),
        rejected_section(data), warning_section(data), audit_section(images, choice),
    ]  # fmt: skip
    return [part for part in parts if part is not None]


def _facts(data: PageData) -> Iterator[tuple[int, str]]:
    """Yield the numbers at the top of the page, each with what it counts, in the singular."""
    yield len(data.frame), "image" if data.frame["image"].n_unique() == len(data.frame) else "row"
    yield len(data.splits), "split"
    for column in (data.class_column(), "item" if data.has("item") else None):
        if column is not None:
            yield data.frame.filter(pl.col(column) != "")[column].n_unique(), column
    yield data.frame["group"].n_unique(), "group"
    if data.report:
        yield int(data.report.get("rejected", 0)), "rejected row"
        yield sum((data.report.get("warnings") or {}).values()), "warning"
    if data.audit is not None:
        yield len(data.audit), "finding"


def _about(data: PageData) -> str:
    groups = ", ".join(data.metadata.get("column_groups") or ()) or "none"
    stated = (data.metadata.get("options") or {}).items()
    options = ", ".join(f"{name} {value}" for name, value in stated if value is not None) or "none"
    rows = percent(len(data.frame), data.total)
    return f"Column groups: {groups}. Options of the conversion: {options}. Rows on this page: {rows}."
