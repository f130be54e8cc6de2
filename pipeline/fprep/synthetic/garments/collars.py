"""Collars, lapels and hoods."""

import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.garments.body import Figure
from fprep.synthetic.garments.design import Design
from fprep.synthetic.garments.shapes import Part, Points, Stroke, ellipse, loop, path, points_of, spline
from fprep.synthetic.garments.trunk import shade

_NECKLINE = (0, 1)


def build_collar(design: Design, figure: Figure, tile: NDArray[np.uint8], body: Part) -> tuple[list[Part], list[Part]]:
    """Return parts behind the neck and parts on the trunk.

    Neckline landmarks move from `body` to the collar that covers them.
    """
    kind = "stand" if figure.back and design.collar in ("shirt", "lapel") else design.collar
    if kind == "stand":
        behind, front, neckline = _band(design, figure, -5.0, design.closure == "zip" and not figure.back)
    elif kind == "turtleneck":
        behind, front, neckline = _band(design, figure, -9.5, False)
    else:
        behind, front, neckline = {"shirt": _shirt, "lapel": _lapel, "hood": _hood}[kind](design, figure)
    for part in front:
        part.tile, part.surface, part.gloss = tile, figure.upright, design.gloss
    for index, (part, point) in zip(_NECKLINE, neckline, strict=True):
        body.landmarks.pop(index, None)
        part.landmarks[index] = point
    return behind, front


_Built = tuple[list[Part], list[Part], tuple[tuple[Part, Points], tuple[Part, Points]]]


def _leaves(
    design: Design, figure: Figure, half: Points, front: NDArray[np.float64], mark: tuple[float, float], relief: float
) -> _Built:
    """Return the same leaf on both sides, with the neckline landmark `mark` on each."""
    parts: list[Part] = []
    marks: list[Points] = []
    for sign in (-1.0, 1.0):
        outline = figure.torso(half * (sign, 1.0), front)
        edge = Stroke(np.concatenate([outline, outline[:1]]), 0.35, 0.7)
        parts.append(Part([outline], design.color, relief=relief, shadow=0.4, strokes=[edge]))
        marks.append(figure.torso(points_of(mark) * (sign, 1.0))[0])
    rim = spline(path("-5.6,-5.2 0,-4.4 5.6,-5.2"), 4)
    stand = figure.torso(np.concatenate([path("-7.2,-0.5"), rim, path("7.2,-0.5")]))
    return [Part([stand], shade(design.color, 0.7), relief=2.0)], parts, ((parts[0], marks[0]), (parts[1], marks[1]))


def _shirt(design: Design, figure: Figure) -> _Built:
    spread = 8.5 + (design.seed % 40) / 10
    half = points_of((5.4, -5.2), (7.6, -1.4), (spread, 7.0), (0.5, design.neck_depth + 0.4), (3.6, 0.4), (5.2, -3.0))
    return _leaves(design, figure, half, np.array([0, 0, 0.5, 1.0, 0.7, 0]), (6.0, -4.2), 1.6)


def _lapel(design: Design, figure: Figure) -> _Built:
    depth = design.neck_depth
    wide = 10.0 + (design.seed % 40) / 10
    gap = 0.0 if design.closure != "open" else 4.5
    half = np.concatenate([
        points_of((5.4, -5.4), (8.4, -1.5), (wide + 0.8, 4.5), (wide - 2.2, 7.5), (wide + 1.5, 8.6)),
        points_of((0.5 * wide + 0.6 + gap, 0.72 * depth), (gap + 0.2, depth + 1), (3.2 + 0.5 * gap, 0.45 * depth), (5, 1)),
    ])  # fmt: skip
    front = np.array([0, 0, 0.35, 0.45, 0.4, 0.85, 1.0, 0.8, 0.3])
    return _leaves(design, figure, half, front, (6.0, -4.4), 2.2)


def _band(design: Design, figure: Figure, height: float, split: bool) -> _Built:
    """Return a tube around the neck with its upper edge at `height`."""
    u = np.linspace(-1, 1, 9)
    upper = figure.torso(np.stack([5.9 * u, height + 1.6 * (1 - u * u)], axis=1), np.sqrt(1 - u * u) * 0.8)
    edge = np.stack([7.0 * u, -0.8 + (design.neck_depth + 1.2) * (1 - u * u)], axis=1)
    lower = figure.torso(edge, np.sqrt(1 - u * u))
    part = Part([np.concatenate([upper, lower[::-1]])], design.color, relief=3.0, shadow=0.3)
    part.stroke(lower, 0.35, 0.7)
    if split:
        part.stroke(np.array([upper[4], lower[4]]), 0.8, color=(178.0, 176.0, 170.0))
    else:
        part.stroke(0.45 * upper + 0.55 * lower, 0.4, 0.78)
    inside = figure.torso(np.concatenate([points_of((-6.2, 0), (-5.8, height)), points_of((5.8, height), (6.2, 0))]))
    left, right = ((part, upper[end] * 0.2 + lower[end] * 0.8) for end in (0, -1))
    return [Part([inside], shade(design.color, 0.6), relief=2.0)], [part], (left, right)


def _hood(design: Design, figure: Figure) -> _Built:
    half = loop(path(f"5.0,-8.0 9.5,-6.5 11.0,0.5 6.5,7.0 1.5,{design.neck_depth + 4} 3.2,1.0 4.6,-3.0"))
    behind, front, marks = _leaves(design, figure, half, np.linspace(0, 1, 28) * 0.6, (6.2, -4.0), 3.0)
    hood = ellipse((0, -9.0), 12.5, 10.5, 24)
    behind.insert(0, Part([figure.torso(hood)], design.color, relief=5.0))
    return behind, front, marks
