"""Compatibility of a trained task and a shard set: column groups, landmark sets and classes matched by name.

A task without labels (an embedding) is compatible with any images. Landmark sets must be identical. Classes are matched
by name, regardless of their ids in the vocabularies; classes that the run does not know count as unknown and are
reported.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fschemas import wording
from fschemas.failures import UsageError
from fschemas.shard_set import ShardSet
from ftrain.data.image import decode
from ftrain.data.joined_shards import Translation
from ftrain.data.stream import RawSample
from ftrain.tasks.task import Task

_BY_NAME = ("category", "style")  # columns that hold a class name, "" if unknown


@dataclass(frozen=True)
class ImageEncoder:
    """Encodes a sample by its image alone, for images without the annotations that the task was trained with."""

    task: Task

    def __call__(self, sample: RawSample, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        """Return `Task.encode_image` of the sample; never random."""
        del generator
        return self.task.encode_image(decode(sample.image), sample.annotation.get("box"))


def agree(task: Task, run: Path, shards: ShardSet) -> ShardSet:
    """Return the shard set with its labels in the vocabularies of `task`, which was trained in `run`.

    Returns the set itself if nothing needs translation. Raises `UsageError` if the set lacks a column group that the
    task is evaluated with, has another landmark set, or has no class that the run has learned.
    """
    groups = task.label_groups()
    shards.require(groups)
    if "landmarks" in groups:
        _check_landmarks(task, run, shards)
    pairs = {
        name: (mine, theirs)
        for name in (*_BY_NAME, "attributes")
        if name in groups
        and (mine := _values(task.dataset, name)) != (theirs := _values(shards.metadata, name))
        and mine
    }
    for name, (mine, theirs) in pairs.items():
        if not set(mine) & set(theirs):
            raise UsageError(
                f"{run}: {task.name} was trained on other classes of {name} ({_some(mine)}) than {shards.location} has ({_some(theirs)}); "
                "use a shard set with the same classes, or train on this one"
            )
    if not pairs:
        return shards
    known = {name: frozenset({"", *pairs[name][0]}) for name in _BY_NAME if name in pairs}
    translation = Translation(known)
    if "attributes" in pairs:
        mine, theirs = pairs["attributes"]
        numbers = {name: number for number, name in enumerate(mine)}
        ids = {number: numbers[name] for number, name in enumerate(theirs) if name in numbers}
        unseen = tuple(number for name, number in numbers.items() if name not in set(theirs))
        translation = Translation(known, ids, unseen)
    return shards.translated(translation, dict(task.dataset.get("vocabularies") or {}), known)


def has_annotations(task: Task, shards: ShardSet) -> bool:
    """Whether a set has all annotations that the encoder of a task reads, with the same vocabularies."""
    try:
        return agree(task, Path(), shards) is shards
    except UsageError:
        return False


def unknown_labels(task: Task, given: ShardSet, split: str) -> dict[str, dict[str, int]]:
    """Number of images of a split per class that the run does not know, by column.

    Unknown attributes are listed with a count of 0: they are those of the whole set.
    """
    splits = task.splits_of(split, given.metadata["splits"])
    rows = np.isin(given.columns["split"], splits) & (given.columns["copy"] == 0)
    found: dict[str, dict[str, int]] = {}
    for name in _BY_NAME:
        mine = {"", *_values(task.dataset, name)}
        if name in task.label_groups() and name in given.columns and len(mine) > 1:
            counts = Counter(str(value) for value in given.columns[name][rows] if str(value) not in mine)
            found |= {name: dict(sorted(counts.items()))} if counts else {}
    if "attributes" in task.label_groups() and (mine := set(_values(task.dataset, "attributes"))):
        strangers = [name for name in _values(given.metadata, "attributes") if name not in mine]
        found |= {"attributes": dict.fromkeys(strangers, 0)} if strangers else {}
    return found


def unknown_lines(unknown: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Describe `unknown_labels` in one sentence per column."""
    lines: list[str] = []
    for name, counts in unknown.items():
        if name == "attributes":
            many = f"{wording.count(len(counts), 'attribute')} of the data {wording.are(len(counts))}"
            lines.append(f"{many} unknown to the run and left out: {_some(list(counts))}")
        else:
            named = [f"{one} {count}" for one, count in sorted(counts.items(), key=lambda item: -item[1])]
            total = sum(counts.values())
            many = wording.count(total, "image")
            lines.append(f"left out of the metrics of {name}, because the run does not know it: {many}: {_some(named)}")
    return lines


def _check_landmarks(task: Task, run: Path, shards: ShardSet) -> None:
    mine, theirs = task.dataset.get("landmark_set"), shards.metadata.get("landmark_set")
    if mine != theirs:
        others = "other points under that name" if _name(mine) == _name(theirs) else _name(theirs)
        raise UsageError(
            f"{run}: trained with landmark_set {_name(mine)}, but {shards.location} has {others}; use a shard set with the same landmarks"
        )


def _values(dataset: Mapping[str, Any], name: str) -> list[str]:
    return [str(value) for value in ((dataset.get("vocabularies") or {}).get(name) or {}).get("values", [])]


def _name(landmark_set: Mapping[str, Any] | None) -> str:
    return str(landmark_set["name"]) if landmark_set else "none"


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "") if names else "none"
