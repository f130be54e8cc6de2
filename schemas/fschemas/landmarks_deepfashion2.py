"""The 294 landmarks of DeepFashion2 as compact data: 13 categories, each with a consecutive range of indices.

Source: figure 2 of the dataset's README (Ge et al., DeepFashion2, CVPR 2019). Landmarks are numbered from 1 within a
category, along the outline: first the neck, then from the shoulder on the left of a front-view image down the sleeve,
along the hem and up again. A landmark is named after its part and number, as in `sleeve_9/short sleeve top`.
"""

import itertools
from dataclasses import dataclass

Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Outline:
    """One category. All numbers are those of the README, from 1.

    `parts` gives the last number of each part, in order. `contour` is the first and last number of the range whose
    order is reversed by a flip; `flip_pairs` are the pairs outside it (other landmarks keep their index).
    `edges` connects landmarks that are not consecutive.
    """

    parts: tuple[tuple[str, int], ...]
    contour: tuple[int, int]
    flip_pairs: Pairs
    edges: Pairs

    def __len__(self) -> int:
        return self.parts[-1][1]


def _upper_body(sleeve: int, side: int) -> Outline:
    """Garment with a closed front: neck, `sleeve` landmarks per sleeve (0: none), `side` from armpit to hem."""
    last, parts = 6, [("neck", 6)]
    for part, count in (("sleeve", sleeve), ("side", side), ("hem", 3), ("side", side), ("sleeve", sleeve)):
        last += count
        parts += [(part, last)] if count else []
    return Outline(tuple(parts), (7, last), ((2, 6), (3, 5)), (*_NECK, (2, 7), (6, last)))


_NECK = ((1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 1))

OUTLINES = {
    "short sleeve top": _upper_body(sleeve=5, side=3),
    "long sleeve top": _upper_body(sleeve=9, side=3),
    # Outwear has an open front: two edges from the neck to the hem, numbered after all others.
    "short sleeve outwear": Outline(
        parts=(("neck", 6), ("sleeve", 11), ("side", 14), ("hem", 17), ("side", 20), ("sleeve", 25), ("front", 31)),
        contour=(7, 25),
        flip_pairs=((2, 26), (3, 5), (4, 6), (16, 29), (27, 30), (28, 31)),
        edges=(
            (1, 4), (4, 3), (3, 2), (1, 6), (6, 5), (5, 26), (4, 7), (6, 25),
            (2, 30), (30, 31), (31, 16), (26, 27), (27, 28), (28, 29), (29, 17),
        ),
    ),
    "long sleeve outwear": Outline(
        parts=(("neck", 6), ("sleeve", 15), ("side", 18), ("hem", 21), ("side", 24), ("sleeve", 33), ("front", 39)),
        contour=(7, 33),
        flip_pairs=((2, 6), (3, 5), (4, 34), (20, 37), (35, 38), (36, 39)),
        edges=(
            (1, 2), (2, 3), (3, 4), (1, 6), (6, 5), (5, 34), (2, 7), (6, 33),
            (4, 38), (38, 39), (39, 20), (34, 35), (35, 36), (36, 37), (37, 21),
        ),
    ),
    "vest": _upper_body(sleeve=0, side=3),
    "sling": _upper_body(sleeve=0, side=3),
    "shorts": Outline(
        parts=(("waist", 3), ("side", 4), ("bottom", 6), ("crotch", 7), ("bottom", 9), ("side", 10)),
        contour=(4, 10), flip_pairs=((1, 3),), edges=((1, 2), (2, 3), (1, 4), (3, 10)),
    ),
    "trousers": Outline(
        parts=(("waist", 3), ("bottom", 8), ("crotch", 9), ("bottom", 14)),
        contour=(4, 14), flip_pairs=((1, 3),), edges=((1, 2), (2, 3), (1, 4), (3, 14)),
    ),
    "skirt": Outline(
        parts=(("waist", 3), ("side", 4), ("hem", 7), ("side", 8)),
        contour=(4, 8), flip_pairs=((1, 3),), edges=((1, 2), (2, 3), (1, 4), (3, 8)),
    ),
    "short sleeve dress": _upper_body(sleeve=5, side=5),
    "long sleeve dress": _upper_body(sleeve=9, side=5),
    "vest dress": _upper_body(sleeve=0, side=5),
    "sling dress": _upper_body(sleeve=0, side=5),
}  # fmt: skip


def _names(category: str, outline: Outline) -> list[str]:
    parts, first = list[str](), 1
    for part, last in outline.parts:
        parts += [f"{part}_{number}/{category}" for number in range(first, last + 1)]
        first = last + 1
    return parts


def _flip_index(start: int, outline: Outline) -> list[int]:
    first, last = outline.contour
    flip_index = [first + last - number if first <= number <= last else number for number in range(1, len(outline) + 1)]
    for left, right in outline.flip_pairs:
        flip_index[left - 1], flip_index[right - 1] = right, left
    return [start + number - 1 for number in flip_index]


def _skeleton(start: int, outline: Outline) -> list[tuple[int, int]]:
    first, last = outline.contour
    # the hem of an open front ends at such a landmark
    open_hem = {min(pair) for pair in outline.flip_pairs if first <= min(pair) <= last}
    run = [(number, number + 1) for number in range(first, last) if number not in open_hem]
    return [(start + a - 1, start + b - 1) for a, b in (*outline.edges, *run)]


_ENDS = list(itertools.accumulate(map(len, OUTLINES.values())))
# category -> indices of its landmarks among the 294
RANGES = {
    category: range(end - len(outline), end) for (category, outline), end in zip(OUTLINES.items(), _ENDS, strict=True)
}
NAMES = tuple(name for category, outline in OUTLINES.items() for name in _names(category, outline))
FLIP_INDEX = tuple(
    index for category, outline in OUTLINES.items() for index in _flip_index(RANGES[category].start, outline)
)
SKELETON = tuple(edge for category, outline in OUTLINES.items() for edge in _skeleton(RANGES[category].start, outline))
