"""DeepFashion2's category and landmarks of a synthetic garment.

The points that FashionAI marks too come over by `fprep.synthetic.crosswalk`; those between them on the outline and on the neckline are
interpolated, which is where they lie on the synthetic garment but for bent sleeves. The open edges of outwear stay unlabelled.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.crosswalk import crosswalk
from fprep.synthetic.garments.items import Item
from fprep.synthetic.garments.shoot import Piece
from fschemas.landmarks import DEEPFASHION2_294, FASHIONAI_24, Visibility
from fschemas.landmarks_deepfashion2 import OUTLINES, RANGES

_LOWER = ("shorts", "trousers", "skirt")
_SLING_NECKS = ("straps", "sweetheart")


def category_of(item: Item) -> str:
    """One of the 13 categories."""
    if item.category == "skirt":
        return "skirt"
    if item.category == "trousers":
        return "shorts" if item.leg_share < 0.5 else "trousers"
    short = "long sleeve" if item.design.sleeve > 0.6 else "short sleeve"
    if item.category == "outwear":
        return f"{short} outwear"
    bare = item.sleeve == "none"
    if item.category == "dress":
        return ("sling dress" if item.neck in _SLING_NECKS else "vest dress") if bare else f"{short} dress"
    return ("sling" if item.neck in _SLING_NECKS else "vest") if bare else f"{short} top"


def landmarks_of(piece: Piece, category: str) -> list[int]:
    """x, y, v of the category's own points in pixels: 2 visible, 1 occluded, 0 not labelled (at 0 0)."""
    known = _anchors(piece, category)
    chain = _chain(category)
    _fill(known, chain)
    if category not in _LOWER and "outwear" not in category:
        _fill_neck(known)
    height, width = piece.mask.shape
    flat: list[int] = []
    for number in range(1, len(OUTLINES[category]) + 1):
        place = known.get(number)
        if place is None or not (-0.5 <= place[0] < width - 0.5 and -0.5 <= place[1] < height - 0.5):
            flat += [0, 0, 0]
            continue
        column, row = (
            int(np.clip(round(float(value)), 0, size - 1)) for value, size in zip(place, (width, height), strict=True)
        )
        seen = piece.mask[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3].any()
        flat += [column, row, 2 if seen else 1]
    return flat


def _anchors(piece: Piece, category: str) -> dict[int, NDArray[np.float64]]:
    """Places of the points that FashionAI marks, by their number in the README."""
    start = RANGES[category].start
    pairs = list(crosswalk(FASHIONAI_24.name, piece.item.category, DEEPFASHION2_294.name, category))
    if category.startswith("sling"):
        pairs += [(0, start + 1), (1, start + 5)]  # the upper corners of the bodice or the straps
    found: dict[int, NDArray[np.float64]] = {}
    for source, target in pairs:
        if piece.visibility[source] >= Visibility.OCCLUDED:
            found[target - start + 1] = piece.points[source].astype(np.float64)
    return found


def _chain(category: str) -> list[int]:
    """Numbers of the points in the order of the outline."""
    first, last = OUTLINES[category].contour
    run = list(range(first, last + 1))
    return [1, *run, 3] if category in _LOWER else run


def _fill(known: dict[int, NDArray[np.float64]], chain: list[int]) -> None:
    """Put the points between two known ones of the outline on the straight line between them."""
    anchors = [place for place, number in enumerate(chain) if number in known]
    for before, after in itertools.pairwise(anchors):
        start, end = known[chain[before]], known[chain[after]]
        for place in range(before + 1, after):
            known[chain[place]] = start + (end - start) * ((place - before) / (after - before))
    if chain[0] == 1 and {1, 3} <= set(known):
        known[2] = (known[1] + known[3]) / 2


def _fill_neck(known: dict[int, NDArray[np.float64]]) -> None:
    if {2, 6} <= set(known):
        known[1] = (known[2] + known[6]) / 2
    for middle, side in ((3, 2), (5, 6)):
        if {4, side} <= set(known):
            known[middle] = (known[4] + known[side]) / 2


def oval_points(category: str, low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.int64]:
    """Whole places (K, 2) of a category's points on an oval from `low` to `high`, left points on the left."""
    first, last = OUTLINES[category].contour
    numbers = np.arange(1, len(OUTLINES[category]) + 1)
    angle = (numbers - first + 0.5) / (last - first + 1) * 2 * np.pi
    on_contour = np.stack([0.5 - 0.5 * np.sin(angle), 0.5 - 0.5 * np.cos(angle)], axis=1)
    across = np.where(numbers < first, numbers / first, 0.5)
    share = np.where(
        ((numbers >= first) & (numbers <= last))[:, None],
        on_contour,
        np.stack([across, np.zeros(len(numbers))], axis=1),
    )
    return np.round(low + share * (high - low)).astype(np.int64)
