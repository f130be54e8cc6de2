"""What the style task learns from annotations: styles as classes (fine or main ones), or attributes with their values.

Everywhere an image has one value, or none that is known (-1), under each attribute: the style is the only attribute
of style data, an exclusive group (or a type, of whose values an image may have several) each attribute of the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fschemas.failures import UsageError
from fschemas.vocabularies import english_names, vocabulary
from ftrain.data.view import names_as_ids
from ftrain.tasks.style.config import Styles

_WITH_MAIN_STYLES = "kfashion-style-24"


@dataclass(frozen=True)
class Labels:
    """Names of the attributes A and, of each, of its values; `ids` are the values' places in the vocabulary of attributes.

    `classes` gives the class of a style by its name and -1 for "" (only where styles are learnt).
    """

    attributes: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    ids: tuple[tuple[int, ...], ...] = ()
    classes: dict[str, int] | None = None
    originals: tuple[str, ...] = ()  # the styles as the data set calls them, where `values` has English for them

    @property
    def num_ids(self) -> int:
        """Size of the vocabulary of attributes; 0 where styles are learnt."""
        return 1 + max((max(ids) for ids in self.ids), default=-1)

    def positive(self, annotation: dict[str, Any]) -> np.ndarray:
        """Which values of the vocabulary the image has: uint8 V."""
        marks = np.zeros(self.num_ids, np.uint8)
        found = [number for number in annotation["attributes_positive"] if number < self.num_ids]
        marks[found] = 1
        return marks

    def values_of(self, annotation: dict[str, Any], generator: np.random.Generator | None) -> np.ndarray:
        """One value of each attribute, its place among them, int64 A, -1 where none is known.

        Of several values of a type one is drawn, or without a generator the first taken.
        """
        if self.classes is not None:
            return np.array([self.classes[annotation["style"]]], np.int64)
        marks = self.positive(annotation)
        chosen = np.full(len(self.attributes), -1, np.int64)
        for number, ids in enumerate(self.ids):
            places = np.flatnonzero(marks[list(ids)])
            if len(places):
                chosen[number] = places[0] if generator is None or len(places) == 1 else generator.choice(places)
        return chosen


def style_labels(dataset: dict[str, Any], styles: Styles) -> Labels:
    """Styles of a data set as classes; raises `UsageError` where it has none, or no main styles where they are asked for."""
    known: dict[str, Any] | None = dataset["vocabularies"].get("style")
    if not known or len(known["values"]) < 2:
        raise UsageError("the shard set has no styles, or one only; model.target=attributes learns attributes instead")
    english = english_names(known["name"])
    if styles == "fine":
        names = tuple(english.get(name, name) for name in map(str, known["values"]))
        return Labels(("style",), (names,), classes=names_as_ids(dataset, "style"), originals=tuple(known["values"]))
    groups = main_styles(known["name"])
    missing = [name for name in known["values"] if name not in groups]
    if missing:
        raise UsageError(
            f"model.styles=main: the vocabulary {known['name']!r} does not say which main style {missing[0]!r} belongs to; take fine"
        )
    order = list(dict.fromkeys(groups[name] for name in known["values"]))
    classes = {"": -1, **{name: order.index(groups[name]) for name in known["values"]}}
    names = tuple(english.get(name, name) for name in order)
    return Labels(("style",), (names,), classes=classes, originals=tuple(order))


def main_styles(name: str = _WITH_MAIN_STYLES) -> dict[str, str]:
    """The main style of every style of K-Fashion (10 of 23, and "other"); {} for vocabularies of another name."""
    if name != _WITH_MAIN_STYLES:
        return {}
    known = vocabulary(name)
    return {known.values[member]: group for group, members in known.groups.items() for member in members}


def attribute_labels(dataset: dict[str, Any]) -> Labels:
    """The groups (or types) of a vocabulary of attributes; raises `UsageError` where the attributes are not grouped."""
    known: dict[str, Any] = dataset["vocabularies"].get("attributes") or {"groups": {}, "values": [], "name": "none"}
    groups = {name: ids for name, ids in known["groups"].items() if len(ids) > 1}
    if not groups:
        raise UsageError(
            f"model.target=attributes: the vocabulary {known['name']!r} has no groups of attributes, such as neckline or sleeve; "
            "take a set of FashionAI, DeepFashion or K-Fashion"
        )
    order = sorted(groups, key=lambda name: min(groups[name]))
    short = [tuple(known["values"][number].removeprefix(f"{name}/") for number in groups[name]) for name in order]
    return Labels(tuple(order), tuple(short), tuple(tuple(groups[name]) for name in order))
