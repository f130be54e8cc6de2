"""The SVG overlay of an image: boxes, outlines, landmarks, skeleton and joints, in pixels of the thumbnail.

Left landmarks are blue, right ones orange, unpaired ones yellow; a ring is an occluded one. Tables use pixel-center
coordinates, SVG uses pixel corners: x becomes (x + 0.5) * scale.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from fprep.report.page import render
from fschemas.landmarks import Visibility
from fschemas.palette import side_of

Row = dict[str, Any]
_COLORS = ("#b6f03c", "#4fd8ff", "#ff9ad5", "#ffd84d", "#cbb0ff", "#ffab7a")  # of garments; readable on images
_STATES = {Visibility.OCCLUDED: "occluded", Visibility.VISIBLE: "visible"}


@dataclass(frozen=True)
class LandmarkNames:
    """Names, sides and edges of a landmark set, from the metadata of a table."""

    names: tuple[str, ...] = ()
    sides: tuple[str, ...] = ()  # left, right or middle: CSS classes
    skeleton: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, landmark_set: dict[str, Any] | None) -> LandmarkNames:
        """Return the names of a table's landmark set, empty if it has none."""
        if not landmark_set:
            return cls()
        names = tuple(str(name) for name in landmark_set["points"])
        partners: list[int] = landmark_set["partners"]
        sides = tuple(side_of(names[index], partners[index], index) for index in range(len(names)))
        return cls(names, sides, tuple((edge[0], edge[1]) for edge in landmark_set.get("skeleton") or ()))

    @classmethod
    def of_joints(cls, names: Sequence[str]) -> LandmarkNames:
        """Return the names of joints, which have no sides or edges."""
        return cls(tuple(names), tuple(side_of(name, -1, -1) for name in names))

    def name(self, index: int) -> str:
        """Return the name of a landmark, or its index if the set is shorter."""
        return self.names[index] if index < len(self.names) else f"landmark {index}"

    def side(self, index: int) -> str:
        """Return the CSS class of a landmark's side."""
        return self.sides[index] if index < len(self.sides) else "middle"


def marks(row: Row, landmarks: LandmarkNames, joints: LandmarkNames, scale: float) -> Markup:
    """Return the whole overlay of a row, in groups of the classes `boxes` and `points`, which the page can hide."""
    points = [_points(row, "joint", joints, scale), _points(row, "landmark", landmarks, scale)]
    return render("marks.svg", areas=list(_areas(row, scale)), points=points)


def _areas(row: Row, scale: float) -> Iterator[dict[str, Any]]:
    for number, polygon in enumerate(row.get("polygons") or ()):
        yield _outline(polygon, scale, number, "")
    corners: list[float] = row.get("garment_boxes") or []
    outlines: list[list[float]] = row.get("garment_polygons") or []
    for number, name in enumerate(row.get("garments") or ()):
        if number < len(outlines) and len(outlines[number]) >= 6:
            yield _outline(outlines[number], scale, number, name)
        yield from _box(corners[4 * number : 4 * number + 4], scale, name, _COLORS[number % len(_COLORS)])
    yield from _box(row.get("box") or (), scale)


def _to_svg(value: float, scale: float) -> float:
    return round((value + 0.5) * scale, 1)


def _outline(values: Sequence[float], scale: float, number: int, name: str) -> dict[str, Any]:
    pairs = zip(values[::2], values[1::2], strict=False)
    path = " ".join(f"{_to_svg(x, scale):g},{_to_svg(y, scale):g}" for x, y in pairs)
    return {"outline": path, "color": _COLORS[number % len(_COLORS)], "name": name}


def _box(box: Sequence[float], scale: float, name: str = "", color: str = "") -> Iterator[dict[str, Any]]:
    """Yield a rectangle along the outer edges of the corner pixels, with its name in the top left corner."""
    if len(box) == 4 and box[2] > box[0] and box[3] > box[1]:
        width, height = round((box[2] + 1 - box[0]) * scale, 1), round((box[3] + 1 - box[1]) * scale, 1)
        left, top = round(box[0] * scale, 1), round(box[1] * scale, 1)
        yield {"x": left, "y": top, "width": width, "height": height, "name": name, "color": color}


def _points(row: Row, kind: str, names: LandmarkNames, scale: float) -> dict[str, Any]:
    """Return skeleton and points of the columns `kind_x`, `kind_y` and `kind_visibility`, without missing points."""
    codes: list[int] = row.get(f"{kind}_visibility") or []
    positions = {
        index: (_to_svg(row[f"{kind}_x"][index], scale), _to_svg(row[f"{kind}_y"][index], scale))
        for index, code in enumerate(codes) if code >= Visibility.OCCLUDED
    }  # fmt: skip
    edges = [(*positions[a], *positions[b]) for a, b in names.skeleton if a in positions and b in positions]
    points: list[dict[str, Any]] = []
    for index, (x, y) in positions.items():
        state = _STATES[Visibility(codes[index])]
        look, title = f"{state} {names.side(index)}", f"{names.name(index)}, {state}"
        points.append({"x": x, "y": y, "look": look, "title": title})
    bones = "".join(f"M{x1:g} {y1:g}L{x2:g} {y2:g}" for x1, y1, x2, y2 in edges)
    return {"kind": kind, "bones": bones, "radius": 5.0 if len(positions) <= 16 else 3.6, "points": points}
