"""Sample of DeepFashion2 (Ge et al., CVPR 2019): `{train,validation}/{annos,image}/NNNNNN.{json,jpg}` and `test/image`.

A pair is an outfit photographed by a shop and several users; garments on both sides have a style above 0. Image numbers
may have gaps. Landmarks are those of the garment's category: 2 visible, 1 occluded, 0 not labeled.

Landmarks shared with FashionAI are mapped by the TOML file next to this module. Those between them on the outline and
the neckline are interpolated, which is exact on the synthetic garments except for bent sleeves. Open edges of outerwear
remain unlabeled.
"""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.defects import Change, DocumentDefect, Flaw, edited, spoil_documents
from fprep.synthetic.files import read_words, write_image
from fprep.synthetic.garments.items import Item, draw_outfit, pick
from fprep.synthetic.garments.palette import LOOKS
from fprep.synthetic.garments.shoot import VIEWS, Piece, Shot, photograph
from fprep.synthetic.garments.wardrobe import BARE_NECKS
from fprep.synthetic.skeleton import Defect, Group, Layout, Request, chance, draw_groups, map_groups
from fschemas.landmarks import DEEPFASHION2_294, FASHIONAI_24, Visibility
from fschemas.landmarks_deepfashion2 import OUTLINES, RANGES
from fschemas.vocabularies import vocabulary

_CROSSWALK = read_words(__file__)
_SIZE = (624, 468)
_SPLITS: tuple[str, ...] = ("train", "validation", "test")
_LOWER = ("shorts", "trousers", "skirt")


@dataclass(frozen=True)
class Pair(Group):
    """An outfit, whose first image is by a shop. `first` is the number of earlier images in its split."""

    split: str


def _write(folder: Path, request: Request) -> dict[str, int]:
    counts, pairs = dict.fromkeys(_SPLITS, 0), list[Pair]()
    for group in draw_groups(request, 2, 6):
        split = {1: "validation", 3: "test"}.get(group.number % 9, "train")
        pairs.append(Pair(group.number, counts[split], group.count, split))
        counts[split] += group.count
    for split in dict.fromkeys(pair.split for pair in pairs):
        for kind in ("image", "annos")[: 1 if split == "test" else 2]:
            (folder / split / kind).mkdir(parents=True)
    for _ in map_groups(folder, request, _render_pair, pairs, spread=True):
        pass
    return counts


def _render_pair(folder: Path, request: Request, pair: Pair) -> None:
    generator = chance(request.seed, 124, pair.number)
    look = pick(generator, dict.fromkeys(LOOKS, 1.0))
    outfit = draw_outfit(generator, pair.number, look)
    styles = [int(generator.integers(1, 4)) if generator.random() < 0.9 else 0 for _ in outfit]
    for index in range(pair.count):
        chances = chance(request.seed, 125, pair.number, index)
        name = f"{pair.first + index + 1:06d}"
        source = "shop" if index == 0 else "user"
        if request.with_images:
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


def _entry(shot: Shot, piece: Piece, style: int) -> dict[str, Any]:
    """Return the entry of one garment in a document."""
    category = category_of(piece.item)
    landmarks = landmarks_of(piece, category)
    hidden, area = landmarks[2::3].count(1) / max(len(landmarks) / 3, 1), piece.mask.mean()
    fill, figure = shot.photograph.fill, shot.figure
    viewpoint = 1 if figure.setting != "model" else 2 if abs(figure.yaw) < 0.3 and not figure.back else 3
    return {
        "segmentation": _polygons(piece), "scale": 1 if area < 0.05 else 2 if area < 0.25 else 3,
        "viewpoint": viewpoint, "zoom_in": 1 if fill < 0.85 else 2 if fill < 1.0 else 3, "landmarks": landmarks,
        "style": style, "bounding_box": list(piece.box), "category_id": _category_id(category),
        "occlusion": 1 if hidden < 0.15 else 2 if hidden < 0.5 else 3, "category_name": category,
    }  # fmt: skip


def _category_id(category: str) -> int:
    return vocabulary("deepfashion2-category-13").ids[category] + 1


def _polygons(piece: Piece) -> list[list[float]]:
    """Return outlines of the visible parts as x, y, x, y, …, without specks unless there is nothing else."""
    mask = piece.mask.astype(np.uint8)
    contours: Sequence[Any] = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    outlines = [cv2.approxPolyDP(contour, 1.0, True)[:, 0] for contour in contours if cv2.contourArea(contour) > 40]
    found = [[float(value) for value in outline.ravel()] for outline in outlines if len(outline) >= 3]
    return found or [_rectangle(piece.box)]


def _rectangle(box: Sequence[int]) -> list[float]:
    left, top, right, bottom = map(float, box)
    return [left, top, right, top, right, bottom, left, bottom]


