"""Labels of the style task: styles as classes (fine or main), or attributes with their values.

An image has one value, or none known (-1), per attribute: the style is the only attribute of style data; otherwise each
exclusive group is an attribute, or each type, of which an image may have several values.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fschemas.failures import UsageError
from fschemas.vocabularies import english_names, vocabulary
from ftrain.data.view import names_as_ids
from ftrain.tasks.style.config import Styles

_WITH_MAIN_STYLES = "kfashion-style-24"


@dataclass(frozen=True)
class StyleLabels:
    """Names of the A attributes and of their values; `ids` are the values' indices in the attribute vocabulary.

    `classes` maps the name of a style to its class, and "" to -1 (only for styles).
    """

    attributes: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    ids: tuple[tuple[int, ...], ...] = ()
    classes: dict[str, int] | None = None
    originals: tuple[str, ...] = ()  # original style names, if `values` has English names

    @property
    def num_ids(self) -> int:
        """Size of the attribute vocabulary; 0 for styles."""
        return 1 + max((max(ids) for ids in self.ids), default=-1)

    def positive(self, annotation: dict[str, Any]) -> np.ndarray:
        """Return which values of the vocabulary an image has, uint8 V."""
        marks = np.zeros(self.num_ids, np.uint8)
        found = [number for number in annotation["attributes_positive"] if number < self.num_ids]
        marks[found] = 1
        return marks

    def values_of(self, annotation: dict[str, Any], generator: np.random.Generator | None) -> np.ndarray:
        """Return the index of one value per attribute, int64 A, -1 if none is known.

        One of several values is chosen at random, or the first without a generator.
        """
        if self.classes is not None:
            return np.array([self.classes[annotation["style"]]], np.int64)
        marks = self.positive(annotation)
        chosen = np.full(len(self.attributes), -1, np.int64)
        for number, ids in enumerate(self.ids):
            positions = np.flatnonzero(marks[list(ids)])
            if len(positions):
                chosen[number] = (
                    positions[0] if generator is None or len(positions) == 1 else generator.choice(positions)
                )
        return chosen


def style_labels(dataset: dict[str, Any], styles: Styles) -> StyleLabels:
    """Return the styles of a data set as classes; raises `UsageError` without styles or the requested main styles."""
    known: dict[str, Any] | None = dataset["vocabularies"].get("style")
    if not known or len(known["values"]) < 2:
        raise UsageError("the shard set has no styles, or one only; model.target=attributes learns attributes instead")
    english = english_names(known["name"])
    if styles == "fine":
        names = tuple(english.get(name, name) for name in map(str, known["values"]))
        classes, originals = names_as_ids(dataset, "style"), tuple(known["values"])
        return StyleLabels(("style",), (names,), classes=classes, originals=originals)
    groups = main_styles(known["name"])
    missing = [name for name in known["values"] if name not in groups]
    if missing:
        raise UsageError(
            f"model.styles=main: the vocabulary {known['name']!r} does not say which main style {missing[0]!r} belongs to; choose fine"
        )
    order = list(dict.fromkeys(groups[name] for name in known["values"]))
    classes = {"": -1, **{name: order.index(groups[name]) for name in known["values"]}}
    names = tuple(english.get(name, name) for name in order)
    return StyleLabels(("style",), (names,), classes=classes, originals=tuple(order))


def main_styles(name: str = _WITH_MAIN_STYLES) -> dict[str, str]:
    """Map each style of K-Fashion (23 in 10 groups, and "other") to its main style; {} for any other vocabulary."""
    if name != _WITH_MAIN_STYLES:
        return {}
    known = vocabulary(name)
    return {known.values[member]: group for group, members in known.groups.items() for member in members}


def attribute_labels(dataset: dict[str, Any]) -> StyleLabels:
    """Return the groups (or types) of an attribute vocabulary; raises `UsageError` if attributes are not grouped."""
    known: dict[str, Any] = dataset["vocabularies"].get("attributes") or {"groups": {}, "values": [], "name": "none"}
    groups = {name: ids for name, ids in known["groups"].items() if len(ids) > 1}
    if not groups:
        raise UsageError(
            f"model.target=attributes: the vocabulary {known['name']!r} has no groups of attributes, such as neckline or sleeve; "
            "choose a set of FashionAI, DeepFashion or K-Fashion"
        )
    order = sorted(groups, key=lambda name: min(groups[name]))
    short = [tuple(known["values"][number].removeprefix(f"{name}/") for number in groups[name]) for name in order]
    return StyleLabels(tuple(order), tuple(short), tuple(tuple(groups[name]) for name in order))
