"""Several shard sets as one: rows one after the other, vocabularies united by name.

Category and style names, and attributes, with the same name are the same class. Items and keys never are: those of set
n are called `n/name`. Groups keep their names, so that the groups held out for validation are the same as in each set
alone.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fschemas.failures import UsageError
from fschemas.shard_index import POSITION_COLUMNS
from fschemas.shard_set import ShardSet
from ftrain.data.remote import open_shards

_LISTS = ("attributes_positive", "attributes_unknown", "attributes_maybe")


@dataclass(frozen=True)
class Translation:
    """Maps annotations of a shard set to other vocabularies.

    `known` holds the known class names per column. `ids` maps attribute ids of the set to those of the vocabulary, for
    the attributes that it has; it is None if attributes need no translation. `unseen` are attributes of the vocabulary
    that the set does not annotate. `prefix` is put before the name of the item.
    """

    known: Mapping[str, frozenset[str]]
    ids: Mapping[int, int] | None = None
    unseen: tuple[int, ...] = ()
    prefix: str = ""

    def __call__(self, annotation: dict[str, Any]) -> dict[str, Any]:
        """Return the annotation with unknown names as "" and attributes as ids of the vocabulary."""
        changed = {name: "" for name, known in self.known.items() if annotation.get(name, "") not in known}
        if self.prefix and annotation.get("item"):
            changed["item"] = self.prefix + annotation["item"]
        if self.ids is None:
            return {**annotation, **changed}
        lists = {
            name: [self.ids[one] for one in annotation[name] if one in self.ids]
            for name in _LISTS
            if name in annotation
        }
        lists["attributes_unknown"] = sorted({*lists.get("attributes_unknown", ()), *self.unseen})
        return {**annotation, **changed, **lists}


@dataclass
class JoinedShards(ShardSet):
    """Shard sets read as one. `sets` are translated to the common vocabularies.

    `conflicts` says of column groups why the sets cannot be joined in them; only a task that needs one is refused.
    """

    sets: tuple[ShardSet, ...] = ()
    conflicts: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def parts(self) -> tuple[ShardSet, ...]:
        """The sets, in order."""
        return self.sets

    def require(self, groups: tuple[str, ...]) -> None:
        """Raise `UsageError` unless every set has these column groups, and the sets agree in them."""
        for part in self.sets:
            part.require(groups)
        self.check_agreement(groups)

    def check_agreement(self, groups: tuple[str, ...]) -> None:
        """Raise `UsageError` if the sets contradict each other in one of these column groups."""
        for group in groups:
            if group in self.conflicts:
                raise UsageError(self.conflicts[group])

    def read(self, row: int) -> tuple[bytes, dict[str, Any]]:
        """Read JPEG bytes and annotation of a sample; raises the errors of its set."""
        part, own = self._located(row)
        return part.read(own)

    def read_annotation(self, row: int) -> dict[str, Any]:
        """Read the annotation of a sample without its image; raises the errors of its set."""
        part, own = self._located(row)
        return part.read_annotation(own)

    def close(self) -> None:
        """Close all open shards."""
        for part in self.sets:
            part.close()

    def _located(self, row: int) -> tuple[ShardSet, int]:
        """Return the set of a row, and its row there."""
        number = np.searchsorted(self.starts, row, side="right") - 1
        return self.sets[number], row - int(self.starts[number])


def open_sets(locations: Sequence[str]) -> ShardSet:
    """Open one shard set, or several as one. Raises the errors of `open_shards` and `join_sets`."""
    sets = [open_shards(location) for location in locations]
    return sets[0] if len(sets) == 1 else join_sets(sets)


def join_sets(sets: Sequence[ShardSet]) -> JoinedShards:
    """Join shard sets, in this order. Raises `UsageError` if a set is given twice.

    Sets conflict if they have different landmarks, put a class into different groups, or differ in whether an image has
    exactly one attribute of each group.
    """
    ids = [one.plan_id for one in sets]
    for number, one in enumerate(sets):
        if one.plan_id in ids[:number]:
            raise UsageError(
                f"{one.location}: has the content of {sets[ids.index(one.plan_id)].location}; list it once"
            )
    vocabularies, conflicts = _vocabularies(sets)
    landmarks = [one.metadata["landmark_set"] for one in sets if one.metadata["landmark_set"]]
    if any(one != landmarks[0] for one in landmarks):
        names = ", ".join(dict.fromkeys(one["name"] for one in landmarks))
        conflicts["landmarks"] = f"the shard sets have different landmarks ({names}); train on sets with the same ones"
    parts = [_part(one, f"{number}/", vocabularies) for number, one in enumerate(sets, start=1)]
    splits: dict[str, dict[str, int]] = {}
    for one in sets:
        for name, counts in one.metadata["splits"].items():
            old = splits.get(name, {})
            splits[name] = {key: counts[key] + old.get(key, 0) for key in ("samples", "shards")}
    locks = {one.metadata.get("lock") for one in sets}
    groups = [name for name in sets[0].metadata["column_groups"] if name not in conflicts]
    metadata = {
        "plan_id": hashlib.sha256("\n".join(ids).encode()).hexdigest(),
        "sets": [{"plan_id": one.plan_id, "dataset": one.metadata.get("dataset")} for one in sets],
        "dataset": " + ".join(str(one.metadata.get("dataset")) for one in sets),
        "synthetic": any(one.metadata.get("synthetic") for one in sets),
        "lock": locks.pop() if len(locks) == 1 else None,
        "column_groups": [name for name in groups if all(name in one.metadata["column_groups"] for one in sets)],
        "landmark_set": landmarks[0] if landmarks and "landmarks" not in conflicts else None,
        "vocabularies": vocabularies,
        "splits": splits,
    }
    location = " + ".join(one.location for one in sets)
    return JoinedShards(location, metadata, _columns(parts), sets[0].path_of, sets=tuple(parts), conflicts=conflicts)


def _vocabularies(sets: Sequence[ShardSet]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the common vocabularies by column group, and the conflicts of the other groups."""
    vocabularies: dict[str, Any] = {}
    conflicts: dict[str, str] = {}
    for name in dict.fromkeys(name for one in sets for name in one.metadata["vocabularies"]):
        try:
            vocabularies[name] = _united(name, [one for one in sets if name in one.metadata["vocabularies"]])
        except UsageError as error:
            conflicts[name] = str(error)
    return vocabularies, conflicts


