"""Sections of geometry: what is known of each landmark, where the points of a garment lie, boxes, and image sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from fprep.report.charts import Bar, bars, histogram, legend, panel, scatter
from fprep.report.data import PageData, evenly, flat, texts
from fprep.report.html import Markup, Section, details, element, join, percent
from fprep.report.marks import PointNames
from fschemas.landmarks import Visibility
from fschemas.wording import count

_CLOUD = 220  # side of a cloud of points, in units of its SVG
_CLOUD_ROWS = 160
_MOST_POINTS = 40  # of a landmark set whose points fit into one chart
_MOST_IN_COLUMN = 12
_MOST_CIRCLES = 1500
_STATES = ((Visibility.VISIBLE, "visible"), (Visibility.OCCLUDED, "occluded"), (Visibility.ABSENT, "absent"))


def landmark_section(data: PageData, names: PointNames, joints: PointNames) -> Section | None:
    """How often each point is visible, occluded or absent, and clouds of points per garment."""
    if not data.has("landmark_x") and not data.has("joint_x"):
        return None
    blocks = [legend([("seen", "visible"), ("hidden", "occluded"), ("track", "absent: cut off or not labelled")])]
    charts: list[Markup] = []
    if data.has("landmark_x"):
        charts = _state_charts(data, names)
        clouds = [_cloud(data, names, garment, number) for garment, number in _garments(data)]
    else:
        clouds = []
    if data.has("joint_x"):
        charts.append(panel("Joints", _state_bars(_states(data.frame["joint_visibility"], len(joints.names)), joints)))
    blocks.append(
        element("div", *charts, class_="panels")
        if len(charts) <= 2
        else details(f"Points of {count(len(charts), 'garment')}", *charts)
    )
    drawn = [cloud for cloud in clouds if cloud]
    if drawn:
        how = f"Points of up to {_CLOUD_ROWS} images per garment, each fitted into the square, and their medians; left is blue, right orange."
        blocks += [
            element("h3", "Where the points lie"),
            element("p", how, class_="faint"),
            element("div", *drawn, class_="clouds"),
        ]
    return Section("landmarks", "Landmarks", join(blocks))


def _garments(data: PageData) -> list[tuple[str, int]]:
    counts = texts(data.frame, "garment").value_counts().rows()
    return sorted(counts, key=lambda entry: (-entry[1], entry[0]))[:13]


def _states(lists: pl.Series, size: int) -> dict[int, np.ndarray]:
    """For each code of visibility, how many rows have it at each point."""
    size = max(size, int(lists.list.len().max() or 0))  # pyright: ignore[reportArgumentType]
    counts = {code.value: np.zeros(size, np.int64) for code, _ in _STATES}
    same = lists.filter(lists.list.len() == size)
    for piece in flat(same):
        codes = piece.to_numpy().reshape(-1, size)
        for code in counts:
            counts[code] += (codes == code).sum(0)
    return counts


def _state_charts(data: PageData, names: PointNames) -> list[Markup]:
    states = _states(data.frame["landmark_visibility"], len(names.names))
    if len(names.names) <= _MOST_POINTS:
        size = len(states[Visibility.VISIBLE.value])
        half = size if size <= _MOST_IN_COLUMN else (size + 1) // 2
        whole = float(np.sum(list(states.values()), axis=0).max(initial=0))
        note = "images whose garment has the point · share of them with coordinates"
        columns = [range(half), range(half, size)] if half < size else [range(size)]
        return [panel("Points", _state_bars(states, names, part, whole), note) for part in columns]
    garments: dict[str, Sequence[int]] = (data.metadata.get("landmark_set") or {}).get("garments", {})
    return [
        panel(
            garment,
            _state_bars(states, names, garments.get(garment, ())),
            "images · share of them that have coordinates",
        )
        for garment, _ in _garments(data)
    ]


def _state_bars(
    states: dict[int, np.ndarray], names: PointNames, members: Sequence[int] | None = None, whole: float | None = None
) -> Markup:
    colors = {"visible": "seen", "occluded": "hidden", "absent": "nothing"}
    rows: list[Bar] = []
    for index in range(len(states[Visibility.VISIBLE.value])) if members is None else members:
        numbers = {name: int(states[code.value][index]) for code, name in _STATES}
        applicable = sum(numbers.values())
        known = numbers["visible"] + numbers["occluded"]
        parts = [(colors[name], number, f"{name} {count(number)}") for name, number in numbers.items()]
        rows.append(
            Bar(names.name(index).partition("/")[0], parts, f"{count(applicable)} · {percent(known, applicable)}")
        )
    return bars(rows, whole=whole, shown=_MOST_POINTS)


def _cloud(data: PageData, names: PointNames, garment: str, number: int) -> Markup:
    """A scatter of the points of one garment, shifted and scaled to their common box, with the skeleton of the medians."""
    rows = data.frame.filter(pl.col("garment") == garment).select("landmark_x", "landmark_y", "landmark_visibility")
    rows = rows.filter(
        (pl.col("landmark_visibility").list.eval(pl.element() >= Visibility.OCCLUDED.value).list.sum()) >= 3
    )
    if rows.is_empty():
        return Markup()
    rows = rows[evenly(len(rows), _CLOUD_ROWS)]
    placed: dict[int, list[tuple[float, float]]] = {}
    for x, y, codes in rows.rows():
        known = [index for index, code in enumerate(codes) if code >= Visibility.OCCLUDED]
        points = np.array([(x[index], y[index]) for index in known], np.float64)
        low, high = points.min(0), points.max(0)
        reach = float((high - low).max()) or 1.0
        for index, point in zip(known, (points - (low + high) / 2) / reach, strict=True):
            placed.setdefault(index, []).append((float(point[0]), float(point[1])))
    return element(
        "figure", _cloud_drawing(placed, names), element("figcaption", element("b", garment), f" {count(number)}")
    )


def _cloud_drawing(placed: dict[int, list[tuple[float, float]]], names: PointNames) -> Markup:
    scale, center = 0.86 * _CLOUD, _CLOUD / 2
    shapes: list[Markup] = []
    medians: dict[int, tuple[float, float]] = {}
    num_rows = max(len(points) for points in placed.values())
    for index in sorted(placed):
        points = placed[index]
        radius = 1.6
        dots = "".join(f"M{center + scale * x:.1f} {center + scale * y:.1f}h0" for x, y in points)
        shapes.append(element("path", d=Markup(dots), class_=f"speck {names.side(index)}", stroke_width=2 * radius))
        if len(points) >= 0.1 * num_rows:
            middle = np.median(np.array(points), axis=0)
            medians[index] = round(center + scale * middle[0], 1), round(center + scale * middle[1], 1)
    edges = "".join(
        f"M{medians[a][0]} {medians[a][1]}L{medians[b][0]} {medians[b][1]}"
        for a, b in names.skeleton
        if a in medians and b in medians
    )
    shapes.append(element("path", d=Markup(edges), class_="limb"))
    shapes += [
        element("circle", element("title", f"{names.name(index)}: {count(len(placed[index]))}"), cx=x, cy=y, r=4.5, class_=f"median {names.side(index)}")
        for index, (x, y) in medians.items()
    ]  # fmt: skip
    return element(
        "svg", *shapes, viewBox=f"0 0 {_CLOUD} {_CLOUD}", class_="cloud", role="img", aria_label="points of a garment"
    )


def size_section(data: PageData) -> Section:
    """Sizes, formats, color modes and orientations of the images, and how much of them the boxes cover."""
    known = data.frame.filter(pl.col("width").is_not_null())
    charts: list[Markup] = []
    if known.is_empty():
        blocks = [
            element(
                "p",
                "The table was converted without looking at images (--images none): nothing is known of their sizes.",
                class_="notice",
            )
        ]
    else:
        blocks = [element("p", _size_words(known, len(data.frame)), class_="faint")]
        charts = [*_size_charts(known), *_kind_charts(known)]
    boxes = _box_chart(data)
    if boxes:
        charts.append(boxes)
    if charts:
        blocks.append(element("div", *charts, class_="panels"))
    return Section("sizes", "Image sizes and formats", join(blocks))


def _size_words(known: pl.DataFrame, total: int) -> str:
    median = known.select(pl.col("width", "height").median()).row(0)
    ends = known.select(
        low=pl.min_horizontal("width", "height").min(), high=pl.max_horizontal("width", "height").max()
    ).row(0)
    words = f"Median {median[0]:,.0f} × {median[1]:,.0f} pixels; shortest side {ends[0]:,}, longest {ends[1]:,}."
    return words if len(known) == total else f"{words} Known of {count(len(known))} of {count(total, 'image')}."


def _size_charts(known: pl.DataFrame) -> list[Markup]:
    sizes = known.group_by("width", "height").len().sort("len", "width", "height", descending=[True, False, False])
    note = f"{count(len(sizes), 'size')}; area of a circle: images of that size; the dashed line: squares"
    points = [(float(width), float(height), number) for width, height, number in sizes.head(_MOST_CIRCLES).rows()]
    aspects = (known["width"] / known["height"]).log(2).to_numpy().clip(-2, 2)
    counts, edges = np.histogram(aspects, bins=np.linspace(-2.1, 2.1, 43))
    middle = float(np.median(aspects))
    shape = f"the median image is {2**middle:.2f} times as wide as high; the axis is logarithmic"
    ticks = [
        (float(np.log2(wide / high)), f"{wide}:{high}")
        for wide, high in ((1, 4), (1, 2), (3, 4), (1, 1), (4, 3), (2, 1), (4, 1))
    ]
    return [
        panel("Sizes", scatter(points, ("width in pixels", "height")), note),
        panel("Shapes", histogram(counts.tolist(), edges.round(3).tolist(), "width : height", "images", ticks), shape),
    ]


def _kind_charts(known: pl.DataFrame) -> list[Markup]:
    charts: list[Markup] = []
    for column, title in (
        ("image_format", "Formats"),
        ("image_mode", "Color modes"),
        ("image_orientation", "EXIF orientation"),
    ):
        counts: list[tuple[Any, int]] = known[column].cast(pl.String).fill_null("").value_counts().rows()
        ordered = sorted(counts, key=lambda entry: (-entry[1], entry[0]))
        rows = [
            Bar(name, [("seen", number, count(number))], f"{count(number)} · {percent(number, len(known))}")
            for name, number in ordered
        ]
        note = "1 is upright" if column == "image_orientation" else ""
        charts.append(
            element("div", element("h4", title), element("p", note, class_="faint") if note else None, bars(rows))
        )
    return [panel("Formats and colors", join(charts))]


def _box_chart(data: PageData) -> Markup | None:
    if not data.has("box"):
        return None
    corner = pl.col("box").list
    area = (corner.get(2) + 1 - corner.get(0)) * (corner.get(3) + 1 - corner.get(1))
    shares = (
        data.frame.filter(pl.col("width").is_not_null()).select(area / (pl.col("width") * pl.col("height"))).to_series()
    )
    if shares.is_empty():
        return None
    counts, edges = np.histogram(shares.to_numpy().clip(0, 1), bins=np.linspace(0, 1, 26))
    note = f"half of the boxes cover more than {percent(float(np.median(shares.to_numpy())), 1)} of their image"
    return panel(
        "Boxes",
        histogram(
            counts.tolist(), (100 * edges).round(3).tolist(), "percent of the image that the box covers", "images"
        ),
        note,
    )
