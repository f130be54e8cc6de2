"""What a category run learns from a shard set, by the names of its vocabularies."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class CategoryLabels:
    """Categories and attributes in the order of their scores; either is empty where the run does not learn it.

    `types` and `groups` map a name to the indices of its categories and attributes. With `exclusive` an image has one attribute
    of each group.
    """

    categories: list[str] = field(default_factory=list[str])
    types: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    attributes: list[str] = field(default_factory=list[str])
    groups: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    exclusive: bool = False
    has_boxes: bool = False
