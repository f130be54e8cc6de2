"""The camera: framing, light, lens and sensor."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.garments.canvas import Camera
from fprep.synthetic.garments.prints import grain_patch
from fprep.synthetic.garments.shapes import Points, Rng


@dataclass(frozen=True)
class Photograph:
    """Camera settings of an image.

    `fill` is the share of the frame that the garment spans, `position` the position of its center in the remaining space
    (0 … 1), `tilt` the roll in radians, `keystone` the perspective, and `lamp` the direction of the light.
    """

    height: int
    width: int
    fill: float
    position: tuple[float, float]
    tilt: float
    keystone: tuple[float, float]
    lamp: tuple[float, float]
    shadow: float
    exposure: float
    contrast: float
    balance: tuple[float, float, float]
    vignette: float
    blur: float
    noise: float


def draw_photograph(generator: Rng, size: int) -> Photograph:
    """Sample the settings of one image with a longer side of `size` pixels."""
    shape = generator.random()
    height, width = size, size
    if shape > 0.88:
        height = round(size * generator.uniform(0.72, 0.9))
    elif shape > 0.62:
        width = round(size * float(generator.choice([0.75, 0.667, generator.uniform(0.7, 0.95)])))
    close = generator.random() < 0.05
    angle = generator.uniform(-2.6, -0.5)
    slant = generator.uniform(0.3, 0.9)
    warmth, green = generator.normal(0, 0.05), generator.normal(0, 0.02)
    return Photograph(
        height=height,
        width=width,
        fill=float(generator.uniform(1.0, 1.22) if close else np.clip(generator.normal(0.76, 0.13), 0.35, 0.95)),
        position=(float(generator.beta(4, 4)), float(generator.beta(2.5, 2.5))),
        tilt=float(np.clip(generator.normal(0, 3.5), -15, 15)) * np.pi / 180
        if generator.random() < 0.85
        else float(generator.uniform(-15, 15)) * np.pi / 180,
        keystone=(float(generator.normal(0, 0.06)), float(generator.normal(0, 0.06))),
        lamp=(float(np.cos(angle) * slant), float(np.sin(angle) * slant)),
        shadow=float(generator.uniform(0.0, 0.4)),
        exposure=float(np.clip(generator.normal(1.0, 0.12), 0.7, 1.3)),
        contrast=float(np.clip(generator.normal(1.0, 0.12), 0.7, 1.3)),
        balance=(1 + float(warmth), 1 + float(green), 1 - float(warmth)),
        vignette=float(generator.uniform(0, 0.28)),
        blur=float(
            generator.choice([0.0, generator.uniform(0.4, 0.8), generator.uniform(0.8, 1.4)], p=[0.55, 0.35, 0.1])
        ),
        noise=float(np.clip(generator.gamma(4.0, 1.1), 1.5, 10.0)),
    )


def frame(photograph: Photograph, outlines: Points) -> Camera:
    """Point the camera at a garment with outlines (N, 2), in cm, that should span `fill` of the frame."""
    size = np.array([photograph.width, photograph.height], dtype=np.float64)
    middle = (outlines.min(axis=0) + outlines.max(axis=0)) / 2
    cos, sin = np.cos(photograph.tilt), np.sin(photograph.tilt)
    centered = np.array([[1, 0, -middle[0]], [0, 1, -middle[1]], [0, 0, 1.0]])
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]]) @ centered
    half = max(np.ptp(outlines, axis=0)) / 2
    lens = np.array([[1, 0, 0], [0, 1, 0], [photograph.keystone[0] / half, photograph.keystone[1] / half, 1.0]])
    seen = Camera(lens @ turn, 1.0).project(outlines)
    low, high = seen.min(axis=0), seen.max(axis=0)
    scale = float(photograph.fill / max((high - low) / size))
    room = size - (high - low) * scale
    corner = np.array(photograph.position) * room - low * scale
    zoom = np.array([[scale, 0, corner[0] - 0.5], [0, scale, corner[1] - 0.5], [0, 0, 1.0]])
    return Camera(zoom @ lens @ turn, scale)


def develop(photograph: Photograph, lit: NDArray[np.float32], generator: Rng) -> NDArray[np.uint8]:
    """Apply lens and sensor to light (H, W, 3): vignette, blur, white balance, contrast and noise; returns uint8."""
    height, width = lit.shape[:2]
    if photograph.blur:
        lit = np.asarray(cv2.GaussianBlur(lit, (0, 0), photograph.blur * max(height, width) / 512), np.float32)
    gain = np.array(photograph.balance, np.float32) * np.float32(photograph.exposure * photograph.contrast)
    lit *= gain
    lit += np.float32(118 * (1 - photograph.contrast))
    if photograph.vignette > 0.08:
        x, y = np.linspace(-0.7, 0.7, width, dtype=np.float32), np.linspace(-0.7, 0.7, height, dtype=np.float32)
        lit *= (1 - np.float32(photograph.vignette) * (x[None, :] ** 2 + y[:, None] ** 2))[..., None]
    lit += grain_patch(generator, height, width).astype(np.float32) * np.float32(photograph.noise / 32)
    return np.clip(lit, 0, 255).astype(np.uint8)
