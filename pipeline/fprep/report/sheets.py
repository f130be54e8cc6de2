"""Sections with images: contact sheets per split, items in rows, the audit's worst pairs side by side."""

from __future__ import annotations

import polars as pl

from fprep.report.audit_findings import Finding, Side, severity_rank
from fprep.report.charts import legend
from fprep.report.choice import Choice
from fprep.report.figure import Images
from fprep.report.html import Markup, Section, details, element, join, percent, table
from fschemas.wording import count

_NUM_LINES = 12  # lines of the audit as text, per kind


def sheet_section(images: Images, choice: Choice) -> Section:
    """Contact sheets, one per split, the classes in the order of their names."""
    if images.nothing or not choice.sheets:
        why = images.nothing or "No images were asked for (--images 0)."
        return Section("images", "Images", element("p", why, class_="notice"))
    data = images.data
    column = data.class_column() or ("garments" if data.has("garments") else None)
    blocks, style = [_legend(images)], f"--shape:{images.shape}"
    for split, rows in choice.sheets.items():
        total = int((data.frame["split"] == split).sum())
        spread = f"{len(rows)} of {count(total, 'image')}" + (f", spread over {column}" if column else "")
        heading = element("h3", split, element("small", f" {spread}"))
        blocks.append(
            join([heading, element("div", *(images.figure(("", row)) for row in rows), class_="sheet", style=style)])
        )
    return Section("images", "Images", join(blocks))


def _legend(images: Images) -> Markup:
    """Colors of what is drawn, with switches that work without a script."""
    data, blocks = images.data, []
    switches: list[Markup] = []
    if data.has("box") or data.has("garments") or data.has("polygons"):
        switches.append(_switch("boxes", "boxes and outlines"))
    entries: list[tuple[str, object]] = []
    if data.has("landmark_x"):
        switches.append(_switch("points", "points"))
        entries += [("left", "left"), ("right", "right")]
        entries += [("middle", "in the middle")] if "middle" in images.styles[""].landmarks.sides else []
        entries += [("ring", "occluded")]
    if data.has("joint_x"):
        entries.append(("joint", "joint"))
    if data.has("box"):
        entries.append(("boxed", "box"))
    if entries:
        blocks.append(legend(entries))
    if switches:
        blocks.append(element("p", "Show ", *switches, class_="switches"))
    return join(blocks)


def _switch(name: str, title: str) -> Markup:
    return element("label", element("input", type_="checkbox", id=f"show-{name}", checked=True), f" {title}")


def item_section(images: Images, choice: Choice) -> Section | None:
    """How many images items have, and some items with their images in a row."""
    data = images.data
    if not data.has("item"):
        return None
    named = data.frame.filter(pl.col("item") != "")
    sizes = named["item"].value_counts(sort=False)["count"]
    if sizes.is_empty():
        return Section("items", "Items", element("p", "No row names an item.", class_="faint"))
    alone = int((sizes == 1).sum())
    words = f"{count(len(sizes), 'item')} with {sizes.mean():.1f} images each on average, {sizes.max():,} at most; "
    words += f"{count(alone)} ({percent(alone, len(sizes))}) with a single image, which no search can find."
    blocks = [element("p", words, class_="faint")]
    for item, rows in ({} if images.nothing else choice.items).items():
        total = int((named["item"] == item).sum())
        heading = element("h3", item, element("small", f" {len(rows)} of {count(total, 'image')}"))
        metrics = [
            images.figure(("", row), element("span", images.rows["", row]["split"], class_="badge")) for row in rows
        ]
        blocks.append(join([heading, element("div", *metrics, class_="sheet strip", style=f"--shape:{images.shape}")]))
    return Section("items", "Items", join(blocks))


def audit_section(images: Images, choice: Choice) -> Section | None:
    """Counts of the audit, the worst findings with their images, and the first lines of each kind."""
    audit = images.data.audit
    if audit is None:
        return None
    if audit.is_empty():
        return Section("audit", "Audit", element("p", "The audit found nothing.", class_="faint"))
    names = audit.select(pl.col("severity", "kind", "message").cast(pl.String).fill_null(""))
    kinds = names.group_by("severity", "kind", maintain_order=True).agg(pl.len(), pl.col("message").head(_NUM_LINES))
    kinds = kinds.sort(severity_rank(), maintain_order=True)
    head = ("severity", "kind", "findings")
    rows = [
        (element("span", severity, class_=f"badge {_severity(severity)}"), kind, count(number))
        for severity, kind, number, _ in kinds.rows()
    ]
    blocks = [table(head, rows, numbers=(2,))]
    findings = [] if images.nothing else choice.findings
    if findings:
        blocks.append(element("div", *(_pair(images, finding) for finding in findings), class_="findings"))
    for _, kind, number, messages in kinds.rows():
        lines = element("ul", *(element("li", message) for message in messages))
        blocks.append(details(f"{kind}: the first {min(number, _NUM_LINES)} of {count(number)}", lines))
    return Section("audit", "Audit", join(blocks))


def _pair(images: Images, finding: Finding) -> Markup:
    distance = f" distance {finding.distance:g}" if finding.distance is not None else ""
    badge = element("span", finding.severity, class_=f"badge {_severity(finding.severity)}")
    heading = element(
        "p", badge, " ", element("b", finding.kind), element("small", distance), element("br"), finding.message
    )
    sides = [_side(images, side) for side in finding.sides]
    return element(
        "div", heading, element("div", *sides, class_="sheet strip", style=f"--shape:{images.shape}"), class_="finding"
    )


def _side(images: Images, side: Side) -> Markup:
    is_other = side.row is None or side.row[0] != ""
    badges = [element("span", name, class_="badge") for name in (side.split, side.table if is_other else "") if name]
    if side.row is not None:
        return images.figure(side.row, join(badges))
    place = element("span", "not in this table", class_="problem")
    caption = element("figcaption", element("b", side.key, class_="key"), *badges)
    return element("figure", element("div", place, class_="frame gone"), caption)


def _severity(name: str) -> str:
    return name if name in ("error", "warning") else "note"
