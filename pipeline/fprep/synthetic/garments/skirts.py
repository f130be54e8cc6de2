"""Skirts, and the waistband that trousers share with them."""

from __future__ import annotations

import numpy as np

from fprep.synthetic.garments.design import HIP, Design
from fprep.synthetic.garments.figure import Figure
from fprep.synthetic.garments.prints import cloth_tile
from fprep.synthetic.garments.seams import BRASS, add_skirt_folds
from fprep.synthetic.garments.shapes import Part, Points, Rng, points_of, shift, spline
from fprep.synthetic.garments.trunk import Garment, Profile, shade

WAISTBAND, HEMLINE = (15, 16), (17, 18)  # of FASHIONAI_24, viewer's left first
_U = np.linspace(-1, 1, 25)
_FRONT = 0.8 * np.sqrt(1 - _U * _U)


def build_skirt(design: Design, figure: Figure, generator: Rng) -> Garment:
    """Parts of a skirt in the pose of the figure."""
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
    """Height of the waistband."""
    assert design.waist is not None, "skirts and trousers have a waistband"
    return design.waist


def waist_width_of(design: Design) -> float:
    """Half-width of the body at the waistband, which widens below the natural waist."""
    return float(np.interp(waist_height(design), [34, 40, 48, 58], [12.6, 12.9, 15.2, 18.0])) + 0.3 * design.ease


def waist_line(design: Design, figure: Figure, waist_width: float) -> Points:
    """Posed upper edge of the waistband (25, 2) from left to right."""
    return figure.torso(np.stack([_U * waist_width, waist_height(design) + 1.2 * (1 - _U**2)], axis=1), _FRONT)


def inside_of(design: Design, top: Points, bottom: Points) -> Part:
    """The inner back, seen above a sagging waistband or below a raised front hem."""
    outline = np.concatenate([shift(top, 0, -1.3), shift(bottom, 0, -2)[::-1]])
    return Part([outline], shade(design.color, 0.5), relief=5.0, shadow=0.0)


def build_waistband(design: Design, figure: Figure, part: Part, width: Profile, landmarks: dict[int, Points]) -> Part:
    """A band or belt along the upper edge of `part`, with button, buckle and loops; it carries the waistband points."""
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
    """Tiers, front closure, pockets."""
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
