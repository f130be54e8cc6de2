"""Labels predicted by FashionNet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fschemas.landmarks import LandmarkSet


@dataclass(frozen=True)
class FashionNetLabels:
    """The landmark set and the vocabularies of the heads; empty for missing heads."""

    landmarks: LandmarkSet
    categories: Sequence[str]
    attributes: Sequence[str]
    types: Mapping[str, Sequence[int]]  # type name to attribute indices
    exclusive: bool  # whether an image has exactly one attribute of each type
