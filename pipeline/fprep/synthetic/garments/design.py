"""The definition of a garment, independent of any image."""

from dataclasses import dataclass

from fprep.synthetic.garments.prints import Print
from fprep.synthetic.garments.shapes import Color

CATEGORIES = ("blouse", "outwear", "trousers", "dress", "skirt")  # the order of the FashionAI archives

WAIST = 38.0  # cm below the pit of the neck
HIP = 58.0
CROTCH = 74.0


@dataclass(frozen=True)
class Design:
    """One garment. Lengths are in cm; `length` starts at the pit of the neck, for skirts and trousers at the waistband.

    `ease` is the additional half-width relative to the body, `hem` the half-width of the hem or trouser opening,
    `waist` the height of a visible waist (a seam, belt or waistband) or None, and `sleeve` the covered share of the arm
    (0: none, 1: to the wrist). Designs are sampled by `wardrobe`.
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
    weave: str = "smooth"  # smooth, linen, denim, knit, fleece
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
