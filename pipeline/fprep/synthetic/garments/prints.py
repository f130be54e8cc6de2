"""Cloth: a small tile with print and weave, wrapped over a garment, and a fixed bank of noise for textures."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.garments.shapes import Color, Points, Rng, path, shift

TILE_SCALE = 6.0  # pixels per centimeter
TILE_SIDE = 180  # pixels, 30 cm of cloth
_BANK_SIDE = 1024


@dataclass(frozen=True)
class Print:
    """The print or weave pattern of the cloth. `pitch` is the size of the motif in cm; `seed` fixes random motifs."""

    kind: str  # a key of PRINTS
    colors: tuple[Color, Color]  # second and third color, after that of the garment
    pitch: float
    seed: int


@lru_cache(maxsize=1)
def noise_bank() -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return white noise (1024, 1024, 3), std 32, and periodic smooth noise (256, 256, 4) in about -1 … 1.

    It is the same in every process and for every seed, which avoids generating noise for each image.
    """
    generator = np.random.default_rng(20180227)
    white = generator.normal(0, 32, (_BANK_SIDE, _BANK_SIDE, 3))
    luminance = generator.normal(0, 32, (_BANK_SIDE, _BANK_SIDE, 1))
    grain = np.clip(0.5 * white + 0.87 * luminance, -127, 127).astype(np.int8)
    smooth = np.zeros((256, 256, 4), np.float32)
    for octave, weight in ((4, 1.0), (8, 0.6), (16, 0.35), (32, 0.2)):
        coarse = np.pad(generator.normal(0, 1, (octave, octave, 4)), ((2, 2), (2, 2), (0, 0)), mode="wrap")
        margin = 2 * 256 // octave
        zoom = 256 / octave
        fine = cv2.resize(coarse.astype(np.float32), None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
        smooth += weight * fine[margin:-margin, margin:-margin]
    return grain, smooth / 1.3


def grain_patch(generator: Rng, height: int, width: int) -> NDArray[np.int8]:
    """Return a random crop (height, width, 3) of the white noise, at most 1024 per side."""
    top, left = generator.integers(0, _BANK_SIDE - height + 1), generator.integers(0, _BANK_SIDE - width + 1)
    return noise_bank()[0][top : top + height, left : left + width]


def smooth_patch(generator: Rng, height: int, width: int, cells: float) -> NDArray[np.float32]:
    """Return smooth noise (height, width) in about -1 … 1 with about `cells` blobs along its longer side."""
    window = int(np.clip(256 * cells / 4, 8, 250))
    top, left = generator.integers(0, 256 - window + 1, 2)
    field = noise_bank()[1][top : top + window, left : left + window, int(generator.integers(0, 4))]
    return np.asarray(cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def cloth_tile(cloth: Print, color: Color, weave: str) -> NDArray[np.uint8]:
    """Return a periodic tile (180, 180, 3), 6 pixels per cm."""
    generator = np.random.default_rng(cloth.seed)
    tile = np.empty((TILE_SIDE, TILE_SIDE, 3), np.float32)
    tile[:] = color
    PRINTS[cloth.kind](tile, cloth, generator)
    return np.clip(tile * _weave(weave, generator)[..., None], 0, 255).astype(np.uint8)


def _weave(kind: str, generator: Rng) -> NDArray[np.float32]:
    """Return the brightness (180, 180) of the threads, mean about 1."""
    down, across = np.mgrid[0:TILE_SIDE, 0:TILE_SIDE].astype(np.float32)
    grain = noise_bank()[0][:TILE_SIDE, :TILE_SIDE, int(generator.integers(0, 3))].astype(np.float32) / 32
    if kind == "denim":
        twill = np.sin((across + down) * (2 * np.pi / 4))
        threads = 0.10 * twill + 0.06 * grain + 0.16 * cv2.blur(grain, (1, 9))
    elif kind == "knit":
        ribs = np.sin(across * (2 * np.pi / 9) + 1.2 * np.abs(np.sin(down * (np.pi / 6))))
        threads = 0.11 * ribs + 0.04 * grain
    elif kind == "linen":
        threads = 0.09 * (cv2.blur(grain, (7, 1)) + cv2.blur(grain, (1, 7))) + 0.03 * grain
    elif kind == "fleece":
        threads = 0.13 * cv2.GaussianBlur(grain, (0, 0), 1.2) + 0.03 * grain
    else:
        threads = 0.035 * grain
    return np.asarray(1 + threads, np.float32)


Painter = Callable[[NDArray[np.float32], Print, Rng], None]


def _periods(pitch: float) -> int:
    """Return how often a motif of `pitch` cm fits into the tile, as an integer so that it wraps."""
    return max(1, round(TILE_SIDE / TILE_SCALE / pitch))


def _plain(_tile: NDArray[np.float32], _cloth: Print, _generator: Rng) -> None:
    """Leave the tile in the color of the garment."""


def _wave(cloth: Print) -> NDArray[np.float32]:
    """Return the phase 0 … 1 of the pattern along one side of the tile."""
    return np.asarray(np.arange(TILE_SIDE) * _periods(cloth.pitch) / TILE_SIDE % 1.0, np.float32)


def _stripes_across(tile: NDArray[np.float32], cloth: Print, generator: Rng) -> None:
    share = generator.uniform(0.25, 0.55)
    tile[_wave(cloth) < share] = cloth.colors[0]


def _stripes_along(tile: NDArray[np.float32], cloth: Print, generator: Rng) -> None:
    share = generator.uniform(0.15, 0.5)
    tile[:, _wave(cloth) < share] = cloth.colors[0]


def _stripes_diagonal(tile: NDArray[np.float32], cloth: Print, _generator: Rng) -> None:
    phase = (_wave(cloth)[:, None] + _wave(cloth)[None, :]) % 1.0
    tile[phase < 0.4] = cloth.colors[0]


def _gingham(tile: NDArray[np.float32], cloth: Print, _generator: Rng) -> None:
    dark = (_wave(cloth) < 0.5).astype(np.float32)
    weight = (dark[:, None] + dark[None, :])[..., None] / 2
    tile += weight * (np.array(cloth.colors[0], np.float32) - tile)


def _tartan(tile: NDArray[np.float32], cloth: Print, _generator: Rng) -> None:
    first, second = (np.array(color, np.float32) for color in cloth.colors)
    phase = _wave(cloth)
    broad = ((phase > 0.1) & (phase < 0.45)).astype(np.float32)
    thin = (((phase > 0.62) & (phase < 0.68)) | ((phase > 0.84) & (phase < 0.9))).astype(np.float32)
    for line, color, weight in ((broad, first, 0.5), (thin, second, 0.6)):
        tile += (weight * line)[:, None, None] * (color - tile)
        tile += (weight * line)[None, :, None] * (color - tile)


def _wrapped_polygons(tile: NDArray[np.float32], shapes: list[tuple[Points, Color]]) -> None:
    """Fill polygons (tile pixels), wrapping them around the edges."""
    for outline, color in shapes:
        low, high = outline.min(axis=0), outline.max(axis=0)
        for down in (-TILE_SIDE, 0, TILE_SIDE):
            for across in (-TILE_SIDE, 0, TILE_SIDE):
                move = (across, down)
                if (low + move < TILE_SIDE).all() and (high + move > 0).all():
                    moved = np.round(shift(outline, across, down) * 8).astype(np.int32)
                    cv2.fillPoly(tile, [moved], color, cv2.LINE_8, 3)


_RING = np.stack([np.cos(np.arange(12) * np.pi / 6), np.sin(np.arange(12) * np.pi / 6)], axis=1)


def _dots(tile: NDArray[np.float32], cloth: Print, generator: Rng) -> None:
    periods = max(2, 2 * round(_periods(cloth.pitch) / 2))
    step = TILE_SIDE / periods
    radius = step * generator.uniform(0.18, 0.34)
    grid = [((i + 0.5 * (j % 2)) * step, (j + 0.5) * step) for i in range(periods) for j in range(periods)]
    _wrapped_polygons(tile, [(_RING * radius + center, cloth.colors[0]) for center in grid])


def _scattered(generator: Rng, count: int) -> Points:
    """Return evenly scattered points on the tile: a jittered grid."""
    side = int(np.ceil(np.sqrt(count)))
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)
    return (grid + 0.5 + generator.uniform(-0.38, 0.38, grid.shape)) * (TILE_SIDE / side)


def _floral(tile: NDArray[np.float32], cloth: Print, generator: Rng) -> None:
    shapes: list[tuple[Points, Color]] = []
    leaf = path("0,-1 0.42,-0.3 0.3,0.5 0,1 -0.3,0.5 -0.42,-0.3")
    center_color = (240.0, 210.0, 90.0)
    for center in _scattered(generator, _periods(cloth.pitch) ** 2):
        size = cloth.pitch * TILE_SCALE * generator.uniform(0.26, 0.42)
        turn = generator.uniform(0, 2 * np.pi)
        for angle in turn + np.array([0.9, 2.6]):
            along = np.array([np.sin(angle), -np.cos(angle)])
            spin = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
            shapes.append(((leaf * size * 0.7) @ spin + center + along * size * 1.1, cloth.colors[1]))
        for petal in range(5):
            angle = turn + petal * 2 * np.pi / 5
            offset = np.array([np.cos(angle), np.sin(angle)]) * size * 0.55
            shapes.append((_RING * size * 0.46 + center + offset, cloth.colors[0]))
        shapes.append((_RING * size * 0.26 + center, center_color))
    _wrapped_polygons(tile, shapes)


def _blobs(tile: NDArray[np.float32], cloth: Print, generator: Rng) -> None:
    """Camouflage, leopard or tie-dye: level sets of smooth noise."""
    repeat = cv2.resize(noise_bank()[1], (TILE_SIDE, TILE_SIDE), interpolation=cv2.INTER_LINEAR)
    periods = int(np.clip(_periods(cloth.pitch) // 3, 1, 3))
    field = np.tile(repeat[::periods, ::periods], (periods, periods, 1))[:TILE_SIDE, :TILE_SIDE]
    first, second = generator.permutation(4)[:2]
    tile[field[..., first] > 0.25] = cloth.colors[0]
    tile[field[..., second] > 0.45] = cloth.colors[1]


def _houndstooth(tile: NDArray[np.float32], cloth: Print, _generator: Rng) -> None:
    repeats = max(3, _periods(max(cloth.pitch, 1.5)))
    cell = (np.arange(TILE_SIDE) * repeats * 8 // TILE_SIDE) % 8
    down, across = cell[:, None], cell[None, :]
    warp, weft = (across % 8) < 4, (down % 8) < 4
    twill = ((across + down) % 4) < 2
    tile[np.where(warp == weft, warp, twill)] = cloth.colors[0]


PRINTS: dict[str, Painter] = {
    "plain": _plain, "stripes across": _stripes_across, "stripes along": _stripes_along,
    "stripes diagonal": _stripes_diagonal, "gingham": _gingham, "tartan": _tartan, "dots": _dots, "floral": _floral,
    "blobs": _blobs, "houndstooth": _houndstooth,
}  # fmt: skip
