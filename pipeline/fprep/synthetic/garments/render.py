"""Render garments with landmarks: worn with the rest of an outfit, or alone, painted in order and photographed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.garments import people
from fprep.synthetic.garments.backgrounds import draw_background
from fprep.synthetic.garments.body import Figure, draw_figure
from fprep.synthetic.garments.bottoms import build_skirt, build_trousers
from fprep.synthetic.garments.canvas import Canvas
from fprep.synthetic.garments.design import Design
from fprep.synthetic.garments.people import Person
from fprep.synthetic.garments.photograph import Photograph, develop, draw_photograph, frame
from fprep.synthetic.garments.shapes import Limb, Part, Rng, path, points_of, shift, spline
from fprep.synthetic.garments.tops import build_top
from fprep.synthetic.garments.trunk import Garment
from fprep.synthetic.garments.wardrobe import plain_design
from fschemas.landmarks import FASHIONAI_24, Visibility

NUM_POINTS = len(FASHIONAI_24)


def build(design: Design, figure: Figure, generator: Rng) -> Garment:
    """Return the parts of a garment of any category."""
    builder = {"skirt": build_skirt, "trousers": build_trousers}.get(design.category, build_top)
    return builder(design, figure, generator)


def stride(design: Design) -> float:
    """Return how far the legs can part in the garment, 0 … 1: little in a narrow skirt."""
    return 0.3 if design.category in ("dress", "skirt") and design.hem < 24 else 1.0


def companion(generator: Rng, category: str, figure: Figure, tucked_at: float | None = None) -> Garment:
    """Return a plain garment to complete the outfit, without landmarks.

    A tucked top narrows and ends at the height `tucked_at`.
    """
    design = plain_design(generator, category)
    if tucked_at is not None:
        design = replace(design, length=tucked_at, hem=12.0, hem_sag=0.0, ease=min(design.ease, 3.0))
    garment = build(design, figure, generator)
    for part in garment.parts():
        part.landmarks = {}
    return garment


def worn_parts(
    person: Person,
    figure: Figure,
    behind: list[Part],
    trunk: list[Part],
    arms: Sequence[Limb],
    sleeves: Sequence[Part | None],
) -> list[Part]:
    """Return all parts in painting order: hair, hidden arms, body, clothes from the skin outward, head, arms."""
    hidden: list[Part] = []
    shown: list[Part] = []
    for limb, sleeve, arm in zip(arms, sleeves, figure.arms, strict=True):
        (hidden if arm.behind else shown).extend([people.arm_skin(person, limb), *([] if sleeve is None else [sleeve])])
    head = people.head_parts(person, figure)
    scene = [
        *people.hair_behind(person, figure),
        *behind,
        *hidden,
        *people.leg_parts(person, figure),
        *people.body_parts(person, figure),
    ]
    scene += [*trunk, *head] if figure.back else [*head, *trunk]
    return [*scene, *shown, *people.hair_locks(person, figure)]


def still_parts(design: Design, garment: Garment, figure: Figure) -> list[Part]:
    """Return the parts of the garment alone."""
    scene: list[Part] = []
    if figure.setting == "hanger":
        wood = (186.0, 150.0, 104.0)
        hook = spline(path("0,-3 0,-9 2.4,-12 0,-15 -2.4,-12.5"), 5)
        top = -1.5 if design.category in ("blouse", "outwear", "dress") else (design.waist or 40.0) - 1.0
        wide = 15.0 if top < 0 else 13.0
        bar = points_of((-wide, 3.5), (-2, -1.8), (2, -1.8), (wide, 3.5), (wide - 1, 5.5), (0, 1), (-wide + 1, 5.5))
        bar = shift(bar, 0, top)
        scene.append(Part([figure.torso(bar)], wood, relief=1.0))
        stem = figure.torso(shift(hook, 0, top + 1.5))
        wire = np.concatenate([shift(stem, -0.35, 0), shift(stem, 0.35, 0)[::-1]])
        scene.append(Part([wire], (190.0, 190.0, 195.0), relief=0.6))
    scene = [*garment.behind, *scene, *garment.trunk]
    return [*scene, *(sleeve for sleeve in garment.sleeves if sleeve is not None)]


def set_up(photo: Photograph, built: Sequence[Garment], place_name: str, generator: Rng) -> Canvas:
    """Point the camera at garments and render the background."""
    camera = frame(photo, np.concatenate([line for one in built for part in one.parts() for line in part.outlines]))
    background = draw_background(generator, photo.height, photo.width, place_name)
    return Canvas(background, camera, np.array(photo.lamp), generator)


def expose(canvas: Canvas, photo: Photograph, scene: list[Part], setting: str, generator: Rng) -> NDArray[np.uint8]:
    """Paint a scene in its setting and return the photograph (H, W, 3)."""
    for part in scene:
        canvas.paint(part)
    reach = (0.02 if setting == "flat" else 0.06) * max(photo.height, photo.width)
    canvas.cast_shadow(-np.array(photo.lamp) * reach, reach * 0.7, photo.shadow)
    return develop(photo, canvas.lit(), generator)


def locate(canvas: Canvas, category: str, first: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Return points (24, 2) and visibility (24,) of a garment with landmarks numbered from `first`.

    Landmarks outside the image or missing from the design are absent.
    """
    height, width = canvas.owner.shape
    points = np.zeros((NUM_POINTS, 2), np.float32)
    visibility = np.full(NUM_POINTS, Visibility.NOT_APPLICABLE, np.int8)
    valid = FASHIONAI_24.valid_landmarks(category)
    visibility[list(valid)] = Visibility.ABSENT
    for number, (point, seen) in canvas.visible().items():
        index = number - first
        inside = -0.5 <= point[0] < width - 0.5 and -0.5 <= point[1] < height - 0.5
        if 0 <= index < NUM_POINTS and inside:
            assert index in valid, f"{category} has no {FASHIONAI_24.names[index]}"
            points[index] = point
            visibility[index] = Visibility.VISIBLE if seen else Visibility.OCCLUDED
    return points, visibility


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
    person = people.draw_person(generator)
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
    return [*worn_parts(person, figure, behind, trunk, arms, sleeves), *people.occluders(generator, figure, arms)]
