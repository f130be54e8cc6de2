"""Sample of DeepFashion's In-shop Clothes Retrieval benchmark (Liu et al., CVPR 2016), version 2.0 without masks and DensePose.

Items of a shop in one or two colors, each photographed from several sides before a plain ground. Names, row widths, trailing spaces
and the order of rows are those of the released files; `Img/img` holds the images, 256 x 256.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.garments.items import Item, draw_item
from fprep.synthetic.garments.palette import COLORS, draw_named_color
from fprep.synthetic.garments.people import Person, draw_person
from fprep.synthetic.garments.shoot import VIEWS, photograph
from fprep.synthetic.layouts.deepfashion_marks import (
    NUM_COLUMNS,
    VARIATION,
    box_text,
    clothes_type,
    invent,
    landmark_header,
    landmark_text,
    measure,
    padded,
)  # fmt: skip
from fprep.synthetic.layouts.inshop_words import (
    KIND_WEIGHTS,
    SECOND_FOLDER,
    attribute_words,
    color_of,
    description_of,
    folder_of,
    gender_of,
)  # fmt: skip
from fprep.synthetic.layouts.tree import (
    Progress,
    Request,
    chance,
    draw_groups,
    group_sizes,
    sample_folder,
    write_image,
    write_text,
)
from fschemas.vocabularies import vocabulary

PUBLISHED_IMAGES = 52_712
EVAL, IMAGES, SIDE = "Eval/list_eval_partition.txt", "Img", 256
MIN_IMAGES_FOR_DEFECTS = 60
_SHOWN = ("1_front", "2_side", "3_back", "7_additional", "4_full", "6_flat")
_VIEW = {
    "1_front": "front",
    "2_side": "side",
    "3_back": "back",
    "4_full": "full",
    "6_flat": "flat",
    "7_additional": "zoom",
}
_POSE = {"1_front": 1, "2_side": 2, "3_back": 3, "4_full": 4, "6_flat": 6, "7_additional": 5}


@dataclass(frozen=True)
class Listing:
    """One item with its images: (path, view, variant) each; `first` is the row of the first in the box list."""

    number: int
    first: int
    images: tuple[tuple[str, str, int], ...]
    is_test: bool

    @property
    def name(self) -> str:
        """The item's id in the lists."""
        return f"id_{self.number + 1:08d}"


def write_sample(
    out: Path, *, images: int, seed: int, workers: int, defects: bool = False, with_images: bool = True,
    progress: Progress | None = None,
) -> dict[str, int]:  # fmt: skip
    """Write a sample of `images` images and return how many rows each part has.

    Raises `UsageError` for an occupied folder or too few images.
    """
    request = Request(images, seed, workers, defects, with_images, progress)
    with sample_folder(Path(out), request, MIN_IMAGES_FOR_DEFECTS if defects else 2) as folder:
        listings = list(_listings(request))
        draw = partial(_draw_listing, folder if with_images else None, seed)
        marks = np.empty((images, NUM_COLUMNS), np.int32)
        found = draw_groups(request, draw, listings, [len(listing.images) for listing in listings])
        for listing, rows in zip(listings, found, strict=True):
            marks[listing.first : listing.first + len(rows)] = rows
        counts = _write_lists(folder, listings, marks, seed)
        if defects:
            from fprep.synthetic.layouts.deepfashion_defects import plant_inshop_defects

            counts["defects"] = plant_inshop_defects(folder, seed)
    return counts


def item_of(seed: int, number: int, variant: int = 0) -> Item:
    """Item `number` of a sample in its first or second color."""
    item = draw_item(seed, number, KIND_WEIGHTS)
    if not variant:
        return item
    generator = chance(seed, 106, number, variant)
    others = [name for name in COLORS if name not in (item.color, item.accent)]
    color = others[int(generator.integers(len(others)))]
    return replace(item, color=color, design=replace(item.design, color=draw_named_color(generator, color)))


def _listings(request: Request) -> Iterator[Listing]:
    first = 0
    for number, count in enumerate(group_sizes(request, 3, 10)):
        generator = chance(request.seed, 107, number)
        item = item_of(request.seed, number)
        folder, variant = folder_of(item), int(generator.integers(1, 9))
        both = generator.random() < 0.0125 and gender_of(item) == "WOMEN"
        images: list[tuple[str, str, int]] = []
        views = [
            *_SHOWN[:4],
            *(["4_full"] if generator.random() < 0.6 else []),
            *(["6_flat"] if generator.random() < 0.1 else []),
        ]
        for place in range(count):
            second, view = divmod(place, len(views))
            place_of_item = SECOND_FOLDER.get(folder, folder) if second and both else folder
            name = f"img/{gender_of(item)}/{place_of_item}/id_{number + 1:08d}/{variant + second:02d}_{views[view]}.jpg"
            images.append((name, views[view], second))
        yield Listing(number, first, tuple(images), count >= 2 and bool(generator.random() < 0.5))
        first += count


