"""Which points of FashionAI (24), DeepFashion (8) and DeepFashion2 (294) mean the same place of a garment.

Written once per garment, for points on the left and in the middle; the right ones follow from the partners of both sets.
FashionAI is the hub: DeepFashion and DeepFashion2 meet through it. What only one set marks is left out, and so is what
is another place under a similar name: the straps of slings, the waist of DeepFashion2's outwear, which has no point there.

The cuffs and legs of FashionAI have two corners; DeepFashion's sleeve end and the hem of trousers are taken for the outer one.
In DeepFashion2 the first point of the side of a garment without sleeves is the armpit, and the fourth of a dress its waist.
"""

from __future__ import annotations

import itertools

from fschemas.failures import UsageError
from fschemas.landmarks import DEEPFASHION2_294, DEEPFASHION_8, FASHIONAI_24, LANDMARK_SETS, LandmarkSet

Points = tuple[tuple[int, int], ...]

_COLLAR_TO_HEM = {"collar_left": "neckline_left", "sleeve_left": "cuff_left_out", "hem_left": "top_hem_left"}

# (FashionAI garment, DeepFashion garment) -> DeepFashion point: FashionAI point
_DEEPFASHION: dict[tuple[str, str], dict[str, str]] = {
    ("blouse", "upper"): _COLLAR_TO_HEM,
    ("outwear", "upper"): _COLLAR_TO_HEM,
    ("outwear", "full"): _COLLAR_TO_HEM | {"waistline_left": "waistline_left"},  # a coat
    ("dress", "full"): _COLLAR_TO_HEM | {"waistline_left": "waistline_left", "hem_left": "hemline_left"},
    ("skirt", "lower"): {"waistline_left": "waistband_left", "hem_left": "hemline_left"},
    ("trousers", "lower"): {"waistline_left": "waistband_left", "hem_left": "bottom_left_out"},
}

# FashionAI garment, DeepFashion2 category: FashionAI point -> number in DeepFashion2's README
_DEEPFASHION2: dict[tuple[str, str], dict[str, int]] = {
    ("blouse", "short sleeve top"): {
        "neckline_left": 2, "center_front": 4, "shoulder_left": 7, "cuff_left_out": 9, "cuff_left_in": 10,
        "armpit_left": 12, "top_hem_left": 15,
    },
    ("blouse", "long sleeve top"): {
        "neckline_left": 2, "center_front": 4, "shoulder_left": 7, "cuff_left_out": 11, "cuff_left_in": 12,
        "armpit_left": 16, "top_hem_left": 19,
    },
    ("blouse", "vest"): {"neckline_left": 2, "center_front": 4, "armpit_left": 7, "top_hem_left": 10},
    ("blouse", "sling"): {"center_front": 4, "armpit_left": 7, "top_hem_left": 10},
    ("outwear", "short sleeve outwear"): {
        "neckline_left": 4, "shoulder_left": 7, "cuff_left_out": 9, "cuff_left_in": 10, "armpit_left": 12,
        "top_hem_left": 15,
    },
    ("outwear", "long sleeve outwear"): {
        "neckline_left": 2, "shoulder_left": 7, "cuff_left_out": 11, "cuff_left_in": 12, "armpit_left": 16,
        "top_hem_left": 19,
    },
    ("dress", "short sleeve dress"): {
        "neckline_left": 2, "center_front": 4, "shoulder_left": 7, "cuff_left_out": 9, "cuff_left_in": 10,
        "armpit_left": 12, "waistline_left": 15, "hemline_left": 17,
    },
    ("dress", "long sleeve dress"): {
        "neckline_left": 2, "center_front": 4, "shoulder_left": 7, "cuff_left_out": 11, "cuff_left_in": 12,
        "armpit_left": 16, "waistline_left": 19, "hemline_left": 21,
    },
    ("dress", "vest dress"): {
        "neckline_left": 2, "center_front": 4, "armpit_left": 7, "waistline_left": 10, "hemline_left": 12,
    },
    ("dress", "sling dress"): {"center_front": 4, "armpit_left": 7, "waistline_left": 10, "hemline_left": 12},
    ("skirt", "skirt"): {"waistband_left": 1, "hemline_left": 5},
    ("trousers", "shorts"): {"waistband_left": 1, "bottom_left_out": 5, "bottom_left_in": 6, "crotch": 7},
    ("trousers", "trousers"): {"waistband_left": 1, "bottom_left_out": 6, "bottom_left_in": 7, "crotch": 9},
}  # fmt: skip


def _with_partners(source: LandmarkSet, target: LandmarkSet, points: list[tuple[int, int]]) -> Points:
    return tuple(sorted({*points, *((source.partners[a], target.partners[b]) for a, b in points)}))


def _tables() -> dict[tuple[str, str], dict[tuple[str, str], Points]]:
    hub, small, large = FASHIONAI_24, DEEPFASHION_8, DEEPFASHION2_294
    to_small: dict[tuple[str, str], Points] = {}
    for garments, names in _DEEPFASHION.items():
        points = [(hub.points.index(there), small.points.index(here)) for here, there in names.items()]
        to_small[garments] = _with_partners(hub, small, points)
    to_large: dict[tuple[str, str], Points] = {}
    for garments, numbers in _DEEPFASHION2.items():
        start = large.garments[garments[1]][0]
        points = [(hub.points.index(name), start + number - 1) for name, number in numbers.items()]
        to_large[garments] = _with_partners(hub, large, points)
    small_to_large: dict[tuple[str, str], Points] = {}
    for ((one, coarse), left), ((other, category), right) in itertools.product(to_small.items(), to_large.items()):
        if one == other:
            there = dict(right)
            small_to_large[coarse, category] = tuple(sorted((place, there[via]) for via, place in left if via in there))
    tables = {
        (hub.name, small.name): to_small,
        (hub.name, large.name): to_large,
        (small.name, large.name): small_to_large,
    }
    return tables | {(target, source): _turned(table) for (source, target), table in tables.items()}


def _turned(table: dict[tuple[str, str], Points]) -> dict[tuple[str, str], Points]:
    return {(there, here): tuple(sorted((b, a) for a, b in points)) for (here, there), points in table.items()}


# (source set, target set) -> (source garment, target garment) -> (source point, target point), all six directions.
CROSSWALKS = _tables()


def corresponding_garments(source: str, garment: str, target: str) -> tuple[str, ...]:
    """Garments of the landmark set `target` that are the same kind as `garment` of `source`.

    Raises `UsageError` for an unknown set or garment.
    """
    table = _table(source, garment, target)
    return tuple(there for here, there in table if here == garment)


def crosswalk(source: str, garment: str, target: str, target_garment: str) -> Points:
    """Index pairs (point of `source`, point of `target`) that mean the same place of these two garments, ascending.

    `source` and `target` are names of landmark sets. Raises `UsageError` for an unknown set or garment, or where the two
    garments are different kinds.
    """
    table = _table(source, garment, target)
    if (garment, target_garment) not in table:
        known = ", ".join(there for here, there in table if here == garment)
        raise UsageError(f"{garment} of {source} is no {target_garment!r} of {target}; it corresponds to {known}")
    return table[garment, target_garment]


def _table(source: str, garment: str, target: str) -> dict[tuple[str, str], Points]:
    if (source, target) not in CROSSWALKS:
        raise UsageError(
            f"no crosswalk from {source!r} to {target!r}; there are {', '.join(LANDMARK_SETS)}, each to the others"
        )
    LANDMARK_SETS[source].valid_points(garment)
    return CROSSWALKS[source, target]
