"""The background of a garment: studio, room, street, wall, or a surface."""

import colorsys
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.garments.prints import grain_patch, smooth_patch
from fprep.synthetic.garments.shapes import Rng

Image = NDArray[np.uint8]
_Floats = NDArray[np.float32]


def draw_background(generator: Rng, height: int, width: int, setting: str) -> Image:
    """Sample a background (height, width, 3) for a setting of `body.SETTINGS`, or one of shop, home, street."""
    kinds, shares = _KINDS[setting]
    kind = kinds[int(generator.choice(len(kinds), p=np.array(shares) / sum(shares)))]
    rows, columns = (height + 1) // 2, (width + 1) // 2
    small = kind(generator, rows, columns)
    small *= 1 + 0.025 * smooth_patch(generator, rows, columns, 3)[..., None]
    small = np.clip(small, 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _tone(generator: Rng, low: float, high: float, colorful: float) -> _Floats:
    """Sample a muted color of the given brightness."""
    rgb = colorsys.hsv_to_rgb(generator.random(), colorful * generator.random(), generator.uniform(low, high) / 255)
    return np.array(rgb, np.float32) * 255


def _filled(rows: int, columns: int, color: _Floats) -> _Floats:
    image = np.empty((rows, columns, 3), np.float32)
    image[:] = color
    return image


def _studio(generator: Rng, rows: int, columns: int) -> _Floats:
    base = _tone(generator, 175, 252, 0.12) if generator.random() < 0.8 else _tone(generator, 60, 200, 0.6)
    image = _filled(rows, columns, base)
    x = np.linspace(-1, 1, columns, dtype=np.float32) - generator.uniform(-0.5, 0.5)
    y = np.linspace(-1, 1, rows, dtype=np.float32) - generator.uniform(-0.8, 0.2)
    image *= (1 - generator.uniform(0, 0.16) * (x[None, :] ** 2 + y[:, None] ** 2))[..., None]
    if generator.random() < 0.4:
        horizon = int(rows * generator.uniform(0.78, 0.95))
        image[horizon:] *= np.float32(generator.uniform(0.86, 0.97))
        image[horizon - 6 : horizon + 6] = cv2.blur(image[horizon - 6 : horizon + 6], (1, 9))
    return image


def _room(generator: Rng, rows: int, columns: int) -> _Floats:
    image = _filled(rows, columns, _tone(generator, 130, 245, 0.35))
    for _ in range(int(generator.integers(1, 5))):  # a frame, shelf, door or plant pot
        color = _tone(generator, 40, 230, 0.6)
        x, y = generator.uniform(-0.1, 0.9) * columns, generator.uniform(-0.1, 0.6) * rows
        w, h = generator.uniform(0.1, 0.4) * columns, generator.uniform(0.1, 0.7) * rows
        corners = (int(x), int(y)), (int(x + w), int(y + h))
        cv2.rectangle(image, *corners, color.tolist(), -1)
        if generator.random() < 0.6:
            cv2.rectangle(image, *corners, (color * 0.6).tolist(), int(generator.integers(1, 4)))
    horizon = int(rows * generator.uniform(0.72, 0.92))
    floor = _tone(generator, 70, 210, 0.4)
    image[horizon:] = floor
    for x in np.linspace(-1, 2, int(generator.integers(8, 20))):
        start, end = (int(columns * (0.5 + 0.6 * (x - 0.5))), horizon), (int(columns * (0.5 + 1.6 * (x - 0.5))), rows)
        cv2.line(image, start, end, (floor * 0.82).tolist(), 1, cv2.LINE_8)
    image[horizon - 4 : horizon] = floor * 1.1
    return np.asarray(cv2.GaussianBlur(image, (0, 0), generator.uniform(0.6, 3.5)), np.float32)


def _street(generator: Rng, rows: int, columns: int) -> _Floats:
    image = _filled(rows, columns, _tone(generator, 190, 245, 0.3))
    ground = int(rows * generator.uniform(0.68, 0.88))
    x = -10
    while x < columns:
        wide = int(generator.integers(columns // 8, columns // 2))
        top = int(generator.uniform(-0.2, 0.35) * rows)
        wall = _tone(generator, 70, 210, 0.45)
        cv2.rectangle(image, (x, top), (x + wide, ground), wall.tolist(), -1)
        pane = wall * generator.uniform(0.45, 0.8)
        step_x, step_y = int(generator.integers(9, 26)), int(generator.integers(10, 30))
        for left in range(x + 4, x + wide - step_x // 2, step_x):
            for upper in range(max(top, -20) + 5, ground - step_y, step_y):
                cv2.rectangle(image, (left, upper), (left + step_x // 2, upper + int(step_y * 0.6)), pane.tolist(), -1)
        x += wide
    image[ground:] = _tone(generator, 90, 180, 0.15)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), generator.uniform(1.2, 5.0)), np.float32)


def _clutter(generator: Rng, rows: int, columns: int) -> _Floats:
    image = _filled(rows, columns, _tone(generator, 70, 220, 0.3))
    leaves = _tone(generator, 60, 170, 0.8)
    for step in range(int(generator.integers(20, 60))):
        center = (int(generator.uniform(0, columns)), int(generator.uniform(0, rows)))
        axes = (int(generator.uniform(4, 30)), int(generator.uniform(4, 40)))
        color = leaves * generator.uniform(0.5, 1.4) if step % 4 else _tone(generator, 30, 250, 0.5)
        cv2.ellipse(image, center, axes, float(generator.uniform(0, 180)), 0, 360, color.tolist(), -1)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), generator.uniform(2.0, 7.0)), np.float32)


