"""Closures, pockets, tiers and folds of cloth."""

import numpy as np

from fprep.synthetic.garments.body import Figure
from fprep.synthetic.garments.design import Design
from fprep.synthetic.garments.shapes import Color, Part, Points, Rng, Stroke, points_of, shift, spline
from fprep.synthetic.garments.trunk import Profile, Trunk, shade

METAL: Color = (178.0, 176.0, 170.0)
BRASS: Color = (196.0, 176.0, 120.0)


def add_seams(part: Part, trunk: Trunk, figure: Figure, hem: Points) -> None:
    """Add front closure, hem stitching, waist seam, pockets and tiers to a top. `hem` is posed."""
    design = trunk.design
    part.stroke(shift(hem, 0, -2), 0.25, 0.82)
    if design.waist is not None and not design.belt and design.category == "dress":
        part.strokes.append(_across(trunk, figure, design.waist, 0.4, 0.7))
    start = trunk.waist + 6
    for tier in range(design.tiers):
        part.strokes.append(_across(trunk, figure, start + (design.length - start) * tier / design.tiers, 0.5, 0.68))
    y = np.linspace(float(trunk.neck_curve()[8, 1]) + 0.5, design.length + design.hem_sag, 9)
    if figure.back:
        part.stroke(figure.torso(np.stack([0 * y, y], axis=1), 1.0), 0.3, 0.8)
    else:
        _add_closure(part, figure, design, y)
        _add_pockets(part, figure, design)


def _across(trunk: Trunk, figure: Figure, y: float, width: float, tone: float) -> Stroke:
    """Return a horizontal seam, slightly curved because the body is round."""
    u = np.linspace(-1, 1, 9)
    return Stroke(figure.torso(np.stack([u * trunk.width(y), y + 1.0 * (1 - u**2)], axis=1)), width, tone)


def _add_closure(part: Part, figure: Figure, design: Design, y: Points) -> None:
    """Add buttons or a zipper down the front at heights `y`."""
    if design.closure not in ("buttons", "double", "zip"):
        return
    coat = design.category == "outwear"
    edge = {"buttons": 1.4, "double": 4.5, "zip": 0.0}[design.closure]
    line = figure.torso(np.stack([np.full(len(y), edge), y], axis=1), 1.0)
    part.strokes.append(Stroke(line, 0.9, color=METAL) if design.closure == "zip" else Stroke(line, 0.3, 0.66))
    last = min(design.length - 4, 62.0) if coat else design.length - 4
    for x in {"buttons": (0.0,), "double": (-4.5, 3.0), "zip": ()}[design.closure]:
        for height in np.arange(y[0] + 3, last, 13.0 if coat else 8.5):
            center = figure.torso(points_of((x, float(height))), 1.0)[0]
            part.dot(center, 1.3 if coat else 0.75, shade(design.accent, 0.8))


def _add_pockets(part: Part, figure: Figure, design: Design) -> None:
    if design.pockets == "none":
        return
    coat = design.category == "outwear"
    y, half, height = (min(52.0, design.length - 16), 6.0, 13.0) if coat else (20.0, 4.2, 9.0)
    if design.pockets == "flap":
        height = 5.5
    for sign in (-1.0, 1.0) if coat else (1.0,):
        x = sign * (11.5 if coat else 8.0)
        if design.pockets == "slant":
            box = points_of((x - sign * 2, y - 5), (x + sign * 3.5, y + 9))
        else:
            box = shift(points_of((-half, 0), (half, 0), (half, height), (-half, height), (-half, 0)), x, y)
        part.stroke(figure.torso(box, 0.6), 0.45, 0.62)


def add_folds(part: Part, trunk: Trunk, figure: Figure, generator: Rng) -> None:
    """Add creases at the armpits and waist of a top, and long folds below."""
    design = trunk.design
    softness = 0.45 + 0.06 * design.ease

    def crease(start: Points, end: Points, bow: Points) -> None:
        line = spline(np.array([start, (start + end) / 2 + bow, end]), 3)
        depth = softness * generator.uniform(0.35, 1.0)
        part.fold(figure.torso(line, 0.5), generator.uniform(0.8, 1.9), depth)

    for sign in (-1.0, 1.0):
        for _ in range(int(generator.integers(1, 4))):
            start = trunk.armpit * (sign, 1.0) + (-sign * generator.uniform(0.5, 2), generator.uniform(-3, 6))
            end = np.array([sign * generator.uniform(1, 8), start[1] + generator.uniform(-6, 14)])
            crease(start, end, generator.normal(0, 1.2, 2))
        for _ in range(int(generator.integers(1, 4))):
            y = trunk.waist + generator.normal(0, 5)
            end = np.array([sign * generator.uniform(0, 8), y + generator.uniform(-8, 8)])
            crease(np.array([sign * trunk.width(y), y]), end, np.array([0, 1.5]))
    if design.length > 70:
        top = design.waist if design.waist is not None else 30.0
        add_skirt_folds(part, trunk.width, figure, design, (top, design.length), generator)
    elif design.weave != "denim":
        span = (design.length - generator.uniform(10, 25), design.length)
        add_skirt_folds(part, trunk.width, figure, design, span, generator)


def add_skirt_folds(
    part: Part, width: Profile, figure: Figure, design: Design, span: tuple[float, float], generator: Rng
) -> None:
    """Add vertical folds between the two heights of `span`, even and sharp for pleated cloth."""
    top, bottom = span
    count = int(generator.integers(2, 5) + max(design.hem - 20, 0) / 4)
    us = np.linspace(-0.95, 0.95, design.pleats) if design.pleats else generator.uniform(-0.92, 0.92, count)
    for u in us:
        start = top + (0.5 if design.pleats else generator.uniform(0.05, 0.6) * (bottom - top))
        y = np.linspace(bottom + 1, start, 5)
        drift = np.zeros(5) if design.pleats else np.linspace(generator.normal(0, 0.03), 0, 5)
        sag = design.hem_sag * (1 - u * u) * (y - top) / (bottom - top)
        line = figure.torso(np.stack([(u + drift) * width(y), y + sag], axis=1), 0.8 * np.sqrt(1 - u * u))
        if design.pleats:
            part.fold(line, 0.9, 0.75)
            part.stroke(line, 0.25, 0.75)
        else:
            part.fold(line, generator.uniform(1.0, 2.4), generator.uniform(0.5, 0.9))
