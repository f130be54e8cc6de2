"""Coordinates that move with the pixels of an image: read from a row, transformed, and written into its annotation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fschemas.landmarks import Visibility

Row = dict[str, Any]
_CORNERS = [0, 1, 2, 1, 2, 3, 0, 3]  # indices into (x1, y1, x2, y2) of the four corners


def _no_points() -> np.ndarray:
    return np.zeros((0, 2))


@dataclass(frozen=True)
class Geometry:
    """Coordinates in pixels: pixel centers are integers, origin top left.

    `landmarks` is float64 (K, 2) and `visibility` an int array (K,) of `Visibility`; K may be 0. `box` is (x1, y1, x2,
    y2), float64, or None. `others` (M, 2) are unnamed points such as outlines, which never become absent.
    """

    landmarks: np.ndarray
    visibility: np.ndarray
    box: np.ndarray | None
    others: np.ndarray = field(default_factory=_no_points)

    def resized(self, scale_x: float, scale_y: float) -> Geometry:
        """Return the geometry after a resize by these factors: x' = (x + 0.5) * s - 0.5. Absent landmarks stay at 0."""
        scale = np.array([scale_x, scale_y])
        landmarks = np.where(self.has_coordinates[:, None], (self.landmarks + 0.5) * scale - 0.5, 0.0)
        box = None if self.box is None else ((self.box.reshape(2, 2) + 0.5) * scale - 0.5).reshape(4)
        return Geometry(landmarks, self.visibility, box, (self.others + 0.5) * scale - 0.5)

    @property
    def has_coordinates(self) -> np.ndarray:
        """Mask of the landmarks that have coordinates, bool (K,)."""
        return self.visibility >= Visibility.OCCLUDED

    @property
    def corners(self) -> np.ndarray:
        """The four corners of the box (4, 2), or an empty array (0, 2) if there is no box."""
        return _no_points() if self.box is None else self.box[_CORNERS].reshape(4, 2)


def geometry_of(row: Row) -> Geometry:
    """Return the geometry of a row: landmarks, box, and in `others` the joints, outlines and boxes of its garments."""
    landmarks = np.array([row.get("landmark_x", ()), row.get("landmark_y", ())], np.float64).T
    visibility = np.array(row.get("landmark_visibility", ()), np.int64)
    box = row.get("box")
    joints = np.array([row.get("joint_x", ()), row.get("joint_y", ())], np.float64).T
    polygons = (*row.get("polygons", ()), *row.get("garment_polygons", ()))
    outlines = [np.array(outline, np.float64).reshape(-1, 2) for outline in polygons]
    boxes = np.array(row.get("garment_boxes", ()), np.float64).reshape(-1, 4)
    others = np.concatenate([joints, *outlines, boxes[:, _CORNERS].reshape(-1, 2)])
    return Geometry(landmarks, visibility, None if box is None else np.array(box, np.float64), others)


def write_geometry(annotation: Row, moved: Geometry, *, is_copy: bool) -> None:
    """Write moved coordinates into the annotation, in the order of `geometry_of`.

    Joints become absent in augmented copies: these may be flipped, and the flip pairs of joints are unknown. A garment
    is removed from its lists if its box has left the image.
    """
    if "landmark_x" in annotation:
        annotation["landmark_x"] = _floats(moved.landmarks[:, 0])
        annotation["landmark_y"] = _floats(moved.landmarks[:, 1])
        annotation["landmark_visibility"] = moved.visibility.tolist()
    if moved.box is not None:
        annotation["box"] = _floats(moved.box)
    rest = moved.others
    if "joint_x" in annotation:
        joints, rest = np.split(rest, [len(annotation["joint_x"])])
        lost = np.array(annotation["joint_visibility"]) < Visibility.OCCLUDED
        if is_copy:
            lost[:] = True
            annotation["joint_visibility"] = [min(seen, 0) for seen in annotation["joint_visibility"]]
        joints = np.where(lost[:, None], 0.0, joints)
        annotation["joint_x"], annotation["joint_y"] = _floats(joints[:, 0]), _floats(joints[:, 1])
    for name in ("polygons", "garment_polygons"):
        if name in annotation:
            pieces = np.split(rest, np.cumsum([len(outline) // 2 for outline in annotation[name]], dtype=int))
            annotation[name], rest = [_floats(piece.reshape(-1)) for piece in pieces[:-1]], pieces[-1]
    if "garment_boxes" in annotation:
        _write_garment_boxes(annotation, rest.reshape(-1, 4, 2))


def _write_garment_boxes(annotation: Row, corners: np.ndarray) -> None:
    limits = np.array([annotation["width"], annotation["height"]]) - 1.0
    low, high = (np.clip(corner, 0, limits) for corner in (corners.min(axis=1), corners.max(axis=1)))
    kept = np.flatnonzero(((high - low) >= 1).all(axis=1)).tolist()
    annotation["garment_boxes"] = _floats(np.concatenate([low, high], axis=1)[kept].reshape(-1))
    for name in ("garments", "garment_polygons"):
        annotation[name] = [annotation[name][number] for number in kept]


def _floats(values: np.ndarray) -> list[float]:
    """Round moved coordinates to 0.0001 pixels for JSON, without -0.0."""
    return (np.round(values, 4) + 0.0).tolist()
