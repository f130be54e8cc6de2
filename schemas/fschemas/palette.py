"""Colors of what is drawn on images, for the pages of fprep and the overlays and sheets of ftrain alike: one meaning, one color."""

from __future__ import annotations

from typing import Literal

Side = Literal["left", "right", "middle"]

# Of landmarks: bright enough for photographs, told apart by people who confuse red and green.
SIDE_COLORS: dict[Side, str] = {"left": "#35b3f5", "right": "#ff8a2a", "middle": "#ffe14d"}


def side_of(name: str, partner: int, index: int) -> Side:
    """The side of landmark number `index`: by its name, else by the landmark that takes its place in a mirrored image.

    A `partner` below 0, or the landmark itself, says that it has none.
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
    """Red, green and blue, 0 … 255, of `#rrggbb`."""
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return red, green, blue
