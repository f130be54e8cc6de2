"""Boxes, outlines and keypoints of a row in the conventions of other formats.

Two coordinate systems meet here. In tables, the center of the top left pixel is (0, 0) and boxes include their corner
pixels. In COCO boxes and normalized coordinates, its corner is (0, 0): coordinates are half a pixel larger, and a box
over the pixels 2 to 4 extends from 2 to 5.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fprep.export.job import UNLABELED, ExportJob
from fschemas.landmarks import LANDMARK_SETS, Visibility

NO_NAME = "garment"
_MARGIN = 0.1  # of the extent of the keypoints, on each side


@dataclass(frozen=True)
class Instance:
    """A garment of an image: class, box, outlines and keypoints.

    `box` is (x1, y1, x2, y2) in pixel corners, inside the image; `box_from` is its source. `source_box` is the box of
    the row, if any. `num_outlines` counts the outlines of the row, including those with fewer than three points.
    `polygons` are (x, y, x, y, …) and `keypoints` are K x (x, y, v), in pixel centers, with v as in COCO: 0 not labeled (x
    = y = 0), 1 occluded, 2 visible.
    """

    label: str
    box: tuple[float, float, float, float]
    box_from: Literal["box", "keypoints", "image"]
    polygons: tuple[tuple[float, ...], ...] = ()
    keypoints: tuple[tuple[float, float, int], ...] = ()
    row: dict[str, Any] = field(default_factory=dict[str, Any], compare=False)
    source_box: tuple[float, ...] = ()
    num_outlines: int = 0


def class_names(job: ExportJob) -> tuple[str, ...]:
    """Return the classes of the table: garments of the landmark set, parts, categories, or just `garment`."""
    if job.landmark_set is not None:
        known = LANDMARK_SETS.get(job.landmark_set["name"])
        return tuple(known.garments if known else job.landmark_set["garments"])
    column = "garments" if "garments" in job.groups else "category"
    if column not in job.frame.columns:
        return (NO_NAME,)
    known = job.vocabularies.get("part" if column == "garments" else column)
    if known is not None:
        return tuple(known["values"])
    names = job.frame[column].explode() if column == "garments" else job.frame[column]
    return tuple(sorted({str(name) for name in names.to_list() if name})) or (NO_NAME,)


def instances(row: dict[str, Any]) -> list[Instance]:
    """Return the garments of a row, which may be none. The image size must be known."""
    if row["split"] == UNLABELED:
        return []
    if "garments" in row:
        found: list[Instance] = []
        for number, (label, polygon) in enumerate(zip(row["garments"], row["garment_polygons"], strict=True)):
            source = tuple(row["garment_boxes"][4 * number : 4 * number + 4])
            box = corner_box(source, row["width"], row["height"])
            polygons = (tuple(polygon),) if len(polygon) >= 6 else ()
            found.append(Instance(label, box, "box", polygons, (), row, source, len(polygons)))
        return found
    label = row.get("garment") or row.get("category", NO_NAME)
    if not label:
        return []
    points = zip(*(row.get(f"landmark_{name}", ()) for name in ("x", "y", "visibility")), strict=True)
    keypoints = tuple((x, y, v) if v >= Visibility.OCCLUDED else (0.0, 0.0, 0) for x, y, v in points)
    box, origin = _box(row, keypoints)
    polygons = tuple(tuple(polygon) for polygon in row.get("polygons", ()) if len(polygon) >= 6)
    outlines = len(row.get("polygons", ()))
    return [Instance(label, box, origin, polygons, keypoints, row, tuple(row.get("box", ())), outlines)]


def corner_box(box: Sequence[float], width: int, height: int) -> tuple[float, float, float, float]:
    """Convert an inclusive box in pixel centers to pixel corners, clipped to the image."""
    x1, y1, x2, y2 = box
    return _inside(x1, width), _inside(y1, height), _inside(x2 + 1, width), _inside(y2 + 1, height)


def polygon_area(polygon: Sequence[float]) -> float:
    """Return the area of a polygon (x, y, x, y, …) by the shoelace formula."""
    xs, ys = polygon[0::2], polygon[1::2]
    pairs = zip(xs, ys, [*xs[1:], xs[0]], [*ys[1:], ys[0]], strict=True)
    return abs(sum(x * next_y - next_x * y for x, y, next_x, next_y in pairs)) / 2


def _box(row: dict[str, Any], keypoints: tuple[tuple[float, float, int], ...]) -> Any:
    width, height = row["width"], row["height"]
    if "box" in row:
        return corner_box(row["box"], width, height), "box"
    labeled = [(x, y) for x, y, v in keypoints if v]
    if len(labeled) < 2:
        return (0.0, 0.0, float(width), float(height)), "image"
    xs, ys = [x for x, _ in labeled], [y for _, y in labeled]
    wide, high = _MARGIN * (max(xs) - min(xs)), _MARGIN * (max(ys) - min(ys))
    return corner_box((min(xs) - wide, min(ys) - high, max(xs) + wide, max(ys) + high), width, height), "keypoints"


def _inside(value: float, size: int) -> float:
    return min(max(float(value), 0.0), float(size))
