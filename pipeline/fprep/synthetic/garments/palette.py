"""Named colors and looks: which colors, prints and garments are combined, so that styles are visually distinct."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fprep.synthetic.garments.shapes import Color, Rng

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
    """A style: equally likely colors, accents and prints (repeated names count twice), and its kinds of garments."""

    colors: tuple[str, ...]
    accents: tuple[str, ...]
    prints: tuple[str, ...]
    kinds: tuple[str, ...]


LOOKS = {
    name: Look(**{field: tuple(values) for field, values in look.items()})
    for name, look in tomllib.loads(Path(__file__).with_name("looks.toml").read_text()).items()
}


def draw_named_color(generator: Rng, name: str) -> Color:
    """Sample a variant of a named color, slightly different in brightness and hue."""
    rgb = np.array(COLORS[name]) * generator.uniform(0.92, 1.06) + generator.uniform(-5, 5, 3)
    red, green, blue = np.clip(rgb, 12, 250)
    return float(red), float(green), float(blue)
