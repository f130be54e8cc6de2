"""Painting of parts in pixels: color, lines, soft light and occlusion."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.garments.prints import TILE_SCALE, TILE_SIDE, smooth_patch
from fprep.synthetic.garments.shapes import Color, Part, Points, Rng

_SHIFT = 4  # sub-pixel bits of polygon corners
_PROBE = 5  # for a long side of 512 pixels: radius of the disc that decides the visibility of a landmark


@dataclass(frozen=True)
class Camera:
    """A camera. `matrix` (3, 3) maps scene cm to pixel centers; `scale` is pixels per cm near the garment."""

    matrix: NDArray[np.float64]
    scale: float

    def project(self, points: Points) -> Points:
        """Map scene points (N, 2) to pixels (N, 2)."""
        mapped = points @ self.matrix[:, :2].T + self.matrix[:, 2]
        return mapped[:, :2] / mapped[:, 2:]

    def unproject(self, pixels: Points) -> Points:
        """Map pixels (N, 2) to scene points (N, 2)."""
        inverse = np.linalg.inv(self.matrix)
        mapped = pixels @ inverse[:, :2].T + inverse[:, 2]
        return mapped[:, :2] / mapped[:, 2:]


class Canvas:
    """An image in progress.

    `albedo` (H, W, 3) is unlit color, `ink` (H, W) the darkening by lines, `light` (h, w) the brightness at half
    resolution, and `owner` (H, W) the number of the part visible at each pixel (0: background).
    """

    def __init__(self, background: NDArray[np.uint8], camera: Camera, lamp: Points, generator: Rng) -> None:
        """Start from a background (H, W, 3). `lamp` is the direction (x, y) toward the light, of length 0 … 1."""
        self.albedo = background
        height, width = background.shape[:2]
        self.ink = np.full((height, width), 255, np.uint8)
        self.owner = np.zeros((height, width), np.uint8)
        self.light = np.ones(((height + 1) // 2, (width + 1) // 2), np.float32)
        self.camera = camera
        self._lamp = lamp
        self._generator = generator
        self._probes: list[tuple[int, int, int, Points]] = []  # part, its pixels when painted, landmark, center
        self._count = 0

    def paint(self, part: Part) -> None:
        """Paint a part over everything so far and record its landmarks."""
        self._count += 1
        outlines = [self.camera.project(outline) for outline in part.outlines]
        corners = np.concatenate(outlines)
        height, width = self.ink.shape
        left, top = np.maximum(np.floor(corners.min(axis=0)).astype(int) - 2, 0) // 2 * 2
        right, bottom = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 3, (width, height))
        if right - left < 2 or bottom - top < 2:
            self._probe(part)
            return
        window = np.s_[top:bottom, left:right]
        offset = np.array([left, top], dtype=np.float64)
        mask = np.zeros((bottom - top, right - left), np.uint8)
        for outline in outlines:
            cv2.fillPoly(mask, [_fixed(outline - offset)], 255, cv2.LINE_AA, _SHIFT)
        self._color(part, mask, window, offset)
        ink = np.full_like(mask, 255)
        for stroke in part.strokes:
            if stroke.color is None:
                self._line(ink, stroke.points, offset, stroke.width, int(stroke.tone * 255))
        solid = mask > 127
        self.ink[window][solid] = ink[solid]
        self.owner[window][solid] = self._count
        if part.relief:
            self._shade(part, mask, window, offset)
        self._probe(part)

    def visible(self) -> dict[int, tuple[Points, bool]]:
        """Return the pixel center (2,) of every landmark and whether its neighborhood still belongs to its part."""
        seen: dict[int, tuple[Points, bool]] = {}
        for part, before, landmark, center in self._probes:
            after = int(np.count_nonzero(self._disc(center) == part))
            seen[landmark] = (center, before > 0 and after >= 0.4 * before)
        return seen

    def cast_shadow(self, shift: Points, softness: float, strength: float) -> None:
        """Darken the background by the blurred silhouette of everything painted, shifted by `shift` (2,) pixels."""
        small = (self.owner[::4, ::4] > 0).astype(np.float32)
        move = np.array([[1, 0, shift[0] / 4], [0, 1, shift[1] / 4]], dtype=np.float64)
        soft = cv2.GaussianBlur(cv2.warpAffine(small, move, small.shape[::-1]), (0, 0), max(softness / 4, 0.6))
        size = self.light.shape[::-1]
        behind = (self.owner[::2, ::2] == 0).astype(np.float32)
        self.light *= 1 - strength * cv2.resize(soft, size, interpolation=cv2.INTER_LINEAR) * behind

    def lit(self) -> NDArray[np.float32]:
        """Return the lit image (H, W, 3), 0 … 255 or above."""
        height, width = self.ink.shape
        light = cv2.resize(self.light, (width, height), interpolation=cv2.INTER_LINEAR)
        light *= self.ink.astype(np.float32) * (1 / 255)
        image = self.albedo.astype(np.float32)
        image += 6.0
        return image * light[..., None]

    def _color(self, part: Part, mask: NDArray[np.uint8], window: tuple[slice, slice], offset: Points) -> None:
        target = self.albedo[window]
        if part.tile is None:
            cloth = np.full_like(target, _byte(part.color))
        else:
            cloth = self._cloth(part, part.tile, mask.shape, offset)
        for stroke in part.strokes:
            if stroke.color is not None:
                self._line(cloth, stroke.points, offset, stroke.width, _byte(stroke.color))
        for dot in part.dots:
            center = _fixed(self.camera.project(dot.center[None]) - offset)[0]
            radius = max(int(dot.radius * self.camera.scale * 2**_SHIFT), 10)
            cv2.circle(cloth, (int(center[0]), int(center[1])), radius, _byte(dot.color), -1, cv2.LINE_AA, _SHIFT)
        weight = mask.astype(np.float32) * (1 / 255)
        target[:] = cv2.blendLinear(cloth, np.ascontiguousarray(target), weight, 1 - weight)

    def _cloth(self, part: Part, tile: NDArray[np.uint8], shape: tuple[int, ...], offset: Points) -> NDArray[np.uint8]:
        """Wrap the tile over a window: cloth coordinates on a coarse grid, slightly draped, then interpolated."""
        height, width = shape
        rows, columns = max(height // 12, 2), max(width // 12, 2)
        across, down = (np.arange(columns) + 0.5) * width / columns, (np.arange(rows) + 0.5) * height / rows
        grid_x, grid_y = np.meshgrid(across, down)
        pixels = np.stack([grid_x.ravel(), grid_y.ravel()], axis=1) - 0.5 + offset
        scene = self.camera.unproject(pixels)
        cloth = (scene if part.surface is None else part.surface(scene)).reshape(rows, columns, 2)
        for axis in (0, 1):
            cloth[..., axis] += 0.45 * smooth_patch(self._generator, rows, columns, 2.5)
        shrink = self.camera.scale / TILE_SCALE
        if shrink < 0.95:
            side = max(round(TILE_SIDE * shrink), 16)
            tile = np.asarray(cv2.resize(tile, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
        zoom = tile.shape[0] * TILE_SCALE / TILE_SIDE
        maps = [np.asarray(cloth[..., axis] * zoom, np.float32) for axis in (0, 1)]
        across, down = (cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR) for coarse in maps)
        return np.asarray(cv2.remap(tile, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP), np.uint8)

    def _line(
        self, image: NDArray[np.uint8], points: Points, offset: Points, width: float, color: int | tuple[int, ...]
    ) -> None:
        thickness = max(round(width * self.camera.scale), 1)
        pixels = _fixed(self.camera.project(points) - offset)
        cv2.polylines(image, [pixels], False, color, thickness, cv2.LINE_AA, _SHIFT)

    def _shade(self, part: Part, mask: NDArray[np.uint8], window: tuple[slice, slice], offset: Points) -> None:
        """Shade a part: round its edges, press in its folds, light it, and cast its contact shadow."""
        rows, columns = window
        low = np.s_[rows.start // 2 : (rows.stop + 1) // 2, columns.start // 2 : (columns.stop + 1) // 2]
        target = self.light[low]
        size = (target.shape[1], target.shape[0])
        solid = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
        scale = self.camera.scale / 2
        half_offset = (offset + 0.5) / 2 - 0.5
        filled = solid.copy() if part.rounded_with else solid
        for outline in part.rounded_with:
            pixels = (self.camera.project(outline) + 0.5) / 2 - 0.5 - half_offset
            cv2.fillPoly(filled, [_fixed(pixels)], 255, cv2.LINE_AA, _SHIFT)
        radius = max(part.relief * scale, 1.5)
        kernel = int(radius) * 2 + 1
        inside = cv2.blur(cv2.blur(filled.astype(np.float32), (kernel, kernel)), (kernel, kernel)) * (1 / 255)
        rise = np.clip(2 * inside - 0.9, 0, 1)
        relief = rise * (2 - rise) * (0.8 * radius)
        if part.folds:
            relief -= self._folds(part, size, half_offset, scale)
        slope_x, slope_y = (cv2.Sobel(relief, cv2.CV_32F, *axes, scale=0.125) for axes in ((1, 0), (0, 1)))
        steepness = np.sqrt(1 + slope_x * slope_x + slope_y * slope_y)
        facing = (1 - slope_x * self._lamp[0] - slope_y * self._lamp[1]) / steepness
        shade = np.clip(1 + (facing - 1) * (0.75 * part.gloss), 0.42, 1.3)
        weight = solid.astype(np.float32) * (1 / 255)
        target += weight * (shade - target)
        if part.shadow:
            self._contact_shadow(part, weight, low, scale)

    def _contact_shadow(self, part: Part, weight: NDArray[np.float32], low: tuple[slice, slice], scale: float) -> None:
        """Darken earlier parts close to this one, on the side away from the lamp."""
        reach = int(max(3.0 * scale, 2))
        height, width = self.light.shape
        rows = slice(max(low[0].start - 2 * reach, 0), min(low[0].stop + 2 * reach, height))
        columns = slice(max(low[1].start - 2 * reach, 0), min(low[1].stop + 2 * reach, width))
        wide = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.float32)
        top, left = low[0].start - rows.start, low[1].start - columns.start
        wide[top : top + weight.shape[0], left : left + weight.shape[1]] = weight
        move = np.array([[1, 0, -self._lamp[0] * reach * 0.9], [0, 1, -self._lamp[1] * reach * 0.9]], dtype=np.float64)
        soft = cv2.blur(cv2.warpAffine(wide, move, wide.shape[::-1]), (reach, reach))
        full = self.owner[rows.start * 2 : rows.stop * 2 : 2, columns.start * 2 : columns.stop * 2 : 2]
        below = ((full > 0) & (full < self._count)).astype(np.float32)
        self.light[rows, columns] *= 1 - part.shadow * soft * below[: wide.shape[0], : wide.shape[1]]

    def _folds(self, part: Part, size: tuple[int, int], half_offset: Points, scale: float) -> NDArray[np.float32]:
        """Return the depth (h, w) of the creases at half resolution."""
        depth = np.zeros((size[1], size[0]), np.uint8)
        width = float(np.mean([fold.width for fold in part.folds])) * scale
        for fold in part.folds:
            pixels = _fixed((self.camera.project(fold.points) + 0.5) / 2 - 0.5 - half_offset)
            last = len(pixels) - 1
            for step in range(last):
                strength = int(230 * fold.depth * (1.0 if step else 0.75) * (1 - 0.75 * step / last))
                thickness = max(round(fold.width * scale * (0.8 + 0.6 * step / last)), 1)
                cv2.line(depth, _pair(pixels[step]), _pair(pixels[step + 1]), strength, thickness, cv2.LINE_AA, _SHIFT)
        soft = cv2.GaussianBlur(depth.astype(np.float32), (0, 0), max(0.55 * width, 0.8))
        return np.asarray(soft * (max(width, 1.0) * 1.6 / 255), np.float32)

    def _probe(self, part: Part) -> None:
        for landmark, point in part.landmarks.items():
            center = self.camera.project(point[None])[0]
            before = int(np.count_nonzero(self._disc(center) == self._count))
            self._probes.append((self._count, before, landmark, center))

    def _disc(self, center: Points) -> NDArray[np.uint8]:
        """Return the owners of the pixels in a small square around a point; empty outside the image."""
        reach = max(round(_PROBE * max(self.ink.shape) / 512), 2)
        column, row = (round(float(value)) for value in np.clip(center, -9999, 9999))
        rows, columns = (slice(max(at - reach, 0), max(at + reach + 1, 0)) for at in (row, column))
        return self.owner[rows, columns]


def _fixed(points: Points) -> NDArray[np.int32]:
    return np.round(np.clip(points, -8000, 8000) * 2**_SHIFT).astype(np.int32)


def _pair(point: NDArray[np.int32]) -> tuple[int, int]:
    return int(point[0]), int(point[1])


def _byte(color: Color) -> tuple[int, int, int]:
    red, green, blue = (int(min(max(value, 0), 255)) for value in color)
    return red, green, blue
