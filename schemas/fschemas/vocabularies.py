"""Vocabularies as data: the order of a tuple is the 0-based id that tables, shards and models use.

Sources: READMEs and list files of DeepFashion (Liu et al., CVPR 2016) and the FashionAI challenge (Tianchi 2018).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fschemas.failures import UsageError


@dataclass(frozen=True)
class Vocabulary:
    """Names in a fixed order; `groups` maps a group name to the ids of its members, of which a picture has one."""

    name: str
    values: tuple[str, ...]
    groups: dict[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])

    def __len__(self) -> int:
        return len(self.values)

    def to_json(self) -> dict[str, object]:
        """The vocabulary as plain JSON values, written into tables, shard sets and run folders."""
        groups = {group: list(members) for group, members in self.groups.items()}
        return {"name": self.name, "values": list(self.values), "groups": groups}


DEEPFASHION_FINE_26 = Vocabulary(
    name="deepfashion-fine-26",
    values=(
        "floral", "graphic", "striped", "embroidered", "pleated", "solid", "lattice",
        "long_sleeve", "short_sleeve", "sleeveless",
        "maxi_length", "mini_length", "no_dress",
        "crew_neckline", "v_neckline", "square_neckline", "no_neckline",
        "denim", "chiffon", "cotton", "leather", "faux", "knit",
        "tight", "loose", "conventional",
    ),
    groups={
        "texture": tuple(range(7)),
        "sleeve": tuple(range(7, 10)),
        "length": tuple(range(10, 13)),
        "neckline": tuple(range(13, 17)),
        "material": tuple(range(17, 23)),
        "fit": tuple(range(23, 26)),
    },
)  # fmt: skip

VOCABULARIES = {vocabulary.name: vocabulary for vocabulary in (DEEPFASHION_FINE_26,)}


def vocabulary(name: str) -> Vocabulary:
    """The vocabulary of that name; raises `UsageError` with the known names."""
    if name not in VOCABULARIES:
        raise UsageError(f"unknown vocabulary {name!r}; known are {', '.join(VOCABULARIES)}")
    return VOCABULARIES[name]
