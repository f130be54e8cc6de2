"""What is drawn over an image, as SVG in the pixels of the small image: boxes, outlines, points, skeleton, joints.

Left points are blue, right ones orange, those without a partner yellow; a ring is an occluded point. Coordinates of tables are
pixel centers, those of SVG pixel corners: x becomes (x + 0.5) * scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fprep.report.html import Markup, element, join
from fschemas.landmarks import Visibility
from fschemas.palette import side_of

Row = dict[str, Any]
_COLORS = (
    "#b6f03c",
    "#4fd8ff",
    "#ff9ad5",
    "#ffd84d",
    "#cbb0ff",
    "#ffab7a",
)  # of garments; bright, for names on photographs
_STATES = {Visibility.OCCLUDED: "occluded", Visibility.VISIBLE: "visible"}


@dataclass(frozen=True)
class PointNames:
    """Names, sides and edges of a landmark set, from the JSON values of a table's metadata."""

    names: tuple[str, ...] = ()
    sides: tuple[str, ...] = ()  # left, right or middle: CSS classes
    skeleton: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, landmark_set: dict[str, Any] | None) -> PointNames:
        """The landmark set that a table names; none gives no names."""
        if not landmark_set:
            return cls()
        names = tuple(str(name) for name in landmark_set["points"])
        partners: list[int] = landmark_set["partners"]
        sides = tuple(side_of(names[index], partners[index], index) for index in range(len(names)))
        return cls(names, sides, tuple((edge[0], edge[1]) for edge in landmark_set.get("skeleton") or ()))

    @classmethod
    def of_joints(cls, names: Sequence[str]) -> PointNames:
        """Joints have names only."""
        return cls(tuple(names), tuple(side_of(name, -1, -1) for name in names))

    def name(self, index: int) -> str:
        """The name of a point, its number where the set is shorter."""
        return self.names[index] if index < len(self.names) else f"point {index}"

    def side(self, index: int) -> str:
        """The CSS class of a point's side."""
        return self.sides[index] if index < len(self.sides) else "middle"


def marks(row: Row, landmarks: PointNames, joints: PointNames, scale: float) -> Markup:
    """Everything that the row draws: groups of the classes `boxes` and `points`, which the page can hide."""
    areas: list[Markup] = []
    for number, polygon in enumerate(row.get("polygons") or ()):
        areas.append(_polygon(polygon, scale, number, ""))
    names: list[str] = row.get("garments") or []
    corners: list[float] = row.get("garment_boxes") or []
    outlines: list[list[float]] = row.get("garment_polygons") or []
    for number, name in enumerate(names):
        if number < len(outlines) and len(outlines[number]) >= 6:
            areas.append(_polygon(outlines[number], scale, number, name))
        areas.append(_box(corners[4 * number : 4 * number + 4], scale, name, _COLORS[number % len(_COLORS)]))
    if row.get("box"):
        areas.append(_box(row["box"], scale, "", ""))
    points = _points(row, "landmark", landmarks, scale)
    return join(
        [
            element("g", *areas, class_="boxes"),
            element("g", *_points(row, "joint", joints, scale), *points, class_="points"),
        ]
    )


def _place(value: float, scale: float) -> float:
    return round((value + 0.5) * scale, 1)


def _polygon(values: Sequence[float], scale: float, number: int, name: str) -> Markup:
    pairs = zip(values[::2], values[1::2], strict=False)
    path = Markup(" ".join(f"{_place(x, scale)},{_place(y, scale)}" for x, y in pairs))
    return element(
        "polygon",
        element("title", name or "outline"),
        points=path,
        class_="outline",
        style=f"color:{_COLORS[number % len(_COLORS)]}",
    )


def _box(box: Sequence[float], scale: float, name: str, color: str) -> Markup:
    """A rectangle along the outer edges of its corner pixels, with its name in its upper left corner."""
    if len(box) != 4 or box[2] <= box[0] or box[3] <= box[1]:
        return Markup()
    left, top = round(box[0] * scale, 1), round(box[1] * scale, 1)
    width, height = round((box[2] + 1 - box[0]) * scale, 1), round((box[3] + 1 - box[1]) * scale, 1)
    shape = {"x": left, "y": top, "width": width, "height": height}
    parts = [
        element("rect", class_="halo", **shape),
        element("rect", element("title", name or "box"), class_="box", **shape),
    ]
    if name:
        parts.append(element("text", name, x=left + 5, y=top + 17, class_="name"))
    return element("g", *parts, style=f"color:{color}" if color else None)


def _points(row: Row, kind: str, names: PointNames, scale: float) -> list[Markup]:
    """Skeleton and points of the columns `kind_x`, `kind_y`, `kind_visibility`; the present ones only."""
    codes: list[int] = row.get(f"{kind}_visibility") or []
    present = [index for index, code in enumerate(codes) if code >= Visibility.OCCLUDED]
    places = {
        index: (_place(row[f"{kind}_x"][index], scale), _place(row[f"{kind}_y"][index], scale)) for index in present
    }
    shapes: list[Markup] = []
    path = "".join(
        f"M{places[a][0]} {places[a][1]}L{places[b][0]} {places[b][1]}"
        for a, b in names.skeleton
        if a in places and b in places
    )
    if path:
        shapes += [
            element("path", d=Markup(path), class_="bones halo"),
            element("path", d=Markup(path), class_="bones"),
        ]
    radius = 5.0 if len(present) <= 16 else 3.6
    for index, (x, y) in places.items():
        state = _STATES[Visibility(codes[index])]
        title = element("title", f"{names.name(index)}, {state}")
        color = f"{kind} {state} {names.side(index)}"
        if kind == "joint":
            side = 2 * radius
            shapes.append(
                element(
                    "rect", title, x=round(x - radius, 1), y=round(y - radius, 1), width=side, height=side, class_=color
                )
            )
        else:
            shapes.append(element("circle", title, cx=x, cy=y, r=radius, class_=color))
    return shapes
