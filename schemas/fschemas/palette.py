"""Colors of overlays on images, with the same meaning in the pages of fprep and the sheets of ftrain."""

from typing import Literal

Side = Literal["left", "right", "middle"]

# Of landmarks: bright enough for images, and distinguishable with red-green color blindness.
SIDE_COLORS: dict[Side, str] = {"left": "#35b3f5", "right": "#ff8a2a", "middle": "#ffe14d"}


def side_of(name: str, partner: int, index: int) -> Side:
    """Side of landmark `index`, by its name or else by the landmark that replaces it in a flipped image.

    It has no partner if `partner` is below 0 or the landmark itself.
    """
    lowered = name.lower()
    if "left" in lowered:
        return "left"
    if "right" in lowered:
        return "right"
    if partner == index or partner < 0:
        return "middle"
    return "left" if index < partner else "right"


def rgb(color: str) -> tuple[int, int, int]:
    """Red, green and blue (0 … 255) of `#rrggbb`."""
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return red, green, blue
