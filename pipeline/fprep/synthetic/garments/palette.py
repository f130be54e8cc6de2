"""Named colors of clothing and looks: which colors, prints and garments go together, so that a style can be seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fprep.synthetic.garments.shapes import Color

COLORS: dict[str, Color] = {
    "black": (34.0, 33.0, 37.0), "white": (241.0, 239.0, 235.0), "grey": (142.0, 143.0, 147.0), "navy": (33.0, 45.0, 88.0),
    "beige": (212.0, 190.0, 156.0), "brown": (112.0, 76.0, 51.0), "red": (194.0, 38.0, 44.0), "wine": (110.0, 29.0, 50.0),
    "pink": (233.0, 161.0, 180.0), "orange": (228.0, 120.0, 46.0), "yellow": (238.0, 203.0, 74.0), "green": (48.0, 122.0, 72.0),
    "mint": (160.0, 216.0, 192.0), "khaki": (114.0, 112.0, 74.0), "blue": (44.0, 92.0, 180.0), "sky blue": (150.0, 192.0, 229.0),
    "lavender": (190.0, 170.0, 222.0), "purple": (108.0, 62.0, 142.0),
}  # fmt: skip

ACHROMATIC = ("black", "white", "grey")


@dataclass(frozen=True)
class Look:
    """A way of dressing: equally likely colors, accents and prints (a name may stand twice), and the garments worn for it."""

    colors: tuple[str, ...]
    accents: tuple[str, ...]
    prints: tuple[str, ...]
    kinds: tuple[str, ...]


def _look(colors: str, accents: str, prints: str, kinds: str) -> Look:
    parts = [tuple(part.strip() for part in text.split(",")) for text in (colors, accents, prints, kinds)]
    return Look(*parts)


# The 23 styles of K-Fashion, by their English names; what each looks like is our choice.
LOOKS: dict[str, Look] = {
    "classic": _look(
        "beige, navy", "white, brown", "plain, houndstooth", "trench, blazer, shirt, chinos, pencil skirt"
    ),
    "preppy": _look("navy, wine", "white", "tartan, stripes across", "sweater, blazer, shirt, pleated skirt, chinos"),
    "mannish": _look("grey, black", "white", "stripes along", "blazer, shirt, wide trousers, chinos"),
    "tomboy": _look("white, khaki", "navy", "stripes across, plain", "tee, shirt, jeans, shorts, jacket"),
    "feminine": _look("pink, white", "wine", "plain", "blouse, pencil skirt, skirt, dress"),
    "romantic": _look("pink, lavender", "white, red", "floral", "dress, blouse, skirt"),
    "sexy": _look("red, black", "red, black", "plain", "cami, crop top, mini skirt, mini dress, leggings"),
    "hippie": _look("orange, brown", "yellow, green", "blobs, floral", "blouse, maxi dress, wide trousers"),
    "western": _look("brown, blue", "red, beige", "tartan", "shirt, jeans, jacket"),
    "oriental": _look("red, purple", "yellow", "floral", "jacket, dress, blouse, wide trousers"),
    "modern": _look("black, white", "grey", "plain", "coat, shirt, turtleneck, wide trousers, dress"),
    "sophisticated": _look("wine, beige", "brown", "plain", "coat, blouse, pencil skirt, dress"),
    "avant-garde": _look(
        "black, white", "white, black", "blobs, stripes diagonal", "blouse, coat, wide trousers, dress"
    ),
    "country": _look("green, red", "white", "gingham", "dress, shirt, skirt"),
    "resort": _look("sky blue, white", "orange, green", "floral, stripes across", "maxi dress, shirt, shorts, tank"),
    "genderless": _look("grey, mint", "white", "plain", "hoodie, tee, joggers, wide trousers"),
    "sporty": _look("blue, red", "white", "stripes along", "hoodie, tee, joggers, leggings, jacket"),
    "retro": _look(
        "orange, yellow, green", "white, brown", "dots, stripes across", "dress, blouse, skirt, wide trousers"
    ),
    "kitsch": _look("pink, yellow, mint", "purple, red", "dots, blobs", "tee, skirt, hoodie, dress"),
    "hip-hop": _look("yellow, purple", "black, red", "plain, gingham", "hoodie, tee, joggers, jacket"),
    "punk": _look("black, red", "red, black", "tartan, stripes across", "jacket, tee, leggings, mini skirt"),
    "military": _look("khaki", "black, brown", "blobs", "jacket, parka, tee, wide trousers"),
    "street": _look("black, white, grey", "red, blue, yellow", "plain", "hoodie, tee, jeans, parka, joggers, shorts"),
}


def draw_named_color(generator: np.random.Generator, name: str) -> Color:
    """The color as one dyer makes it: a little lighter or darker, a little off."""
    rgb = np.array(COLORS[name]) * generator.uniform(0.92, 1.06) + generator.uniform(-5, 5, 3)
    red, green, blue = np.clip(rgb, 12, 250)
    return float(red), float(green), float(blue)


def nearest_color(color: Color) -> str:
    """Name of the nearest named color."""
    return min(COLORS, key=lambda name: sum((a - b) ** 2 for a, b in zip(COLORS[name], color, strict=True)))
