"""DeepFashion landmarks without slots: assign packed landmarks to the eight slots.

The files have eight pairs, filled from the left in the order of the clothes type: upper is collar, sleeve, hem (pairs
1-6); lower is waistline, hem (1-4); full is collar, sleeve, waistline, hem (1-8). Without the type, pairs 1-4 alone are
ambiguous.
"""

import numpy as np

from fprep.readers.deepfashion.landmark_rows import GARMENTS
from fschemas.landmarks import DEEPFASHION_8

UPPER, LOWER, FULL = (GARMENTS.index(name) for name in ("upper", "lower", "full"))
LONG_SLEEVE, SLEEVELESS, NO_DRESS, NO_NECKLINE = 7, 9, 12, 16  # ids of the vocabulary deepfashion-fine-26
_LAST_UPPER, _LAST_LOWER = 20, 36  # categories 1-20 are upper, 21-36 lower, 37-50 full


def is_ambiguous(present: np.ndarray) -> np.ndarray:
    """Return rows of `present` (N x 8) with landmarks only in the first four pairs; shape N."""
    return np.asarray(present.any(1) & ~present[:, 4:].any(1))


def unpack(points: np.ndarray, garments: np.ndarray) -> np.ndarray:
    """Move packed landmarks (N x 8 x 2) to the slots of DEEPFASHION_8; `garments` index `GARMENTS`, shape N.

    Pairs beyond those of the type go to the slots of a full garment, so that a rule can reject them.
    """
    unpacked = np.zeros_like(points)
    for index, name in enumerate(GARMENTS):
        slots = DEEPFASHION_8.garments[name]
        rest = [slot for slot in range(len(DEEPFASHION_8)) if slot not in slots]
        rows = garments == index
        unpacked[np.ix_(rows, [*slots, *rest])] = points[rows]
    return unpacked


def garment_of_category(present: np.ndarray, category: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return clothes types (shape N) for 1-based category ids, and whether the landmarks are already in their slots.

    They are if most upper and lower rows with landmarks use pairs 7-8, which packed ones never do.
    """
    garments = np.where(category <= _LAST_UPPER, UPPER, np.where(category <= _LAST_LOWER, LOWER, FULL))
    partial = present[(garments != FULL) & present.any(1)]
    return garments, bool(len(partial) and partial[:, 6:].any(1).mean() > 0.5)


def garment_of_landmarks(
    present: np.ndarray, box: np.ndarray, points: np.ndarray, attributes: np.ndarray
) -> np.ndarray:
    """Infer the clothes type of packed landmarks, as indices into `GARMENTS`, shape N.

    `present` is N x 8, `points` N x 8 x 2 and `box` N x 4 in pixels, `attributes` N x 6 ids (one of each group). The
    rules were derived from the ambiguous images of the course subset:

    1. A landmark in pairs 7-8 means full.
    2. The last pair is 5-6: the hem of an upper garment, unless it is clearly above the lower edge of the box, which
       then encloses a hidden hem: above 3/4 of the box height for dresses, or, without long sleeves or a cuff that is
       lower, above 0.65 of it (rompers). Then it is the waistline of a full garment.
    3. Only pairs 1-4: a dress is full, unless 3-4 are in the lowest quarter (waistline and hem of a maxi/mini skirt);
       sleeves or a neckline mean upper; everything else is lower, unless 3-4 are in the top 0.4 of the box (straps).
    4. No landmarks: by attributes, a dress is full, sleeves or a neckline mean upper, and the rest defaults to full.
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
