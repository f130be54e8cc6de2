"""Photographing items like a shop or a consumer: from the front, side or back, close, far or laid flat."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.garments.body import Figure, draw_figure
from fprep.synthetic.garments.canvas import Canvas
from fprep.synthetic.garments.design import Design
from fprep.synthetic.garments.items import Item
from fprep.synthetic.garments.people import Person, draw_person, occluders
from fprep.synthetic.garments.photograph import Photograph, draw_photograph
from fprep.synthetic.garments.render import (
    NUM_POINTS,
    build,
    companion,
    expose,
    locate,
    set_up,
    still_parts,
    stride,
    worn_parts,
)
from fprep.synthetic.garments.shapes import Part, Rng, path
from fprep.synthetic.garments.trunk import Garment


class View(NamedTuple):
    """Viewing conditions of an image.

    `settings` are of `body.SETTINGS`, `background` is a key of backgrounds ("": fitting the setting), `fill` the share of
    the frame that the garment spans, and `roughness` ranges from 0 (studio) to 1 (a phone in poor light).
    """

    settings: tuple[str, ...] = ("model",)
    background: str = ""
    fill: tuple[float, float] = (0.62, 0.9)
    yaw: tuple[float, float] = (0.0, 14.0)  # degrees, in either direction
    roughness: float = 0.2
    back: bool = False


JOINTS = (
    "head", "neck", "shoulder_left", "elbow_left", "wrist_left", "shoulder_right", "elbow_right", "wrist_right",
    "hip_left", "knee_left", "ankle_left", "hip_right", "knee_right", "ankle_right",
)  # fmt: skip
"""Joints of the wearer; left is the viewer's left."""

VIEWS: dict[str, View] = {
    "front": View(background="shop", roughness=0.0),
    "side": View(background="shop", yaw=(40.0, 58.0), roughness=0.0),
    "back": View(background="shop", back=True, roughness=0.0),
    "full": View(background="shop", fill=(0.34, 0.5), roughness=0.0),
    "flat": View(("flat", "ghost"), "shop", roughness=0.0),
    "zoom": View(background="shop", fill=(1.15, 1.5), roughness=0.0),
    "shop": View(("model", "model", "ghost", "hanger", "flat"), "shop", (0.6, 0.9), (0.0, 20.0), 0.1),
    "home": View(("model", "model", "model", "flat", "hanger"), "home", (0.45, 1.0), (0.0, 28.0), 1.0),
    "street": View(background="street", fill=(0.4, 0.85), yaw=(0.0, 26.0), roughness=0.5),
    "any": View(("model", "model", "model", "model", "ghost", "flat", "hanger"), "", (0.5, 0.95), (0.0, 24.0), 0.3),
}


@dataclass(frozen=True)
class Piece:
    """One garment in an image.

    `points` (24, 2) are pixel centers, 0 if absent; `visibility` is (24,); `mask` (H, W) is its visible area; `box` is
    (left, top, right, bottom) in pixel centers, inclusive.
    """

    item: Item
    points: NDArray[np.float32]
    visibility: NDArray[np.int8]
    mask: NDArray[np.bool_]
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Shot:
    """A photograph: `image` (H, W, 3) RGB, the visible pieces in the order of the outfit, and the camera settings.

    `joints` (14, 2) are those of `JOINTS` in pixel centers, possibly outside the image; None if the clothes are not
    worn.
    """

    image: NDArray[np.uint8]
    pieces: list[Piece]
    figure: Figure
    photograph: Photograph
    joints: NDArray[np.float64] | None

    @property
    def variation(self) -> int:
        """DeepFashion's variation type: 1 normal, 2 medium, 3 large pose, 4 medium, 5 large zoom-in."""
        if self.photograph.fill > 1.0:
            return 5 if self.photograph.fill > 1.2 else 4
        turn = abs(self.figure.yaw) + 2 * abs(self.figure.lean) + (0.9 if self.figure.back else 0.0)
        return 1 if turn < 0.3 else 2 if turn < 0.6 else 3


def photograph(
    outfit: Sequence[Item], generator: Rng, view: View, size: int | tuple[int, int], person: Person | None = None
) -> Shot:
    """Photograph an outfit: lower, upper and outer garment, or a dress. `size` is the longer side or (height, width).

    Other garments of the wearer are plain. All randomness comes from `generator`.
    """
    last = outfit[-1].design
    setting = view.settings[int(generator.integers(len(view.settings)))]
    figure = draw_figure(generator, last.category, stride(last))
    while (figure.setting == "model") != (setting == "model"):
        figure = draw_figure(generator, last.category, stride(last))
    side = float(generator.choice([-1.0, 1.0]))
    yaw = side * float(generator.uniform(*view.yaw)) * np.pi / 180 if setting == "model" else 0.0
    figure = replace(figure, setting=setting, yaw=yaw, back=view.back and setting == "model")
    photo = _settings(draw_photograph(generator, max(size) if isinstance(size, tuple) else size), generator, view, size)
    wearer = person or draw_person(generator)
    designs = [item.design for item in outfit]
    built = [build(design, figure, generator) for design in designs]
    for number, garment in enumerate(built):
        for part in garment.parts():
            part.landmarks = {number * NUM_POINTS + index: point for index, point in part.landmarks.items()}
    canvas = set_up(photo, built, view.background or setting, generator)
    if setting == "model":
        scene = _worn(designs, built, figure, wearer, generator)
        scene += occluders(generator, figure, built[-1].arms) if view.roughness and built[-1].arms else []
    else:
        scene = [part for pair in zip(designs, built, strict=True) for part in still_parts(*pair, figure)]
    image = expose(canvas, photo, scene, setting, generator)
    numbers = {id(part): number for number, part in enumerate(scene, start=1)}
    pieces = [_piece(canvas, number, outfit[number], garment, numbers) for number, garment in enumerate(built)]
    joints = canvas.camera.project(_joints(figure)) if setting == "model" else None
    return Shot(image, [piece for piece in pieces if piece is not None], figure, photo, joints)


