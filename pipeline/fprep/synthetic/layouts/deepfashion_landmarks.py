"""Sample of DeepFashion's Fashion Landmark Detection benchmark (Liu et al., ECCV 2016), version 1.1 with joints.

Images are in the flat folder `Img/img`, numbered with gaps. Separate lists hold boxes, landmarks with a variation type,
and 14 joints (0 visible, 1 invisible). The README of the release does not define the order of the joints; here it is
that of `shoot.JOINTS`.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.files import write_image
from fprep.synthetic.garments.items import draw_item, pick
from fprep.synthetic.garments.shoot import JOINTS, Shot, photograph_seen
from fprep.synthetic.layouts import deepfashion as df
from fprep.synthetic.layouts.deepfashion_category import KIND_WEIGHTS
from fprep.synthetic.skeleton import Defect, Group, Layout, Request, chance, draw_splits, map_images

_BOXES, _LANDMARKS = "Anno/list_bbox.txt", "Anno/list_landmarks.txt"
_VIEWS = {"any": 4.0, "shop": 2.0, "home": 2.0, "street": 2.0, "side": 1.0, "back": 0.7, "zoom": 1.0, "full": 1.0}
_SPLITS = {"train": 83_033.0, "val": 19_992.0, "test": 19_991.0}
_Row = tuple[str, int, list[int], list[list[int]]]  # path, clothes type, marks (31), joints 14 x (visibility, x, y)


def _write(folder: Path, request: Request) -> dict[str, int]:
    rows = map_images(folder, request, _render_image)
    boxes = [f"{path} {df.box_text(marks)}" for path, _, marks, _ in rows]
    df.write_list(folder / _BOXES, "image_name x_1 y_1 x_2 y_2", boxes)
    landmarks: list[str] = []
    joints: list[str] = []
    for path, kind, marks, found in rows:
        start = f"{df.padded(path)}{kind} {marks[df.VARIATION]}"
        landmarks.append(start + df.landmark_text(marks))
        joints.append(start + "".join(f"  {v} {x:03d} {y:03d}" for v, x, y in found) + " ")
    df.write_list(folder / _LANDMARKS, df.landmark_header(variation=True), landmarks)
    names = [f"joint_visibility_{n}  joint_location_x_{n}  joint_location_y_{n}" for n in range(1, len(JOINTS) + 1)]
    head = df.padded("image_name") + "  ".join(["clothes_type", "variation_type", *names])
    df.write_list(folder / "Anno/list_joints.txt", head, joints)
    splits = draw_splits(chance(request.seed, 123), _SPLITS, len(rows))
    texts = [df.padded(path) + split for (path, _, _, _), split in zip(rows, splits, strict=True)]
    df.write_list(folder / df.EVAL, df.padded("image_name") + "evaluation_status", texts)
    return {split: splits.count(split) for split in _SPLITS}


def _render_image(folder: Path, request: Request, image: Group) -> _Row:
    index = image.number
    item, generator = draw_item(request.seed, index, KIND_WEIGHTS), chance(request.seed, 122, index)
    path = f"img/img_{index + 1 + index // 90:08d}.jpg"  # some numbers are skipped
    if not request.with_images:
        marks = df.invent(item, generator, 1, 512)[0]
        joints = np.concatenate([generator.integers(0, 2, (14, 1)), generator.integers(1, 300, (14, 2))], axis=1)
    else:
        shot = photograph_seen([item], generator, lambda: (pick(generator, _VIEWS), 512))
        write_image(folder / df.IMAGES / path, shot.image)
        marks, joints = df.measure(shot, shot.pieces[0]), _joints(shot)
    return path, df.clothes_type(item), marks.tolist(), joints.tolist()


def _joints(shot: Shot) -> NDArray[np.int64]:
    """Return joints 14 x (0 visible or 1 invisible, x, y).

    x = y = 0 outside the image and if the clothes are not worn.
    """
    found = np.zeros((len(JOINTS), 3), np.int64)
    found[:, 0] = 1
    if shot.joints is not None:
        size = np.array(shot.image.shape[1::-1])
        inside = ((shot.joints >= -0.5) & (shot.joints < size - 0.5)).all(axis=1)
        found[inside, 0] = 0
        found[inside, 1:] = np.clip(np.round(shot.joints[inside]), 0, size - 1) + 1
    return found


def _insert_defects(folder: Path, request: Request, _counts: dict[str, int]) -> list[Defect]:
    spoiler = df.spoil_lists(folder, request, {"eval": df.EVAL, "bbox": _BOXES, "landmarks": _LANDMARKS})
    spoiler.remove("bbox")
    spoiler.change("eval", df.UNKNOWN_SPLIT)
    return spoiler.finish()


LAYOUT = Layout(published=123_016, write=_write, insert_defects=_insert_defects, least_for_defects=40)
