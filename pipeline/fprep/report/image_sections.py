"""Sections with images: contact sheets per split, items in rows, and the worst pairs of the audit."""

import polars as pl

from fprep.report.audit_findings import severity_rank
from fprep.report.image_selection import Choice
from fprep.report.images import Images
from fprep.report.page import Section, percent, section
from fschemas.wording import count

_NUM_LINES = 12  # lines of audit text per kind


def sheet_section(images: Images, choice: Choice) -> Section:
    """Contact sheets, one per split, sorted by class, with toggles that work without scripts."""
    if images.nothing or not choice.sheets:
        return section("images", "Images", nothing=images.nothing or "No images were requested (--max-images 0).")
    data = images.data
    has_areas = data.has("box") or data.has("garments") or data.has("polygons")
    has_middle = "middle" in images.styles[""].landmarks.sides
    legend = [
        (data.has("landmark_x"), "left", "left"), (data.has("landmark_x"), "right", "right"),
        (data.has("landmark_x") and has_middle, "middle", "in the middle"), (data.has("landmark_x"), "ring", "occluded"),
        (data.has("joint_x"), "joint", "joint"), (data.has("box"), "boxed", "box"),
    ]  # fmt: skip
    switches = [(has_areas, "boxes", "boxes and outlines"), (data.has("landmark_x"), "points", "landmarks")]
    totals = dict(data.frame["split"].cast(pl.String).value_counts().rows())
    return section(
        "images", "Images", legend=[(kind, name) for shown, kind, name in legend if shown], shape=images.shape,
        switches=[(name, title) for shown, name, title in switches if shown],
        column=data.class_column() or ("garments" if data.has("garments") else None),
        sheets=[(split, totals[split], [images.figure(("", row)) for row in rows]) for split, rows in choice.sheets.items()],
    )  # fmt: skip


def item_section(images: Images, choice: Choice) -> Section | None:
    """The number of images per item, and some items with their images in a row."""
    if not images.data.has("item"):
        return None
    named = images.data.frame.filter(pl.col("item") != "")
    sizes: dict[str, int] = dict(named["item"].value_counts(sort=False).rows())
    words = "No row has an item."
    if sizes:
        alone = sum(size == 1 for size in sizes.values())
        mean = len(named) / len(sizes)
        words = f"{count(len(sizes), 'item')} with {mean:.1f} images each on average, {max(sizes.values()):,} at most; "
        words += f"{count(alone)} ({percent(alone, len(sizes))}) with a single image, which no search can retrieve."
    chosen = {} if images.nothing else choice.items
    items = [(item, sizes[item], [images.figure(("", row)) for row in rows]) for item, rows in chosen.items()]
    return section("items", "Items", words=words, items=items, shape=images.shape)


def audit_section(images: Images, choice: Choice) -> Section | None:
    """Counts of the audit, the worst findings with their images, and the first lines of each kind."""
    audit = images.data.audit
    if audit is None:
        return None
    names = audit.select(pl.col("severity", "kind", "message").cast(pl.String).fill_null(""))
    kinds = names.group_by("severity", "kind", maintain_order=True).agg(pl.len(), pl.col("message").head(_NUM_LINES))
    findings = [
        (finding, [(side, images.figure(side.row) if side.row is not None else None) for side in finding.sides])
        for finding in ([] if images.nothing else choice.findings)
    ]
    ordered = kinds.sort(severity_rank(), maintain_order=True).rows()
    return section("audit", "Audit", kinds=ordered, findings=findings, shape=images.shape)