def photograph_seen(
    outfit: Sequence[Item],
    generator: Rng,
    choose: Callable[[], tuple[str, int | tuple[int, int]]],
    person: Person | None = None,
) -> Shot:
    """Photograph with views and sizes from `choose` until part of the outfit is visible."""
    while True:
        view, size = choose()
        shot = photograph(outfit, generator, VIEWS[view], size, person)
        if shot.pieces:
            return shot


def _joints(figure: Figure) -> NDArray[np.float64]:
    """Return the wearer's joints (14, 2) in cm, in the order of `JOINTS`."""
    trunk = figure.torso(path("-18,2.5 18,2.5 -15.5,17 15.5,17 -17.6,62 17.6,62 0,75 0,-3 0,-33"))
    arms = [figure.arm(index, trunk[index], trunk[2 + index]) for index in (0, 1)]
    legs = [figure.leg(index, trunk[4 + index], trunk[6]) for index in (0, 1)]
    limbs = [bone for parts in (arms, legs) for limb in parts for bone in (limb.root, limb.joint, limb.end)]
    return np.stack([trunk[8], trunk[7], *limbs])


def _settings(photo: Photograph, generator: Rng, view: View, size: int | tuple[int, int]) -> Photograph:
    """Return the camera settings of a view."""
    rough = view.roughness
    if isinstance(size, tuple):
        photo = replace(photo, height=size[0], width=size[1])
    elif photo.width >= photo.height and generator.random() < 0.6:
        photo = replace(photo, height=size, width=round(size * float(generator.choice([0.667, 0.72, 0.75]))))
    warmth = float(generator.normal(0, 0.02 + 0.07 * rough))
    return replace(
        photo,
        fill=float(generator.uniform(*view.fill)),
        tilt=photo.tilt * (0.25 + rough),
        keystone=(photo.keystone[0] * (0.3 + rough), photo.keystone[1] * (0.3 + rough)),
        exposure=float(np.clip(1.02 + generator.normal(-0.1, 0.13) * rough, 0.65, 1.25)),
        contrast=float(np.clip(1.02 + generator.normal(0, 0.12) * rough, 0.75, 1.25)),
        balance=(1 + warmth, 1.0, 1 - warmth),
        vignette=photo.vignette * rough,
        blur=photo.blur * rough,
        noise=1.2 + photo.noise * rough,
    )


def _worn(designs: list[Design], built: list[Garment], figure: Figure, person: Person, generator: Rng) -> list[Part]:
    """Return all parts in painting order: hair, hidden arms, body, clothes from the skin outward, head, arms."""
    by_category = {design.category: garment for design, garment in zip(designs, built, strict=True)}
    lower = by_category.get("trousers") or by_category.get("skirt")
    outer, dress, upper = by_category.get("outwear"), by_category.get("dress"), by_category.get("blouse")
    if lower is None and dress is None:
        lower = companion(generator, "trousers" if generator.random() < 0.6 else "skirt", figure)
    tucked = outer is None and dress is None and generator.random() < (0.85 if upper is None else 0.3)
    if upper is None and dress is None and not (outer is not None and figure.back):
        waist = next((design.waist for design in designs if design.category in ("skirt", "trousers")), None)
        upper = companion(generator, "blouse", figure, (waist or 40.0) + 8 if tucked else None)
    layers = [lower, upper] if not tucked else [upper, lower]
    shown = [garment for garment in (*layers, dress, outer) if garment is not None]
    sleeved = [garment for garment in (upper, dress, outer) if garment is not None]
    worn = [[garment.sleeves[index] for garment in reversed(sleeved)] for index in (0, 1)]
    sleeves = [next((sleeve for sleeve in found if sleeve is not None), None) for found in worn]
    behind = [part for garment in reversed(shown) for part in garment.behind]
    trunk = [part for garment in shown for part in garment.trunk]
    return worn_parts(person, figure, behind, trunk, sleeved[-1].arms, sleeves)


def _piece(canvas: Canvas, number: int, item: Item, garment: Garment, numbers: dict[int, int]) -> Piece | None:
    """Return the visible part of a garment, or None."""
    owned = np.zeros(256, np.bool_)
    owned[[numbers[id(part)] for part in garment.parts() if id(part) in numbers]] = True
    mask = owned[canvas.owner]
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) < 2 or len(columns) < 2:
        return None
    box = (int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1]))
    return Piece(item, *locate(canvas, item.category, number * NUM_POINTS), mask, box)
