"""Sleeves: a tube along an arm, with cuff, seam and creases."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.garments.body import Figure
from fprep.synthetic.garments.design import Design
from fprep.synthetic.garments.shapes import Limb, Part, Points, Rng, ellipse
from fprep.synthetic.garments.trunk import Trunk

CUFF_IN, CUFF_OUT = (9, 11), (10, 12)  # indices of FASHIONAI_24, viewer's left first


def build_sleeve(
    trunk: Trunk, figure: Figure, index: int, tile: NDArray[np.uint8], generator: Rng
) -> tuple[Part | None, Limb]:
    """Return the sleeve of an arm (0: viewer's left; None for a sleeveless design) and the arm's bones."""
    design = trunk.design
    shoulder, armpit = trunk.armhole(figure, index)
    limb = figure.arm(index, shoulder, armpit)
    if design.sleeve == 0:
        return None, limb
    width = _width(design)
    outlines, inner, outer = limb.outlines(design.sleeve, width)
    cap = ellipse(tuple(shoulder * 0.6 + armpit * 0.4 - (limb.side * 5.0, 2.0)), 7.0, 8.5)
    part = Part(outlines, design.color, tile, limb.surface(), relief=4.5, gloss=design.gloss, shadow=0.4)
    part.rounded_with = [cap]
    part.landmarks = {CUFF_IN[index]: inner, CUFF_OUT[index]: outer}
    part.stroke(np.array([shoulder, (shoulder + armpit) / 2, armpit]), 0.35, 0.74)
    cross = crosser(limb, width)
    _add_cuff(part, design, cross)
    _add_creases(part, limb, design, cross, generator)
    return part, limb


def crosser(limb: Limb, width: Callable[[float], float]) -> Callable[..., Points]:
    """Return a function from pairs (fraction `t` of a limb, share of its half-width) to the points (N, 2) of a line.

    The share is -1 at the inner edge and 1 at the outer edge.
    """

    def cross(*pairs: tuple[float, float]) -> Points:
        found = [limb.point_at(t) for t, _ in pairs]
        return np.array([c + n * (width(t) * share) for (t, share), (c, n) in zip(pairs, found, strict=True)])

    return cross


def _width(design: Design) -> Callable[[float], float]:
    """Return the half-width of the sleeve, in cm, as a function of the fraction of the arm."""
    ease = design.ease * (0.3 if design.sleeve_shape == "slim" else 1.0)
    knots = [6.4 + 0.4 * ease, 5.1 + 0.35 * ease, 4.2 + 0.3 * ease]

    def width(t: float) -> float:
        base = float(np.interp(t, [0.1, 0.55, 1.0], knots))
        share = t / design.sleeve
        if design.sleeve_shape == "bell":
            base += 5.0 * max(share - 0.45, 0.0) ** 1.5 * (1 + design.sleeve)
        elif design.sleeve_shape == "puff":
            base += 3.4 * float(np.sin(np.pi * np.clip(share, 0, 1))) ** 0.8 - 0.8 * share
        return max(base, 3.4)

    return width


def _add_cuff(part: Part, design: Design, cross: Callable[..., Points]) -> None:
    cover = design.sleeve
    band = 0.09 if design.collar == "shirt" or design.trim else 0.035
    part.stroke(cross(*((cover - band * min(cover, 0.8), share) for share in (-1.0, 0.0, 1.0))), 0.4, 0.68)
    if design.trim:
        for edge in (0.015, 0.045):
            part.stroke(cross(*((cover - edge * cover, share) for share in (-1.0, 1.0))), 1.3, color=design.accent)
    if design.sleeve_shape == "puff":
        for share in (-0.6, -0.25, 0.1, 0.4, 0.75):
            gather = ((0.97, 1.0), (0.85, 0.95), (0.7, 0.9))
            part.fold(cross(*((cover * t, share * s) for t, s in gather)), 0.9, 0.7)


def _add_creases(part: Part, limb: Limb, design: Design, cross: Callable[..., Points], generator: Rng) -> None:
    """Add creases at the inner elbow and along the tube."""
    cover, bend = design.sleeve, limb.bend()
    if cover > bend + 0.05:
        for _ in range(int(generator.integers(2, 5))):
            t = bend + generator.normal(0, 0.05)
            line = cross((t, -0.95), (t + generator.normal(0, 0.02), -0.2), (t + generator.normal(0, 0.06), 0.6))
            part.fold(line, generator.uniform(0.7, 1.5), generator.uniform(0.4, 0.9))
    for _ in range(int(generator.integers(1, 4))):
        t, start = generator.uniform(0.1, 0.5) * cover, generator.uniform(-0.5, 0.6)
        way = ((0.0, 0.0), (0.15, generator.normal(0, 0.2)), (0.35, generator.normal(0, 0.3)))
        line = cross(*((t + step * cover, start + share) for step, share in way))
        part.fold(line, generator.uniform(0.8, 1.8), generator.uniform(0.25, 0.7))
