"""Garments of DeepFashion2 documents: validation of single items, and many items as columns.

All coordinates are 0-based pixels. This module is independent of where the documents are.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import numpy as np
import polars as pl
import pyarrow as pa

from fprep.readers.coco.guess import spelled
from fprep.readers.json_document import Problem, numbers_of, polygons_of, whole_number_of
from fschemas.landmarks import DEEPFASHION2_294, Visibility
from fschemas.vocabularies import vocabulary

CATEGORIES = vocabulary("deepfashion2-category-13").values
DOMAINS = {"shop": "shop", "user": "consumer"}

_ITEM_KEY = re.compile(r"item([1-9][0-9]{0,3})")
_NUM_LANDMARKS = len(DEEPFASHION2_294)
_RANGES = [range(points[0], points[-1] + 1) for points in DEEPFASHION2_294.garments.values()]


class Garment(NamedTuple):
    """A valid item: `category` is an index, `points` K x 3 (x, y, code) of its K landmarks, `polygons` x, y, x, y …"""

    category: int
    style: int
    box: tuple[float, ...]
    points: np.ndarray
    polygons: list[list[float]]


@dataclass
class Garments:
    """Columns of many items. `add` appends one; `columns` returns all, the long ones as flat arrays."""

    texts: dict[str, list[Any]] = field(default_factory=dict[str, list[Any]])
    items: list[Garment] = field(default_factory=list[Garment])

    def add(self, garment: Garment, **texts: object) -> None:
        """Append a garment with the values of its other columns, always the same ones."""
        self.items.append(garment)
        for name, text in texts.items():
            self.texts.setdefault(name, []).append(text)

    def __len__(self) -> int:
        return len(self.items)

    def columns(self) -> dict[str, Any]:
        """Return the columns of the groups category, landmarks, box and polygons, and those passed to `add`."""
        count = len(self.items)
        x, y = np.zeros((2, count, _NUM_LANDMARKS), np.float32)
        visibility = np.full((count, _NUM_LANDMARKS), Visibility.NOT_APPLICABLE.value, np.int8)
        for row, garment in enumerate(self.items):
            own, labeled = _RANGES[garment.category], garment.points[:, 2] > 0
            slots = slice(own.start, own.stop)
            x[row, slots] = np.where(labeled, garment.points[:, 0], 0)
            y[row, slots] = np.where(labeled, garment.points[:, 1], 0)
            visibility[row, slots] = garment.points[:, 2]  # 0 not labeled, 1 occluded, 2 visible, as in Visibility
        names = [CATEGORIES[garment.category] for garment in self.items]
        return {
            **self.texts, "category": names, "garment": names,
            "landmark_x": x, "landmark_y": y, "landmark_visibility": visibility,
            "box": np.array([garment.box for garment in self.items], np.float32).reshape(count, 4),
            "polygons": _nested([garment.polygons for garment in self.items]),
        }  # fmt: skip


def _nested(rows: Sequence[list[list[float]]]) -> pl.Series:
    outer = np.cumsum([0, *map(len, rows)])
    lines = [line for row in rows for line in row]
    inner = np.cumsum([0, *map(len, lines)])
    flat = np.fromiter(itertools.chain.from_iterable(lines), np.float32, int(inner[-1]))
    polygons = pa.LargeListArray.from_arrays(pa.array(inner), pa.array(flat))
    return cast("pl.Series", pl.from_arrow(pa.LargeListArray.from_arrays(pa.array(outer), polygons)))


def item_numbers(document: dict[str, Any]) -> tuple[dict[int, str], list[str]]:
    """Return the keys of the items by ascending number, and the keys of other objects, possibly misnamed items."""
    found: dict[int, str] = {}
    strange: list[str] = []
    for key, value in document.items():
        if (match := _ITEM_KEY.fullmatch(key)) is not None:
            found[int(match[1])] = key
        elif isinstance(value, dict):
            strange.append(key)
    return dict(sorted(found.items())), strange


def domain_of(document: dict[str, Any]) -> str | Problem:
    """Return the domain of a document's image: shop or consumer."""
    source = document.get("source")
    if isinstance(source, str) and source in DOMAINS:
        return DOMAINS[source]
    return Problem("unknown_source", f"source is {str(source)[:40]!r}, expected shop or user", "domain", str(source))


