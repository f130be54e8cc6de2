"""What a garment is, apart from any image of it."""

from __future__ import annotations

from dataclasses import dataclass

from fprep.synthetic.garments.prints import Print
from fprep.synthetic.garments.shapes import Color

CATEGORIES = ("blouse", "outwear", "trousers", "dress", "skirt")  # the order of the FashionAI archives

WAIST = 38.0  # cm below the pit of the neck
HIP = 58.0
CROTCH = 74.0


@dataclass(frozen=True)
class Design:
    """One garment. Lengths in cm; `length` runs from the pit of the neck, for skirts and trousers from the waistband.

    `ease` is how much wider than the body it is cut (half-width), `hem` the half-width of the hem or of a trouser opening,
    `waist` the height of the waist (a seam, a belt, a waistband) or None where there is none to be seen, `sleeve` the covered
    share of the arm (0 none, 1 to the wrist). `wardrobe` draws designs.
    """

    category: str
    color: Color
    accent: Color
    cloth: Print
    seed: int
    ease: float
    length: float
    hem: float
    gloss: float
    trim: bool
    weave: str = "smooth"  # linen, denim, knit, fleece
    hem_sag: float = 0.0
    waist: float | None = None
    belt: bool = False
    sleeve: float = 0.0
    sleeve_shape: str = "straight"  # slim, bell, puff
    neckline: str = "round"  # v, square, boat, straps, sweetheart (strapless)
    neck_width: float = 7.0
    neck_depth: float = 8.0
    collar: str = "none"  # shirt, stand, turtleneck, lapel, hood
    closure: str = "none"  # buttons, double, zip, open
    pleats: int = 0
    tiers: int = 0
    pockets: str = "none"  # patch, flap, slant
    motif: str = "none"  # disc, star, bars
