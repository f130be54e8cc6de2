"""Whether annotations hold anything that can be learned or measured: what several tasks ask before their first step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fschemas.landmarks import LandmarkSet, Visibility
from ftrain.data.types import Rows
from ftrain.metrics.normalized_error import normalized_distances

_LEAST_RANKED = 3  # recall@3 says nothing of so few attributes


def has_coordinates(annotation: dict[str, Any]) -> bool:
    """Whether a landmark is located."""
    return bool((np.asarray(annotation["landmark_visibility"]) >= Visibility.OCCLUDED.value).any())


def counts_for_error(annotation: dict[str, Any], landmarks: LandmarkSet) -> bool:
    """Whether the normalized error counts a landmark: a visible one, on an image whose normalizing distance is known."""
    points = np.stack([annotation["landmark_x"], annotation["landmark_y"]], axis=-1)[None]
    seen = np.asarray(annotation["landmark_visibility"])[None]
    garments, width, height = [annotation["garment"]], [annotation["width"]], [annotation["height"]]
    return bool(normalized_distances(points, points, seen, garments, width, height, landmarks).counted.any())


def has_attributes(rows: Rows, groups: Sequence[Sequence[int]] = (), count: int | None = None) -> bool:
    """Whether an image has a positive attribute; with exclusive `groups` exactly one of a group.

    With the `count` of attributes there must be enough of them to be ranked, unless they are in groups.
    """
    if count is not None and not groups and count <= _LEAST_RANKED:
        return False
    for note in rows.annotations():
        positive = np.asarray(note["attributes_positive"], np.int64)
        if len(positive) and (not groups or any(np.isin(positive, members).sum() == 1 for members in groups)):
            return True
    return False


def has_pairs(names: np.ndarray) -> bool:
    """Whether a name stands twice."""
    return len(set(names.tolist())) < len(names)
