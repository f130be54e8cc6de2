"""Blouses, coats and dresses: the trunk and what is sewn to it. Built upright, then posed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.garments.body import Figure
from fprep.synthetic.garments.collars import build_collar
from fprep.synthetic.garments.design import Design
from fprep.synthetic.garments.prints import cloth_tile
from fprep.synthetic.garments.seams import add_folds, add_seams
from fprep.synthetic.garments.shapes import Part, Points, Rng, ellipse, path, points_of, shift, spline
from fprep.synthetic.garments.sleeves import build_sleeve
from fprep.synthetic.garments.trunk import Garment, Trunk, shade

NECKLINE, CENTER_FRONT, SHOULDER, ARMPIT, WAISTLINE, TOP_HEM, HEMLINE = (
    (0, 1),
    2,
    (3, 4),
    (5, 6),
    (7, 8),
    (13, 14),
    (17, 18),
)
# indices of FASHIONAI_24, viewer's left first


def build_top(design: Design, figure: Figure, generator: Rng) -> Garment:
    """Return the parts of a blouse, coat or dress in the pose of the figure."""
    trunk = Trunk(design, figure)
    tile = cloth_tile(design.cloth, design.color, design.weave)
    body = _body(trunk, figure, tile, generator)
    garment = Garment(behind=[_back_panel(trunk, figure)], trunk=[body])
    if design.motif != "none" and not figure.back:
        garment.trunk.append(_motif(design, figure))
    if design.belt and design.waist is not None:
        garment.trunk.append(_belt(trunk, figure, body))
    for index in (0, 1):
        sleeve, arm = build_sleeve(trunk, figure, index, tile, generator)
        garment.sleeves.append(sleeve)
        garment.arms.append(arm)
    if design.collar != "none":
        behind, front = build_collar(design, figure, tile, body)
        garment.behind[:0] = behind
        garment.trunk += front
    return garment


@dataclass
class _Seams:
    """Posed outlines of a trunk: armholes (shoulder to armpit), sides (downward), neckline and hem (left to right)."""

    armholes: tuple[Points, Points]
    sides: tuple[Points, Points]
    neck: Points
    hem: Points

    def outline(self, neck: Points) -> Points:
        """Return the outline of the trunk below the given neckline."""
        (left_arm, right_arm), (left, right) = self.armholes, self.sides
        return np.concatenate([left_arm, left[1:], self.hem[1:-1], right[:0:-1], right_arm[::-1], neck[::-1]])


def _pose(trunk: Trunk, figure: Figure, generator: Rng) -> _Seams:
    neck, hem = trunk.neck_curve(back=figure.back), trunk.hem_curve(generator)
    left, right = figure.torso(trunk.side * (-1.0, 1.0)), figure.torso(trunk.side)
    posed_neck = figure.torso(neck, np.sqrt(np.clip(1 - (neck[:, 0] / trunk.neck[0]) ** 2, 0, 1)))
    posed_hem = figure.torso(hem, 0.8 * np.sqrt(np.clip(1 - (hem[:, 0] / trunk.side[-1, 0]) ** 2, 0, 1)))
    posed_hem[0], posed_hem[-1] = left[-1], right[-1]
    hollow = 2.2 if trunk.design.sleeve == 0 else -0.8

    def armhole(index: int) -> Points:
        shoulder, armpit = trunk.armhole(figure, index)
        if trunk.bare:
            return armpit[None]
        middle = 0.45 * shoulder + 0.55 * armpit - ((-1.0, 1.0)[index] * hollow, 0.0)
        return spline(np.array([shoulder, middle, armpit]), 4)

    return _Seams((armhole(0), armhole(1)), (left, right), posed_neck, posed_hem)


def _body(trunk: Trunk, figure: Figure, tile: NDArray[np.uint8], generator: Rng) -> Part:
    design = trunk.design
    seams = _pose(trunk, figure, generator)
    landmarks = _landmarks(trunk, seams)
    outlines = [seams.outline(seams.neck)]
    if design.neckline == "straps":
        edge, straps = _straps(trunk, figure)
        outlines = [seams.outline(edge), *straps]
        landmarks |= {NECKLINE[0]: straps[0][0], NECKLINE[1]: straps[1][0]}
        if CENTER_FRONT in landmarks:
            landmarks[CENTER_FRONT] = edge[len(edge) // 2]
    elif design.closure == "open" and not figure.back:
        outlines = _open_fronts(trunk, figure, seams)
    surface = trunk.width.surface(figure, float(trunk.armpit[0]))
    part = Part(outlines, design.color, tile, surface, relief=7.5, gloss=design.gloss, landmarks=landmarks, shadow=0.25)
    add_seams(part, trunk, figure, seams.hem)
    add_folds(part, trunk, figure, generator)
    return part


def _landmarks(trunk: Trunk, seams: _Seams) -> dict[int, Points]:
    """Return the landmarks on the trunk of the design: no shoulder for strapless tops, no waistline without a waist."""
    design = trunk.design
    marks: dict[int, Points] = {NECKLINE[0]: seams.neck[0], NECKLINE[1]: seams.neck[-1]}
    if design.category != "outwear":
        marks[CENTER_FRONT] = seams.neck[len(seams.neck) // 2]
    for index in (0, 1):
        if not trunk.bare:
            marks[SHOULDER[index]] = seams.armholes[index][0]
        marks[ARMPIT[index]] = seams.armholes[index][-1]
        marks[(HEMLINE if design.category == "dress" else TOP_HEM)[index]] = seams.hem[(0, -1)[index]]
        if design.category != "blouse" and design.waist is not None:
            nearest = int(np.argmin(np.abs(trunk.side[:, 1] - design.waist)))
            marks[WAISTLINE[index]] = seams.sides[index][nearest]
    return marks


def _straps(trunk: Trunk, figure: Figure) -> tuple[Points, list[Points]]:
    """Return the upper edge of a bodice, a shallow V, and its two thin straps, which start at the neck."""
    top, corner = 8.5, float(trunk.neck[0]) + 2.0
    u = np.linspace(-1, 1, 13)
    edge = np.stack([u * corner, top + (1 - np.abs(u) ** 1.3) * (trunk.design.neck_depth - top)], axis=1)
    strap = points_of((corner - 2.0, -0.9), (corner - 0.5, -0.5), (corner + 0.2, top + 2), (corner - 1.3, top + 2))
    straps = [figure.torso(strap * (sign, 1.0), np.array([0.0, 0.0, 0.35, 0.4])) for sign in (-1.0, 1.0)]
    return figure.torso(edge, np.sqrt(1 - 0.9 * u**2)), straps


def _open_fronts(trunk: Trunk, figure: Figure, seams: _Seams) -> list[Points]:
    """Return the two halves of an open coat."""
    gap, middle = trunk.gap(), len(seams.hem) // 2
    fronts: list[Points] = []
    for index, sign in ((0, -1.0), (1, 1.0)):
        edge = figure.torso(gap * (sign, 1.0), np.linspace(0.3, 0.9, len(gap)))
        hem = seams.hem[: middle - 3] if index == 0 else seams.hem[middle + 4 :][::-1]
        hem = hem[(hem[:, 0] - edge[-1, 0]) * sign > 0]
        corner = seams.neck[(0, -1)[index]]
        fronts.append(np.concatenate([seams.armholes[index], seams.sides[index][1:], hem, edge[::-1], corner[None]]))
    return fronts


def _back_panel(trunk: Trunk, figure: Figure) -> Part:
    """Return the inside of the back with its label, visible through the neckline and an open front."""
    neck = trunk.neck_curve(back=not figure.back)
    lowest = float(trunk.neck_curve()[:, 1].max())
    lower = float(trunk.side[-1, 1]) if trunk.design.closure == "open" else max(lowest + 3, 20.0)
    width = 0.97 * trunk.width(lower)
    bottom = figure.torso(points_of((width, lower), (-width, lower)))
    (left, left_armpit), (right, right_armpit) = trunk.armhole(figure, 0), trunk.armhole(figure, 1)
    if trunk.bare:
        outline = np.concatenate([figure.torso(points_of((-14.5, 13), (14.5, 13))), bottom])
    else:
        ends = np.array([right, right_armpit]), np.array([left_armpit, left])
        outline = np.concatenate([figure.torso(neck), ends[0], bottom, ends[1]])
    part = Part([outline], shade(trunk.design.color, 0.62), relief=6.0, shadow=0.3)
    if figure.setting != "model":
        part.dot(figure.torso(points_of((0, neck[8, 1] + 2.2)))[0], 1.2, (235.0, 232.0, 225.0))
    return part


def _belt(trunk: Trunk, figure: Figure, body: Part) -> Part:
    """Return a belt at the waist, which gets the waistline landmarks."""
    y, u = trunk.waist, np.linspace(-1, 1, 9)
    upper, lower = (
        np.stack([u * (trunk.width(height) + 0.3), height + 1.0 * (1 - u**2)], axis=1) for height in (y - 1.8, y + 1.8)
    )
    own_cloth = trunk.design.category == "outwear"
    color = shade(trunk.design.color, 0.8) if own_cloth else trunk.design.accent
    marks = {index: body.landmarks.pop(index) for index in WAISTLINE if index in body.landmarks}
    belt = Part([figure.torso(np.concatenate([upper, lower[::-1]]))], color, relief=2.5, shadow=0.3, landmarks=marks)
    if not figure.back:
        buckle = path("-2.2,-0.9 2.2,-0.9 2.2,2.6 -2.2,2.6 -2.2,-0.9")
        metal = shade(color, 0.6) if own_cloth else (200.0, 180.0, 120.0)
        belt.stroke(figure.torso(shift(buckle, 0, y), 1.0), 0.6, color=metal)
    return belt


def _motif(design: Design, figure: Figure) -> Part:
    """Return a print on the chest."""
    center = np.array([0.0, 24.0])
    if design.motif == "disc":
        outlines = [ellipse(tuple(center), 6.5, 6.5, 24)]
    elif design.motif == "star":
        angle = np.arange(10) * np.pi / 5
        radius = np.where(np.arange(10) % 2 == 0, 8.0, 3.4)
        outlines = [center + np.stack([radius * np.sin(angle), -radius * np.cos(angle)], axis=1)]
    else:
        bar = path("-9,-1.2 9,-1.2 9,1.2 -9,1.2")
        outlines = [shift(bar + center, 0, 4.2 * row) for row in (-1, 0, 1)]
    return Part([figure.torso(outline, 0.95) for outline in outlines], design.accent, relief=0.0, shadow=0.0)
