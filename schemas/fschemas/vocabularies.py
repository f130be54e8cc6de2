"""Vocabularies: the 0-based line number of a name in its file is its id in tables, shards and models.

Each is a file with one value per line, followed by a tab and its group if there are groups: in `vocabulary/`, or in the
folder of the only reader that uses it.
`<name>.english.tsv` translates names of values and groups in other scripts. Sources: READMEs and list files of
DeepFashion (Liu et al., CVPR 2016), DeepFashion2 (Ge et al., CVPR 2019), the FashionAI challenge (Tianchi 2018) and
K-Fashion (AI-Hub 2020).
"""

import functools
from dataclasses import dataclass, field
from pathlib import Path

from fschemas.failures import UsageError
from fschemas.json_file import COUNT

_FOLDER = Path(__file__).with_name("vocabulary")
# Vocabularies with exactly one (or no known) member of each group per image.
_EXCLUSIVE = {"deepfashion-fine-26", "fashionai-attribute-54"}
# of `Vocabulary.to_json`
VOCABULARY_SHAPE = {"name": str, "values": [str], "groups": {"*": [COUNT]}, "exclusive": bool}


@dataclass(frozen=True)
class Vocabulary:
    """Names in a fixed order; `groups` maps a group name to the ids of its members.

    With `exclusive`, an image has exactly one member of each group.
    """

    name: str
    values: tuple[str, ...]
    groups: dict[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    exclusive: bool = False

    def __len__(self) -> int:
        return len(self.values)

    @functools.cached_property
    def ids(self) -> dict[str, int]:
        """Map from name to id."""
        return {value: number for number, value in enumerate(self.values)}

    def to_json(self) -> dict[str, object]:
        """Return the vocabulary as plain JSON values, for tables, shard sets and run folders."""
        groups = {group: list(members) for group, members in self.groups.items()}
        return {"name": self.name, "values": list(self.values), "groups": groups, "exclusive": self.exclusive}


def vocabulary_names() -> tuple[str, ...]:
    """Names of the vocabularies in `vocabulary/`."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.txt")))


@functools.cache
def vocabulary(name: str) -> Vocabulary:
    """Return the vocabulary of that name. Raises `UsageError`, with the known names, if there is none."""
    if name not in vocabulary_names():
        raise UsageError(f"unknown vocabulary {name!r}; choose from {', '.join(vocabulary_names())}")
    return read_vocabulary(_FOLDER / f"{name}.txt", exclusive=name in _EXCLUSIVE)


def read_vocabulary(path: Path, *, exclusive: bool = False) -> Vocabulary:
    """Return the vocabulary in a file, named after it."""
    lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    rows = [line.partition("\t") for line in lines]
    groups: dict[str, list[int]] = {}
    for number, (_, tab, group) in enumerate(rows):
        if tab:
            groups.setdefault(group, []).append(number)
    values = tuple(value for value, _, _ in rows)
    assert len(set(values)) == len(values), f"{path.name}: a value occurs twice"
    return Vocabulary(path.stem, values, {group: tuple(members) for group, members in groups.items()}, exclusive)


@functools.cache
def english_names(name: str) -> dict[str, str]:
    """English translations of the values and groups of a vocabulary in another script; {} for all others."""
    path = _FOLDER / f"{name}.english.tsv"
    if name not in vocabulary_names() or not path.is_file():
        return {}
    rows = [line.partition("\t") for line in path.read_text(encoding="utf-8").removesuffix("\n").split("\n")]
    return {value: english for value, _, english in rows}
