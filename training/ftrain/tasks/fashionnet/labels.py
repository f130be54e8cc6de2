"""What a FashionNet predicts, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fschemas.landmarks import LandmarkSet


@dataclass(frozen=True)
class Answers:
    """What a FashionNet answers with: its landmark set and the vocabularies of its heads, empty where it has none."""

    landmarks: LandmarkSet
    categories: Sequence[str]
    attributes: Sequence[str]
    types: Mapping[str, Sequence[int]]  # of attributes
    exclusive: bool  # of each type an image has exactly one