def _draw_listing(folder: Path | None, seed: int, listing: Listing) -> NDArray[np.int32]:
    """Marks of an item's images, which are written below `folder` if there is one."""
    item = item_of(seed, listing.number)
    if folder is None:
        return invent(item, chance(seed, 108, listing.number), len(listing.images), SIDE)
    wearer = _wearer(item, seed)
    marks: list[NDArray[np.int32]] = []
    for index, (path, view, variant) in enumerate(listing.images):
        generator, shot = chance(seed, 108, listing.number, index), None
        while shot is None or not shot.pieces:
            shot = photograph(
                [item_of(seed, listing.number, variant)], generator, VIEWS[_VIEW[view]], (SIDE, SIDE), wearer
            )
        write_image(folder / IMAGES / path, shot.image, 92)
        marks.append(measure(shot, shot.pieces[0]))
    return np.stack(marks)


def _wearer(item: Item, seed: int) -> Person:
    """The model whom the shop hired for the item."""
    person = draw_person(chance(seed, 109, item.number))
    return replace(person, hair_style="short", tights=None) if gender_of(item) == "MEN" else person


def _write_lists(folder: Path, listings: list[Listing], marks: NDArray[np.int32], seed: int) -> dict[str, int]:
    anno, count = folder / "Anno", str(len(marks))
    write_text(anno / "list_item_inshop.txt", [str(len(listings)), *(listing.name for listing in listings)])
    boxes, points = (
        [count, "image_name clothes_type pose_type x_1 y_1 x_2 y_2"],
        [count, _single(landmark_header(variation=True))],
    )
    colors: list[str] = []
    attributes: list[str] = []
    described: list[dict[str, object]] = []
    ids = vocabulary("deepfashion-inshop-attribute-463").ids
    for listing in listings:
        item = item_of(seed, listing.number)
        kind = clothes_type(item)
        for (path, view, variant), row in zip(
            listing.images, marks[listing.first : listing.first + len(listing.images)].tolist(), strict=True
        ):
            boxes.append(f"{padded(path)}{kind} {_POSE[view]} {box_text(row)}")
            points.append(f"{padded(path)}{kind} {row[VARIATION]}{landmark_text(row)}")
            color = color_of(item_of(seed, listing.number, variant))
            colors.append(f"{padded(path)}  {color}{'' if ' ' in color else ' '}")
        positive = {ids[word] for word in attribute_words(item)}
        attributes.append(
            f"{listing.name} " + " ".join("1" if place in positive else "-1" for place in range(len(ids)))
        )
        described.append({"item": listing.name, "color": color_of(item), "description": description_of(item)})
    write_text(anno / "list_bbox_inshop.txt", boxes)
    write_text(anno / "list_landmarks_inshop.txt", points)
    text = json.dumps(described, indent=4, ensure_ascii=False)
    (anno / "list_description_inshop.json").write_bytes(text.encode())
    write_text(anno / "attributes/list_attr_cloth.txt", ["463", "attribute_name", *ids])
    write_text(anno / "attributes/list_attr_items.txt", [str(len(listings)), "item_id attribute_labels", *attributes])
    # The released color list has an order of its own: here every seventh image comes first.
    order = sorted(range(len(colors)), key=lambda place: place % 7 != 3)
    write_text(
        anno / "attributes/list_color_cloth.txt",
        [count, "image_name  clothes_color", *(colors[place] for place in order)],
    )
    return _write_partition(folder, listings, seed)


def _write_partition(folder: Path, listings: list[Listing], seed: int) -> dict[str, int]:
    """Train first, then query and gallery mixed; both have every test item."""
    rows: dict[bool, list[str]] = {False: [], True: []}
    counts = {"train": 0, "query": 0, "gallery": 0, "items": len(listings)}
    for listing in listings:
        generator = chance(seed, 110, listing.number)
        queries = generator.random(len(listing.images)) < 0.53
        queries[generator.permutation(len(queries))[:2]] = [True, False][: len(queries)]
        for (path, _, _), query in zip(listing.images, queries, strict=True):
            status = "train" if not listing.is_test else "query" if query else "gallery"
            counts[status] += 1
            rows[listing.is_test].append(f"{path:<70} {listing.name:<11} {status:<11}")
    total = str(sum(len(lines) for lines in rows.values()))
    write_text(folder / EVAL, [total, "image_name item_id evaluation_status", *rows[False], *rows[True]])
    return counts


def _single(header: str) -> str:
    return " ".join(header.split())
