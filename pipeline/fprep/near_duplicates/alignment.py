"""Undo the small shift and stretch between two thumbnails, then measure their agreement.

Batched least squares on the linearized image (Lucas and Kanade, IJCAI 1981) with a brightness gain and offset. One
pixel of a 32-pixel thumbnail is 3% of the image, so a crop of a few percent is undone in two or three steps.
"""

from dataclasses import dataclass

import numpy as np

_STEPS = 3
_FIRST_GATE = 0.95  # minimum correlation after the first step; pairs below are abandoned
_MAX_SHIFT, _MAX_STRETCH = 2.5, 0.12  # pixels of the thumbnail; share of its size
_CAP = 6.0  # luma levels; larger differences are clipped, or a garment's outline on white would dominate


@dataclass(frozen=True)
class Match:
    """Agreement of N pairs, each (N,): correlation of luma and of its fine detail, RMS difference in levels."""

    correlation: np.ndarray
    detail: np.ndarray
    difference: np.ndarray


def compare_aligned(first: np.ndarray, second: np.ndarray) -> Match:
    """Align the first images with the second, (N, S, S) luma levels each, and compare them where both are defined."""
    a, b = _smooth(first.astype(np.float32)), _smooth(second.astype(np.float32))
    warp = np.zeros((len(a), 4), np.float32)  # shift x, shift y, stretch x, stretch y
    warp = _step(a, b, warp)
    moved, inside = _sample(a, warp)
    hopeful = np.flatnonzero(_correlation(moved, b, inside) >= _FIRST_GATE)
    for _ in range(_STEPS - 1 if len(hopeful) else 0):
        warp[hopeful] = _step(a[hopeful], b[hopeful], warp[hopeful])
    moved, inside = _sample(a, warp)
    sharp, _ = _sample(first.astype(np.float32), warp)
    fine, other_fine = (np.clip(plane - _blur(plane), -_CAP, _CAP) for plane in (moved, b))
    energy = (fine**2 * inside).sum((1, 2)) * (other_fine**2 * inside).sum((1, 2))
    detail = (fine * other_fine * inside).sum((1, 2)) / np.sqrt(energy + 1e-6)
    difference = np.sqrt((((sharp - second) ** 2) * inside).sum((1, 2)) / (inside.sum((1, 2)) + 1e-6))
    return Match(_correlation(moved, b, inside), detail, difference)


def _step(a: np.ndarray, b: np.ndarray, warp: np.ndarray) -> np.ndarray:
    """One Gauss-Newton step for b = gain * a(warped) + offset. `a` and `b` are (N, S, S), `warp` is (N, 4)."""
    side = a.shape[1]
    moved, inside = _sample(a, warp)
    down, right = np.gradient(moved, axis=(1, 2))
    centered = np.arange(side, dtype=np.float32) - (side - 1) / 2
    parts = (moved, np.ones_like(moved), right, down, right * centered, down * centered[:, None])
    matrix = (np.stack(parts, -1) * inside[..., None]).reshape(len(a), side * side, len(parts))
    transposed = matrix.transpose(0, 2, 1)
    normal = (transposed @ matrix).astype(np.float64)
    scale = np.maximum(np.trace(normal, axis1=1, axis2=2), 1.0)[:, None, None]
    target = transposed @ (b * inside).reshape(len(a), -1, 1)
    solution = np.linalg.solve(normal + 1e-7 * scale * np.eye(len(parts)), target.astype(np.float64))[..., 0]
    gain = np.where(np.abs(solution[:, :1]) < 0.2, 1.0, solution[:, :1])
    limits = np.array([_MAX_SHIFT, _MAX_SHIFT, _MAX_STRETCH, _MAX_STRETCH])
    return np.clip(warp + np.clip(solution[:, 2:] / gain, -1, 1), -limits, limits).astype(np.float32)


def _sample(a: np.ndarray, warp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sample the images at the warped positions, bilinearly; also return a mask, 1 inside the image and 0 outside."""
    side = a.shape[1]
    centered = np.arange(side, dtype=np.float32) - (side - 1) / 2
    columns = np.arange(side) + warp[:, :1] + warp[:, 2:3] * centered  # (N, S): the warp is separable
    rows = np.arange(side) + warp[:, 1:2] + warp[:, 3:4] * centered
    left, right_share = _corner(columns, side)
    top, bottom_share = _corner(rows, side)
    wide = (
        np.take_along_axis(a, left[:, None, :], 2) * (1 - right_share[:, None, :])
        + np.take_along_axis(a, left[:, None, :] + 1, 2) * right_share[:, None, :]
    )  # fmt: skip
    moved = (
        np.take_along_axis(wide, top[:, :, None], 1) * (1 - bottom_share[:, :, None])
        + np.take_along_axis(wide, top[:, :, None] + 1, 1) * bottom_share[:, :, None]
    )  # fmt: skip
    inside = _is_inside(rows, side)[:, :, None] & _is_inside(columns, side)[:, None, :]
    return moved.astype(np.float32), inside.astype(np.float32)


def _corner(positions: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    held = np.clip(positions, 0, side - 1)
    corner = np.minimum(held.astype(np.int64), side - 2)
    return corner, (held - corner).astype(np.float32)


def _is_inside(positions: np.ndarray, side: int) -> np.ndarray:
    return (positions >= -0.5) & (positions <= side - 0.5)


def _correlation(first: np.ndarray, second: np.ndarray, inside: np.ndarray) -> np.ndarray:
    count = inside.sum((1, 2), keepdims=True) + 1e-6
    a = (first - (first * inside).sum((1, 2), keepdims=True) / count) * inside
    b = (second - (second * inside).sum((1, 2), keepdims=True) / count) * inside
    return (a * b).sum((1, 2)) / np.sqrt((a * a).sum((1, 2)) * (b * b).sum((1, 2)) + 1e-6)


def _smooth(planes: np.ndarray) -> np.ndarray:
    """3 x 3 binomial filter; single-pixel derivatives are noise."""
    padded = np.pad(planes, ((0, 0), (1, 1), (1, 1)), mode="edge")
    tall = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    return (tall[:, :, :-2] + 2 * tall[:, :, 1:-1] + tall[:, :, 2:]) / 4


def _blur(planes: np.ndarray) -> np.ndarray:
    """5 x 5 mean filter."""
    side = planes.shape[1]
    padded = np.pad(planes, ((0, 0), (2, 2), (2, 2)), mode="edge")
    tall = sum((padded[:, offset : offset + side] for offset in range(1, 5)), padded[:, :side])
    return sum((tall[:, :, offset : offset + side] for offset in range(1, 5)), tall[:, :, :side]) / 25
