"""Columns of K-Fashion records during parsing: flat lists, validated and clipped to the images in bulk."""

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa

from fprep.readers.kfashion.labels import PARTS, STYLES
from fschemas.image_limits import MAX_SIDE, MIN_SIDE

Warn = Callable[[str, str], None]

_RECT = ("X좌표", "Y좌표", "가로", "세로")
_IMAGE = ("이미지 식별자", "이미지 너비", "이미지 높이")
_four = itemgetter(*_RECT)
_NUMBERS = {int, float}
_NO_ORDER = np.zeros(0, np.int64)
_STYLES = {"": -1, **STYLES.ids}


class Columns:
    """Rows of one batch. `positive` has the ids of all rows, `unknown` arrays of ids; `end_row` ends a row."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.images: list[Any] = []  # id, width, height of each row
        self.originals: list[str] = []
        self.styles: list[int] = []  # style and second style of each row
        self.parts: list[int] = []
        self.rects: list[Any] = []  # x, y, width, height of each garment as in the record
        self.points: list[bytes] = []  # polygon of each garment: float32 in the order of the record
        self.orders: list[np.ndarray] = []  # of each garment: indices that sort its values
        self.positive: list[int] = []
        self.unknown: list[np.ndarray] = []
        self.ends: list[int] = []  # cumulative counts of garments, positive ids and unknown arrays after each row

    def add_garment(self, part: int, rect: dict[str, Any], outline: dict[str, Any], warn: Warn) -> None:
        """Add a garment to the current row, with its rect and polygon as in the record."""
        self.parts.append(part)
        try:
            self.rects += _four(rect)
        except KeyError:
            self.rects += map(rect.get, _RECT)
        points, order = b"", _NO_ORDER
        if outline:
            form = form_of(outline)
            try:
                if form is not None:
                    points, order = form.pack(*outline.values()), form.order
            except struct.error:
                form = None
            if form is None:
                warn("polygon_with_gaps", "")
        self.points.append(points)
        self.orders.append(order)

    def end_row(self, file: str, image: dict[str, Any], style: str, substyle: str) -> None:
        """End the current row: the garments and ids since the last row belong to this file."""
        self.files.append(file)
        self.images += map(image.get, _IMAGE)
        original = image.get("이미지 파일명")
        self.originals.append(original if original.__class__ is str else "")  # type: ignore[arg-type]
        self.styles += (_STYLES[style], _STYLES[substyle])
        self.ends += (len(self.parts), len(self.positive), len(self.unknown))

    def to_arrow(self, warn: Warn) -> tuple[bytes, bytes]:
        """Return the rows as two Arrow streams: narrow columns and wide columns.

        Garments with an invalid box are left out, with a warning per file.
        """
        num_rows = len(self.files)
        ends = np.array(self.ends, np.int64).reshape(-1, 3)
        num_garments, num_positive, num_unknown = np.diff(ends, axis=0, prepend=np.zeros((1, 3), np.int64)).T
        images = _whole_numbers(self.images).reshape(-1, 3)
        sizes = images[:, 1:].copy()
        sizes[(sizes.min(1) < MIN_SIDE) | (sizes.max(1) > MAX_SIDE)] = 0
        for row in np.flatnonzero(sizes[:, 0] == 0).tolist():
            warn("no_image_size", self.files[row])
        rows = np.repeat(np.arange(num_rows), num_garments)
        self._drop_infinite(rows, warn)
        boxes, kept = self._boxes(rows, sizes, warn)
        points, num_points = self._outlines(kept)
        garments = np.bincount(rows[kept], minlength=num_rows)
        found = np.repeat(np.arange(num_rows), num_positive) << 10 | np.array(self.positive, np.int64)
        found.sort()
        found = found[np.diff(found, prepend=-1) != 0]  # unique ids per row
        lengths = np.array([len(ids) for ids in self.unknown], np.int64)
        unknown = np.bincount(np.repeat(np.arange(num_rows), num_unknown), lengths, num_rows).astype(np.int64)
        styles = np.array(self.styles, np.int8).reshape(-1, 2)
        narrow = {
            "file": _texts(self.files),
            "original": _texts(self.originals),
            "image_number": _numbers(images[:, 0]),
            "width": _numbers(sizes[:, 0].astype(np.int32)),
            "height": _numbers(sizes[:, 1].astype(np.int32)),
            "style": _numbers(styles[:, 0]),
            "substyle": _numbers(styles[:, 1]),
        }
        wide = {
            "garments": _lists(garments, _texts([PARTS[self.parts[index]] for index in kept.tolist()])),
            "garment_boxes": _lists(4 * garments, _numbers(boxes.astype(np.float32).ravel())),
            "garment_polygons": _lists(garments, _lists(num_points, _numbers(points))),
            "attributes_positive": _lists(np.bincount(found >> 10, minlength=num_rows), _numbers((found & 1023).astype(np.int16))),
            "attributes_unknown": _lists(unknown, _numbers(np.concatenate([np.zeros(0, np.int16), *self.unknown]))),
        }  # fmt: skip
        return _stream(narrow), _stream(wide)

    def _drop_infinite(self, rows: np.ndarray, warn: Warn) -> None:
        """Drop garments with coordinates that overflow float32."""
        if np.isfinite(np.frombuffer(b"".join(self.points), np.float32)).all():
            return
        for index, points in enumerate(self.points):
            if not np.isfinite(np.frombuffer(points, np.float32)).all():
                self.points[index], self.orders[index] = b"", _NO_ORDER
                warn("polygon_with_gaps", self.files[rows[index]])

    def _ordered(self) -> np.ndarray:
        """Return all polygons, concatenated: x and y of point 1, of point 2 …"""
        if not any(self.points):
            return np.zeros(0, np.float32)
        counts = np.array([len(order) for order in self.orders], np.int64)
        starts = np.cumsum(counts) - counts
        positions = np.concatenate([_NO_ORDER, *self.orders]) + np.repeat(starts, counts)
        return np.frombuffer(b"".join(self.points), np.float32)[positions]

    def _outlines(self, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        counts = np.array([len(points) for points in self.points], np.int64) // 4
        points = self._ordered()
        if len(kept) < len(counts):
            is_kept = np.zeros(len(counts), bool)
            is_kept[kept] = True
            points = points[np.repeat(is_kept, counts)]
        return points, counts[kept]

    def _boxes(self, rows: np.ndarray, sizes: np.ndarray, warn: Warn) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes in pixel centers, clipped to the images, and which garments have one.

        A rect starts at the left edge of the first pixel of its polygon, half a pixel before that pixel's center, and
        its width is the distance between the outermost points. -0.5 is therefore the border of the image and valid.
        """
        rects = _decimals(self.rects).reshape(-1, 4)
        boxes = rects + 0.5
        boxes[:, 2:] = boxes[:, :2] + rects[:, 2:]
        whole = np.logical_not(np.isnan(rects).any(1))
        for index in np.flatnonzero(np.isnan(rects).all(1)).tolist():
            if self.points[index]:
                before = sum(map(len, self.points[:index])) // 4
                points = self._ordered()[before : before + len(self.points[index]) // 4].reshape(-1, 2)
                boxes[index] = [*points.min(0), *points.max(0)]
                whole[index] = True
                warn("box_from_polygon", self.files[rows[index]])
        most = np.where(sizes > 0, sizes, MAX_SIDE)[rows] - 1.0
        inside = np.concatenate([np.maximum(boxes[:, :2], 0), np.minimum(boxes[:, 2:], most)], axis=1)
        empty = whole & (boxes[:, 2:] <= boxes[:, :2]).any(1)
        outside = whole & ~empty & (inside[:, 2:] <= inside[:, :2]).any(1)
        kept = whole & ~empty & ~outside
        cut = kept & (np.abs(inside - boxes) > 0.5).any(1)
        for rule, flags in (("garment_without_rect", ~whole), ("garment_of_no_size", empty),
                            ("garment_outside_image", outside), ("box_cut_at_border", cut)):  # fmt: skip
            for index in np.flatnonzero(flags).tolist():
                warn(rule, self.files[rows[index]])
        return inside[kept], np.flatnonzero(kept)


@dataclass(frozen=True)
class Form:
    """Form of the polygons with N points: the keys, the order of the values, and their conversion to float32."""

    keys: list[str]
    order: np.ndarray
    pack: Callable[..., bytes]


_KEY = re.compile(r"([XY])좌표([1-9]\d{0,4})", re.ASCII)
_FORMS: dict[int, Form] = {}


def form_of(outline: dict[str, Any]) -> Form | None:
    """Return the form of a polygon; None unless it has points 1 … N, at least three.

    The keys have an arbitrary order, but the same one in all polygons of N points, because the release was written from
    a Java HashMap.
    """
    keys = list(outline)
    known = _FORMS.get(len(keys))
    if known is not None and known.keys == keys:
        return known
    found = [_KEY.fullmatch(key) for key in keys]
    slots = [2 * int(match[2]) - 2 + (match[1] == "Y") for match in found if match is not None]
    if len(keys) < 6 or sorted(slots) != list(range(len(keys))):
        return None
    form = _FORMS[len(keys)] = Form(keys, np.argsort(slots), struct.Struct(f"{len(keys)}f").pack)
    return form


def _decimals(values: list[Any]) -> np.ndarray:
    """Convert to float64; NaN for non-numbers and for values that overflow float32."""
    if not set(map(type, values)) <= _NUMBERS:
        values = [value if value.__class__ in _NUMBERS else np.nan for value in values]
    found = np.array(values, np.float64)
    return np.where(np.abs(found) < 1e9, found, np.nan)


def _whole_numbers(values: list[Any]) -> np.ndarray:
    """Convert to int64; -1 for anything but an integer of at most 62 bits."""
    if not set(map(type, values)) <= {int} or max(values, default=0) >> 62:
        values = [value if value.__class__ is int and 0 <= value < 1 << 62 else -1 for value in values]
    return np.array(values, np.int64)


# From buffers, because pyarrow's own conversions import pandas, if it is installed, in every process.


def _numbers(values: np.ndarray) -> Any:
    content = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, content])


def _texts(values: Sequence[str]) -> Any:
    text = "".join(values)
    content = text.encode()
    parts = values if text.isascii() else [value.encode() for value in values]
    offsets = np.cumsum([0, *map(len, parts)]).astype(np.int32)
    return pa.Array.from_buffers(pa.string(), len(values), [None, pa.py_buffer(offsets), pa.py_buffer(content)])


def _lists(lengths: np.ndarray, values: Any) -> Any:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.Array.from_buffers(pa.list_(values.type), len(lengths), [None, pa.py_buffer(offsets)], children=[values])


def _stream(columns: dict[str, Any]) -> bytes:
    batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()
