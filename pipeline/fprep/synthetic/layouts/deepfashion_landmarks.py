"""Sample of DeepFashion's Fashion Landmark Detection benchmark (Liu et al., ECCV 2016), version 1.1 with joints.

Images lie flat in `Img/img`, numbered with gaps; boxes, landmarks with a variation type and 14 joints (0 visible, 1 invisible) are
in lists of their own. The README of the release does not say which joint is which; here they are those of `shoot.JOINTS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.garments.items import draw_item, pick
from fprep.synthetic.garments.shoot import JOINTS, VIEWS, Shot, photograph
from fprep.synthetic.layouts.deepfashion_marks import (
    VARIATION,
    box_text,
    clothes_type,
    invent,
    landmark_header,
    landmark_text,
    measure,
    padded,
)
from fprep.synthetic.layouts.deepfashion_words import KIND_WEIGHTS
from fprep.synthetic.layouts.tree import Progress, Request, chance, draw_groups, sample_folder, write_image, write_text

PUBLISHED_IMAGES = 123_016
EVAL, IMAGES = "Eval/list_eval_partition.txt", "Img"
MIN_IMAGES_FOR_DEFECTS = 40
_VIEW_WEIGHTS = {
    "any": 4.0,
    "shop": 2.0,
    "home": 2.0,
    "street": 2.0,
    "side": 1.0,
    "back": 0.7,
    "zoom": 1.0,
    "full": 1.0,
}
_SPLITS = {"train": 83_033.0, "val": 19_992.0, "test": 19_991.0}


@dataclass(frozen=True)
class _Drawn:
    marks: NDArray[np.int32]
    joints: NDArray[np.int32]  # 14 x (visibility, x, y)
    clothes: int


def write_sample(
    out: Path, *, images: int, seed: int, workers: int, defects: bool = False, with_images: bool = True,
    progress: Progress | None = None,
) -> dict[str, int]:  # fmt: skip
    """Write a sample of `images` images and return how many rows each split has.

    Raises `UsageError` for an occupied folder or too few images.
    """
    request = Request(images, seed, workers, defects, with_images, progress)
    with sample_folder(Path(out), request, MIN_IMAGES_FOR_DEFECTS if defects else 1) as folder:
        draw = partial(_draw_image, folder if with_images else None, seed)
        drawn: list[_Drawn] = list(draw_groups(request, draw, range(images), [1] * images))
        counts = _write_lists(folder, drawn, seed)
        if defects:
            from fprep.synthetic.layouts.deepfashion_defects import plant_landmark_defects

            counts["defects"] = plant_landmark_defects(folder, seed)
    return counts


def path_of(index: int) -> str:
    """Path of image `index`; some numbers are left out."""
    return f"img/img_{index + 1 + index // 90:08d}.jpg"


def _draw_image(folder: Path | None, seed: int, index: int) -> _Drawn:
    item, generator = draw_item(seed, index, KIND_WEIGHTS), chance(seed, 122, index)
    if folder is None:
        marks = invent(item, generator, 1, 512)[0]
        joints = np.concatenate([generator.integers(0, 2, (14, 1)), generator.integers(1, 300, (14, 2))], axis=1)
        return _Drawn(marks, joints.astype(np.int32), clothes_type(item))
    shot = None
    while shot is None or not shot.pieces:
        shot = photograph([item], generator, VIEWS[pick(generator, _VIEW_WEIGHTS)], 512)
    write_image(folder / IMAGES / path_of(index), shot.image)
    return _Drawn(measure(shot, shot.pieces[0]), _joints(shot), clothes_type(item))


def _joints(shot: Shot) -> NDArray[np.int32]:
    """14 x (0 visible or 1 invisible, x, y); 0 0 outside the image and where nobody wears the clothes."""
    found = np.zeros((len(JOINTS), 3), np.int32)
    found[:, 0] = 1
    if shot.joints is not None:
        size = np.array(shot.image.shape[1::-1])
        inside = ((shot.joints >= -0.5) & (shot.joints < size - 0.5)).all(axis=1)
        found[inside, 0] = 0
        found[inside, 1:] = np.clip(np.round(shot.joints[inside]), 0, size - 1) + 1
    return found


def _write_lists(folder: Path, drawn: list[_Drawn], seed: int) -> dict[str, int]:
    anno, count = folder / "Anno", str(len(drawn))
    paths = [path_of(index) for index in range(len(drawn))]
    rows = [
        (path, image.clothes, image.marks.tolist(), image.joints.tolist())
        for path, image in zip(paths, drawn, strict=True)
    ]
    texts = [f"{path} {box_text(marks)}" for path, _, marks, _ in rows]
    write_text(anno / "list_bbox.txt", [count, "image_name x_1 y_1 x_2 y_2", *texts])
    texts = [f"{padded(path)}{kind} {marks[VARIATION]}{landmark_text(marks)}" for path, kind, marks, _ in rows]
    write_text(anno / "list_landmarks.txt", [count, landmark_header(variation=True), *texts])
    names = [f"joint_visibility_{n}  joint_location_x_{n}  joint_location_y_{n}" for n in range(1, len(JOINTS) + 1)]
    head = padded("image_name") + "  ".join(["clothes_type", "variation_type", *names])
    texts = [
        f"{padded(path)}{kind} {marks[VARIATION]}" + "".join(f"  {v} {x:03d} {y:03d}" for v, x, y in joints) + " "
        for path, kind, marks, joints in rows
    ]
    write_text(anno / "list_joints.txt", [count, head, *texts])
    shares = np.cumsum(list(_SPLITS.values())) / sum(_SPLITS.values())
    splits = [list(_SPLITS)[place] for place in np.searchsorted(shares, chance(seed, 123).random(len(drawn)))]
    texts = [f"{padded(path)}{split}" for path, split in zip(paths, splits, strict=True)]
    write_text(folder / EVAL, [count, padded("image_name") + "evaluation_status", *texts])
    return {split: splits.count(split) for split in _SPLITS}
