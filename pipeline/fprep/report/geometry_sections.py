"""Sections about geometry: landmark visibility, landmark positions per garment, boxes and image sizes."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from fprep.report.charts import Bar, Panel, cloud, histogram, scatter
from fprep.report.data import PageData, evenly, flat, texts
from fprep.report.overlays import LandmarkNames
from fprep.report.page import Section, percent, section
from fschemas.landmarks import Visibility
from fschemas.wording import count

_CLOUD_ROWS = 160
_MAX_POINTS = 40  # maximum landmarks for a single chart
_MAX_IN_COLUMN = 12
_MAX_CIRCLES = 1500
_STATES = (
    ("seen", "visible", Visibility.VISIBLE),
    ("hidden", "occluded", Visibility.OCCLUDED),
    ("nothing", "missing", Visibility.ABSENT),
)
_SHAPES = ((1, 4), (1, 2), (3, 4), (1, 1), (4, 3), (2, 1), (4, 1))  # width : height, ticks of an axis
_KINDS = (
    ("image_format", "Formats", ""),
    ("image_mode", "Color modes", ""),
    ("image_orientation", "EXIF orientation", "1 is upright"),
)


def landmark_section(data: PageData, names: LandmarkNames, joints: LandmarkNames) -> Section | None:
    """Counts of visible, occluded and missing landmarks, and scatter plots of landmarks per garment."""
    charts: list[Panel] = []
    clouds: list[tuple[str, int, Markup]] = []
    if data.has("landmark_x"):
        counts = texts(data.frame, "garment").value_counts().rows()
        garments = sorted(counts, key=lambda entry: (-entry[1], entry[0]))[:13]
        charts = list(_state_charts(data, names, [garment for garment, _ in garments]))
        clouds = [(name, number, drawn) for name, number in garments if (drawn := _cloud(data, names, name))]
    if data.has("joint_x"):
        states = _states(data.frame["joint_visibility"], len(joints.names))
        charts.append(_state_panel("Joints", "", states, joints, range(states.shape[1])))
    if not charts:
        return None
    return section("landmarks", "Landmarks", charts=charts, clouds=clouds, most_rows=_CLOUD_ROWS)


def _states(lists: pl.Series, size: int) -> np.ndarray:
    """Count the rows of each state in `_STATES` per landmark: int64 (3, K)."""
    size = max(size, int(lists.list.len().max() or 0))  # pyright: ignore[reportArgumentType]
    counts = np.zeros((len(_STATES), size), np.int64)
    for piece in flat(lists.filter(lists.list.len() == size)):
        codes = piece.to_numpy().reshape(-1, size)
        counts += np.stack([(codes == code).sum(0) for _, _, code in _STATES])
    return counts


def _state_charts(data: PageData, names: LandmarkNames, garments: Sequence[str]) -> Iterator[Panel]:
    """Yield the landmarks of a small set in one or two columns, those of a large one by garment."""
    states = _states(data.frame["landmark_visibility"], len(names.names))
    if len(names.names) <= _MAX_POINTS:
        size = states.shape[1]
        half = size if size <= _MAX_IN_COLUMN else (size + 1) // 2
        note = "images whose garment has the landmark · share of them with coordinates"
        for part in (range(half), range(half, size))[: 1 + (half < size)]:
            yield _state_panel("Landmarks", note, states, names, part, float(states.sum(0).max(initial=0)))
        return
    members: dict[str, Sequence[int]] = (data.metadata.get("landmark_set") or {}).get("garments", {})
    for garment in garments:
        note = "images · share of them that have coordinates"
        yield _state_panel(garment, note, states, names, members.get(garment, ()))


def _state_panel(
    title: str, note: str, states: np.ndarray, names: LandmarkNames, members: Sequence[int], whole: float = 0
) -> Panel:
    rows: list[Bar] = []
    for index in members:
        visible, occluded, missing = states[:, index].tolist()
        numbers = zip(_STATES, (visible, occluded, missing), strict=True)
        applicable, known = visible + occluded + missing, visible + occluded
        text = f"{count(applicable)} · {percent(known, applicable)}"
        parts = [(color, number, state) for (color, state, _), number in numbers]
        rows.append(Bar(names.name(index).partition("/")[0], parts, text))
    return Panel(title, rows, note, whole=whole, shown=_MAX_POINTS)


def _cloud(data: PageData, names: LandmarkNames, garment: str) -> Markup | None:
    """Scatter plot of the landmarks of a garment, normalized by their common box, with the skeleton of the medians."""
    rows = data.frame.filter(pl.col("garment") == garment).select("landmark_x", "landmark_y", "landmark_visibility")
    known = pl.col("landmark_visibility").list.eval(pl.element() >= Visibility.OCCLUDED.value)
    rows = rows.filter(known.list.sum() >= 3)
    if rows.is_empty():
        return None
    rows = rows[evenly(len(rows), _CLOUD_ROWS)]
    positions: dict[int, list[np.ndarray]] = {}
    for x, y, codes in rows.rows():
        present = [index for index, code in enumerate(codes) if code >= Visibility.OCCLUDED]
        points = np.array([(x[index], y[index]) for index in present], np.float64)
        low, high = points.min(0), points.max(0)
        shifted = (points - (low + high) / 2) / (float((high - low).max()) or 1.0)
        for index, point in zip(present, shifted, strict=True):
            positions.setdefault(index, []).append(point)
    least = 0.1 * max(map(len, positions.values()))
    medians = {
        index: np.median(positions[index], axis=0) for index in sorted(positions) if len(positions[index]) >= least
    }
    return cloud(
        [(names.side(index), positions[index]) for index in sorted(positions)],
        [(names.side(index), point, f"{names.name(index)}: {count(len(positions[index]))}") for index, point in medians.items()],
        [(medians[a], medians[b]) for a, b in names.skeleton if a in medians and b in medians],
    )  # fmt: skip


def size_section(data: PageData) -> Section:
    """Sizes, formats, color modes and orientations of the images, and the area covered by boxes."""
    known = data.frame.filter(pl.col("width").is_not_null())
    charts: list[Panel] = []
    words = "The table was converted without opening images (--check-images none): nothing is known of their sizes."
    if not known.is_empty():
        wide, high = known.select(pl.col("width", "height").median()).row(0)
        low, long = (end(end(known[side]) for side in ("width", "height")) for end in (min, max))
        words = f"Median {wide:,.0f} × {high:,.0f} pixels; shortest side {low:,}, longest {long:,}."
        if len(known) < len(data.frame):
            words += f" Known of {count(len(known))} of {count(len(data.frame), 'image')}."
        kinds = [Panel(title, _shares(known, column), note) for column, title, note in _KINDS]
        charts = [*_size_charts(known), Panel("Formats and colors", parts=kinds)]
        if data.has("box"):
            charts.append(_box_chart(known))
    return section("sizes", "Image sizes and formats", known=len(known), words=words, charts=charts)


def _size_charts(known: pl.DataFrame) -> list[Panel]:
    sizes = known.group_by("width", "height").len().sort("len", "width", "height", descending=[True, False, False])
    note = f"{count(len(sizes), 'size')}; area of a circle: images of that size; the dashed line: squares"
    points = [(float(width), float(height), number) for width, height, number in sizes.head(_MAX_CIRCLES).rows()]
    aspects = (known["width"] / known["height"]).log(2).to_numpy().clip(-2, 2)
    counts, edges = np.histogram(aspects, bins=np.linspace(-2.1, 2.1, 43))
    shape = f"the median image is {2 ** float(np.median(aspects)):.2f} times as wide as high; the axis is logarithmic"
    ticks = [(float(np.log2(wide / high)), f"{wide}:{high}") for wide, high in _SHAPES]
    shapes = histogram(counts.tolist(), edges.round(3).tolist(), "width : height", "images", ticks)
    return [
        Panel("Sizes", note=note, chart=scatter(points, ("width in pixels", "height"))),
        Panel("Shapes", note=shape, chart=shapes),
    ]


def _shares(known: pl.DataFrame, column: str) -> list[Bar]:
    counts: list[tuple[Any, int]] = texts(known, column).value_counts().rows()
    ordered = sorted(counts, key=lambda entry: (-entry[1], entry[0]))
    return [Bar(name, [("seen", n, "")], f"{count(n)} · {percent(n, len(known))}") for name, n in ordered]


def _box_chart(known: pl.DataFrame) -> Panel:
    corner = pl.col("box").list
    area = (corner.get(2) + 1 - corner.get(0)) * (corner.get(3) + 1 - corner.get(1))
    shares = known.select(area / (pl.col("width") * pl.col("height"))).to_series().to_numpy()
    counts, edges = np.histogram(shares.clip(0, 1), bins=np.linspace(0, 1, 26))
    note = f"half of the boxes cover more than {percent(float(np.median(shares)), 1)} of their image"
    percents: list[float] = (100 * edges).round(3).tolist()
    return Panel(
        "Boxes",
        note=note,
        chart=histogram(counts.tolist(), percents, "percent of the image that the box covers", "images"),
    )
