"""DeepFashion points without slots: which of the eight landmarks a packed point is.

The files hold eight pairs, filled from the left in the order of the clothes type: upper is collar, sleeve, hem (pairs 1-6);
lower is waistline, hem (1-4); full is collar, sleeve, waistline, hem (1-8). Without the type, pairs 1-4 alone are ambiguous.
"""

from __future__ import annotations

import numpy as np

from fschemas.landmarks import DEEPFASHION_8

GARMENTS = tuple(DEEPFASHION_8.garments)
UPPER, LOWER, FULL = (GARMENTS.index(name) for name in ("upper", "lower", "full"))
LONG_SLEEVE, SLEEVELESS, NO_DRESS, NO_NECKLINE = 7, 9, 12, 16  # ids of the vocabulary deepfashion-fine-26
_LAST_UPPER, _LAST_LOWER = 20, 36  # categories 1-20 are upper, 21-36 lower, 37-50 full


def is_ambiguous(present: np.ndarray) -> np.ndarray:
    """Rows of `present` (N x 8) with points in the first four pairs only; shape N."""
    return np.asarray(present.any(1) & ~present[:, 4:].any(1))


def unpack(points: np.ndarray, garments: np.ndarray) -> np.ndarray:
    """Move packed points (N x 8 x 2) to the slots of DEEPFASHION_8; `garments` are indices into `GARMENTS`, shape N.

    Pairs beyond those of the type are kept where they would be in the slots of a full garment, so that a rule can refuse them.
    """
    unpacked = np.zeros_like(points)
    for index, name in enumerate(GARMENTS):
        slots = DEEPFASHION_8.garments[name]
        rest = [slot for slot in range(len(DEEPFASHION_8)) if slot not in slots]
        rows = garments == index
        unpacked[np.ix_(rows, [*slots, *rest])] = points[rows]
    return unpacked


def garment_of_category(present: np.ndarray, category: np.ndarray) -> tuple[np.ndarray, bool]:
    """Clothes types (shape N) of 1-based category ids, and whether the points already stand in their slots.

    They do when most upper and lower rows with points use pairs 7-8, which packed ones never do.
    """
    garments = np.where(category <= _LAST_UPPER, UPPER, np.where(category <= _LAST_LOWER, LOWER, FULL))
    partial = present[(garments != FULL) & present.any(1)]
    return garments, bool(len(partial) and partial[:, 6:].any(1).mean() > 0.5)


def garment_of_points(present: np.ndarray, box: np.ndarray, points: np.ndarray, attributes: np.ndarray) -> np.ndarray:
    """Clothes type of packed points as indices into `GARMENTS`, shape N.

    `present` is N x 8, `points` N x 8 x 2 and `box` N x 4 in pixels, `attributes` N x 6 ids (one of each group). Rules, found
    by looking at the ambiguous images of the course subset:

    1. A point in pair 7-8 says full.
    2. The last pair is 5-6: the hem of an upper garment, unless it lies clearly above the lower edge of the box, which then
       encloses a hidden hem: above three quarters of it for what is called a dress, or, without long sleeves or a cuff
       that hangs lower, above 0.65 of it (rompers). Then it is the waistline of a full one.
    3. Only pairs 1-4: a dress is full, unless 3-4 lie in the lowest quarter (waistline and hem of a skirt called maxi or
       mini); sleeves or a neckline say upper; all else is lower, unless 3-4 lie in the top 0.4 of the box (straps).
    4. No points: by attributes, a dress is full, sleeves or a neckline say upper, the rest is unknown and counts as full.
    """
    heights = (points[:, :, 1] - box[:, 1:2]) / np.maximum(box[:, 3:4] - box[:, 1:2], 1)
    lowest = np.where(present, heights, -np.inf)
    sleeve, waist = lowest[:, 2:4].max(1), lowest[:, 4:6].max(1)
    dress = attributes[:, 2] != NO_DRESS
    top = (attributes[:, 1] != SLEEVELESS) | (attributes[:, 3] != NO_NECKLINE)
    explained = (attributes[:, 1] == LONG_SLEEVE) | (sleeve > waist)
    is_waistline = (dress & (waist < 0.75)) | (~explained & (waist < 0.65))
    strapped = (sleeve > -np.inf) & (sleeve < 0.4)
    short = np.where(dress, np.where(sleeve >= 0.75, LOWER, FULL), np.where(top | strapped, UPPER, LOWER))
    without_points = np.where(top & ~dress, UPPER, FULL)
    packed = np.where(present[:, 4:6].any(1), np.where(is_waistline, FULL, UPPER), short)
    return np.where(present[:, 6:].any(1), FULL, np.where(present.any(1), packed, without_points))
