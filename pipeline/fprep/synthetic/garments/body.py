"""The pose of the wearer, or how a garment is laid or hung if it is not worn. In centimeters."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.garments.shapes import Limb, Points, Rng, direction, rotate

SETTINGS = ("model", "ghost", "hanger", "flat")  # worn, on an invisible mannequin, on a hanger, on a surface
UPPER_ARM, FOREARM = 29.0, 25.0
THIGH, SHIN = 40.0, 40.0
_DEGREE = np.pi / 180


@dataclass(frozen=True)
class Arm:
    """Angles in radians from straight down, positive away from the body; `short` is the forearm's foreshortening."""

    upper: float
    lower: float
    short: float
    behind: bool  # painted before the body
    action: str  # down, hip, pocket, raised, out, across, back, phone


@dataclass(frozen=True)
class Leg:
    """Angles in radians from straight down, positive away from the body; `short` is the shin's foreshortening."""

    upper: float
    lower: float
    short: float


@dataclass(frozen=True)
class Figure:
    """A body in a pose. Index 0 of arms and legs is on the viewer's left."""

    setting: str
    lean: float
    yaw: float
    shoulder_tilt: float
    hip_tilt: float
    hip_shift: float
    arms: tuple[Arm, Arm]
    legs: tuple[Leg, Leg]
    back: bool

    def torso(self, points: Points, front: float | NDArray[np.float64] = 0.0) -> Points:
        """Move points (N, 2) of the upright frontal body into the pose.

        `front` (0 … 1) is 1 for points on the front of the body. Rotation narrows the silhouette of the elliptic trunk
        (depth 0.65 of the width) and shifts its front.
        """
        narrow = np.hypot(np.cos(self.yaw), 0.65 * np.sin(self.yaw))
        low = _smooth_step(points[:, 1] / 55.0)
        ahead = np.asarray(front) * 10.0 * np.sin(self.yaw) * (-1 if self.back else 1)
        x = points[:, 0] * narrow + ahead + self.hip_shift * low
        y = points[:, 1] + points[:, 0] * (self.shoulder_tilt * (1 - low) + self.hip_tilt * low)
        return rotate(np.stack([x, y], axis=1), self.lean, np.array([0.0, 45.0]))

    def upright(self, points: Points) -> Points:
        """Invert `torso` except for the tilts: cloth coordinates of the trunk."""
        still = rotate(points, -self.lean, np.array([0.0, 45.0]))
        return still - np.stack([self.hip_shift * _smooth_step(still[:, 1] / 55.0), np.zeros(len(still))], axis=1)

    def arm(self, index: int, shoulder: Points, armpit: Points) -> Limb:
        """Return the arm of a sleeve or skin that starts at two posed points of the trunk."""
        arm, side = self.arms[index], (-1, 1)[index]
        root = 0.6 * shoulder + 0.4 * armpit + direction(arm.upper, side) * 1.5 + np.array([-side * 1.2, -1.0])
        elbow = root + direction(arm.upper, side) * UPPER_ARM
        wrist = elbow + direction(arm.lower, side) * FOREARM * arm.short
        return Limb(root, elbow, wrist, shoulder, armpit, side)

    def leg(self, index: int, outer: Points, inner: Points) -> Limb:
        """Return the leg between the posed hip and crotch points."""
        leg, side = self.legs[index], (-1, 1)[index]
        root = (outer + inner) / 2 + np.array([side * 0.3, 0.0])
        knee = root + direction(leg.upper, side) * THIGH
        ankle = knee + direction(leg.lower, side) * SHIN * leg.short
        return Limb(root, knee, ankle, outer, inner, side)


