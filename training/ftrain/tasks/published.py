"""Contents of dataset.json for the data sets the tasks were published on, to build a network without a shard set."""

from typing import Any

from fschemas.landmarks import LandmarkSet
from fschemas.vocabularies import vocabulary


def published_dataset(
    groups: tuple[str, ...], landmarks: LandmarkSet | None = None, *, items: int = 0, **vocabularies: str
) -> dict[str, Any]:
    """Return the part of dataset.json that a task is built from.

    `groups` are column groups, `vocabularies` map a purpose to the name of a vocabulary in `fschemas`, `items` is the
    number of training products.
    """
    return {
        "column_groups": list(groups),
        "landmark_set": landmarks.to_json() if landmarks else None,
        "vocabularies": {purpose: vocabulary(name).to_json() for purpose, name in vocabularies.items()},
        "names": {"item": [f"item {number}" for number in range(items)]} if items else {},
    }
