"""Rows of DeepFashion landmark lists: clothes type, optional variation type, then visibility, x, y per landmark.

There are 6, 4 or 8 landmarks. Order (READMEs): upper 6 = collar, sleeve, hem; lower 4 = waistline, hem; full 8 =
collar, sleeve, waistline, hem; left before right. Visibility is the reverse of COCO's: 0 visible, 1 occluded, 2
truncated (then x and y are 0). The first pixel is 1.
"""

import numpy as np
import polars as pl

from fprep.raw.folder import RawFolder
from fprep.readers.deepfashion.lists import ListFile
from fschemas.landmarks import DEEPFASHION_8, Visibility

GARMENTS = ("upper", "lower", "full")  # clothes type 1, 2, 3
VARIATIONS = ("normal", "medium-pose", "large-pose", "medium-zoom", "large-zoom")  # variation type 1 to 5
CODES = np.array([Visibility.VISIBLE, Visibility.OCCLUDED, Visibility.ABSENT], np.int8)
_NUM_LANDMARKS = len(DEEPFASHION_8)
APPLICABLE = np.array([[slot in DEEPFASHION_8.garments[name] for slot in range(_NUM_LANDMARKS)] for name in GARMENTS])
_COUNTS = APPLICABLE.sum(1)
_POSITIONS = np.maximum(APPLICABLE.cumsum(1) - 1, 0)  # of the landmarks in a row of each clothes type


class LandmarkRows:
    """Landmarks of the N rows of a list read with `numbers=None`; problems of rows are added to the list.

    `garments` (N + 1) index GARMENTS. `variations` (N + 1) index VARIATIONS, -1 if the list lacks this column (decided
    by the majority of valid rows). `points` is N + 1 x 8 x 2 in pixel centers, 0 if absent, and `visibility` N + 1 x 8.
    The last entry, index -1, is for images without a row.
    """

    def __init__(self, raw: RawFolder, listed: ListFile) -> None:
        counts, numbers = listed.counts, listed.matrix(2 + 3 * _NUM_LANDMARKS)
        forms = counts[listed.good] % 3
        has_variation = bool((forms == 2).sum() > (forms == 1).sum())
        types, rows = numbers[:, 0], np.arange(len(listed))
        known = listed.require_between(types, 1, len(GARMENTS), "bad_clothes_type", "clothes type")
        garments = np.where(known, types - 1, 0)
        expected = 1 + has_variation + 3 * _COUNTS[garments]
        listed.require(counts == expected, "wrong_columns", lambda row: (
            f"{counts[row]} numbers, expected {expected[row]} for the {_COUNTS[garments[row]]} landmarks of clothes type "
            f"{GARMENTS[garments[row]]}"), counts)  # fmt: skip
        variations = np.full(len(listed), -1)
        if has_variation:
            kinds = numbers[:, 1]
            known = listed.require_between(kinds, 1, len(VARIATIONS), "bad_variation_type", "variation type")
            variations = np.where(known, kinds - 1, -1)
        self.garments, self.variations = np.append(garments, 0), np.append(variations, -1)
        listing = (numbers[:, 2:] if has_variation else numbers[:, 1:-1]).reshape(-1, _NUM_LANDMARKS, 3)
        listing, applies = listing[rows[:, None], _POSITIONS[garments]], APPLICABLE[garments]
        states, places = listing[:, :, 0], listing[:, :, 1:]
        message = "a visibility is {value}, expected 0 (visible), 1 (occluded) or 2 (truncated)"
        listed.require_each(~applies | ((states >= 0) & (states <= 2)), states, "bad_visibility", message)
        codes, at_zero = CODES[np.clip(states, 0, 2)], (places == 0).all(2)
        for rule, odd in (
            ("truncated_point_with_place", (codes == Visibility.ABSENT) & ~at_zero),
            ("point_without_place", (codes != Visibility.ABSENT) & at_zero),
        ):
            for row in np.flatnonzero((odd & applies).any(1) & listed.good).tolist():
                raw.warn(rule, listed.line(row))
        codes[at_zero] = Visibility.ABSENT
        codes[~applies] = Visibility.NOT_APPLICABLE
        self.visibility = np.append(codes, np.full((1, _NUM_LANDMARKS), Visibility.NOT_APPLICABLE, np.int8), axis=0)
        self.points = np.zeros((len(listed) + 1, _NUM_LANDMARKS, 2), np.float32)
        self.points[:-1] = np.where((codes >= Visibility.OCCLUDED)[:, :, None], places - 1, 0)

    def columns(self, indices: np.ndarray, garments: np.ndarray | None = None) -> dict[str, pl.Series]:
        """Return the columns of the groups landmarks and variation for these row indices (K).

        For index -1, all landmarks of `garments` (K) are missing.
        """
        points, visibility, kinds = self.points[indices], self.visibility[indices], self.garments[indices]
        if garments is not None:
            absent, kinds = indices < 0, np.where(indices < 0, garments, kinds)
            missing = np.where(APPLICABLE[garments], Visibility.ABSENT, Visibility.NOT_APPLICABLE)
            visibility[absent] = missing[absent]
        lists = {"landmark_x": points[:, :, 0], "landmark_y": points[:, :, 1], "landmark_visibility": visibility}
        columns = {name: pl.Series(name, values).arr.to_list() for name, values in lists.items()}
        columns["garment"] = pl.Series("garment", np.array(GARMENTS)[kinds], pl.String)
        variations = np.array([*VARIATIONS, "unknown"])[self.variations[indices]]
        return columns | {"variation": pl.Series("variation", variations, pl.String)}
