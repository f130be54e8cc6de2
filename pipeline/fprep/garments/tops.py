"""Blouses, coats and dresses: the trunk and what is sewn to it. Points are built upright and moved into the pose."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fprep.garments.design import HIP, WAIST, Design
from fprep.garments.figure import Figure
from fprep.garments.prints import cloth_tile
from fprep.garments.shapes import Colour, Dot, Fold, Limb, Part, Points, Stroke, ellipse, points_of, rotate, spline

NECKLINE, CENTER_FRONT, SHOULDER, ARMPIT, WAISTLINE, CUFF_IN, CUFF_OUT, TOP_HEM, HEMLINE = (
    (0, 1), 2, (3, 4), (5, 6), (7, 8), (9, 11), (10, 12), (13, 14), (17, 18),
)  # fmt: skip  indices of FASHIONAI_24, viewer's left first


@dataclass
class Garment:
    """Parts in three layers: behind the wearer, on the trunk, and one sleeve for each arm (with the arm's own bones)."""

    behind: list[Part] = field(default_factory=list[Part])
    trunk: list[Part] = field(default_factory=list[Part])
    sleeves: list[Part | None] = field(default_factory=list[Part | None])
    arms: list[Limb] = field(default_factory=list[Limb])

    def parts(self) -> list[Part]:
        """Every part of the garment."""
        return [*self.behind, *self.trunk, *(sleeve for sleeve in self.sleeves if sleeve is not None)]


def shade(colour: Colour, factor: float) -> Colour:
    """A darker (below 1) or lighter tone of a colour."""
    red, green, blue = (min(value * factor, 255.0) for value in colour)
    return red, green, blue


def mirror(points: Points) -> Points:
    """The other half of the upright body."""
    return points * np.array([-1.0, 1.0])


class Trunk:
    """Upright measures of a top: the right half (x positive) of every seam, before the pose."""

    def __init__(self, design: Design, figure: Figure) -> None:
        self.design = design
        ease = design.ease
        drop = max(ease - 2.5, 0.0) * 0.6
        self.bare = design.neckline in ("straps", "sweetheart")
        across = 15.6 if design.sleeve == 0 else 18.0 + drop
        self.neck = points_of((design.neck_width, -1.5 + (design.neck_width - 6.5) * 0.35))[0]
        self.shoulder = points_of((max(across, design.neck_width + 2.5), 2.4 + 0.4 * drop))[0]
        self.armpit = points_of((15.2 + 0.75 * ease, 17.0 + 0.55 * drop + 0.2 * ease))[0]
        if design.neckline == "sweetheart":
            self.neck = points_of((14.0, 9.5))[0]
        elif design.neckline == "straps":
            self.neck = points_of((design.neck_width, -0.9))[0]
        self.lift = [4.0 * float(np.clip((arm.upper - 1.4) / 1.2, 0, 1)) for arm in figure.arms]
        waist = design.waist if design.waist is not None else WAIST
        waist_width = 12.8 + 0.5 * ease if design.waist is not None else 14.0 + ease
        control = [self.armpit]
        if design.length > waist + 6:
            control.append(np.array([waist_width, waist]))
        hip_width = 18.0 + 0.75 * ease
        if design.length > HIP + 12:
            share = (HIP - waist) / (design.length - waist)
            control.append(np.array([max(hip_width, waist_width + (design.hem - waist_width) * share**0.8), HIP]))
        control.append(np.array([design.hem, design.length]))
        self.side = spline(np.array(control), 6)
        self.waist = np.array([waist_width, waist])

    def width(self, y: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Half-width of the trunk at heights `y`."""
        return np.interp(y, self.side[:, 1], self.side[:, 0])

    def neck_curve(self, *, back: bool = False) -> Points:
        """Neckline from the viewer's left to the viewer's right."""
        depth, width, top = self.design.neck_depth, self.neck[0], self.neck[1]
        kind = self.design.neckline
        if back:
            kind, depth = "round", top + 2.5
        u = np.linspace(-1, 1, 17)
        if kind == "v":
            fall = 1 - np.abs(u) ** 0.92
        elif kind == "square":
            fall = np.clip((1 - np.abs(u)) / 0.12, 0, 1)
        elif kind == "sweetheart":
            fall = (1 - u**2) * 0.2 - 0.9 * np.exp(-(((np.abs(u) - 0.5) / 0.32) ** 2)) + 1.0 * np.exp(-((u / 0.18) ** 2)) * 0.8
            fall = fall - np.interp(np.abs(u), [0, 1], [0, fall[0]])
            return np.stack([u * width, top + fall * (depth - top) / max(fall[8], 0.3)], axis=1)
        else:
            fall = np.sqrt(np.clip(1 - np.abs(u) ** 2.2, 0, 1))
        return np.stack([u * width, top + fall * (depth - top)], axis=1)


def build_top(design: Design, figure: Figure, generator: np.random.Generator) -> Garment:
    """Parts of a blouse, a coat or a dress in the pose of the figure."""
    trunk = Trunk(design, figure)
    garment = Garment()
    tile = cloth_tile(design.cloth, design.colour, design.weave)
    body = _body(trunk, figure, tile, generator)
    garment.behind.append(_back_panel(trunk, figure))
    garment.trunk.append(body)
    if design.motif != "none" and not figure.back:
        garment.trunk.append(_motif(trunk, figure))
    if design.belt and design.waist is not None:
        garment.trunk.append(_belt(trunk, figure, body))
    for index in (0, 1):
        sleeve, arm = _sleeve(trunk, figure, index, tile, generator)
        garment.sleeves.append(sleeve)
        garment.arms.append(arm)
    if design.collar != "none":
        _add_collar(garment, trunk, figure, tile, body)
    return garment


def shoulder_and_armpit(trunk: Trunk, figure: Figure, index: int) -> tuple[Points, Points]:
    """Posed ends of an armhole; a raised arm lifts the shoulder and draws it in."""
    sign = np.array([(-1.0, 1.0)[index], 1.0])
    lift = trunk.lift[index]
    placed = figure.torso(np.array([trunk.shoulder - (0.5 * lift, lift), trunk.armpit - (0.0, 0.35 * lift)]) * sign)
    return placed[0], placed[1]


def _surface(trunk: Trunk, figure: Figure):  # noqa: ANN202 - a closure, typed at Part.surface
    reference = trunk.armpit[0]

    def to_cloth(points: Points) -> Points:
        upright = figure.upright(points)
        ratio = np.maximum(trunk.width(upright[:, 1]) / reference, 0.8)
        return np.stack([upright[:, 0] / ratio, upright[:, 1]], axis=1)

    return to_cloth


def _hem(trunk: Trunk, generator: np.random.Generator) -> Points:
    """Hem from the viewer's left to the viewer's right: sagging in the middle, wavy when it is wide."""
    u = np.linspace(-1, 1, 25)
    width, y = trunk.side[-1]
    waves = max(trunk.design.hem - 22, 0) * 0.07 + (0.5 if trunk.design.pleats else 0.0)
    phase, count = generator.uniform(0, 6), generator.uniform(2.0, 4.5)
    ripple = waves * np.sin(u * np.pi * count + phase) * (1 - u**4)
    return np.stack([u * width, y + trunk.design.hem_sag * (1 - u**2) + ripple], axis=1)


def _open_gap(trunk: Trunk) -> Points:
    """Half-widths of an open coat front at its neck, chest, waist and hem (x, y)."""
    top = trunk.neck_curve()[8]
    hem = trunk.design.length
    return spline(points_of((trunk.neck[0] - 0.5, trunk.neck[1] + 1), (5.0, 18), (5.5, WAIST), (9.0, hem + 1)), 5) if hem > 45 else np.array([top, (4, hem)])


def _body(trunk: Trunk, figure: Figure, tile: NDArray[np.uint8], generator: np.random.Generator) -> Part:
    design = trunk.design
    neck = trunk.neck_curve(back=figure.back)
    hem = _hem(trunk, generator)
    posed_side = [figure.torso(trunk.side * (sign, 1.0)) for sign in (-1.0, 1.0)]
    ends = [shoulder_and_armpit(trunk, figure, index) for index in (0, 1)]
    posed_neck = figure.torso(neck, np.sqrt(np.clip(1 - (neck[:, 0] / (trunk.neck[0] + 1e-6)) ** 2, 0, 1)))
    posed_hem = figure.torso(hem, 0.8 * np.sqrt(np.clip(1 - (hem[:, 0] / trunk.side[-1, 0]) ** 2, 0, 1)))
    posed_hem[0], posed_hem[-1] = posed_side[0][-1], posed_side[1][-1]
    hollow = 2.2 if design.sleeve == 0 else -0.8
    armholes: list[Points] = []
    for index, sign in ((0, -1.0), (1, 1.0)):
        shoulder, armpit = ends[index]
        middle = 0.45 * shoulder + 0.55 * armpit + np.array([-sign * hollow, 0.0])
        armholes.append(spline(np.array([shoulder, middle, armpit]), 4) if not trunk.bare else armpit[None])
    outline = np.concatenate([armholes[0], posed_side[0][1:], posed_hem[1:-1], posed_side[1][:0:-1], armholes[1][::-1], posed_neck[::-1]])
    outlines = [outline]
    landmarks = _trunk_landmarks(trunk, ends, posed_neck, posed_side, posed_hem)
    if design.neckline == "straps":
        outlines, landmarks = _with_straps(trunk, figure, armholes, posed_side, posed_hem, landmarks)
    if design.closure == "open" and not figure.back:
        outlines = _open_fronts(trunk, figure, armholes, posed_side, posed_hem, posed_neck)
    part = Part(outlines, design.colour, tile, _surface(trunk, figure), relief=7.5, gloss=design.gloss, landmarks=landmarks, shadow=0.25)
    _add_seams(part, trunk, figure, posed_hem)
    _add_folds(part, trunk, figure, generator)
    return part


def _trunk_landmarks(trunk: Trunk, ends: list[tuple[Points, Points]], neck: Points, sides: list[Points], hem: Points) -> dict[int, Points]:
    design = trunk.design
    marks: dict[int, Points] = {NECKLINE[0]: neck[0], NECKLINE[1]: neck[-1]}
    hems = HEMLINE if design.category == "dress" else TOP_HEM
    if design.category != "outwear":
        marks[CENTER_FRONT] = neck[len(neck) // 2]
    for index in (0, 1):
        if not trunk.bare:
            marks[SHOULDER[index]] = ends[index][0]
        marks[ARMPIT[index]] = ends[index][1]
        marks[hems[index]] = hem[(0, -1)[index]]
        if design.category != "blouse" and design.waist is not None:
            nearest = int(np.argmin(np.abs(trunk.side[:, 1] - design.waist)))
            marks[WAISTLINE[index]] = sides[index][nearest]
    return marks


def _with_straps(
    trunk: Trunk, figure: Figure, armholes: list[Points], sides: list[Points], hem: Points, marks: dict[int, Points]
) -> tuple[list[Points], dict[int, Points]]:
    """A bodice cut straight or in a shallow V below two thin straps."""
    top, depth = 8.5, trunk.design.neck_depth
    corner = trunk.neck[0] + 2.0
    u = np.linspace(-1, 1, 13)
    edge = np.stack([u * corner, top + (1 - np.abs(u) ** 1.3) * (depth - top)], axis=1)
    posed = figure.torso(edge, np.sqrt(1 - 0.9 * u**2))
    body = np.concatenate([armholes[0], sides[0][1:], hem[1:-1], sides[1][:0:-1], armholes[1][::-1], posed[::-1]])
    straps: list[Points] = []
    for sign in (-1.0, 1.0):
        inner, outer = trunk.neck[0], trunk.neck[0] + 1.5
        shape = points_of((inner, -0.9), (outer, -0.5), (corner + 0.2, top + 2), (corner - 1.3, top + 2)) * (sign, 1.0)
        straps.append(figure.torso(shape, np.array([0.0, 0.0, 0.35, 0.4])))
    marks = {**marks, NECKLINE[0]: straps[0][0], NECKLINE[1]: straps[1][0], CENTER_FRONT: posed[6]}
    return [body, *straps], marks


def _open_fronts(
    trunk: Trunk, figure: Figure, armholes: list[Points], sides: list[Points], hem: Points, neck: Points
) -> list[Points]:
    gap = _open_gap(trunk)
    fronts: list[Points] = []
    middle = len(hem) // 2
    for index, sign in ((0, -1.0), (1, 1.0)):
        edge = figure.torso(gap * (sign, 1.0), np.linspace(0.3, 0.9, len(gap)))
        corner = neck[(0, -1)[index]]
        half = hem[: middle - 3] if index == 0 else hem[middle + 4 :][::-1]
        inside = half[(half[:, 0] - edge[-1, 0]) * sign > 0]
        fronts.append(np.concatenate([armholes[index], sides[index][1:], inside, edge[::-1], corner[None]]))
    return fronts


def _add_seams(part: Part, trunk: Trunk, figure: Figure, hem: Points) -> None:
    """Front closure, hem stitching, waist seam, pockets, tiers."""
    design = trunk.design
    along = np.linspace(trunk.neck_curve()[8, 1] + 0.5, design.length + design.hem_sag, 9)
    part.strokes.append(Stroke(hem + (0, -2.0), 0.25, 0.82))
    if design.waist is not None and not design.belt and design.category == "dress":
        part.strokes.append(_across(trunk, figure, design.waist, 0.4, 0.7))
    for tier in range(design.tiers):
        start = (design.waist or WAIST) + 6
        part.strokes.append(_across(trunk, figure, start + (design.length - start) * tier / design.tiers, 0.5, 0.68))
    if figure.back:
        part.strokes.append(Stroke(figure.torso(np.stack([0 * along, along], axis=1), 1.0), 0.3, 0.8))
        return
    if design.closure in ("buttons", "double", "zip"):
        shift = 4.5 if design.closure == "double" else 1.4
        center = figure.torso(np.stack([np.full(9, 0.0 if design.closure == "zip" else shift), along], axis=1), 1.0)
        metal = (178.0, 176.0, 170.0)
        part.strokes.append(Stroke(center, 0.9, colour=metal) if design.closure == "zip" else Stroke(center, 0.3, 0.66))
        columns = {"buttons": (0.0,), "double": (-4.5, 3.0), "zip": ()}[design.closure]
        last = min(design.length - 4, 62 if design.category == "outwear" else design.length)
        for x in columns:
            for y in np.arange(along[0] + 3, last, 8.5 if design.category != "outwear" else 13):
                part.dots.append(Dot(figure.torso(points_of((x, y)), 1.0)[0], 0.75 if design.category != "outwear" else 1.3, shade(design.accent, 0.8)))
    _add_pockets(part, trunk, figure)


def _across(trunk: Trunk, figure: Figure, y: float, width: float, tone: float) -> Stroke:
    """A horizontal seam, bowed a little because the body is round."""
    u = np.linspace(-1, 1, 9)
    line = np.stack([u * trunk.width(y), y + 1.0 * (1 - u**2)], axis=1)
    return Stroke(figure.torso(line), width, tone)


def _add_pockets(part: Part, trunk: Trunk, figure: Figure) -> None:
    design = trunk.design
    if design.pockets == "none":
        return
    low = design.category == "outwear"
    y, half, height = (min(52.0, design.length - 16), 6.0, 13.0) if low else (20.0, 4.2, 9.0)
    for sign in (-1.0, 1.0) if low else (1.0,):
        x = sign * (11.5 if low else 8.0)
        box = points_of((x - half, y), (x + half, y), (x + half, y + height), (x - half, y + height), (x - half, y))
        if design.pockets == "slant":
            box = points_of((x - sign * 2, y - 5), (x + sign * 3.5, y + 9))
        elif design.pockets == "flap":
            box = box * (1.0, 1.0) - (0, 0)
            box[2:4, 1] = y + 5.5
        part.strokes.append(Stroke(figure.torso(box, 0.6), 0.45, 0.62))


def _add_folds(part: Part, trunk: Trunk, figure: Figure, generator: np.random.Generator) -> None:
    """Creases from the armpits and the waist, long folds in a wide skirt, pleats where the design has them."""
    design = trunk.design
    softness = 0.45 + 0.06 * design.ease
    for sign in (-1.0, 1.0):
        for _ in range(int(generator.integers(1, 4))):
            start = trunk.armpit * (sign, 1.0) + (-sign * generator.uniform(0.5, 2), generator.uniform(-3, 6))
            end = np.array([sign * generator.uniform(1, 8), start[1] + generator.uniform(-6, 14)])
            middle = (start + end) / 2 + generator.normal(0, 1.2, 2)
            part.folds.append(Fold(figure.torso(spline(np.array([start, middle, end]), 3), 0.5), generator.uniform(0.8, 1.8), softness * generator.uniform(0.4, 1)))
        for _ in range(int(generator.integers(1, 4))):
            y = (design.waist or WAIST) + generator.normal(0, 5)
            start = np.array([sign * float(trunk.width(y)), y])
            end = np.array([sign * generator.uniform(0, 8), y + generator.uniform(-8, 8)])
            part.folds.append(Fold(figure.torso(spline(np.array([start, (start + end) / 2 + (0, 1.5), end]), 3), 0.5), generator.uniform(0.8, 2), softness * generator.uniform(0.3, 0.9)))
    if design.length > 70:
        add_skirt_folds(part, trunk.width, figure, design, (design.waist or 30.0, design.length), generator)
    elif design.weave != "denim":
        add_skirt_folds(part, trunk.width, figure, design, (design.length - generator.uniform(10, 25), design.length), generator)


def add_skirt_folds(part: Part, width, figure: Figure, design: Design, span: tuple[float, float], generator: np.random.Generator) -> None:  # noqa: ANN001
    """Folds that hang from the upper to the lower height of `span`; even and sharp when the cloth is pleated."""
    top, bottom = span
    if design.pleats:
        us = np.linspace(-0.95, 0.95, design.pleats)
    else:
        count = int(generator.integers(2, 5) + max(design.hem - 20, 0) / 4)
        us = generator.uniform(-0.92, 0.92, count)
    for u in us:
        start = top + (0.5 if design.pleats else generator.uniform(0.05, 0.6) * (bottom - top))
        y = np.linspace(bottom + 1, start, 5)
        drift = np.zeros(5) if design.pleats else np.linspace(generator.normal(0, 0.03), 0, 5)
        line = np.stack([(u + drift) * width(y), y + design.hem_sag * (1 - u * u) * (y - top) / (bottom - top)], axis=1)
        depth = generator.uniform(0.5, 0.9) if not design.pleats else 0.75
        part.folds.append(Fold(figure.torso(line, 0.8 * np.sqrt(1 - u * u)), generator.uniform(1.0, 2.4) if not design.pleats else 0.9, depth))
        if design.pleats:
            part.strokes.append(Stroke(figure.torso(line, 0.8 * np.sqrt(1 - u * u)), 0.25, 0.75))


def _back_panel(trunk: Trunk, figure: Figure) -> Part:
    """The inside of the back, seen through the neckline and an open front."""
    front, back = trunk.neck_curve(), trunk.neck_curve(back=not figure.back)
    lower = trunk.side[-1, 1] if trunk.design.closure == "open" else max(front[:, 1].max() + 3, 20.0)
    neck = figure.torso(back, 0.0)
    width = float(trunk.width(lower))
    bottom = figure.torso(points_of((width * 0.97, lower), (-width * 0.97, lower)))
    ends = [shoulder_and_armpit(trunk, figure, index) for index in (0, 1)]
    if trunk.bare:
        outline = np.concatenate([figure.torso(points_of((-14.5, 13), (14.5, 13))), bottom])
    else:
        outline = np.concatenate([neck, ends[1][0][None], ends[1][1][None], bottom, ends[0][1][None], ends[0][0][None]])
    label = figure.torso(points_of((0, back[8, 1] + 2.2)))[0]
    part = Part([outline], shade(trunk.design.colour, 0.62), relief=6.0, shadow=0.3)
    if figure.setting != "model":
        part.dots.append(Dot(label, 1.2, (235.0, 232.0, 225.0)))
    return part


def _sleeve(trunk: Trunk, figure: Figure, index: int, tile: NDArray[np.uint8], generator: np.random.Generator) -> tuple[Part | None, Limb]:
    design = trunk.design
    shoulder, armpit = shoulder_and_armpit(trunk, figure, index)
    limb = figure.arm(index, shoulder, armpit)
    cover = design.sleeve
    if cover == 0:
        return None, limb
    slim = 0.3 if design.sleeve_shape == "slim" else 1.0
    start, elbow, wrist = 6.4 + 0.55 * design.ease * slim, 5.4 + 0.5 * design.ease * slim, 4.3 + 0.4 * design.ease * slim

    def width(t: float) -> float:
        base = float(np.interp(t, [0.1, 0.55, 1.0], [start, elbow, wrist]))
        share = t / cover
        if design.sleeve_shape == "bell":
            base += 5.0 * max(share - 0.45, 0) ** 1.5 * (1 + cover)
        elif design.sleeve_shape == "puff":
            base += 3.4 * np.sin(np.pi * np.clip(share, 0, 1)) ** 0.8 - 0.8 * share
        return max(base, 3.4)

    outlines, inner, outer = limb.outlines(cover, width)
    sign = (-1.0, 1.0)[index]
    cap = ellipse(tuple(shoulder * 0.6 + armpit * 0.4 - (sign * 5.0, 2.0)), 7.0, 8.5)
    part = Part(
        outlines, design.colour, tile, limb.surface(), relief=4.5, rounded_with=[cap], gloss=design.gloss, shadow=0.4,
        landmarks={CUFF_IN[index]: inner, CUFF_OUT[index]: outer},
    )  # fmt: skip
    _dress_sleeve(part, limb, design, width, generator)
    return part, limb


def _dress_sleeve(part: Part, limb: Limb, design: Design, width, generator: np.random.Generator) -> None:  # noqa: ANN001
    """Cuff, armhole seam and creases."""
    cover = design.sleeve

    def cross(t: float, share: float) -> Points:
        centre, normal = limb.place(t)
        return centre + normal * (width(t) * share)

    band = 0.09 if design.collar == "shirt" or design.trim else 0.035
    cuff = np.array([cross(cover - band * min(cover, 0.8), share) for share in (-1.0, 0.0, 1.0)])
    part.strokes.append(Stroke(cuff, 0.4, 0.68))
    if design.trim:
        for edge in (0.015, 0.045):
            line = np.array([cross(cover - edge * cover, share) for share in (-1.0, 1.0)])
            part.strokes.append(Stroke(line, 1.3, colour=design.accent))
    part.strokes.append(Stroke(np.array([limb.outer_root, (limb.outer_root + limb.inner_root) / 2, limb.inner_root]), 0.35, 0.74))
    bend = limb.bend()
    if cover > bend + 0.05:
        for _ in range(int(generator.integers(2, 5))):
            t = bend + generator.normal(0, 0.05)
            line = np.array([cross(t + d, share) for d, share in ((0.0, -0.95), (generator.normal(0, 0.02), -0.2), (generator.normal(0, 0.06), 0.6))])
            part.folds.append(Fold(line, generator.uniform(0.7, 1.5), generator.uniform(0.4, 0.9)))
    for _ in range(int(generator.integers(1, 4))):
        t, share = generator.uniform(0.1, 0.5) * cover, generator.uniform(-0.5, 0.6)
        line = np.array([cross(t + d * cover, share + s) for d, s in ((0.0, 0.0), (0.15, generator.normal(0, 0.2)), (0.35, generator.normal(0, 0.3)))])
        part.folds.append(Fold(line, generator.uniform(0.8, 1.8), generator.uniform(0.25, 0.7)))
    if design.sleeve_shape == "puff":
        for share in (-0.6, -0.25, 0.1, 0.4, 0.75):
            line = np.array([cross(cover * d, share * s) for d, s in ((0.97, 1.0), (0.85, 0.95), (0.7, 0.9))])
            part.folds.append(Fold(line, 0.9, 0.7))


def _belt(trunk: Trunk, figure: Figure, body: Part) -> Part:
    """A belt at the waist, which takes over the waistline points."""
    y = trunk.waist[1]
    u = np.linspace(-1, 1, 9)
    upper = np.stack([u * (trunk.width(y - 1.8) + 0.3), y - 1.8 + 1.0 * (1 - u**2)], axis=1)
    lower = np.stack([u * (trunk.width(y + 1.8) + 0.3), y + 1.8 + 1.0 * (1 - u**2)], axis=1)
    own = trunk.design.category == "outwear"
    colour = shade(trunk.design.colour, 0.8) if own else trunk.design.accent
    marks = {index: body.landmarks.pop(index) for index in WAISTLINE if index in body.landmarks}
    belt = Part([figure.torso(np.concatenate([upper, lower[::-1]]))], colour, relief=2.5, shadow=0.3, landmarks=marks)
    if not figure.back:
        buckle = figure.torso(points_of((-2.2, y - 0.9), (2.2, y - 0.9), (2.2, y + 2.6), (-2.2, y + 2.6), (-2.2, y - 0.9)), 1.0)
        belt.strokes.append(Stroke(buckle, 0.6, colour=(200.0, 180.0, 120.0) if not own else shade(colour, 0.6)))
    return belt


def _motif(trunk: Trunk, figure: Figure) -> Part:
    """A print on the chest."""
    centre = np.array([0.0, 24.0])
    if trunk.design.motif == "disc":
        outlines = [ellipse(tuple(centre), 6.5, 6.5, 24)]
    elif trunk.design.motif == "star":
        angle = np.arange(10) * np.pi / 5
        radius = np.where(np.arange(10) % 2 == 0, 8.0, 3.4)
        outlines = [centre + np.stack([radius * np.sin(angle), -radius * np.cos(angle)], axis=1)]
    else:
        bar = points_of((-9, -1.2), (9, -1.2), (9, 1.2), (-9, 1.2))
        outlines = [bar + centre + (0, 4.2 * row) for row in (-1, 0, 1)]
    return Part([figure.torso(outline, 0.95) for outline in outlines], trunk.design.accent, relief=0.0, shadow=0.0)


def _add_collar(garment: Garment, trunk: Trunk, figure: Figure, tile: NDArray[np.uint8], body: Part) -> None:
    """Collars lie on the trunk and take over the neckline points that they cover."""
    from fprep.garments.collars import build_collar

    behind, front = build_collar(trunk.design, figure, tile, body)
    garment.behind[:0] = behind
    garment.trunk += front


__all__ = ["Garment", "Trunk", "build_top", "mirror", "rotate", "shade"]
