"""An image with its labels: the small JPEG, the marks over it, its class, chips and all columns; and reading them all."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fprep.raw.safe_open import follows_links
from fprep.report.audit_findings import Neighbours, RowId
from fprep.report.data import PageData, names_of
from fprep.report.html import Markup, details, element
from fprep.report.marks import PointNames, marks
from fprep.report.thumbnails import LONG_SIDE, Thumbnail, thumbnails
from fschemas.failures import UsageError
from fschemas.wording import count

Row = dict[str, Any]
NO_IMAGES = "none"
_CHIPS = 8  # labels under an image; all of them stand in its details
_LISTED = 40  # values of a list in the details


@dataclass(frozen=True)
class Style:
    """How images of one table are drawn: its metadata and the names of its points."""

    metadata: dict[str, Any]
    landmarks: PointNames
    joints: PointNames

    @classmethod
    def of(cls, metadata: dict[str, Any]) -> Style:
        """The style of a table with this metadata."""
        joints: dict[str, Any] = (metadata.get("vocabularies") or {}).get("joint") or {}
        return cls(
            metadata, PointNames.of(metadata.get("landmark_set")), PointNames.of_joints(joints.get("values") or ())
        )


@dataclass(frozen=True)
class Images:
    """The chosen images of a page and how to draw them. `nothing` says why there are none, empty if there are some."""

    data: PageData
    styles: Mapping[str, Style]  # by table, "" is that of the page
    nothing: str = ""
    rows: Mapping[RowId, Row] = field(default_factory=dict[RowId, Row])
    small: Mapping[RowId, Thumbnail] = field(default_factory=dict[RowId, Thumbnail])

    @property
    def shape(self) -> str:
        """Width to height of the frames: what half of the images are wider than."""
        aspects = sorted(entry.width / entry.height for entry in self.small.values() if entry.content)
        return f"{min(1.6, max(0.62, aspects[len(aspects) // 2])):.2f}" if aspects else "0.75"

    def figure(self, number: RowId, badge: Markup | None = None) -> Markup:
        """An image with everything drawn over it, its class, its labels and all its columns."""
        row, small, style = self.rows[number], self.small[number], self.styles[number[0]]
        alternative = f"{_title(row)}, {row['split']}"
        if small.content:
            image = element("img", src=Markup(small.address), alt=alternative, width=small.width, height=small.height)
            over = marks(row, style.landmarks, style.joints, small.width / small.full_width)
            box = f"0 0 {small.width} {small.height}"
        else:
            image, (width, height) = None, _extent(row)
            scale = LONG_SIDE / max(width, height)
            over = marks(row, style.landmarks, style.joints, scale)
            box = f"0 0 {width * scale:.0f} {height * scale:.0f}"
        drawing = element("svg", over, viewBox=box, aria_hidden="true", class_="marks")
        problem = element("span", small.problem, class_="problem") if small.problem else None
        frame = element("div", image, drawing, problem, class_="frame" if small.content else "frame gone")
        head = element("b", _title(row)) if _title(row) else element("b", row["key"], class_="key")
        caption = element("figcaption", head, badge, _chips(row, style.metadata), _details(row, style.metadata))
        return element("figure", frame, caption)


def _chips(row: Row, metadata: dict[str, Any]) -> Markup:
    chips: list[Markup] = []
    for name in ("style", "substyle", "garment", "domain", "gender", "pose", "color", "variation"):
        value = row.get(name)
        if value and value not in ("unknown", "normal") and value != _title(row):
            chips.append(element("span", value, class_="chip", title=name))
    chips += [element("span", name, class_="chip", title="garment") for name in (row.get("garments") or ())]
    for column, kind in (("attributes_positive", "chip attribute"), ("attributes_maybe", "chip perhaps")):
        names = names_of(metadata, "attributes", row.get(column) or ())
        chips += [element("span", name, class_=kind, title=column.replace("_", ", ")) for name in names]
    more = len(chips) - _CHIPS
    if more > 0:
        chips = [*chips[:_CHIPS], element("span", f"+ {more}", class_="faint")]
    return element("div", *chips, class_="chips") if chips else Markup()


def _details(row: Row, metadata: dict[str, Any]) -> Markup:
    hidden = ("image_mode", "image_orientation", "sha256", "source_line")
    rows = [(name, _value(name, value, row, metadata)) for name, value in row.items() if name not in hidden]
    return details(
        row["key"], element("dl", *(element("div", element("dt", name), element("dd", value)) for name, value in rows))
    )


def _value(name: str, value: Any, row: Row, metadata: dict[str, Any]) -> str:
    if name == "source_file":
        return f"{value}:{row['source_line']}"
    if not isinstance(value, list):
        return "not stated" if value is None or value == "" else str(value)
    if name.startswith("attributes_"):
        value = names_of(metadata, "attributes", value)
    if name in ("polygons", "garment_polygons"):
        return (
            f"{count(len(value), 'outline')} of {', '.join(str(len(entry) // 2) for entry in value[:_LISTED])} points"
            if value
            else "none"
        )
    shown = ", ".join(f"{entry:g}" if isinstance(entry, float) else str(entry) for entry in value[:_LISTED])
    return f"{shown} … ({len(value):,})" if len(value) > _LISTED else shown or "none"


def _title(row: Row) -> str:
    """What the image shows: its first class."""
    for name in ("category", "garment", "style"):
        if row.get(name):
            return str(row[name])
    return ", ".join(row.get("garments") or ())


def _extent(row: Row) -> tuple[float, float]:
    """The size of an image that is not there, from the table or from what is drawn in it."""
    if row.get("width") and row.get("height"):
        return row["width"], row["height"]
    box = row.get("box") or [0, 0, 0, 0]
    corners: list[float] = row.get("garment_boxes") or []
    x = [8, box[2], *corners[2::4], *(row.get("landmark_x") or ()), *(row.get("joint_x") or ())]
    y = [8, box[3], *corners[3::4], *(row.get("landmark_y") or ()), *(row.get("joint_y") or ())]
    return max(x) * 1.05, max(y) * 1.05


def _tell(tell: Callable[[int, int], None], before: int, total: int, done: int, part: int) -> None:
    del part
    tell(before + done, total)


def read_images(
    data: PageData,
    neighbours: Neighbours,
    numbers: Sequence[RowId],
    images: str | None,
    tell: Callable[[int, int], None],
    *,
    follow_links: bool = False,
) -> Images:
    """Read the images of these rows; where there is none at all, say why. `tell(done, total)` counts them.

    `images` is the raw root of the page's table if it has moved, or "none". Raises `UsageError` where it is no folder.
    """
    styles = {"": Style.of(data.metadata)}
    root = Path(images) if images else data.source.path.parent / str(data.metadata.get("raw_root", ""))
    if images == NO_IMAGES:
        return Images(data, styles, "This page was made without images (--images none).")
    if not root.is_dir():
        if images:
            raise UsageError(
                f"{root}: no such folder; name the raw root with --images, or none for a page without images"
            )
        return Images(data, styles, "The images are not where convert found them; name their folder with --images.")
    rows: dict[RowId, Row] = {}
    small: dict[RowId, Thumbnail] = {}
    for name in dict.fromkeys(name for name, _ in numbers):
        source = neighbours.source(name)
        assert source is not None, "a row of a table that is not open was chosen"
        styles[name] = Style.of(source.metadata)
        here = [number for table, number in numbers if table == name]
        folder = root if not name else source.path.parent / str(source.metadata.get("raw_root", ""))
        found = source.rows(tuple(here))
        tasks = [(row["image"], row["sha256"]) for row in found]
        taken = thumbnails(
            folder,
            tasks,
            progress=functools.partial(_tell, tell, len(small), len(numbers)),
            follow_links=follow_links or follows_links(source.metadata),
        )
        rows.update(((name, number), row) for number, row in zip(here, found, strict=True))
        small.update(((name, number), entry) for number, entry in zip(here, taken, strict=True))
    nothing = ""
    if numbers and not any(entry.content for entry in small.values()):
        first = rows[numbers[0]]["image"]
        what = count(len(small), "chosen image")
        nothing = f"None of {what} can be shown; the first, {first}: {small[numbers[0]].problem}."
    return Images(data, styles, nothing, rows, small)
