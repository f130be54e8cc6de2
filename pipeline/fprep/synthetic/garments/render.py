"""Render a design to an image with landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.garments.body import Figure, draw_figure
from fprep.synthetic.garments.design import Design
from fprep.synthetic.garments.people import Person, draw_person, occluders
from fprep.synthetic.garments.photograph import draw_photograph
from fprep.synthetic.garments.scene import build, companion, expose, locate, set_up, still_parts, stride, worn_parts
from fprep.synthetic.garments.shapes import Part, Rng
from fprep.synthetic.garments.trunk import Garment


@dataclass(frozen=True)
class Image:
    """A rendered garment.

    `image` is uint8 RGB (H, W, 3), `points` (24, 2) are landmarks in pixel centers (0 if absent), `visibility` (24,)
    are values of `Visibility`.
    """

    image: NDArray[np.uint8]
    points: NDArray[np.float32]
    visibility: NDArray[np.int8]
    category: str


def render(design: Design, photograph_rng: Rng, size: int = 512) -> Image:
    """Render a photograph of a garment; the longer side has `size` pixels.

    Everything but the garment is sampled from `photograph_rng`: the same state gives the same pixels.
    """
    generator = photograph_rng
    photo = draw_photograph(generator, size)
    figure = draw_figure(generator, design.category, stride(design))
    person = draw_person(generator)
    garment = build(design, figure, generator)
    canvas = set_up(photo, [garment], figure.setting, generator)
    if figure.setting == "model":
        scene = _worn(design, garment, figure, person, generator)
    else:
        scene = still_parts(design, garment, figure)
    image = expose(canvas, photo, scene, figure.setting, generator)
    return Image(image, *locate(canvas, design.category), design.category)


def _worn(design: Design, garment: Garment, figure: Figure, person: Person, generator: Rng) -> list[Part]:
    """Return the garment on a wearer with the rest of an outfit, in painting order."""
    behind, trunk = list(garment.behind), list(garment.trunk)
    arms, sleeves = garment.arms, garment.sleeves
    if design.category in ("blouse", "outwear"):
        lower = "trousers" if generator.random() < 0.6 else "skirt"
        under = companion(generator, lower, figure).trunk
        if design.category == "outwear" and not figure.back:
            inner = companion(generator, "blouse", figure)
            under += inner.trunk
            behind += inner.behind
        trunk = under + trunk
    if design.category in ("skirt", "trousers"):
        loose = generator.random() < 0.2
        upper = companion(generator, "blouse", figure, None if loose else (design.waist or 40.0) + 8)
        trunk = trunk + upper.trunk if loose else upper.trunk + trunk
        behind += upper.behind
        arms, sleeves = upper.arms, upper.sleeves
    return [*worn_parts(person, figure, behind, trunk, arms, sleeves), *occluders(generator, figure, arms)]
