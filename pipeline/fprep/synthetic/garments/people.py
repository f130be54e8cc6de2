"""The wearer (skin, hair, shoes), and objects between garment and camera."""

from dataclasses import dataclass

import numpy as np

from fprep.synthetic.garments.body import Figure
from fprep.synthetic.garments.shapes import (
    Color,
    Dot,
    Limb,
    Part,
    Points,
    Rng,
    Stroke,
    ellipse,
    loop,
    path,
    points_of,
    rotate,
    shift,
    spline,
)
from fprep.synthetic.garments.wardrobe import draw_color

_SKINS: tuple[Color, ...] = (
    (236, 200, 178), (226, 182, 152), (206, 158, 124), (168, 118, 86), (120, 80, 58), (242, 212, 194),
)  # fmt: skip
_SHOE = loop(path("-3.6,-2 3.6,-2 4.6,4 5.4,9.5 0,11.5 -4.8,9.5 -4.4,4"), 3)
_HAIRS: tuple[Color, ...] = ((32, 26, 24), (58, 40, 30), (96, 64, 40), (150, 108, 62), (200, 168, 112), (24, 22, 26))


@dataclass(frozen=True)
class Person:
    """The looks of the wearer."""

    skin: Color
    hair: Color
    hair_style: str  # short, bob, long, bun
    hair_front: tuple[bool, bool]  # a lock over the shoulder, by side
    shoe: Color
    tights: Color | None


def draw_person(generator: Rng) -> Person:
    """Sample a wearer."""
    skin = _SKINS[int(generator.integers(len(_SKINS)))]
    return Person(
        skin=skin,
        hair=_HAIRS[int(generator.integers(len(_HAIRS)))],
        hair_style=str(generator.choice(["short", "bob", "long", "bun"], p=[0.2, 0.2, 0.4, 0.2])),
        hair_front=(bool(generator.random() < 0.6), bool(generator.random() < 0.6)),
        shoe=draw_color(generator),
        tights=(40.0, 38.0, 44.0) if generator.random() < 0.12 else None,
    )


def body_parts(person: Person, figure: Figure) -> list[Part]:
    """Return neck, chest and hips in skin color, below the clothes."""
    half = path("4.8,-11 5.2,-4 7.5,-1.6 15.5,1.2 17.6,4.5 15.4,17 13.0,38 17.6,58 17.4,72 0,76")
    outline = np.concatenate([half, (half * (-1.0, 1.0))[::-1]])
    trunk = Part([figure.torso(outline)], person.skin, relief=5.0, shadow=0.2)
    collarbones = [spline(path("2.0,1.8 8,0.8 14,0.8"), 3) * (sign, 1.0) for sign in (-1.0, 1.0)]
    trunk.strokes += [Stroke(figure.torso(bone, 0.6), 0.5, 0.88) for bone in collarbones]
    return [trunk]


def hair_behind(person: Person, figure: Figure) -> list[Part]:
    """Return long hair behind the shoulders."""
    if person.hair_style not in ("long", "bob") or figure.back:
        return []
    low = 14.0 if person.hair_style == "long" else -6.0
    outline = spline(
        points_of((-9.5, -24), (-11.5, -8), (-10, low), (0, low + 2), (10, low), (11.5, -8), (9.5, -24)), 4
    )
    return [Part([figure.torso(outline)], person.hair, relief=4.0, shadow=0.0)]


def head_parts(person: Person, figure: Figure) -> list[Part]:
    """Return a head with a face, or only hair in back views."""
    turn = 5.0 * np.sin(figure.yaw)
    skull = ellipse((0.35 * turn, -21.0), 7.6, 11.0, 22)
    face = Part([figure.torso(skull)], person.skin, relief=4.0, shadow=0.4)
    for side in (-1.0, 1.0):
        face.dot(figure.torso(points_of((side * 3.1 + turn, -21.5)))[0], 0.75, (52.0, 40.0, 36.0))
        brow = points_of((side * 1.9 + turn, -23.6), (side * 4.6 + turn, -23.8))
        face.stroke(figure.torso(brow), 0.5, 0.55)
    nose = points_of((turn * 1.25, -21), (0.5 + turn * 1.3, -17.6), (turn * 1.1 - 0.5, -17.4))
    mouth = points_of((turn - 2.2, -14.4), (turn, -14.0), (turn + 2.2, -14.4))
    face.stroke(figure.torso(nose), 0.35, 0.8)
    face.stroke(figure.torso(mouth), 0.8, color=(176.0, 84.0, 84.0))
    cap = loop(path("-8.2,-17 -8.8,-25 -5,-32.5 0,-34 5,-32.5 8.8,-25 8.2,-17 6.4,-25 1.5,-28.6 -5.8,-26.4"))
    parts = [face, Part([figure.torso(shift(cap, 0.2 * turn, 0))], person.hair, relief=3.0, shadow=0.25)]
    if person.hair_style == "bun":
        parts.insert(0, Part([figure.torso(ellipse((0, -35), 4.5, 4.5))], person.hair, relief=2.5, shadow=0.0))
    if figure.back:
        low = {"short": -12.0, "bun": -14.0, "bob": -6.0, "long": 16.0}[person.hair_style]
        outline = path(f"-8.6,-25 -9.4,-14 -8.5,{low} 0,{low + 2.5} 8.5,{low} 9.4,-14 8.6,-25 0,-34.5")
        parts.append(Part([figure.torso(loop(outline))], person.hair, relief=4.0, shadow=0.3))
    return parts