def read_item(item: object) -> Garment | Problem:
    """Return a garment from an `item1` … `itemN` of a document, or the first problem in it."""
    if not isinstance(item, dict):
        return Problem("bad_item", f"this is {type(item).__name__}, expected an object")
    entry = cast("dict[str, Any]", item)
    category = whole_number_of(entry, "category_id", low=1)
    if isinstance(category, Problem):
        return category._replace(rule="unknown_category", column="category")
    if category > len(CATEGORIES):
        message = f"category_id is {category}, expected 1 to {len(CATEGORIES)}"
        return Problem("unknown_category", message, "category", str(category))
    name = entry.get("category_name")
    if name in CATEGORIES and name != CATEGORIES[category - 1]:
        message = f"category_id {category} is {CATEGORIES[category - 1]!r}, but category_name is {name!r}"
        return Problem("category_mismatch", message, "category", str(name))
    box, points = numbers_of(entry.get("bounding_box"), "bounding_box"), numbers_of(entry.get("landmarks"), "landmarks")
    return _garment(category - 1, entry, box, points)


def read_annotation(entry: dict[str, Any], name: str | None = None) -> Garment | Problem:
    """Return a garment from an annotation of the COCO conversion: box as x, y, width, height, and all 294 landmarks.

    `name` is the category name in the file, None if it has no categories: then the number is that of the release.
    """
    named = {spelled(known): number for number, known in enumerate(CATEGORIES, start=1)}
    category = whole_number_of(entry, "category_id", low=1, high=len(CATEGORIES))
    if name is not None:
        message = f"the category {name[:40]!r} is none of the 13 of DeepFashion2; the reader coco takes any"
        category = named.get(spelled(name)) or Problem("unknown_category", message, "category", name)
    if isinstance(category, Problem):
        return category._replace(rule="unknown_category", column="category")
    box, points = numbers_of(entry.get("bbox"), "bbox"), numbers_of(entry.get("keypoints"), "keypoints")
    if isinstance(box, list) and len(box) == 4:
        box = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
    if isinstance(points, list):
        if len(points) != 3 * _NUM_LANDMARKS:
            message = f"keypoints has {len(points)} numbers, expected {3 * _NUM_LANDMARKS}"
            return Problem("wrong_number_of_points", message, "landmark_x")
        own = _RANGES[category - 1]
        if any(points[: 3 * own.start]) or any(points[3 * own.stop :]):
            message = f"keypoints has points of other categories than {CATEGORIES[category - 1]!r}"
            return Problem("not_applicable_point", message, "landmark_x")
        points = points[3 * own.start : 3 * own.stop]
    return _garment(category - 1, {"style": 0} | entry, box, points)


def _garment(
    category: int, entry: dict[str, Any], box: list[float] | Problem, points: list[float] | Problem
) -> Garment | Problem:
    style, polygons = whole_number_of(entry, "style"), polygons_of(entry.get("segmentation"))
    if isinstance(style, Problem):
        return style._replace(column="item")
    if isinstance(box, Problem):
        return box._replace(column="box")
    if len(box) != 4:
        return Problem("bad_number", f"the box has {len(box)} numbers, expected x1, y1, x2, y2", "box", str(box)[:100])
    if isinstance(points, Problem):
        return points._replace(column="landmark_x")
    expected = 3 * len(_RANGES[category])
    if len(points) != expected:
        shape = f"a {CATEGORIES[category]} has {expected // 3} points x, y, v"
        message = f"landmarks has {len(points)} numbers, but {shape}"
        return Problem("wrong_number_of_points", message, "landmark_x", str(len(points)))
    if not set(points[2::3]) <= {0, 1, 2}:
        codes = enumerate(points[2::3], start=1)
        number, code = next((number, code) for number, code in codes if code not in (0, 1, 2))
        message = f"the visibility of point {number} is {code}, expected 2 (visible), 1 (occluded) or 0 (not labeled)"
        return Problem("bad_visibility", message, "landmark_visibility", str(code))
    if isinstance(polygons, Problem):
        return polygons
    return Garment(category, style, tuple(box), np.array(points, np.float32).reshape(-1, 3), polygons)
