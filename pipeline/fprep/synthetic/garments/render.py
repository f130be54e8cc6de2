"""From a design and a source of chance to an image with its points."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.garments.backgrounds import draw_background
from fprep.synthetic.garments.canvas import Canvas
from fprep.synthetic.garments.design import Design
from fprep.synthetic.garments.figure import Figure, draw_figure
from fprep.synthetic.garments.people import (
    Person,
    arm_skin,
    body_parts,
    draw_person,
    hair_behind,
    hair_locks,
    head_parts,
    leg_parts,
    occluders,
)
from fprep.synthetic.garments.photograph import develop, draw_photograph, frame
from fprep.synthetic.garments.shapes import Part, points_of, shift, spline
from fprep.synthetic.garments.skirts import build_skirt
from fprep.synthetic.garments.tops import build_top
from fprep.synthetic.garments.trousers import build_trousers
from fprep.synthetic.garments.trunk import Garment
from fprep.synthetic.garments.wardrobe import plain_design
from fschemas.landmarks import FASHIONAI_24, Visibility


@dataclass(frozen=True)
class Image:
    """`image` (H, W, 3) RGB, `points` (24, 2) pixel centers, 0 where absent, `visibility` (24,) values of `Visibility`."""

    image: NDArray[np.uint8]
    points: NDArray[np.float32]
    visibility: NDArray[np.int8]
    category: str


def render(design: Design, photograph_rng: np.random.Generator, size: int = 512) -> Image:
    """Photograph a garment: the longer side of the image has `size` pixels.

    Everything but the garment is drawn from `photograph_rng`; equal states give equal pixels.
    """
    generator = photograph_rng
    photograph = draw_photograph(generator, size)
    figure = draw_figure(generator, design.category, stride(design))
    person = draw_person(generator)
    garment = build(design, figure, generator)
    camera = frame(photograph, np.concatenate([outline for part in garment.parts() for outline in part.outlines]))
    background = draw_background(generator, photograph.height, photograph.width, figure.setting)
    canvas = Canvas(background, camera, np.array(photograph.lamp), generator)
    scene = (
        _worn(design, garment, figure, person, generator)
        if figure.setting == "model"
        else still_parts(design, garment, figure)
    )
    for part in scene:
        canvas.paint(part)
    reach = (0.02 if figure.setting == "flat" else 0.06) * size
    canvas.cast_shadow(-np.array(photograph.lamp) * reach, reach * 0.7, photograph.shadow)
    image = develop(photograph, canvas.lit(), generator)
    points, visibility = _annotate(canvas, design, image.shape[1], image.shape[0])
    return Image(image, points, visibility, design.category)


def build(design: Design, figure: Figure, generator: np.random.Generator) -> Garment:
    """Parts of a garment of any category."""
    builder = {"skirt": build_skirt, "trousers": build_trousers}.get(design.category, build_top)
    return builder(design, figure, generator)


def stride(design: Design) -> float:
    """How far legs can part in the garment, 0 … 1: little in a narrow skirt."""
    return 0.3 if design.category in ("dress", "skirt") and design.hem < 24 else 1.0


def _worn(
    design: Design, garment: Garment, figure: Figure, person: Person, generator: np.random.Generator
) -> list[Part]:
    """The garment on a wearer with the rest of an outfit, in the order of painting."""
    under: list[Part] = []
    over: list[Part] = []
    behind: list[Part] = []
    arms, sleeves = garment.arms, garment.sleeves
    if design.category in ("blouse", "outwear"):
        lower = "trousers" if generator.random() < 0.6 else "skirt"
        under += _companion(generator, lower, figure).trunk
    if design.category == "outwear" and not figure.back:
        inner = _companion(generator, "blouse", figure)
        under += inner.trunk
        behind += inner.behind
    if design.category in ("skirt", "trousers"):
        loose = generator.random() < 0.2
        upper = _companion(generator, "blouse", figure, None if loose else (design.waist or 40.0) + 8)
        (over if loose else under).extend(upper.trunk)
        behind += upper.behind
        arms, sleeves = upper.arms, upper.sleeves
    limbs = [
        [arm_skin(person, arm), *([sleeve] if sleeve is not None else [])]
        for arm, sleeve in zip(arms, sleeves, strict=True)
    ]
    hidden = [parts for parts, arm in zip(limbs, figure.arms, strict=True) if arm.behind]
    shown = [parts for parts, arm in zip(limbs, figure.arms, strict=True) if not arm.behind]
    scene = [*hair_behind(person, figure), *garment.behind, *behind, *(part for parts in hidden for part in parts)]
    scene += [*leg_parts(person, figure), *body_parts(person, figure)]
    head = head_parts(person, figure)
    if not figure.back:
        scene += head
    scene += [*under, *garment.trunk, *over]
    if figure.back:
        scene += head
    for parts in shown:
        scene += parts
    return [*scene, *hair_locks(person, figure), *occluders(generator, figure, arms)]


def _companion(
    generator: np.random.Generator, category: str, figure: Figure, tucked_at: float | None = None
) -> Garment:
    """Another garment of the outfit, without landmarks; a tucked top ends narrow at the height `tucked_at`."""
    design = plain_design(generator, category)
    if tucked_at is not None:
        design = replace(design, length=tucked_at, hem=12.0, hem_sag=0.0, ease=min(design.ease, 3.0))
    garment = build(design, figure, generator)
    for part in garment.parts():
        part.landmarks = {}
    return garment


def still_parts(design: Design, garment: Garment, figure: Figure) -> list[Part]:
    """The garment alone."""
    scene: list[Part] = []
    if figure.setting == "hanger":
        wood = (186.0, 150.0, 104.0)
        hook = spline(points_of((0, -3), (0, -9), (2.4, -12), (0, -15), (-2.4, -12.5)), 5)
        top = -1.5 if design.category in ("blouse", "outwear", "dress") else (design.waist or 40.0) - 1.0
        wide = 15.0 if top < 0 else 13.0
        bar = points_of(
            (-wide, top + 3.5),
            (-2, top - 1.8),
            (2, top - 1.8),
            (wide, top + 3.5),
            (wide - 1, top + 5.5),
            (0, top + 1),
            (-wide + 1, top + 5.5),
        )
        scene.append(Part([figure.torso(bar)], wood, relief=1.0))
        stem = figure.torso(shift(hook, 0, top + 1.5))
        scene.append(
            Part(
                [np.concatenate([shift(stem, -0.35, 0), shift(stem, 0.35, 0)[::-1]])], (190.0, 190.0, 195.0), relief=0.6
            )
        )
    scene = [*garment.behind, *scene, *garment.trunk]
    return [*scene, *(sleeve for sleeve in garment.sleeves if sleeve is not None)]


def _annotate(canvas: Canvas, design: Design, width: int, height: int) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Points (24, 2) and visibility (24,); what lies outside the image or was not sewn is absent."""
    points = np.zeros((len(FASHIONAI_24), 2), np.float32)
    visibility = np.full(len(FASHIONAI_24), Visibility.NOT_APPLICABLE, np.int8)
    valid = FASHIONAI_24.valid_points(design.category)
    visibility[list(valid)] = Visibility.ABSENT
    for index, (point, seen) in canvas.visible().items():
        assert index in valid, f"{design.category} has no {FASHIONAI_24.points[index]}"
        if -0.5 <= point[0] < width - 0.5 and -0.5 <= point[1] < height - 0.5:
            points[index] = point
            visibility[index] = Visibility.VISIBLE if seen else Visibility.OCCLUDED
    return points, visibility
