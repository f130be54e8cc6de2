"""Labels that a category run learns from a shard set, named as in its vocabularies."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class CategoryLabels:
    """Categories and attributes in the order of their scores; empty if the run does not learn them.

    `types` and `groups` map a name to the indices of its categories and attributes. If `exclusive`, an image has
    exactly one attribute of each group.
    """

    categories: list[str] = field(default_factory=list[str])
    types: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    attributes: list[str] = field(default_factory=list[str])
    groups: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    exclusive: bool = False
    has_boxes: bool = False
