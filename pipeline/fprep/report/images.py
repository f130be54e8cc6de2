"""An image with its labels (thumbnail, overlay, class, chips and all columns), and reading the images of a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fprep.raw.safe_open import follows_links
from fprep.report.audit_findings import OtherTables, RowId
from fprep.report.data import PageData, names_of
from fprep.report.overlays import LandmarkNames, marks
from fprep.report.thumbnails import LONG_SIDE, Thumbnail, thumbnails
from fschemas.failures import UsageError
from fschemas.wording import count

Row = dict[str, Any]
NO_IMAGES = "none"
_CHIPS = 8  # labels below an image; its details show all
_CHIP_COLUMNS = ("style", "substyle", "garment", "domain", "gender", "pose", "color", "variation")
_HIDDEN = ("image_mode", "image_orientation", "sha256", "source_line")
_LISTED = 40  # maximum list values in the details


@dataclass(frozen=True)
class DrawingStyle:
    """Drawing style of a table: its metadata and the names of its landmarks and joints."""

    metadata: dict[str, Any]
    landmarks: LandmarkNames
    joints: LandmarkNames

    @classmethod
    def of(cls, metadata: dict[str, Any]) -> DrawingStyle:
        """Return the style of a table with this metadata."""
        joints: dict[str, Any] = (metadata.get("vocabularies") or {}).get("joint") or {}
        names = LandmarkNames.of_joints(joints.get("values") or ())
        return cls(metadata, LandmarkNames.of(metadata.get("landmark_set")), names)


@dataclass(frozen=True)
class Images:
    """The chosen images of a page and how to draw them. `nothing` explains why there are none, "" if there are some."""

    data: PageData
    styles: Mapping[str, DrawingStyle]  # by table; "" is that of the page
    nothing: str = ""
    rows: Mapping[RowId, Row] = field(default_factory=dict[RowId, Row])
    small: Mapping[RowId, Thumbnail] = field(default_factory=dict[RowId, Thumbnail])

    @property
    def shape(self) -> str:
        """The aspect ratio (width / height) of the frames: the median of the images, within limits."""
        aspects = sorted(entry.width / entry.height for entry in self.small.values() if entry.content)
        return f"{min(1.6, max(0.62, aspects[len(aspects) // 2])):.2f}" if aspects else "0.75"

    def figure(self, number: RowId) -> dict[str, Any]:
        """Return the data of an image for the template `figures.html`: overlay, class, labels and all columns."""
        row, small, style = self.rows[number], self.small[number], self.styles[number[0]]
        width, height, scale = small.width, small.height, small.width / max(1, small.full_width)
        if not small.content:
            full_width, full_height = _extent(row)
            scale = LONG_SIDE / max(full_width, full_height)
            width, height = round(full_width * scale), round(full_height * scale)
        title, chips = _title(row), _chips(row, style.metadata)
        return {
            "source": small.address if small.content else "", "alternative": f"{title}, {row['split']}", "title": title,
            "width": width, "height": height, "marks": marks(row, style.landmarks, style.joints, scale), "problem": small.problem,
            "key": row["key"], "split": row["split"], "chips": chips[:_CHIPS], "num_more": len(chips) - _CHIPS,
            "columns": [(name, _value(name, value, row, style.metadata)) for name, value in row.items() if name not in _HIDDEN],
        }  # fmt: skip


def _chips(row: Row, metadata: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return CSS class, text and column of each label below an image."""
    hidden = (None, "", "unknown", "normal", _title(row))
    chips = [("chip", str(row[name]), name) for name in _CHIP_COLUMNS if row.get(name) not in hidden]
    chips += [("chip", name, "garment") for name in (row.get("garments") or ())]
    for column, kind in (("attributes_positive", "chip attribute"), ("attributes_maybe", "chip perhaps")):
        names = names_of(metadata, "attributes", row.get(column) or ())
        chips += [(kind, name, column.replace("_", ", ")) for name in names]
    return chips


def _value(name: str, value: Any, row: Row, metadata: dict[str, Any]) -> str:
    if name == "source_file":
        return f"{value}:{row['source_line']}"
    if not isinstance(value, list):
        return "not stated" if value is None or value == "" else str(value)
    if name.startswith("attributes_"):
        value = names_of(metadata, "attributes", value)
    if name in ("polygons", "garment_polygons") and value:
        sizes = ", ".join(str(len(entry) // 2) for entry in value[:_LISTED])
        return f"{count(len(value), 'outline')} of {sizes} points"
    shown = ", ".join(f"{entry:g}" if isinstance(entry, float) else str(entry) for entry in value[:_LISTED])
    return f"{shown} … ({len(value):,})" if len(value) > _LISTED else shown or "none"


def _title(row: Row) -> str:
    for name in ("category", "garment", "style"):
        if row.get(name):
            return str(row[name])
    return ", ".join(row.get("garments") or ())


def _extent(row: Row) -> tuple[float, float]:
    """Return the size of a missing image, from the table or its labels."""
    if row.get("width") and row.get("height"):
        return row["width"], row["height"]
    box = row.get("box") or [0, 0, 0, 0]
    corners: list[float] = row.get("garment_boxes") or []
    x = [8, box[2], *corners[2::4], *(row.get("landmark_x") or ()), *(row.get("joint_x") or ())]
    y = [8, box[3], *corners[3::4], *(row.get("landmark_y") or ()), *(row.get("joint_y") or ())]
    return max(x) * 1.05, max(y) * 1.05


def read_images(
    data: PageData,
    others: OtherTables,
    numbers: Sequence[RowId],
    images: str | None,
    tell: Callable[[int, int], None],
    *,
    follow_links: bool = False,
) -> Images:
    """Read the images of these rows. If none can be read, the result explains why. `tell(done, total)` counts them.

    `images` is the raw root of the page's table if it has moved, or "none". Raises `UsageError` if the folder does not
    exist.
    """
    styles = {"": DrawingStyle.of(data.metadata)}
    root = Path(images) if images else data.source.path.parent / str(data.metadata.get("raw_root", ""))
    if images == NO_IMAGES:
        return Images(data, styles, "This page was made without images (--no-images).")
    if not root.is_dir():
        if images:
            raise UsageError(f"{root}: no such folder; pass the raw root with --images, or use --no-images")
        return Images(data, styles, "The images are not where convert found them; pass their folder with --images.")
    rows: dict[RowId, Row] = {}
    small: dict[RowId, Thumbnail] = {}
    for name in dict.fromkeys(name for name, _ in numbers):
        source = others.source(name)
        assert source is not None, "a row of a table that is not open was chosen"
        styles[name] = DrawingStyle.of(source.metadata)
        here = [(table, number) for table, number in numbers if table == name]
        folder = root if not name else source.path.parent / str(source.metadata.get("raw_root", ""))
        rows |= dict(zip(here, source.rows(tuple(number for _, number in here)), strict=True))
        before = len(small)
        taken = thumbnails(
            folder, [(rows[entry]["image"], rows[entry]["sha256"]) for entry in here],
            progress=lambda done, _, before=before: tell(before + done, len(numbers)),
            follow_links=follow_links or follows_links(source.metadata),
        )  # fmt: skip
        small |= dict(zip(here, taken, strict=True))
    nothing = ""
    if numbers and not any(entry.content for entry in small.values()):
        first = f"{rows[numbers[0]]['image']}: {small[numbers[0]].problem}"
        nothing = f"None of {count(len(small), 'chosen image')} can be shown; the first, {first}."
    return Images(data, styles, nothing, rows, small)