def _wallpaper(generator: Rng, rows: int, columns: int) -> _Floats:
    first, second = _tone(generator, 130, 240, 0.4), _tone(generator, 90, 240, 0.5)
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    pitch, angle = generator.uniform(8, 36), generator.uniform(0, np.pi)
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    kind = int(generator.integers(0, 3))
    along, across = (along / pitch) % 1, (across / pitch) % 1
    shown = (along < 0.5) if kind == 0 else (along < 0.5) ^ (across < 0.5)
    if kind == 2:
        shown = (along - 0.5) ** 2 + (across - 0.5) ** 2 < 0.07
    weight = shown.astype(np.float32)
    weight *= generator.uniform(0.3, 1.0)
    return first + weight[..., None] * (second - first)


def _bricks(generator: Rng, rows: int, columns: int) -> _Floats:
    mortar, brick = _tone(generator, 150, 230, 0.1), _tone(generator, 90, 220, 0.6)
    image = _filled(rows, columns, mortar)
    high, wide = int(generator.integers(9, 20)), int(generator.integers(20, 46))
    for row, top in enumerate(range(0, rows, high)):
        for left in range(-(row % 2) * wide // 2, columns, wide):
            color = (brick * generator.uniform(0.85, 1.12)).tolist()
            cv2.rectangle(image, (left + 1, top + 1), (left + wide - 1, top + high - 1), color, -1)
    return image


def _planks(generator: Rng, rows: int, columns: int) -> _Floats:
    wood = _tone(generator, 110, 225, 0.5)
    image = _filled(rows, columns, wood)
    wide = int(generator.integers(18, 60))
    upright = generator.random() < 0.5
    length = columns if upright else rows
    across = image.transpose(1, 0, 2) if upright else image  # a view
    for start in range(0, length, wide):
        across[start : start + wide - 1] = (wood * generator.uniform(0.86, 1.1)).astype(np.float32)
        across[start + wide - 1 : start + wide] = wood * 0.6
    grain = grain_patch(generator, rows, columns)[..., 0].astype(np.float32)
    streaks = cv2.blur(grain, (1, 31) if upright else (31, 1))
    return np.asarray(image * (1 + 0.012 * streaks[..., None]), np.float32)


def _textile(generator: Rng, rows: int, columns: int) -> _Floats:
    image = _filled(rows, columns, _tone(generator, 120, 250, 0.4))
    folds = smooth_patch(generator, rows, columns, float(generator.uniform(2, 6)))
    slope = cv2.GaussianBlur(cv2.Sobel(folds, cv2.CV_32F, 1, 0), (0, 0), 2.0)
    return np.asarray(image * (1 + np.clip(0.9 * slope, -0.22, 0.16))[..., None], np.float32)


_Kind = Callable[[Rng, int, int], _Floats]
_KINDS: dict[str, tuple[tuple[_Kind, ...], tuple[float, ...]]] = {
    "model": ((_studio, _room, _street, _clutter, _wallpaper, _bricks), (5, 3, 3, 2, 1, 1)),
    "ghost": ((_studio, _wallpaper), (8, 1)),
    "hanger": ((_studio, _room, _wallpaper, _bricks, _planks), (4, 2, 1, 1, 1)),
    "flat": ((_studio, _planks, _textile, _wallpaper, _clutter), (3, 3, 3, 1, 1)),
    "shop": ((_studio,), (1,)),
    "home": ((_room, _clutter, _wallpaper, _bricks, _planks, _textile), (4, 3, 1, 1, 1, 1)),
    "street": ((_street, _clutter, _bricks), (4, 2, 1)),
}
