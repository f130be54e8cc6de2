"""Sample of DeepFashion2 (Ge et al., CVPR 2019): `{train,validation}/annos/NNNNNN.json` beside `image/NNNNNN.jpg`, and `test/image`.

A pair is an outfit that a shop and several users photographed; its garments carry a style above 0 where both sides have them.
Items are numbered, not always without gaps; landmarks are those of the garment's category, 2 visible, 1 occluded, 0 not labelled.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.garments.items import Item, pick
from fprep.synthetic.garments.palette import LOOKS
from fprep.synthetic.garments.shoot import VIEWS, Piece, Shot, photograph
from fprep.synthetic.layouts.deepfashion2_points import category_of, landmarks_of, oval_points
from fprep.synthetic.layouts.kfashion_words import draw_outfit
from fprep.synthetic.layouts.tree import (
    Defect,
    Progress,
    Request,
    chance,
    draw_groups,
    group_sizes,
    sample_folder,
    write_defects,
    write_image,
)  # fmt: skip
from fschemas.vocabularies import vocabulary

PUBLISHED_IMAGES = 286_743  # 191,961 + 32,153 + 62,629
MIN_IMAGES_FOR_DEFECTS = 80
_SIZE = (624, 468)
_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Pair:
    """An outfit with `count` images, the first by a shop; `first` is the number of images of its split before it."""

    number: int
    split: str
    first: int
    count: int


def write_sample(
    out: Path, *, images: int, seed: int, workers: int, defects: bool = False, with_images: bool = True,
    progress: Progress | None = None,
) -> dict[str, int]:  # fmt: skip
    """Write a sample of `images` images and return how many each split has.

    Raises `UsageError` for an occupied folder or too few images.
    """
    request = Request(images, seed, workers, defects, with_images, progress)
    with sample_folder(Path(out), request, MIN_IMAGES_FOR_DEFECTS if defects else 1) as folder:
        pairs = list(_pairs(request))
        for split in dict.fromkeys(pair.split for pair in pairs):
            for kind in ("image", "annos")[: 1 if split == "test" else 2]:
                (folder / split / kind).mkdir(parents=True)
        draw = partial(_draw_pair, folder, with_images, seed)
        for _ in draw_groups(request, draw, pairs, [pair.count for pair in pairs], spread=True):
            pass
        counts = {split: sum(pair.count for pair in pairs if pair.split == split) for split in _SPLITS}
        if defects:
            counts["defects"] = _plant(folder, seed)
    return counts


def _pairs(request: Request) -> Iterator[Pair]:
    counts = dict.fromkeys(_SPLITS, 0)
    for number, count in enumerate(group_sizes(request, 2, 6)):
        split = "validation" if number % 9 == 1 else "test" if number % 9 == 3 else "train"
        yield Pair(number, split, counts[split], count)
        counts[split] += count


def _draw_pair(folder: Path, with_images: bool, seed: int, pair: Pair) -> int:
    generator = chance(seed, 124, pair.number)
    look = pick(generator, dict.fromkeys(LOOKS, 1.0))
    outfit = draw_outfit(generator, pair.number, look)
    styles = [int(generator.integers(1, 4)) if generator.random() < 0.9 else 0 for _ in outfit]
    for index in range(pair.count):
        chances = chance(seed, 125, pair.number, index)
        name = f"{pair.first + index + 1:06d}"
        source = "shop" if index == 0 else "user"
        if with_images:
            view = "shop" if source == "shop" else "street" if chances.random() < 0.4 else "home"
            shot = photograph(outfit, chances, VIEWS[view], _SIZE)
            write_image(folder / pair.split / "image" / f"{name}.jpg", shot.image, 85)
            items = [_entry(shot, piece, styles[outfit.index(piece.item)]) for piece in shot.pieces]
        else:
            items = [_invented(chances, item, style) for item, style in zip(outfit, styles, strict=True)]
        if pair.split != "test":
            numbers = [1, 3] if len(items) == 2 and chances.random() < 0.05 else range(1, len(items) + 1)
            entries = {f"item{number}": item for number, item in zip(numbers, items, strict=True)}
            document: dict[str, Any] = {"source": source, "pair_id": pair.number + 1, **entries}
            (folder / pair.split / "annos" / f"{name}.json").write_text(json.dumps(document))
    return pair.count


def _entry(shot: Shot, piece: Piece, style: int) -> dict[str, Any]:
    """What the document says of one garment."""
    category = category_of(piece.item)
    landmarks = landmarks_of(piece, category)
    hidden = landmarks[2::3].count(1) / max(len(landmarks) / 3, 1)
    fill = shot.photograph.fill
    viewpoint = 1 if shot.figure.setting != "model" else 2 if abs(shot.figure.yaw) < 0.3 and not shot.figure.back else 3
    area = piece.mask.mean()
    return {
        "segmentation": _polygons(piece.mask),
        "scale": 1 if area < 0.05 else 2 if area < 0.25 else 3,
        "viewpoint": viewpoint,
        "zoom_in": 1 if fill < 0.85 else 2 if fill < 1.0 else 3,
        "landmarks": landmarks,
        "style": style,
        "bounding_box": list(piece.box),
        "category_id": vocabulary("deepfashion2-category-13").ids[category] + 1,
        "occlusion": 1 if hidden < 0.15 else 2 if hidden < 0.5 else 3,
        "category_name": category,
    }


def _polygons(mask: NDArray[np.bool_]) -> list[list[float]]:
    """Outlines of the visible parts as x, y, x, y …; specks are left out unless there is nothing else."""
    contours: Sequence[Any] = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    outlines = [cv2.approxPolyDP(contour, 1.0, True)[:, 0] for contour in contours if cv2.contourArea(contour) > 40]
    found = [[float(value) for value in outline.ravel()] for outline in outlines if len(outline) >= 3]
    if found:
        return found
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top, right, bottom = (float(value) for value in (columns[0], rows[0], columns[-1], rows[-1]))
    return [[left, top, right, top, right, bottom, left, bottom]]


def _invented(generator: np.random.Generator, item: Item, style: int) -> dict[str, Any]:
    """An entry with plausible places for an image that nobody draws."""
    category = category_of(item)
    left, top = generator.integers(10, 150, 2).tolist()
    right, bottom = left + int(generator.integers(120, 300)), top + int(generator.integers(150, 400))
    places = oval_points(category, np.array([left, top]), np.array([right, bottom]))
    codes = generator.choice([0, 1, 2, 2, 2, 2], len(places))
    landmarks = np.concatenate([places * (codes > 0)[:, None], codes[:, None]], axis=1)
    return {
        "segmentation": [[float(value) for value in (left, top, right, top, right, bottom, left, bottom)]],
        "scale": 2, "viewpoint": 2, "zoom_in": 1, "landmarks": landmarks.ravel().tolist(), "style": style,
        "bounding_box": [left, top, right, bottom], "category_id": vocabulary("deepfashion2-category-13").ids[category] + 1,
        "occlusion": 1, "category_name": category,
    }  # fmt: skip


def _plant(folder: Path, seed: int) -> int:
    """Spoil training documents and images; every entry is about `item1` of its document unless it says otherwise."""
    names = sorted(path.stem for path in (folder / "train/annos").iterdir())
    chosen = iter(chance(seed, 126).permutation(names).tolist())
    planted: list[Defect] = []

    def change(rule: str, what: str, verdict: str = "rejected", **fields: Any) -> None:
        name = next(chosen)
        path = folder / f"train/annos/{name}.json"
        document = json.loads(path.read_text())
        document["item1"] |= fields
        path.write_text(json.dumps(document))
        planted.append(Defect(f"train/annos/{name}.json", 1, f"train/image/{name}.jpg", rule, what, verdict))

    change("unknown_category", "category_id 14", category_id=14)
    change("bad_number", "three numbers", bounding_box=[1, 2, 3])
    change("box_inverted", "x2 is left of x1", bounding_box=[300, 10, 200, 400])
    change("wrong_number_of_points", "two numbers too few", landmarks=[0])
    change("bad_polygon", "a polygon of five numbers", segmentation=[[1.0, 2.0, 3.0, 4.0, 5.0]])
    for rule, what, content in (("bad_json", "cut after 100 bytes", None), ("empty_file", "an empty file", b"")):
        name = next(chosen)
        path = folder / f"train/annos/{name}.json"
        path.write_bytes(path.read_bytes()[:100] if content is None else content)
        planted.append(Defect(f"train/annos/{name}.json", 1, f"train/image/{name}.jpg", rule, what))
    for rule, what in (
        ("missing_image", "the file was deleted"),
        ("truncated_image", "the file ends after 40 % of its bytes"),
    ):
        name = next(chosen)
        path = folder / f"train/image/{name}.jpg"
        content = path.read_bytes()
        path.unlink()
        if rule == "truncated_image":
            path.write_bytes(content[: len(content) * 2 // 5])
        planted.append(Defect(f"train/annos/{name}.json", None, f"train/image/{name}.jpg", rule, what + "; all items"))
    write_defects(folder, planted)
    return len(planted)