def _invented(generator: np.random.Generator, item: Item, style: int) -> dict[str, Any]:
    """Return an entry with plausible coordinates for an image that is not rendered."""
    category = category_of(item)
    left, top = generator.integers(10, 150, 2).tolist()
    right, bottom = left + int(generator.integers(120, 300)), top + int(generator.integers(150, 400))
    positions = oval_points(category, np.array([left, top]), np.array([right, bottom]))
    codes = generator.choice([0, 1, 2, 2, 2, 2], len(positions))
    landmarks = np.concatenate([positions * (codes > 0)[:, None], codes[:, None]], axis=1)
    return {
        "segmentation": [_rectangle((left, top, right, bottom))],
        "scale": 2, "viewpoint": 2, "zoom_in": 1, "landmarks": landmarks.ravel().tolist(), "style": style,
        "bounding_box": [left, top, right, bottom], "category_id": _category_id(category),
        "occlusion": 1, "category_name": category,
    }  # fmt: skip


def category_of(item: Item) -> str:
    """Return one of the 13 categories."""
    if item.category == "skirt":
        return "skirt"
    if item.category == "trousers":
        return "shorts" if item.leg_share < 0.5 else "trousers"
    short = "long sleeve" if item.design.sleeve > 0.6 else "short sleeve"
    if item.category == "outwear":
        return f"{short} outwear"
    bare = item.sleeve == "none"
    if item.category == "dress":
        return ("sling dress" if item.neck in BARE_NECKS else "vest dress") if bare else f"{short} dress"
    return ("sling" if item.neck in BARE_NECKS else "vest") if bare else f"{short} top"


def landmarks_of(piece: Piece, category: str) -> list[int]:
    """Return x, y, v of the category's landmarks in pixels: 2 visible, 1 occluded, 0 not labeled (at 0 0)."""
    known = _positions(piece, category)
    height, width = piece.mask.shape
    flat: list[int] = []
    for number in range(1, len(OUTLINES[category]) + 1):
        x, y = known.get(number, (-1.0, -1.0))
        if not (-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5):
            flat += [0, 0, 0]
            continue
        column, row = (int(np.clip(round(float(at)), 0, size - 1)) for at, size in ((x, width), (y, height)))
        seen = piece.mask[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3].any()
        flat += [column, row, 2 if seen else 1]
    return flat


def _positions(piece: Piece, category: str) -> dict[int, NDArray[np.float64]]:
    """Return positions of landmarks by their number in DeepFashion2's README: shared with FashionAI, or interpolated."""
    numbers = crosswalk(category)
    if category.startswith("sling"):
        numbers |= {0: 2, 1: 6}  # the upper corners of the bodice or the straps
    seen = {point: number for point, number in numbers.items() if piece.visibility[point] >= Visibility.OCCLUDED}
    known = {number: piece.points[point].astype(np.float64) for point, number in seen.items()}
    first, last = OUTLINES[category].contour
    chain = [*range(first, last + 1)] if category not in _LOWER else [1, *range(first, last + 1), 3]
    anchors = [index for index, number in enumerate(chain) if number in known]
    for before, after in itertools.pairwise(anchors):
        start, end = known[chain[before]], known[chain[after]]
        for index in range(before + 1, after):
            known[chain[index]] = start + (end - start) * ((index - before) / (after - before))
    middles = [(1, 2, 6), (3, 4, 2), (5, 4, 6)]  # of the neck
    if category in _LOWER:
        middles = [(2, 1, 3)]  # of the waist
    elif "outwear" in category:
        middles = []
    for middle, left, right in middles:
        if {left, right} <= known.keys():
            known[middle] = (known[left] + known[right]) / 2
    return known


def crosswalk(category: str) -> dict[int, int]:
    """Map FashionAI landmark indices of a category to the corresponding numbers in DeepFashion2's README."""
    start, found = RANGES[category].start, dict[int, int]()
    for name, number in _CROSSWALK[category].items():
        point = FASHIONAI_24.names.index(name)
        found[point] = number
        found[FASHIONAI_24.flip_index[point]] = DEEPFASHION2_294.flip_index[start + number - 1] - start + 1
    return found


def oval_points(category: str, low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return pixel coordinates (K, 2) of a category's landmarks on an oval from `low` to `high`; left is left."""
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


def _set(**fields: Any) -> Change:
    return edited(lambda document: document["item1"].update(fields))


_DEFECTS: tuple[DocumentDefect, ...] = (
    (Flaw("unknown_category", "category_id 14"), _set(category_id=14)),
    (Flaw("bad_number", "three numbers"), _set(bounding_box=[1, 2, 3])),
    (Flaw("box_inverted", "x2 is left of x1"), _set(bounding_box=[300, 10, 200, 400])),
    (Flaw("wrong_number_of_points", "two numbers too few"), _set(landmarks=[0])),
    (Flaw("bad_polygon", "a polygon of five numbers"), _set(segmentation=[[1.0, 2.0, 3.0, 4.0, 5.0]])),
    (Flaw("bad_json", "cut after 100 bytes"), lambda content: content[:100]),
    (Flaw("empty_file", "an empty file"), lambda _: b""),
)


def _insert_defects(folder: Path, request: Request, _counts: dict[str, int]) -> list[Defect]:
    """Insert defects into training documents (their `item1`) and images."""
    rules = ("missing_image", "truncated_image")
    generator = chance(request.seed, 126)
    return spoil_documents(folder, generator, ("train/annos", "train/image"), _DEFECTS, rules)


LAYOUT = Layout(
    published=286_743, write=_write, insert_defects=_insert_defects, least_for_defects=80
)  # 191,961 + 32,153 + 62,629
