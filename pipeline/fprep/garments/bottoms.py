"""Skirts and trousers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fprep.garments.design import CROTCH, HIP, Design
from fprep.garments.figure import Figure
from fprep.garments.prints import cloth_tile
from fprep.garments.shapes import Colour, Dot, Fold, Part, Points, Stroke, points_of, spline
from fprep.garments.tops import Garment, add_skirt_folds, shade

WAISTBAND, HEMLINE, CROTCH_POINT, BOTTOM_IN, BOTTOM_OUT = (15, 16), (17, 18), 19, (20, 22), (21, 23)  # of FASHIONAI_24
_METAL: Colour = (196.0, 176.0, 120.0)


def _waist_width(design: Design) -> float:
    """Half-width of the body at the waistband, which widens below the natural waist."""
    return float(np.interp(design.waist or 40.0, [34, 40, 48, 58], [12.6, 12.9, 15.2, 18.0])) + 0.3 * design.ease


def build_skirt(design: Design, figure: Figure, generator: np.random.Generator) -> Garment:
    """Parts of a skirt in the pose of the figure."""
    waist = design.waist or 40.0
    bottom = waist + design.length
    waist_width = _waist_width(design)
    hip_share = min((HIP - waist) / design.length, 0.9)
    hip = max(18.0 + 0.75 * design.ease, waist_width + (design.hem - waist_width) * hip_share**0.85)
    side = spline(points_of((waist_width, waist), (hip, min(HIP, bottom - 8)), (design.hem, bottom)), 7)

    def width(y: NDArray[np.float64] | float) -> NDArray[np.float64]:
        return np.interp(y, side[:, 1], side[:, 0])

    u = np.linspace(-1, 1, 25)
    waves = max(design.hem - 24, 0) * 0.08
    ripple = waves * np.sin(u * np.pi * generator.uniform(2, 4.5) + generator.uniform(0, 6)) * (1 - u**4)
    top = figure.torso(np.stack([u * waist_width, waist + 1.2 * (1 - u**2)], axis=1), 0.8 * np.sqrt(1 - u * u))
    sway = np.array([generator.normal(0, 0.06) * design.hem * (design.hem > 24), 0.0])
    hem = figure.torso(np.stack([u * design.hem, bottom + design.hem_sag * (1 - u**2) + ripple], axis=1) + sway, 0.8 * np.sqrt(1 - u * u))
    fall = ((side[:, 1:] - waist) / design.length) ** 2
    sides = [figure.torso(side * (sign, 1.0) + sway * fall) for sign in (-1.0, 1.0)]
    outline = np.concatenate([sides[0], hem[1:-1], sides[1][::-1], top[1:-1][::-1]])

    def to_cloth(points: Points) -> Points:
        upright = figure.upright(points)
        return np.stack([upright[:, 0] / np.maximum(width(upright[:, 1]) / hip, 0.75), upright[:, 1]], axis=1)

    tile = cloth_tile(design.cloth, design.colour, design.weave)
    part = Part([outline], design.colour, tile, to_cloth, relief=7.0, gloss=design.gloss, shadow=0.3)
    part.landmarks = {WAISTBAND[0]: sides[0][0], WAISTBAND[1]: sides[1][0], HEMLINE[0]: sides[0][-1], HEMLINE[1]: sides[1][-1]}
    add_skirt_folds(part, width, figure, design, (waist + 3, bottom), generator)
    part.strokes.append(Stroke(hem - (0, 1.8), 0.25, 0.8))
    for tier in range(1, design.tiers):
        y = waist + design.length * tier / design.tiers
        line = np.stack([u * width(y), y + design.hem_sag * 0.6 * (1 - u**2)], axis=1)
        part.strokes.append(Stroke(figure.torso(line, 0.8 * np.sqrt(1 - u * u)), 0.6, 0.62))
    _front_closure(part, figure, design, waist, bottom if design.weave == "denim" or design.closure == "buttons" else waist + 16)
    if design.pockets == "slant" and not figure.back:
        for sign in (-1.0, 1.0):
            pocket = spline(points_of((waist_width * 0.55, waist + 3), (hip * 0.68, waist + 9), (hip * 0.95, waist + 12)), 4)
            part.strokes.append(Stroke(figure.torso(pocket * (sign, 1.0), 0.4), 0.4, 0.68))
    return Garment(behind=[_inside(design, figure, top, hem)], trunk=[part, _waistband(design, figure, part, waist, waist_width, width)])


def _inside(design: Design, figure: Figure, top: Points, hem: Points) -> Part:
    """The inner back, seen above a sagging waistband or below a raised front hem."""
    outline = np.concatenate([top + (0, -1.3), (hem + (0, -2.0))[::-1]])
    return Part([outline], shade(design.colour, 0.5), relief=5.0, shadow=0.0)


def _waistband(design: Design, figure: Figure, part: Part, waist: float, waist_width: float, width) -> Part:  # noqa: ANN001
    """A band or belt along the upper edge, which carries the waistband points."""
    height = 3.2 if not design.belt else 4.2
    u = np.linspace(-1, 1, 13)
    upper = np.stack([u * (waist_width + 0.15), waist + 1.2 * (1 - u**2)], axis=1)
    lower = np.stack([u * (float(width(waist + height)) + 0.15), waist + height + 1.2 * (1 - u**2)], axis=1)
    front = 0.8 * np.sqrt(1 - u * u)
    outline = np.concatenate([figure.torso(upper, front), figure.torso(lower, front)[::-1]])
    colour = design.accent if design.belt else shade(design.colour, 0.9)
    marks = {index: part.landmarks.pop(index) for index in WAISTBAND}
    band = Part([outline], colour, None if design.belt else part.tile, part.surface, relief=2.5, shadow=0.2, landmarks=marks)
    band.strokes.append(Stroke(figure.torso(lower, front), 0.4, 0.62))
    if figure.back:
        return band
    if design.belt:
        box = points_of((-2.4, 0.3), (2.4, 0.3), (2.4, height + 1), (-2.4, height + 1), (-2.4, 0.3)) + (0, waist + 0.5)
        band.strokes.append(Stroke(figure.torso(box, 0.8), 0.6, colour=_METAL))
    else:
        band.dots.append(Dot(figure.torso(points_of((0, waist + 1.2 + height / 2)), 0.8)[0], 0.85, _METAL))
        for x in (-0.6, 0.6):
            loop = points_of((x * waist_width, waist), (x * waist_width, waist + height + 1))
            band.strokes.append(Stroke(figure.torso(loop, 0.5), 0.9, 0.75))
    return band


def _front_closure(part: Part, figure: Figure, design: Design, top: float, bottom: float) -> None:
    if figure.back or design.closure == "none":
        return
    y = np.linspace(top + 4, bottom, 7)
    front = 0.8
    part.strokes.append(Stroke(figure.torso(np.stack([0 * y, y], axis=1), front), 0.35, 0.66))
    if design.closure == "buttons":
        for height in np.arange(top + 7, bottom - 3, 7.0):
            part.dots.append(Dot(figure.torso(points_of((1.6, height)), front)[0], 0.9, design.accent))


def build_trousers(design: Design, figure: Figure, generator: np.random.Generator) -> Garment:
    """Parts of trousers or shorts: two halves, each a leg with its side of the hip, and the waistband."""
    waist = design.waist or 40.0
    waist_width = _waist_width(design)
    hip_width = 18.0 + 0.75 * design.ease
    crotch_y = CROTCH + 1.2 * design.ease
    tile = cloth_tile(design.cloth, design.colour, design.weave)
    side = spline(points_of((waist_width, waist), (hip_width, HIP), (hip_width + 0.4, 66.0)), 5)
    crotch = figure.torso(points_of((0, crotch_y)), 0.3)[0]
    top_middle = figure.torso(points_of((0, waist + 1.2)), 0.8)[0]
    sides = [figure.torso(side * (sign, 1.0)) for sign in (-1.0, 1.0)]
    pelvis = np.concatenate([sides[0], crotch[None] + (0, 4.0), sides[1][::-1]])
    cover = (waist + design.length - crotch_y) / 80.0
    halves: list[Part] = []
    for index in (0, 1):
        limb = figure.leg(index, sides[index][-1], crotch)
        thigh = float(np.hypot(*(sides[index][-1] - crotch))) / 2
        knee = 6.6 + 0.9 * design.ease if design.hem < 11 else 7.0 + 0.5 * (design.hem - 9) * (0.4 if design.ease < 1.5 else 1.0)

        def width(t: float, thigh: float = thigh, knee: float = knee) -> float:
            heights = [0.0, 0.22, 0.48, 1.0] if cover > 0.6 else [0.0, cover, 1.1, 1.2]
            values = [thigh, 0.93 * thigh, knee, design.hem] if cover > 0.6 else [thigh, design.hem, design.hem, design.hem]
            return float(np.interp(t, heights, values))

        outlines, inner, outer = limb.outlines(cover, width)
        fly = figure.torso(points_of((0, (waist + crotch_y) / 2)), 0.7)[0]
        hip_part = np.concatenate([sides[index], crotch[None], spline(np.array([crotch, fly, top_middle]), 4)])
        part = Part(
            [hip_part, *outlines], design.colour, tile, limb.surface(), relief=5.5, rounded_with=[pelvis], gloss=design.gloss, shadow=0.35,
            landmarks={BOTTOM_IN[index]: inner, BOTTOM_OUT[index]: outer},
        )  # fmt: skip
        _dress_leg(part, limb, design, width, cover, generator)
        _hip_details(part, figure, design, (-1.0, 1.0)[index], (waist, waist_width, hip_width, crotch_y), generator)
        halves.append(part)
    front = int(generator.integers(0, 2))
    halves[1 - front].landmarks[WAISTBAND[1 - front]] = sides[1 - front][0]
    halves[front].landmarks |= {WAISTBAND[front]: sides[front][0], CROTCH_POINT: crotch}
    ordered = [halves[1 - front], halves[front]]
    holder = Part([pelvis], design.colour, tile, landmarks={WAISTBAND[i]: halves[i].landmarks.pop(WAISTBAND[i]) for i in (0, 1)})

    def trunk_width(y: NDArray[np.float64] | float) -> NDArray[np.float64]:
        return np.interp(y, side[:, 1], side[:, 0])

    holder.surface = figure.upright
    band = _waistband(design, figure, holder, waist, waist_width, trunk_width)
    u = np.linspace(-1, 1, 13)
    top = figure.torso(np.stack([u * waist_width, waist + 1.2 * (1 - u**2)], axis=1), 0.8 * np.sqrt(1 - u * u))
    inside = Part([np.concatenate([top + (0, -1.3), (top + (0, 6.0))[::-1]])], shade(design.colour, 0.5), relief=5.0, shadow=0.0)
    return Garment(behind=[inside], trunk=[*ordered, band])


def _dress_leg(part: Part, limb, design: Design, width, cover: float, generator: np.random.Generator) -> None:  # noqa: ANN001
    """Hem, crease line, knee folds."""

    def cross(t: float, share: float) -> Points:
        centre, normal = limb.place(t)
        return centre + normal * (width(t) * share)

    edge = 0.05 if not design.trim else 0.07
    part.strokes.append(Stroke(np.array([cross(cover - edge * cover, share) for share in (-1.0, 0.0, 1.0)]), 0.4, 0.66))
    seam = np.array([cross(t, 0.86) for t in np.linspace(0.12, 1, 6) * cover])
    part.strokes.append(Stroke(seam, 0.25, 0.8))
    if design.pleats:
        part.strokes.append(Stroke(np.array([cross(t, 0.1) for t in np.linspace(0.02, 1, 7) * cover]), 0.3, 0.78))
    bend = limb.bend()
    for _ in range(int(generator.integers(2, 5))):
        t = bend + generator.normal(0, 0.05) if cover > bend + 0.1 else generator.uniform(0.3, 0.9) * cover
        start = generator.choice([-0.95, 0.95])
        steps = ((0.0, start), (generator.normal(0, 0.015), 0.3 * start), (generator.normal(0, 0.04), -0.4 * start))
        part.folds.append(Fold(np.array([cross(t + d, share) for d, share in steps]), generator.uniform(0.8, 1.7), generator.uniform(0.25, 0.6)))
    for _ in range(int(generator.integers(0, 2) + (design.hem > 11) * 2)):
        t, share = generator.uniform(0.35, 0.75) * cover, generator.uniform(-0.6, 0.6)
        steps = ((cover, share), (t + 0.6 * (cover - t), share * 0.95), (t, share * 0.8))
        part.folds.append(Fold(np.array([cross(d, s) for d, s in steps]), generator.uniform(0.9, 2.0), generator.uniform(0.3, 0.8)))


def _hip_details(
    part: Part, figure: Figure, design: Design, sign: float, measures: tuple[float, float, float, float], generator: np.random.Generator
) -> None:
    """Pocket, fly, and the creases that radiate from the crotch."""
    waist, waist_width, hip_width, crotch_y = measures
    for _ in range(int(generator.integers(1, 4))):
        end = np.array([sign * generator.uniform(6, 14), crotch_y - generator.uniform(4, 14)])
        start = np.array([sign * generator.uniform(0.5, 2), crotch_y - generator.uniform(0, 4)])
        part.folds.append(Fold(figure.torso(np.array([start, (start + end) / 2 + (0, 1), end]), 0.3), generator.uniform(0.8, 1.6), generator.uniform(0.3, 0.8)))
    if figure.back:
        box = points_of((5, HIP - 4), (13, HIP - 4), (13, HIP + 6), (9, HIP + 8), (5, HIP + 6), (5, HIP - 4))
        part.strokes.append(Stroke(figure.torso(box * (sign, 1.0), 0.6), 0.4, 0.66))
        return
    if design.pockets != "none":
        pocket = spline(points_of((waist_width * 0.62, waist + 3), (hip_width * 0.72, waist + 10), (hip_width * 0.98, waist + 14)), 4)
        part.strokes.append(Stroke(figure.torso(pocket * (sign, 1.0), 0.4), 0.45, 0.62))
    fly = points_of((0, waist + 3), (0, crotch_y))
    part.strokes.append(Stroke(figure.torso(fly, np.array([0.8, 0.3])), 0.35, 0.62))
    if sign > 0:
        curve = spline(points_of((2.6, waist + 4), (2.6, crotch_y - 14), (0.6, crotch_y - 8)), 4)
        part.strokes.append(Stroke(figure.torso(curve, 0.7), 0.25, 0.74))