def _smooth_step(t: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped = np.clip(t, 0, 1)
    return clipped * clipped * (3 - 2 * clipped)


def draw_figure(generator: Rng, category: str, stride: float) -> Figure:
    """Sample the setting and pose for a garment; `stride` (0 … 1) is how far the legs can part."""
    upper = category in ("blouse", "outwear", "dress")
    shares = [0.72, 0.07, 0.11, 0.10] if upper else [0.8, 0.06, 0.04, 0.10]
    setting = str(generator.choice(SETTINGS, p=shares))
    if setting != "model":
        return _draw_still(generator, setting)
    back = bool(generator.random() < 0.02)
    legs = _draw_legs(generator, stride)
    return Figure(
        setting=setting,
        lean=float(np.clip(generator.normal(0, 3.5), -9, 9)) * _DEGREE,
        yaw=float(np.clip(generator.normal(0, 16), -38, 38)) * _DEGREE,
        shoulder_tilt=float(generator.normal(0, 0.05)),
        hip_tilt=float(generator.normal(0, 0.05)),
        hip_shift=float(generator.normal(0, 2.0)),
        arms=(_draw_arm(generator), _draw_arm(generator)),
        legs=legs if generator.random() < 0.5 else (legs[1], legs[0]),
        back=back,
    )


def _draw_still(generator: Rng, setting: str) -> Figure:
    """Sample a garment without a wearer: nearly symmetric, sleeves straight or slightly folded."""
    spread = generator.uniform(12, 32) if setting != "flat" else generator.uniform(14, 58)
    legs = generator.uniform(1.5, 8)

    def arm() -> Arm:
        upper = spread + generator.normal(0, 4)
        bend = generator.normal(0, 6) if setting != "flat" else generator.normal(8, 16)
        return Arm(upper * _DEGREE, (upper - bend) * _DEGREE, 1.0, False, "down")

    def leg() -> Leg:
        upper = legs + generator.normal(0, 1.2)
        return Leg(upper * _DEGREE, (upper + generator.normal(0, 1.5)) * _DEGREE, 1.0)

    lean = float(generator.normal(0, 2 if setting != "flat" else 7))
    return Figure(setting, lean * _DEGREE, 0.0, 0.0, 0.0, 0.0, (arm(), arm()), (leg(), leg()), False)


_ACTIONS = {
    "down": ((4, 22), (-10, 22), 0.44), "hip": ((30, 50), (80, 105), 0.14), "pocket": ((14, 30), (28, 48), 0.12),
    "raised": ((120, 160), (-15, 75), 0.06), "out": ((28, 85), (-20, 30), 0.09), "across": ((6, 20), (78, 112), 0.06),
    "back": ((12, 26), (30, 55), 0.04), "phone": ((8, 26), (115, 150), 0.05),
}  # fmt: skip


def _draw_arm(generator: Rng) -> Arm:
    actions = list(_ACTIONS)
    action = str(generator.choice(actions, p=[_ACTIONS[name][2] for name in actions]))
    upper_range, bend_range, _ = _ACTIONS[action]
    upper = generator.uniform(*upper_range)
    bend = generator.uniform(*bend_range)
    if action == "raised":
        bend = -bend
    short = generator.uniform(0.85, 1.0) if action in ("down", "out") else generator.uniform(0.72, 1.0)
    return Arm(upper * _DEGREE, (upper - bend) * _DEGREE, float(short), action == "back", action)


def _draw_legs(generator: Rng, stride: float) -> tuple[Leg, Leg]:
    kind = str(generator.choice(["stand", "apart", "cross", "bent", "walk"], p=[0.46, 0.22, 0.07, 0.13, 0.12]))
    first, second = {
        "stand": ((3, 9, 2, 8), (3, 9, 2, 8)),
        "apart": ((8, 17, 6, 15), (8, 17, 6, 15)),
        "cross": ((-9, -3, -14, -6), (-3, 3, -7, 1)),
        "bent": ((10, 22, -12, 6), (2, 6, 2, 7)),
        "walk": ((3, 8, -3, 5), (0, 5, -4, 3)),
    }[kind]

    def leg(ranges: tuple[int, int, int, int], short: float) -> Leg:
        upper, lower = generator.uniform(ranges[0], ranges[1]), generator.uniform(ranges[2], ranges[3])
        return Leg(upper * _DEGREE * stride, lower * _DEGREE * stride, short)

    shorter = generator.uniform(0.72, 0.95) if kind in ("bent", "walk") else 1.0
    return leg(first, float(shorter)), leg(second, 1.0)
