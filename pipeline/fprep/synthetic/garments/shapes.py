"""Curves, limbs and the parts that make up an image. All points are (N, 2) float64 in cm, y down."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Rng = np.random.Generator
Color = tuple[float, float, float]  # red, green, blue, 0 … 255


@dataclass(frozen=True)
class Stroke:
    """A line on a part: darkens it to `tone`, or paints it with `color`. `width` in cm."""

    points: Points
    width: float = 0.35
    tone: float = 0.72
    color: Color | None = None


@dataclass(frozen=True)
class Fold:
    """A crease along `points`, deepest at the first point and fading to the last; `width` in cm, `depth` 0 … 1."""

    points: Points
    width: float = 1.2
    depth: float = 0.6


@dataclass(frozen=True)
class Dot:
    """A button, eye or rivet: center and radius in cm."""

    center: Points
    radius: float
    color: Color


@dataclass
class Part:
    """One surface of the scene, painted over all earlier ones.

    `outlines` are polygons whose union is the surface. `tile` (see `prints`) is wrapped over it by `surface`, which
    maps scene to cloth coordinates, both in cm. `relief` is the distance from the edge, in cm, over which the surface
    curves away (0: a flat print, without shading). `rounded_with` are polygons that continue the surface, so that no
    rim is shaded between them. `landmarks` maps FashionAI indices to points that are visible only where this part is.
    """

    outlines: list[Points]
    color: Color
    tile: NDArray[np.uint8] | None = None
    surface: Callable[[Points], Points] | None = None
    relief: float = 5.0
    rounded_with: list[Points] = field(default_factory=list[Points])
    folds: list[Fold] = field(default_factory=list[Fold])
    strokes: list[Stroke] = field(default_factory=list[Stroke])
    dots: list[Dot] = field(default_factory=list[Dot])
    landmarks: dict[int, Points] = field(default_factory=dict[int, Points])
    shadow: float = 0.35
    gloss: float = 1.0

    def stroke(self, points: Points, width: float = 0.35, tone: float = 0.72, color: Color | None = None) -> None:
        """Add a line."""
        self.strokes.append(Stroke(points, width, tone, color))

    def fold(self, points: Points, width: float = 1.2, depth: float = 0.6) -> None:
        """Add a crease."""
        self.folds.append(Fold(points, width, depth))

    def dot(self, center: Points, radius: float, color: Color) -> None:
        """Add a button or similar."""
        self.dots.append(Dot(center, radius, color))


def points_of(*pairs: Sequence[float]) -> Points:
    """Return x, y pairs as an array (N, 2)."""
    return np.array(pairs, dtype=np.float64)


def path(text: str) -> Points:
    """Parse `x,y x,y …`, as in the `points` of an SVG polygon, into an array (N, 2)."""
    return np.array([pair.split(",") for pair in text.split()], dtype=np.float64)


def shift(points: Points, x: float, y: float) -> Points:
    """Shift points right and down."""
    return points + np.array([x, y])


_BASIS = np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]) / 2.0


def spline(control: Points, samples: int = 6, *, closed: bool = False) -> Points:
    """Return a Catmull-Rom curve with `samples` points per span. A closed one does not repeat its start."""
    ends = (
        (control[-1:], control[:2]) if closed else (2 * control[:1] - control[1:2], 2 * control[-1:] - control[-2:-1])
    )
    padded = np.concatenate([ends[0], control, ends[1]])
    t = np.arange(samples) / samples
    powers = np.stack([np.ones(samples), t, t * t, t * t * t], axis=1) @ _BASIS
    windows = np.stack([padded[i : len(padded) - 3 + i] for i in range(4)], axis=1)
    curve = np.einsum("tk,skd->std", powers, windows).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, control[-1:]])


def loop(control: Points, samples: int = 4) -> Points:
    """Return a closed Catmull-Rom curve."""
    return spline(control, samples, closed=True)


def ellipse(center: Sequence[float], radius_x: float, radius_y: float, samples: int = 20) -> Points:
    """Return a closed ellipse."""
    angle = np.arange(samples) * (2 * np.pi / samples)
    return np.stack([center[0] + radius_x * np.cos(angle), center[1] + radius_y * np.sin(angle)], axis=1)


def between(start: Points, end: Points, t: NDArray[np.float64] | float) -> Points:
    """Return points of the line from `start` to `end` at `t` in 0 … 1."""
    return start + np.multiply.outer(np.asarray(t), end - start)


def rotate(points: Points, angle: float, about: Points) -> Points:
    """Rotate points about `about` by `angle` radians, clockwise on the screen."""
    cos, sin = np.cos(angle), np.sin(angle)
    return (points - about) @ np.array([[cos, sin], [-sin, cos]]) + about


def direction(angle: float, side: int) -> Points:
    """Return the unit vector at `angle` radians from straight down, positive away from the body.

    `side` is -1 for the viewer's left.
    """
    return np.array([side * np.sin(angle), np.cos(angle)])


@dataclass(frozen=True)
class Limb:
    """Two bones from `root` over `joint` to `end`. Cloth and skin meet the body from `outer_root` to `inner_root`."""

    root: Points
    joint: Points
    end: Points
    outer_root: Points
    inner_root: Points
    side: int

    def point_at(self, t: float) -> tuple[Points, Points]:
        """Return the point at the fraction `t` of the bones (extrapolated beyond 1), and the outward normal there."""
        upper, lower = self.joint - self.root, self.end - self.joint
        lengths = float(np.hypot(*upper)), float(np.hypot(*lower))
        way = t * sum(lengths)
        if way <= lengths[0]:
            along = upper / lengths[0]
            return self.root + along * way, self._outward(along)
        along = lower / lengths[1]
        return self.joint + along * (way - lengths[0]), self._outward(along)

    def bend(self) -> float:
        """Return the fraction of the length at the joint."""
        upper, lower = np.hypot(*(self.joint - self.root)), np.hypot(*(self.end - self.joint))
        return float(upper / (upper + lower))

    def outlines(self, cover: float, widths: Callable[[float], float]) -> tuple[list[Points], Points, Points]:
        """Return polygons of a tube over the share `cover` of the limb, and its inner and outer end corners.

        `widths(t)` is the half-width in cm.
        """
        bend = self.bend()
        first_end = min(cover, bend)
        outer, inner = [self.outer_root], [self.inner_root]
        for t in (0.3, 0.55, 0.8, 1.0):
            self._add_edges(outer, inner, t * first_end, widths)
        polygons = [np.concatenate([spline(np.array(outer), 4), spline(np.array(inner), 4)[::-1]])]
        if cover > bend:
            outer, inner = list[Points](), list[Points]()
            for t in bend + 1e-6 + (cover - bend) * np.linspace(0.0, 1.0, 5):
                self._add_edges(outer, inner, float(t), widths)
            polygons.append(ellipse(tuple(self.joint), widths(bend), widths(bend)))
            polygons.append(np.concatenate([spline(np.array(outer), 4), spline(np.array(inner), 4)[::-1]]))
        return polygons, inner[-1], outer[-1]

    def surface(self) -> Callable[[Points], Points]:
        """Return a mapping to cloth coordinates across and along the limb, bending at the joint."""
        upper, lower = self.joint - self.root, self.end - self.joint
        turn_upper = -np.arctan2(upper[0], upper[1])
        turn_lower = -np.arctan2(lower[0], lower[1])

        def to_cloth(points: Points) -> Points:
            near = (points - self.joint) @ (upper / np.hypot(*upper) + lower / np.hypot(*lower)) < 0
            above, below = rotate(points, -turn_upper, self.joint), rotate(points, -turn_lower, self.joint)
            return np.where(near[:, None], above, below) - self.joint

        return to_cloth

    def _outward(self, along: Points) -> Points:
        return self.side * np.array([along[1], -along[0]])

    def _add_edges(self, outer: list[Points], inner: list[Points], t: float, widths: Callable[[float], float]) -> None:
        center, normal = self.point_at(t)
        half = widths(t)
        outer.append(center + normal * half)
        inner.append(center - normal * half)