def _united(name: str, sets: Sequence[ShardSet]) -> dict[str, Any]:
    """Unite a vocabulary: the values of the first set, then those that each further set adds."""
    given = [one.metadata["vocabularies"][name] for one in sets]
    if all(vocabulary == given[0] for vocabulary in given):
        return given[0]
    if len({vocabulary["exclusive"] for vocabulary in given}) > 1:
        exclusive = next(one.location for one in sets if one.metadata["vocabularies"][name]["exclusive"])
        raise UsageError(
            f"{exclusive}: images have exactly one value of {name} per group, unlike in the other shard sets; train on them separately"
        )
    values = list(dict.fromkeys(value for vocabulary in given for value in vocabulary["values"]))
    numbers = {value: number for number, value in enumerate(values)}
    group_of: dict[str, str] = {}
    for one, vocabulary in zip(sets, given, strict=True):
        for group, members in vocabulary["groups"].items():
            for value in (vocabulary["values"][member] for member in members):
                if group_of.setdefault(value, group) != group:
                    raise UsageError(
                        f"{one.location}: {name} {value!r} belongs to {group!r}, but to {group_of[value]!r} in a set listed before it; "
                        "rename one of them"
                    )
    groups: dict[str, list[int]] = {}
    for value in values if len(group_of) == len(values) else ():  # groups that do not cover all values are left out
        groups.setdefault(group_of[value], []).append(numbers[value])
    names = dict.fromkeys(vocabulary["name"] for vocabulary in given)
    return {"name": "+".join(names), "values": values, "groups": groups, "exclusive": given[0]["exclusive"]}


def _part(one: ShardSet, prefix: str, vocabularies: dict[str, Any]) -> ShardSet:
    """Return a set with the common vocabularies, and with `prefix` before its items."""
    own, common = (
        given.get("attributes", {"values": []})["values"] for given in (one.metadata["vocabularies"], vocabularies)
    )
    ids: dict[int, int] | None = None
    unseen: tuple[int, ...] = ()
    if own and common and own != common:
        numbers = {name: number for number, name in enumerate(common)}
        ids = {number: numbers[name] for number, name in enumerate(own)}
        unseen = tuple(number for name, number in numbers.items() if name not in set(own))
    part = one.translated(Translation({}, ids, unseen, prefix), vocabularies, {})
    if "item" not in one.columns:
        return part
    item = one.columns["item"]
    return replace(part, columns={**one.columns, "item": np.where(item == "", "", np.char.add(prefix, item))})


def _columns(parts: Sequence[ShardSet]) -> dict[str, np.ndarray]:
    """Concatenate the columns for samplers and reports; a text column that a set lacks is "" there."""
    columns: dict[str, np.ndarray] = {}
    for name in dict.fromkeys(name for part in parts for name in part.columns):
        given = [part.columns.get(name) for part in parts]
        if name in POSITION_COLUMNS[5:] or not all(one is None or one.dtype.kind == "U" for one in given):
            continue
        columns[name] = np.concatenate(
            [np.full(len(part), "") if one is None else one for part, one in zip(parts, given, strict=True)]
        )
    columns["key"] = np.concatenate(
        [np.char.add(f"{number}/", part.columns["key"]) for number, part in enumerate(parts, start=1)]
    )
    columns["copy"] = np.concatenate([part.columns["copy"] for part in parts])
    first = np.cumsum([0, *(len(part.metadata["shards"]) for part in parts)])
    columns["shard"] = np.concatenate(
        [part.columns["shard"] + start for part, start in zip(parts, first, strict=False)]
    )
    return columns
