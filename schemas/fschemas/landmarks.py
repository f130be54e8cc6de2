"""Landmark sets: names, left-right pairs, landmarks per garment and normalization of errors.

Sources: FashionAI keypoints challenge (Tianchi 2018) and the READMEs of the DeepFashion benchmarks (Liu et al., CVPR
2016) and of DeepFashion2 (Ge et al., CVPR 2019).
"""

from dataclasses import dataclass
from enum import IntEnum

from fschemas import landmarks_deepfashion2
from fschemas.failures import UsageError
from fschemas.json_file import COUNT

LANDMARK_SET_SHAPE = {  # of `LandmarkSet.to_json`
    "name": str, "points": [str], "partners": [COUNT], "garments": {"*": [COUNT]}, "normalizer_pairs": {"*": [COUNT]},
    "skeleton": [[COUNT]],
}  # fmt: skip


class Visibility(IntEnum):
    """Visibility of a landmark, ordered so that `>= OCCLUDED` means "has coordinates"."""

    NOT_APPLICABLE = -1  # the garment has no such landmark (the cuff of a skirt)
    ABSENT = 0  # not annotated although the garment has it: cut off or unlabeled; x and y are 0
    OCCLUDED = 1  # coordinates are known, the landmark is hidden
    VISIBLE = 2


@dataclass(frozen=True)
class LandmarkSet:
    """A fixed order of K landmarks.

    `flip_index[i]` is the index of landmark i in a flipped image. `garments` gives the valid indices per garment.
    `normalizer_pairs` gives, per garment, the two landmarks whose distance normalizes an error; in a set without pairs,
    x is divided by the width and y by the height of the image.
    """

    name: str
    names: tuple[str, ...]
    flip_index: tuple[int, ...]
    garments: dict[str, tuple[int, ...]]
    normalizer_pairs: dict[str, tuple[int, int]]
    skeleton: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.names)

    def valid_landmarks(self, garment: str) -> tuple[int, ...]:
        """Indices of the landmarks that the garment has. Raises `UsageError` for an unknown garment."""
        if garment not in self.garments:
            known = ", ".join(self.garments)
            raise UsageError(f"landmark set {self.name} has no garment {garment!r}; choose from {known}")
        return self.garments[garment]

    def to_json(self) -> dict[str, object]:
        """Return the set as plain JSON values, for tables, shard sets and run folders."""
        return {
            "name": self.name,
            "points": list(self.names),
            "partners": list(self.flip_index),
            "garments": {garment: list(indices) for garment, indices in self.garments.items()},
            "normalizer_pairs": {garment: list(pair) for garment, pair in self.normalizer_pairs.items()},
            "skeleton": [list(edge) for edge in self.skeleton],
        }


def _flip_index(names: tuple[str, ...]) -> tuple[int, ...]:
    """Flip indices: swap left and right, but not in and out."""
    flipped = [name.replace("left", "?").replace("right", "left").replace("?", "right") for name in names]
    return tuple(names.index(name) for name in flipped)


_FASHIONAI_NAMES = (
    "neckline_left", "neckline_right", "center_front", "shoulder_left", "shoulder_right", "armpit_left", "armpit_right",
    "waistline_left", "waistline_right", "cuff_left_in", "cuff_left_out", "cuff_right_in", "cuff_right_out",
    "top_hem_left", "top_hem_right", "waistband_left", "waistband_right", "hemline_left", "hemline_right", "crotch",
    "bottom_left_in", "bottom_left_out", "bottom_right_in", "bottom_right_out",
)  # fmt: skip

FASHIONAI_24 = LandmarkSet(
    name="fashionai-24",
    names=_FASHIONAI_NAMES,
    flip_index=_flip_index(_FASHIONAI_NAMES),
    garments={
        "blouse": (0, 1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 14),
        "outwear": (0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14),
        "dress": (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 17, 18),
        "skirt": (15, 16, 17, 18),
        "trousers": (15, 16, 19, 20, 21, 22, 23),
    },
    normalizer_pairs={"blouse": (5, 6), "outwear": (5, 6), "dress": (5, 6), "skirt": (15, 16), "trousers": (15, 16)},
    skeleton=(
        (0, 2), (2, 1), (0, 1), (0, 3), (1, 4), (3, 10), (4, 12), (9, 10), (11, 12), (9, 5), (11, 6), (5, 7), (6, 8),
        (5, 13), (6, 14), (13, 14), (7, 17), (8, 18), (7, 13), (8, 14), (15, 16), (15, 17), (16, 18), (17, 18),
        (15, 21), (16, 23), (20, 21), (22, 23), (20, 19), (22, 19),
    ),
)  # fmt: skip

_DEEPFASHION_NAMES = (
    "collar_left", "collar_right", "sleeve_left", "sleeve_right", "waistline_left", "waistline_right", "hem_left", "hem_right",
)  # fmt: skip

DEEPFASHION_8 = LandmarkSet(
    name="deepfashion-8",
    names=_DEEPFASHION_NAMES,
    flip_index=_flip_index(_DEEPFASHION_NAMES),
    garments={"upper": (0, 1, 2, 3, 6, 7), "lower": (4, 5, 6, 7), "full": (0, 1, 2, 3, 4, 5, 6, 7)},
    normalizer_pairs={},
    skeleton=((0, 1), (0, 2), (1, 3), (0, 4), (1, 5), (4, 5), (4, 6), (5, 7), (6, 7)),
)

DEEPFASHION2_294 = LandmarkSet(
    name="deepfashion2-294",
    names=landmarks_deepfashion2.NAMES,
    flip_index=landmarks_deepfashion2.FLIP_INDEX,
    garments={category: tuple(indices) for category, indices in landmarks_deepfashion2.RANGES.items()},
    normalizer_pairs={},
    skeleton=landmarks_deepfashion2.SKELETON,
)

LANDMARK_SETS = {landmark_set.name: landmark_set for landmark_set in (FASHIONAI_24, DEEPFASHION_8, DEEPFASHION2_294)}


def landmark_set(name: str) -> LandmarkSet:
    """Return the landmark set of that name. Raises `UsageError`, with the known names, if there is none."""
    if name not in LANDMARK_SETS:
        raise UsageError(f"unknown landmark set {name!r}; choose from {', '.join(LANDMARK_SETS)}")
    return LANDMARK_SETS[name]