def hair_locks(person: Person, figure: Figure) -> list[Part]:
    """Return hair in front of the shoulders, which occludes the neckline and sometimes the shoulder seam."""
    if person.hair_style != "long" or figure.back:
        return []
    locks: list[Part] = []
    for sign, worn in zip((-1.0, 1.0), person.hair_front, strict=True):
        if worn:
            outline = loop(path("7.0,-27 8.8,-16 10.5,-2 12,10 9.5,22 6.2,12 5.4,0 6.2,-14"))
            lock = Part([figure.torso(outline * (sign, 1.0))], person.hair, relief=2.5, shadow=0.4)
            for shift in (-1.2, 0.8):
                strand = spline(points_of((7.6, -18), (8.4 + shift, -2), (9.0 + shift, 14)), 3) * (sign, 1.0)
                lock.stroke(figure.torso(strand), 0.4, 0.75)
            locks.append(lock)
    return locks


def arm_skin(person: Person, limb: Limb) -> Part:
    """Return a bare arm with its hand."""

    def width(t: float) -> float:
        return float(np.interp(t, [0, 0.15, 0.5, 0.65, 1.0], [5.2, 5.0, 3.9, 3.9, 2.6]))

    outlines, _, _ = limb.outlines(1.0, width)
    along = limb.end - limb.joint
    along = along / np.hypot(*along)
    angle = -np.arctan2(along[0], along[1])
    palm = spline(path("-2.5,-1 -3.3,5 -2.6,11 -1.2,16.5 1.3,16.8 2.4,11 3.2,5 2.5,-1"), 3)
    thumb = loop(path("1.5,1 4.2,5 4.9,10 3.3,10 2,6"), 3) * (-limb.side, 1.0)
    zero = np.zeros(2)
    hand = [rotate(shape, angle, zero) + limb.end for shape in (palm, thumb)]
    return Part([*outlines, *hand], person.skin, relief=3.0, shadow=0.35)


def leg_parts(person: Person, figure: Figure) -> list[Part]:
    """Return bare legs and shoes."""
    parts: list[Part] = []
    for index, sign in ((0, -1.0), (1, 1.0)):
        hip, crotch = figure.torso(points_of((sign * 17.6, 62), (0, 75)))
        limb = figure.leg(index, hip, crotch)

        def width(t: float) -> float:
            return float(np.interp(t, [0, 0.2, 0.45, 0.52, 0.68, 1.0], [9.5, 8.8, 6.2, 5.6, 5.9, 3.4]))

        outlines, _, _ = limb.outlines(1.0, width)
        parts.append(Part(outlines, person.tights or person.skin, relief=4.0, shadow=0.3))
        shoe = rotate(_SHOE, -0.22 * sign, np.zeros(2)) + shift(limb.end, 0.8 * sign, 0)
        parts.append(Part([shoe], person.shoe, relief=2.5, shadow=0.3))
    return parts


def occluders(generator: Rng, figure: Figure, arms: list[Limb]) -> list[Part]:
    """Sample occluders: usually none, else a bag in a hand or across the body, or a scarf."""
    roll = generator.random()
    color = draw_color(generator)
    lowered = [arm for arm in arms if arm.end[1] > arm.joint[1]]
    if roll < 0.13 and lowered:
        limb = lowered[int(generator.integers(len(lowered)))]
        return _bag(generator, shift(limb.end, 0, 12), color)
    if roll < 0.2:
        return _shoulder_bag(generator, figure, color)
    if roll < 0.25:
        ring = loop(path("-10,-5 -11,2 -5,8 2,9 8,6 11,0 9,-6 0,-3"))
        tail = loop(path("-3,5 4,5 7,38 -1,40"), 3)
        return [Part([figure.torso(shape)], color, relief=3.5, shadow=0.45) for shape in (tail, ring)]
    return []


def _bag(generator: Rng, hold: Points, color: Color) -> list[Part]:
    half, height = generator.uniform(9, 15), generator.uniform(15, 24)
    shape = path("-0.85,0 0.85,0 1.0,0.5 0.95,1.0 -0.95,1.0 -1.0,0.5") * (half, height)
    box = loop(shape + shift(hold, 0, 9), 3)
    handle = spline(path("-0.5,10 -0.3,1 0,-1.5 0.3,1 0.5,10") * (half, 1.0) + hold, 4)
    flap = points_of((-0.9 * half, 9 + 0.4 * height), (0.9 * half, 9 + 0.4 * height)) + hold
    strap = np.concatenate([handle, shift(handle, 0, 1.6)[::-1]])
    clasp = Dot(shift(hold, 0, 9 + 0.4 * height), 1.3, (212.0, 190.0, 120.0))
    bag = Part([box], color, relief=3.0, strokes=[Stroke(flap, 0.5, 0.6)], dots=[clasp])
    return [Part([strap], color, relief=0.8, shadow=0.2), bag]


def _shoulder_bag(generator: Rng, figure: Figure, color: Color) -> list[Part]:
    sign = float(generator.choice([-1.0, 1.0]))
    low = generator.uniform(48, 62)
    x = generator.uniform(11, 19)
    across = generator.random() < 0.5
    start = points_of((-sign * 13, 0.5) if across else (sign * generator.uniform(14, 18), 1.0))
    end = points_of((sign * x, low))
    line = np.concatenate([start, shift((start + end) / 2, sign, 0), end])
    strap = figure.torso(np.concatenate([shift(line, -1.1, 0), shift(line, 1.1, 0)[::-1]]), 0.5)
    hold = figure.torso(end, 0.5)[0]
    return [Part([strap], color, relief=1.0, shadow=0.3), *_bag(generator, shift(hold, 0, -12), color)[1:]]
