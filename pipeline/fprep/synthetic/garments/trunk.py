"""Upright measures of a top, and the parts of a garment in painting order."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import overload

import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.garments.body import Figure
from fprep.synthetic.garments.design import HIP, WAIST, Design
from fprep.synthetic.garments.shapes import Color, Limb, Part, Points, Rng, points_of, spline


@dataclass
class Garment:
    """Parts of a garment in three layers: behind the wearer, on the trunk, and one sleeve per arm (with its bones)."""

    behind: list[Part] = field(default_factory=list[Part])
    trunk: list[Part] = field(default_factory=list[Part])
    sleeves: list[Part | None] = field(default_factory=list[Part | None])
    arms: list[Limb] = field(default_factory=list[Limb])

    def parts(self) -> list[Part]:
        """All parts of the garment."""
        return [*self.behind, *self.trunk, *(sleeve for sleeve in self.sleeves if sleeve is not None)]


def shade(color: Color, factor: float) -> Color:
    """Return a darker (factor below 1) or lighter tone of a color."""
    red, green, blue = (min(value * factor, 255.0) for value in color)
    return red, green, blue


class Profile:
    """Half-width of a garment by height, from its right `side` (N, 2), ordered downward."""

    def __init__(self, side: Points) -> None:
        """Store the side seam."""
        self.side = side

    @overload
    def __call__(self, y: float) -> float: ...
    @overload
    def __call__(self, y: NDArray[np.float64]) -> NDArray[np.float64]: ...
    def __call__(self, y: NDArray[np.float64] | float) -> NDArray[np.float64] | float:
        """Return the half-width in cm at one or several heights."""
        found = np.interp(y, self.side[:, 1], self.side[:, 0])
        return found if isinstance(y, np.ndarray) else float(found)

    def surface(self, figure: Figure, reference: float) -> Callable[[Points], Points]:
        """Return a mapping to cloth coordinates that widen with the garment, so that stripes follow its sides."""

        def to_cloth(points: Points) -> Points:
            upright = figure.upright(points)
            ratio = np.maximum(self(upright[:, 1]) / reference, 0.8)
            return np.stack([upright[:, 0] / ratio, upright[:, 1]], axis=1)

        return to_cloth


class Trunk:
    """An upright blouse, coat or dress. `neck`, `shoulder` and `armpit` are points of its right half (x positive)."""

    def __init__(self, design: Design, figure: Figure) -> None:
        """Measure the design on the body; raised arms of the figure raise the shoulders."""
        self.design = design
        ease = design.ease
        drop = max(ease - 2.5, 0.0) * 0.6
        self.bare = design.neckline in ("straps", "sweetheart")
        across = 15.6 if design.sleeve == 0 else 18.0 + drop
        neck = {"sweetheart": (14.0, 9.5), "straps": (design.neck_width, -0.9)}.get(
            design.neckline, (design.neck_width, -1.5 + (design.neck_width - 6.5) * 0.35)
        )
        self.neck = np.array(neck)
        self.shoulder = np.array([max(across, design.neck_width + 2.5), 2.4 + 0.4 * drop])
        self.armpit = np.array([15.2 + 0.75 * ease, 17.0 + 0.55 * drop + 0.2 * ease])
        self._lift = [4.0 * float(np.clip((arm.upper - 1.4) / 1.2, 0, 1)) for arm in figure.arms]
        self.waist = design.waist if design.waist is not None else WAIST
        waist_width = 12.8 + 0.5 * ease if design.waist is not None else 14.0 + ease
        control = [self.armpit]
        if design.length > self.waist + 6:
            control.append(np.array([waist_width, self.waist]))
        if design.length > HIP + 12:
            share = (HIP - self.waist) / (design.length - self.waist)
            control.append(
                np.array([max(18.0 + 0.75 * ease, waist_width + (design.hem - waist_width) * share**0.8), HIP])
            )
        control.append(np.array([design.hem, design.length]))
        self.side = spline(np.array(control), 6)
        self.width = Profile(self.side)

    def armhole(self, figure: Figure, index: int) -> tuple[Points, Points]:
        """Return the posed shoulder and armpit. A raised arm raises the shoulder and moves it inward."""
        lift = self._lift[index]
        upright = np.array([self.shoulder - (0.5 * lift, lift), self.armpit - (0.0, 0.35 * lift)])
        placed = figure.torso(upright * ((-1.0, 1.0)[index], 1.0))
        return placed[0], placed[1]

    def neck_curve(self, *, back: bool = False) -> Points:
        """Return the upright neckline (17, 2) from the viewer's left to right, lowest at index 8."""
        width, top = self.neck
        kind, depth = ("round", top + 2.5) if back else (self.design.neckline, self.design.neck_depth)
        u = np.linspace(-1, 1, 17)
        if kind == "v":
            fall = 1 - np.abs(u) ** 0.92
        elif kind == "square":
            fall = np.clip((1 - np.abs(u)) / 0.12, 0, 1)
        elif kind == "sweetheart":
            dip, bust = np.exp(-((u / 0.18) ** 2)), np.exp(-(((np.abs(u) - 0.5) / 0.32) ** 2))
            fall = 0.2 * (1 - u**2) - 0.9 * bust + 0.8 * dip
            fall = fall - np.abs(u) * fall[0]
            fall = fall / max(float(fall[8]), 0.3)
        else:
            fall = np.sqrt(np.clip(1 - np.abs(u) ** 2.2, 0, 1))
        return np.stack([u * width, top + fall * (depth - top)], axis=1)

    def hem_curve(self, generator: Rng) -> Points:
        """Return the upright hem (25, 2) from left to right: sagging in the middle, wavy if wide."""
        u = np.linspace(-1, 1, 25)
        waves = max(self.design.hem - 22, 0) * 0.07 + (0.5 if self.design.pleats else 0.0)
        ripple = waves * np.sin(u * np.pi * generator.uniform(2.0, 4.5) + generator.uniform(0, 6)) * (1 - u**4)
        return np.stack([u * self.side[-1, 0], self.side[-1, 1] + self.design.hem_sag * (1 - u**2) + ripple], axis=1)

    def gap(self) -> Points:
        """Return the upright inner edge of the right half of an open coat front, ordered downward."""
        length = self.design.length
        return spline(points_of((self.neck[0] - 0.5, self.neck[1] + 1), (5.0, 18), (5.5, WAIST), (9.0, length + 1)), 5)
