"""Skirts, trousers and shorts, and their waistbands."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fprep.synthetic.garments.body import THIGH, Figure
from fprep.synthetic.garments.design import CROTCH, HIP, Design
from fprep.synthetic.garments.prints import cloth_tile
from fprep.synthetic.garments.seams import BRASS, add_skirt_folds
from fprep.synthetic.garments.shapes import Limb, Part, Points, Rng, points_of, shift, spline
from fprep.synthetic.garments.sleeves import crosser
from fprep.synthetic.garments.trunk import Garment, Profile, shade

WAISTBAND, HEMLINE = (15, 16), (17, 18)  # indices of FASHIONAI_24, viewer's left first
_U = np.linspace(-1, 1, 25)
_FRONT = 0.8 * np.sqrt(1 - _U * _U)
CROTCH_POINT, BOTTOM_IN, BOTTOM_OUT = 19, (20, 22), (21, 23)
_LEG = 2 * THIGH


def build_skirt(design: Design, figure: Figure, generator: Rng) -> Garment:
    """Return the parts of a skirt in the pose of the figure."""
    waist = waist_height(design)
    bottom, waist_width = waist + design.length, waist_width_of(design)
    hip_share = min((HIP - waist) / design.length, 0.9)
    hip = max(18.0 + 0.75 * design.ease, waist_width + (design.hem - waist_width) * hip_share**0.85)
    side = spline(points_of((waist_width, waist), (hip, min(HIP, bottom - 8)), (design.hem, bottom)), 7)
    width = Profile(side)
    wide = max(design.hem - 24, 0)
    sway = np.array([generator.normal(0, 0.06) * design.hem if wide else 0.0, 0.0])
    ripple = 0.08 * wide * np.sin(_U * np.pi * generator.uniform(2, 4.5) + generator.uniform(0, 6)) * (1 - _U**4)
    hem_line = np.stack([_U * design.hem, bottom + design.hem_sag * (1 - _U**2) + ripple], axis=1)
    hem = figure.torso(hem_line + sway, _FRONT)
    fall = ((side[:, 1:] - waist) / design.length) ** 2
    left, right = (figure.torso(side * (sign, 1.0) + sway * fall) for sign in (-1.0, 1.0))
    top = waist_line(design, figure, waist_width)
    outline = np.concatenate([left, hem[1:-1], right[::-1], top[1:-1][::-1]])
    tile = cloth_tile(design.cloth, design.color, design.weave)
    part = Part([outline], design.color, tile, width.surface(figure, hip), relief=7.0, gloss=design.gloss, shadow=0.3)
    part.landmarks = {HEMLINE[0]: left[-1], HEMLINE[1]: right[-1]}
    add_skirt_folds(part, width, figure, design, (waist + 3, bottom), generator)
    part.stroke(shift(hem, 0, -1.8), 0.25, 0.8)
    _add_details(part, figure, design, width, waist, bottom)
    band = build_waistband(design, figure, part, width, {WAISTBAND[0]: left[0], WAISTBAND[1]: right[0]})
    return Garment(behind=[inside_of(design, top, hem)], trunk=[part, band])


def waist_height(design: Design) -> float:
    """Return the height of the waistband."""
    assert design.waist is not None, "skirts and trousers have a waistband"
    return design.waist


def waist_width_of(design: Design) -> float:
    """Return the half-width of the body at the waistband, which is larger below the natural waist."""
    return float(np.interp(waist_height(design), [34, 40, 48, 58], [12.6, 12.9, 15.2, 18.0])) + 0.3 * design.ease


def waist_line(design: Design, figure: Figure, waist_width: float) -> Points:
    """Return the posed upper edge of the waistband (25, 2) from left to right."""
    return figure.torso(np.stack([_U * waist_width, waist_height(design) + 1.2 * (1 - _U**2)], axis=1), _FRONT)


def inside_of(design: Design, top: Points, bottom: Points) -> Part:
    """Return the inner back, visible above a sagging waistband or below a raised front hem."""
    outline = np.concatenate([shift(top, 0, -1.3), shift(bottom, 0, -2)[::-1]])
    return Part([outline], shade(design.color, 0.5), relief=5.0, shadow=0.0)


def build_waistband(design: Design, figure: Figure, part: Part, width: Profile, landmarks: dict[int, Points]) -> Part:
    """Return a band or belt along the upper edge of `part`, with button, buckle, loops and the waistband landmarks."""
    waist, height = waist_height(design), 4.2 if design.belt else 3.2
    upper, lower = (
        figure.torso(np.stack([_U * (width(y) + 0.15), y + 1.2 * (1 - _U**2)], axis=1), _FRONT)
        for y in (waist, waist + height)
    )
    color = design.accent if design.belt else shade(design.color, 0.9)
    tile = None if design.belt else part.tile
    band = Part(
        [np.concatenate([upper, lower[::-1]])], color, tile, figure.upright, relief=2.5, shadow=0.2, landmarks=landmarks
    )
    band.stroke(lower, 0.4, 0.62)
    if figure.back:
        return band
    if design.belt:
        box = points_of((-2.4, 0.8), (2.4, 0.8), (2.4, height + 1.5), (-2.4, height + 1.5), (-2.4, 0.8))
        band.stroke(figure.torso(shift(box, 0, waist), 0.8), 0.6, color=BRASS)
    else:
        band.dot(figure.torso(points_of((0, waist + 1.2 + height / 2)), 0.8)[0], 0.85, BRASS)
        for share in (-0.6, 0.6):
            loop = points_of((share * width(waist), waist), (share * width(waist), waist + height + 1))
            band.stroke(figure.torso(loop, 0.5), 0.9, 0.75)
    return band


def _add_details(part: Part, figure: Figure, design: Design, width: Profile, waist: float, bottom: float) -> None:
    """Add tiers, front closure and pockets."""
    for tier in range(1, design.tiers):
        y = waist + design.length * tier / design.tiers
        line = np.stack([_U * width(y), y + 0.6 * design.hem_sag * (1 - _U**2)], axis=1)
        part.stroke(figure.torso(line, _FRONT), 0.6, 0.62)
    if figure.back:
        return
    if design.closure != "none":
        last = bottom if design.weave == "denim" or design.closure == "buttons" else waist + 16
        y = np.linspace(waist + 4, last, 7)
        part.stroke(figure.torso(np.stack([0 * y, y], axis=1), 0.8), 0.35, 0.66)
    if design.closure == "buttons":
        for height in np.arange(waist + 7, bottom - 3, 7.0):
            part.dot(figure.torso(points_of((1.6, float(height))), 0.8)[0], 0.9, design.accent)
    if design.pockets == "slant":
        hip = width(HIP)
        edge = points_of((width(waist) * 0.55, waist + 3), (hip * 0.68, waist + 9), (hip * 0.95, waist + 12))
        pocket = spline(edge, 4)
        for sign in (-1.0, 1.0):
            part.stroke(figure.torso(pocket * (sign, 1.0), 0.4), 0.4, 0.68)


class _Pelvis:
    """Upright and posed measures of the seat."""

    def __init__(self, design: Design, figure: Figure) -> None:
        self.waist, self.waist_width = waist_height(design), waist_width_of(design)
        self.hip_width = 18.0 + 0.75 * design.ease
        self.crotch_height = CROTCH + 1.2 * design.ease
        control = points_of((self.waist_width, self.waist), (self.hip_width, HIP), (self.hip_width + 0.4, 66.0))
        self.width = Profile(spline(control, 5))
        self.sides = tuple(figure.torso(self.width.side * (sign, 1.0)) for sign in (-1.0, 1.0))
        self.crotch = figure.torso(points_of((0, self.crotch_height)), 0.3)[0]
        middle = points_of((0, (self.waist + self.crotch_height) / 2), (0, self.waist + 1.2))
        self.front = spline(np.concatenate([self.crotch[None], figure.torso(middle, np.array([0.7, 0.8]))]), 4)


def build_trousers(design: Design, figure: Figure, generator: Rng) -> Garment:
    """Return the parts of trousers in the pose of the figure: two halves (leg and side of the seat), waistband."""
    pelvis = _Pelvis(design, figure)
    cover = (pelvis.waist + design.length - pelvis.crotch_height) / _LEG
    halves = [_half(design, figure, pelvis, index, cover, generator) for index in (0, 1)]
    front = int(generator.integers(0, 2))
    halves[front].landmarks[CROTCH_POINT] = pelvis.crotch
    marks = {WAISTBAND[index]: pelvis.sides[index][0] for index in (0, 1)}
    band = build_waistband(design, figure, halves[0], pelvis.width, marks)
    top = waist_line(design, figure, pelvis.waist_width)
    return Garment(behind=[inside_of(design, top, shift(top, 0, 8))], trunk=[halves[1 - front], halves[front], band])


def _half(design: Design, figure: Figure, pelvis: _Pelvis, index: int, cover: float, generator: Rng) -> Part:
    side = pelvis.sides[index]
    thigh = float(np.hypot(*(side[-1] - pelvis.crotch))) / 2
    spread = float(np.arctan(max(design.hem - thigh, 0.0) * 0.9 / (cover * _LEG)))
    leg = figure.legs[index]
    posed = replace(leg, upper=leg.upper + spread, lower=leg.lower + spread)
    limb = replace(figure, legs=(posed, posed)).leg(index, side[-1], pelvis.crotch)
    width = _width(design, thigh, cover)
    outlines, inner, outer = limb.outlines(cover, width)
    seat = np.concatenate([side, pelvis.front])
    tile = cloth_tile(design.cloth, design.color, design.weave)
    part = Part([seat, *outlines], design.color, tile, limb.surface(), relief=5.5, gloss=design.gloss)
    part.rounded_with = [np.concatenate([pelvis.sides[0], shift(pelvis.crotch[None], 0, 4), pelvis.sides[1][::-1]])]
    part.landmarks = {BOTTOM_IN[index]: inner, BOTTOM_OUT[index]: outer}
    _dress_leg(part, limb, design, crosser(limb, width), cover, generator)
    _dress_seat(part, figure, design, pelvis, (-1.0, 1.0)[index], generator)
    return part


def _width(design: Design, thigh: float, cover: float) -> Callable[[float], float]:
    """Return the half-width of the leg, in cm, as a function of the fraction of its length."""
    if cover > 0.6:
        flare = 0.5 * (design.hem - 9) * (0.4 if design.ease < 1.5 else 1.0)
        knee = 6.6 + 0.9 * design.ease if design.hem < 11 else 7.0 + flare
        heights, values = [0.0, 0.22, 0.48, 1.0], [thigh, 0.93 * thigh, knee, design.hem]
    else:
        heights, values = [0.0, cover], [thigh, design.hem]

    def width(t: float) -> float:
        return float(np.interp(t, heights, values))

    return width


def _dress_leg(
    part: Part, limb: Limb, design: Design, cross: Callable[..., Points], cover: float, generator: Rng
) -> None:
    """Add hem, outer seam, crease line and folds to one leg."""
    edge = 0.07 if design.trim else 0.05
    part.stroke(cross(*((cover - edge * cover, share) for share in (-1.0, 0.0, 1.0))), 0.4, 0.66)
    part.stroke(cross(*((float(t), 0.86) for t in np.linspace(0.12, 1, 6) * cover)), 0.25, 0.8)
    if design.pleats:
        part.stroke(cross(*((float(t), 0.1) for t in np.linspace(0.02, 1, 7) * cover)), 0.3, 0.78)
    bend = limb.bend()
    for _ in range(int(generator.integers(2, 5))):
        t = bend + generator.normal(0, 0.05) if cover > bend + 0.1 else generator.uniform(0.3, 0.9) * cover
        start = 0.95 * float(generator.choice([-1, 1]))
        knee, end = t + generator.normal(0, 0.015), t + generator.normal(0, 0.04)
        line = cross((t, start), (knee, 0.3 * start), (end, -0.4 * start))
        part.fold(line, generator.uniform(0.8, 1.7), generator.uniform(0.25, 0.6))
    for _ in range(int(generator.integers(0, 2) + (design.hem > 11) * 2)):
        t, share = generator.uniform(0.35, 0.75) * cover, generator.uniform(-0.6, 0.6)
        line = cross((cover, share), (t + 0.6 * (cover - t), share * 0.95), (t, share * 0.8))
        part.fold(line, generator.uniform(0.9, 2.0), generator.uniform(0.3, 0.8))


def _dress_seat(part: Part, figure: Figure, design: Design, pelvis: _Pelvis, sign: float, generator: Rng) -> None:
    """Add pocket, fly, and the creases that radiate from the crotch."""
    low = pelvis.crotch_height
    for _ in range(int(generator.integers(1, 4))):
        start = np.array([sign * generator.uniform(0.5, 2), low - generator.uniform(0, 4)])
        end = np.array([sign * generator.uniform(6, 14), low - generator.uniform(4, 14)])
        line = figure.torso(np.array([start, (start + end) / 2 + (0, 1), end]), 0.3)
        part.fold(line, generator.uniform(0.8, 1.6), generator.uniform(0.3, 0.8))
    if figure.back:
        box = points_of((5, HIP - 4), (13, HIP - 4), (13, HIP + 6), (9, HIP + 8), (5, HIP + 6), (5, HIP - 4))
        part.stroke(figure.torso(box * (sign, 1.0), 0.6), 0.4, 0.66)
        return
    if design.pockets != "none":
        hip, waist = pelvis.hip_width, pelvis.waist
        edge = points_of((pelvis.waist_width * 0.62, waist + 3), (hip * 0.72, waist + 10), (hip * 0.98, waist + 14))
        pocket = spline(edge, 4)
        part.stroke(figure.torso(pocket * (sign, 1.0), 0.4), 0.45, 0.62)
    part.stroke(figure.torso(points_of((0, pelvis.waist + 3), (0, low)), np.array([0.8, 0.3])), 0.35, 0.62)
    if sign > 0:
        fly = spline(points_of((2.6, pelvis.waist + 4), (2.6, low - 14), (0.6, low - 8)), 4)
        part.stroke(figure.torso(fly, 0.7), 0.25, 0.74)
