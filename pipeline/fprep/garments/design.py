"""What a garment is, apart from any picture of it."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fprep.garments.prints import Print
from fprep.garments.shapes import Colour

CATEGORIES = ("blouse", "outwear", "trousers", "dress", "skirt")  # the order of the FashionAI archives

WAIST = 38.0  # cm below the pit of the neck
HIP = 58.0
CROTCH = 74.0


@dataclass(frozen=True)
class Design:
    """One garment. Lengths in cm; `length` runs from the pit of the neck, for skirts and trousers from the waistband.

    `sleeve` is the covered share of the arm (0 none, 1 to the wrist), `ease` how much wider than the body it is cut (half-width),
    `hem` the half-width of the hem or of a trouser opening, `waist` the height of the waist (a seam, a belt, a waistband) or
    None where there is none to be seen.
    """

    category: str
    colour: Colour
    accent: Colour
    cloth: Print
    weave: str  # smooth, linen, denim, knit, fleece
    gloss: float
    ease: float
    length: float
    hem: float
    hem_sag: float
    waist: float | None
    belt: bool
    sleeve: float
    sleeve_shape: str  # straight, slim, bell, puff
    neckline: str  # round, v, square, boat, sweetheart (strapless), straps
    neck_width: float
    neck_depth: float
    collar: str  # none, shirt, stand, turtleneck, lapel, hood
    closure: str  # none, buttons, double, zip, open
    pleats: int
    tiers: int
    pockets: str  # none, patch, flap, slant
    trim: bool
    motif: str  # none, disc, star, bars
    seed: int


def draw_design(generator: np.random.Generator, category: str) -> Design:
    """Draw a garment of the category; the same state of the generator gives the same garment."""
    colour, accent, cloth = _draw_cloth(generator, category)
    common = {
        "category": category, "colour": colour, "accent": accent, "cloth": cloth, "gloss": generator.uniform(0.7, 1.25),
        "sleeve": 0.0, "sleeve_shape": "straight", "neckline": "round", "neck_width": 7.0, "neck_depth": 8.0, "collar": "none",
        "closure": "none", "pleats": 0, "tiers": 0, "pockets": "none", "trim": bool(generator.random() < 0.2), "motif": "none",
        "belt": False, "waist": None, "hem_sag": generator.uniform(0.0, 3.0), "seed": int(generator.integers(2**31)),
        "weave": "smooth",
    }  # fmt: skip
    return Design(**{**common, **_DRAWERS[category](generator)})  # pyright: ignore[reportArgumentType]


def plain_design(generator: np.random.Generator, category: str) -> Design:
    """A garment worn with another one: quiet, so that it is not taken for the subject."""
    design = draw_design(generator, category)
    quiet = Print("plain", design.cloth.colours, 4.0, design.seed)
    if category == "blouse":
        changes = {"collar": "none", "closure": "none", "motif": "none", "neckline": _pick(generator, ["round", "v", "boat"])}
        return Design(**{**vars(design), **changes, "cloth": quiet, "neck_width": 8.0, "neck_depth": 9.0})
    return Design(**{**vars(design), "cloth": quiet})


def _pick(generator: np.random.Generator, options: Sequence[str], weights: Sequence[float] | None = None) -> str:
    shares = None if weights is None else np.asarray(weights) / np.sum(weights)
    return str(generator.choice(list(options), p=shares))


def draw_colour(generator: np.random.Generator) -> Colour:
    """A colour of clothing: whites, greys, black, navy and beige half of the time, otherwise any hue."""
    kind = generator.random()
    if kind < 0.16:
        base = generator.uniform(222, 250)
        rgb = base + generator.uniform(-8, 5, 3)
    elif kind < 0.30:
        rgb = generator.uniform(24, 60) + generator.uniform(-5, 5, 3)
    elif kind < 0.38:
        rgb = generator.uniform(90, 190) + generator.uniform(-6, 6, 3)
    elif kind < 0.50:
        rgb = np.array([28, 40, 78]) * generator.uniform(0.7, 1.5)
    elif kind < 0.60:
        rgb = np.array([205, 180, 145]) * generator.uniform(0.65, 1.1)
    else:
        hue, saturation, value = generator.random(), generator.uniform(0.3, 0.85), generator.uniform(0.4, 0.95)
        rgb = np.array(colorsys.hsv_to_rgb(hue, saturation, value)) * 255
    red, green, blue = np.clip(rgb, 12, 250)
    return float(red), float(green), float(blue)


def _contrast(generator: np.random.Generator, colour: Colour) -> Colour:
    """A colour that can be told from the given one."""
    other = draw_colour(generator)
    for _ in range(6):
        if sum(abs(a - b) for a, b in zip(colour, other, strict=True)) > 170:
            return other
        other = draw_colour(generator)
    return (245.0, 243.0, 238.0) if sum(colour) < 380 else (30.0, 32.0, 40.0)


def _draw_cloth(generator: np.random.Generator, category: str) -> tuple[Colour, Colour, Print]:
    colour = draw_colour(generator)
    accent = _contrast(generator, colour)
    kinds = [
        "plain", "stripes across", "stripes along", "stripes diagonal", "gingham", "tartan", "dots", "floral", "blobs", "houndstooth",
    ]  # fmt: skip
    weights = {
        "blouse": [42, 12, 8, 2, 6, 5, 7, 12, 4, 2],
        "outwear": [70, 1, 3, 1, 2, 8, 1, 3, 4, 5],
        "trousers": [78, 0, 7, 0, 2, 4, 1, 3, 3, 2],
        "dress": [45, 6, 4, 2, 5, 4, 9, 19, 4, 2],
        "skirt": [48, 5, 4, 2, 6, 8, 7, 13, 4, 3],
    }[category]
    kind = _pick(generator, kinds, weights)
    pitch = {"floral": generator.uniform(4, 10), "tartan": generator.uniform(6, 15), "blobs": generator.uniform(5, 15)}
    size = pitch.get(kind, generator.uniform(1.5, 7))
    return colour, accent, Print(kind, (accent, _contrast(generator, accent)), float(size), int(generator.integers(2**31)))


def _sleeve(generator: np.random.Generator, weights: Sequence[float]) -> dict[str, object]:
    """Weights of: none, cap, short, elbow, three quarter, long."""
    cover = float(generator.choice([0.0, 0.2, 0.33, 0.5, 0.72, 1.0], p=np.asarray(weights) / np.sum(weights)))
    shape = _pick(generator, ["straight", "slim", "bell", "puff"], [5, 3, 1.6, 1.4])
    return {"sleeve": cover + (generator.uniform(-0.04, 0.05) if cover else 0.0), "sleeve_shape": shape}


def _neck(generator: np.random.Generator, kinds: Sequence[str], weights: Sequence[float]) -> dict[str, object]:
    kind = _pick(generator, kinds, weights)
    width, depth = {
        "round": (generator.uniform(6.8, 9.5), generator.uniform(4, 11)),
        "v": (generator.uniform(6.5, 9.0), generator.uniform(11, 20)),
        "square": (generator.uniform(8, 11.5), generator.uniform(8, 14)),
        "boat": (generator.uniform(10.5, 14), generator.uniform(1.5, 4.5)),
        "straps": (generator.uniform(8.5, 10.5), generator.uniform(11, 16)),
        "sweetheart": (13.5, generator.uniform(10.5, 13.5)),
    }[kind]
    return {"neckline": kind, "neck_width": float(width), "neck_depth": float(depth)}


def _draw_blouse(generator: np.random.Generator) -> dict[str, object]:
    kind = _pick(generator, ["shirt", "tee", "sweater", "top"], [3, 3, 3, 3])
    ease = float(generator.uniform(0.5, 6.0))
    shared: dict[str, object] = {"ease": ease, "length": float(generator.uniform(50, 68)), "hem": float(17.5 + ease + generator.uniform(-1.5, 3))}
    plain_neck = _neck(generator, ["round", "v", "square", "boat"], [5, 3, 1, 2])
    if kind == "shirt":
        own = {"collar": "shirt", "closure": "buttons", "neckline": "round", "neck_width": 6.6, "neck_depth": 3.5, "weave": "linen",
               "pockets": _pick(generator, ["none", "patch"]), "hem_sag": float(generator.uniform(0, 6)),
               **_sleeve(generator, [0, 0, 2, 1, 1, 6])}  # fmt: skip
    elif kind == "tee":
        own = {**plain_neck, **_sleeve(generator, [0, 1, 7, 2, 0, 1]), "sleeve_shape": "straight",
               "motif": _pick(generator, ["none", "disc", "star", "bars"], [4, 1, 1, 1])}  # fmt: skip
    elif kind == "sweater":
        own = {**plain_neck, **_sleeve(generator, [0, 0, 1, 1, 2, 9]), "weave": "knit", "collar": _pick(generator, ["none", "turtleneck"], [3, 1])}
        if own["collar"] == "turtleneck":
            own |= {"neckline": "round", "neck_width": 6.8, "neck_depth": 3.0}
    else:
        own = {**_neck(generator, ["round", "v", "square", "boat", "straps"], [3, 3, 2, 2, 1.3]), **_sleeve(generator, [2, 2, 3, 2, 2, 3]),
               "length": float(generator.uniform(44, 66)), "hem": float(18 + ease + generator.uniform(0, 7))}  # fmt: skip
        if own["neckline"] == "straps":
            own["sleeve"] = 0.0
    return {**shared, **own}


def _draw_outwear(generator: np.random.Generator) -> dict[str, object]:
    kind = _pick(generator, ["coat", "blazer", "jacket", "parka", "trench"], [3, 3, 2, 2, 2])
    ease = float(generator.uniform(2.5, 7.0))
    shared: dict[str, object] = {
        "ease": ease, **_sleeve(generator, [0, 0, 0, 0, 1, 14]), "sleeve_shape": _pick(generator, ["straight", "slim", "bell"], [6, 2, 1]),
        "neckline": "v", "neck_width": 7.0, "neck_depth": float(generator.uniform(16, 32)), "collar": "lapel",
        "pockets": _pick(generator, ["flap", "patch", "slant", "none"]), "closure": _pick(generator, ["buttons", "double", "open"]),
        "weave": _pick(generator, ["smooth", "fleece", "linen"]),
    }  # fmt: skip
    length, hem, own = {
        "coat": (generator.uniform(82, 112), generator.uniform(2, 8), {}),
        "blazer": (generator.uniform(60, 74), generator.uniform(0, 2), {"weave": "smooth"}),
        "jacket": (generator.uniform(48, 60), generator.uniform(-2.5, 0), {"collar": _pick(generator, ["stand", "shirt"]), "closure": "zip", "neckline": "round",
                   "neck_depth": 4.0, "trim": True, "weave": _pick(generator, ["denim", "smooth"])}),
        "parka": (generator.uniform(64, 92), generator.uniform(0, 4), {"collar": "hood", "closure": _pick(generator, ["zip", "open"]), "neckline": "round",
                  "neck_depth": 5.0, "pockets": "flap", "weave": "smooth"}),
        "trench": (generator.uniform(82, 108), generator.uniform(5, 13), {"waist": WAIST + float(generator.uniform(-2, 4)), "belt": True,
                   "closure": "double", "ease": float(generator.uniform(2, 4))}),
    }[kind]  # fmt: skip
    if kind == "blazer" and generator.random() < 0.3:
        own = {**own, "waist": WAIST + float(generator.uniform(-2, 3)), "belt": bool(generator.random() < 0.6), "ease": 2.0}
    return {**shared, **own, "length": float(length), "hem": float(19 + ease + hem)}


def _draw_dress(generator: np.random.Generator) -> dict[str, object]:
    waisted = generator.random() < 0.7
    ease = float(generator.uniform(0.0, 2.0) if waisted else generator.uniform(1.5, 6.0))
    neck = _neck(generator, ["round", "v", "square", "boat", "straps", "sweetheart"], [5, 4, 1.5, 2, 1.3, 0.9])
    bare = neck["neckline"] in ("straps", "sweetheart")
    hem = generator.uniform(17, 24) if generator.random() < 0.35 else generator.uniform(24, 46)
    own: dict[str, object] = {
        **neck, **_sleeve(generator, [2, 2, 5, 2, 2, 5]), "ease": ease, "length": float(generator.uniform(82, 134)),
        "hem": float(hem if waisted else 19 + ease + generator.uniform(0, 9)),
        "waist": WAIST + float(generator.uniform(-5, 4)) if waisted else None, "belt": bool(waisted and generator.random() < 0.4),
        "pleats": int(generator.choice([0, 0, 0, 14, 22])) if hem > 24 and waisted else 0, "tiers": int(generator.choice([0, 0, 0, 0, 2, 3])),
        "weave": _pick(generator, ["smooth", "linen", "knit"], [6, 2, 1]),
    }  # fmt: skip
    if bare:
        own["sleeve"] = 0.0
    elif generator.random() < 0.15:
        own |= {"collar": "shirt", "closure": "buttons", "neckline": "round", "neck_width": 6.6, "neck_depth": 3.5}
    return own


def _draw_skirt(generator: np.random.Generator) -> dict[str, object]:
    kind = _pick(generator, ["pencil", "a-line", "flared", "pleated", "tiered", "denim"], [3, 3, 3, 2, 1, 1.5])
    low, high = {"pencil": (17, 20), "a-line": (22, 30), "flared": (32, 52), "pleated": (24, 38), "tiered": (26, 40), "denim": (19, 25)}[kind]
    length = generator.uniform(34, 62) if generator.random() < 0.6 else generator.uniform(62, 92)
    return {
        "ease": float(generator.uniform(0, 1.5)), "length": float(min(length, 46.0) if kind == "denim" else length),
        "hem": float(generator.uniform(low, high)), "waist": WAIST + float(generator.uniform(-3, 8)), "belt": bool(generator.random() < 0.25),
        "pleats": int(generator.integers(10, 26)) if kind == "pleated" else 0, "tiers": int(generator.integers(2, 4)) if kind == "tiered" else 0,
        "weave": "denim" if kind == "denim" else _pick(generator, ["smooth", "linen", "knit", "fleece"]),
        "pockets": "slant" if kind == "denim" else _pick(generator, ["none", "slant"]),
        "closure": _pick(generator, ["none", "buttons", "zip"], [4, 1, 1]),
    }  # fmt: skip


def _draw_trousers(generator: np.random.Generator) -> dict[str, object]:
    kind = _pick(generator, ["skinny", "straight", "wide", "flared", "joggers"], [3, 4, 3, 2, 1.5])
    low, high, ease = {
        "skinny": (5.0, 6.2, 0.0), "straight": (8, 10.5, 1.5), "wide": (13, 19, 2.5), "flared": (11.5, 16, 0.3), "joggers": (5.8, 7.0, 3.0),
    }[kind]  # fmt: skip
    share = float(generator.choice([0.32, 0.5, 0.82, 1.0], p=[0.2, 0.06, 0.18, 0.56]))
    waist = WAIST + float(generator.uniform(-3, 9))
    hem = float(generator.uniform(low, high))
    ease += float(generator.uniform(0, 1.0))
    if share < 0.6:
        hem = max(hem, 11.0 + ease)
    return {
        "ease": ease, "length": CROTCH - waist + 74 * (share + float(generator.uniform(-0.05, 0.03))), "hem": hem, "waist": waist,
        "belt": bool(generator.random() < 0.3), "weave": _pick(generator, ["denim", "smooth", "linen", "fleece"], [4, 4, 1, 1]),
        "pockets": _pick(generator, ["slant", "flap", "none"], [6, 1, 2]), "closure": "zip",
        "pleats": int(kind in ("straight", "wide") and generator.random() < 0.5),
    }  # fmt: skip


_DRAWERS = {
    "blouse": _draw_blouse,
    "outwear": _draw_outwear,
    "trousers": _draw_trousers,
    "dress": _draw_dress,
    "skirt": _draw_skirt,
}
