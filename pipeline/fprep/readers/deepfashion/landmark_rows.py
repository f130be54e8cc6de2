"""Rows of DeepFashion landmark lists: clothes type, optional variation type, then visibility, x, y per landmark.

There are 6, 4 or 8 landmarks. Order (READMEs): upper 6 = collar, sleeve, hem; lower 4 = waistline, hem; full 8 =
collar, sleeve, waistline, hem; left before right. Visibility is the reverse of COCO's: 0 visible, 1 occluded, 2
truncated (then x and y are 0). The first pixel is 1.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from fprep.raw.folder import RawFolder
from fprep.readers.deepfashion.lists import ListFile
from fschemas.landmarks import DEEPFASHION_8, Visibility

GARMENTS = ("upper", "lower", "full")  # clothes type 1, 2, 3
VARIATIONS = ("normal", "medium-pose", "large-pose", "medium-zoom", "large-zoom")  # variation type 1 to 5
_NUM_LANDMARKS = len(DEEPFASHION_8)
_SLOTS = tuple(DEEPFASHION_8.garments[garment] for garment in GARMENTS)
_COUNTS = np.array([len(slots) for slots in _SLOTS])
_CODES = np.array([Visibility.VISIBLE, Visibility.OCCLUDED, Visibility.ABSENT], np.int8)


class LandmarkRows:
    """Landmarks of the N rows of a list read with `numbers=None`; problems of rows are added to the list.

    `garments` (N + 1) index GARMENTS. `variations` (N + 1) index VARIATIONS, -1 if the list lacks this column (decided
    by the majority of valid rows). `points` is N + 1 x 8 x 2 in pixel centers, 0 if absent, and `visibility` N + 1 x 8.
    The last entry, index -1, is for images without a row.
    """

    def __init__(self, raw: RawFolder, listed: ListFile) -> None:
        counts, numbers = listed.counts, listed.matrix(2 + 3 * _NUM_LANDMARKS)
        has_variation = _has_variation(listed)
        types = numbers[:, 0]
        variations = numbers[:, 1] if has_variation else np.zeros_like(types)
        known = (types >= 1) & (types <= len(GARMENTS))
        listed.require_between(types, 1, len(GARMENTS), "bad_clothes_type", "clothes type")
        garments = np.where(known, types - 1, 0)
        expected = 1 + has_variation + 3 * _COUNTS[garments]
        listed.require(counts == expected, "wrong_columns", lambda row: (
            f"{counts[row]} numbers, expected {expected[row]} for the {_COUNTS[garments[row]]} landmarks of clothes type "
            f"{GARMENTS[garments[row]]}"), counts)  # fmt: skip
        in_range = (variations >= 1) & (variations <= len(VARIATIONS)) if has_variation else np.ones(len(types), bool)
        if has_variation:
            listed.require_between(variations, 1, len(VARIATIONS), "bad_variation_type", "variation type")
        self.garments = np.append(garments, 0)
        self.variations = np.append(np.where(in_range, variations - 1, -1), -1)
        shifted = (numbers[:, 2:] if has_variation else numbers[:, 1:-1]).reshape(-1, _NUM_LANDMARKS, 3)
        states = np.where(np.arange(_NUM_LANDMARKS) < _COUNTS[garments][:, None], shifted[:, :, 0], 0)
        odd = (states < 0) | (states > 2)
        found = np.take_along_axis(states, odd.argmax(1)[:, None], 1)[:, 0]
        listed.require(
            ~odd.any(1), "bad_visibility",
            lambda row: f"a visibility is {found[row]}, expected 0 (visible), 1 (occluded) or 2 (truncated)", found,
        )  # fmt: skip
        self.visibility = np.full((len(listed) + 1, _NUM_LANDMARKS), Visibility.NOT_APPLICABLE, np.int8)
        self.points = np.zeros((len(listed) + 1, _NUM_LANDMARKS, 2), np.float32)
        for garment, slots in enumerate(_SLOTS):
            rows = np.flatnonzero(garments == garment)
            triples = shifted[rows, : len(slots)]
            state = _CODES[np.clip(triples[:, :, 0], 0, 2)]
            self._warn(raw, listed, rows, state, triples)
            state[(triples[:, :, 1:] == 0).all(2)] = Visibility.ABSENT
            present = state >= Visibility.OCCLUDED
            self.visibility[rows[:, None], slots] = state
            self.points[rows[:, None], slots] = np.where(present[:, :, None], triples[:, :, 1:] - 1, 0)

    def _warn(self, raw: RawFolder, listed: ListFile, rows: np.ndarray, state: np.ndarray, triples: np.ndarray) -> None:
        at_zero = (triples[:, :, 1:] == 0).all(2)
        for rule, odd in (
            ("truncated_point_with_place", (state == Visibility.ABSENT) & ~at_zero),
            ("point_without_place", (state != Visibility.ABSENT) & at_zero),
        ):
            for row in rows[odd.any(1)].tolist():
                if row not in listed.problems:
                    raw.warn(rule, listed.line(row))

    def columns(self, indices: np.ndarray) -> dict[str, pl.Series]:
        """Return the columns of the groups landmarks and variation for these row indices."""
        return _columns(*(each[indices] for each in (self.points, self.visibility, self.garments, self.variations)))


def absent_landmarks(garments: np.ndarray) -> dict[str, pl.Series]:
    """Return `LandmarkRows.columns` for images without a row: all landmarks are missing."""
    applicable = np.zeros((len(GARMENTS), _NUM_LANDMARKS), bool)
    for garment, slots in enumerate(_SLOTS):
        applicable[garment, list(slots)] = True
    codes = np.where(applicable[garments], Visibility.ABSENT, Visibility.NOT_APPLICABLE).astype(np.int8)
    points = np.zeros((len(garments), _NUM_LANDMARKS, 2), np.float32)
    return _columns(points, codes, garments, np.full(len(garments), -1))


def _columns(
    points: np.ndarray, visibility: np.ndarray, garments: np.ndarray, variations: np.ndarray
) -> dict[str, pl.Series]:
    lists = {"landmark_x": points[:, :, 0], "landmark_y": points[:, :, 1], "landmark_visibility": visibility}
    columns = {name: pl.Series(name, values).arr.to_list() for name, values in lists.items()}
    columns["garment"] = pl.Series("garment", np.array(GARMENTS)[garments], pl.String)
    names = np.array([*VARIATIONS, "unknown"])[variations]
    return columns | {"variation": pl.Series("variation", names, pl.String)}


def _has_variation(listed: ListFile) -> bool:
    """Return whether the rows of a list have a variation type, by majority, so that malformed rows do not decide."""
    good = np.ones(len(listed), bool)
    good[list(listed.problems)] = False
    forms = listed.counts[good] % 3
    return bool((forms == 2).sum() > (forms == 1).sum())
