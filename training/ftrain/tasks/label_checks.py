"""Checks that annotations contain labels to train or evaluate on; several tasks run them before the first step."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fschemas.landmarks import LandmarkSet, Visibility
from fschemas.shard_set import ShardSet
from ftrain.data.types import Rows
from ftrain.metrics.normalized_error import normalized_distances

_MIN_RANKED = 3  # recall@3 is meaningless with so few attributes


def has_coordinates(annotation: dict[str, Any]) -> bool:
    """Whether any landmark has coordinates."""
    return bool((np.asarray(annotation["landmark_visibility"]) >= Visibility.OCCLUDED.value).any())


def counts_for_error(annotation: dict[str, Any], landmarks: LandmarkSet) -> bool:
    """Whether any landmark counts for the normalized error: visible, in an image with a known normalizing distance."""
    points = np.stack([annotation["landmark_x"], annotation["landmark_y"]], axis=-1)[None]
    seen = np.asarray(annotation["landmark_visibility"])[None]
    garments, width, height = [annotation["garment"]], [annotation["width"]], [annotation["height"]]
    return bool(normalized_distances(points, points, seen, garments, width, height, landmarks).counted.any())


def has_attributes(rows: Rows, groups: Sequence[Sequence[int]] = (), count: int | None = None) -> bool:
    """Whether any image has a positive attribute or, with exclusive `groups`, exactly one of a group.

    If the `count` of attributes is given and there are no groups, there must also be more than three to rank.
    """
    if count is not None and not groups and count <= _MIN_RANKED:
        return False
    for annotation in rows.annotations():
        positive = np.asarray(annotation["attributes_positive"], np.int64)
        if len(positive) and (not groups or any(np.isin(positive, members).sum() == 1 for members in groups)):
            return True
    return False


def lack_of_classes(names: np.ndarray, kind: str) -> str:
    """Why known `names` cannot train a classifier of a kind of label; "" if there are two classes."""
    classes = sorted(set(names.tolist()))
    if len(classes) > 1:
        return ""
    return f"all training images have the {kind} {classes[0]!r}" if classes else "no training image has one"


def lost_in_joining(shards: ShardSet, groups: Sequence[str]) -> list[str]:
    """Say which column `groups` are not learned because only some of several shard sets have them."""
    lost: list[str] = []
    for group in groups:
        without = [part.location for part in shards.parts if group not in part.metadata["column_groups"]]
        if 0 < len(without) < len(shards.parts):
            lost.append(f"nothing is learned for {group}: {without[0]} has none")
    return lost


def has_pairs(names: np.ndarray) -> bool:
    """Whether any name occurs twice."""
    return len(set(names.tolist())) < len(names)
