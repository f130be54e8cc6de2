"""What dataset.json says of the data sets that the tasks were published on, for a network that is built without a shard set."""

from __future__ import annotations

from typing import Any

from fschemas.landmarks import LandmarkSet
from fschemas.vocabularies import vocabulary


def published_dataset(
    groups: tuple[str, ...], landmarks: LandmarkSet | None = None, *, items: int = 0, **vocabularies: str
) -> dict[str, Any]:
    """The part of dataset.json that a task is built from.

    `groups` are column groups, `vocabularies` the names of those that `fschemas` knows by what they are for, `items` how many
    products there are in training.
    """
    return {
        "column_groups": list(groups),
        "landmark_set": landmarks.to_json() if landmarks else None,
        "vocabularies": {purpose: vocabulary(name).to_json() for purpose, name in vocabularies.items()},
        "names": {"item": [f"item {number}" for number in range(items)]} if items else {},
    }
