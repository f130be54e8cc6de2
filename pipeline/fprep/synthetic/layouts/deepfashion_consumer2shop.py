"""Sample of DeepFashion's Consumer-to-shop benchmark (Liu et al., CVPR 2016): `comsumer_NN.jpg` (so misspelt) and `shop_NN.jpg`.

A shop photographs an item well lit before a plain ground; consumers do so at home, tilted, in bad light, among their things. The
lists pair them; the partition counts pairs, not with_images; the attribute list has a byte order mark and CRLF, as in the release.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.garments.items import Item, draw_item
from fprep.synthetic.garments.shoot import VIEWS, photograph
from fprep.synthetic.layouts.consumer2shop_words import (
    FOLDER_OF_KIND,
    attribute_ids,
    attribute_names,
    folder_of,
    type_names,
)
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

PUBLISHED_IMAGES = 239_557
EVAL, IMAGES = "Eval/list_eval_partition.txt", "Img"
MIN_IMAGES_FOR_DEFECTS = 60
_KIND_WEIGHTS = {**dict.fromkeys(FOLDER_OF_KIND, 1.0), "tee": 4.0, "dress": 3.0, "mini dress": 3.0, "blouse": 3.0}
_QUALITY = {"shop": 90, "comsumer": 62}


@dataclass(frozen=True)
class Listing:
    """One item: `shops` images by shops, then `consumers` by consumers; `first` is the row of the first in the lists."""

    number: int
    name: str
    folder: str
    first: int
    shops: int
    consumers: int
    split: str

    @property
    def paths(self) -> list[str]:
        """Consumers first, as the lists do."""
        counts = (("comsumer", self.consumers), ("shop", self.shops))
        return [
            f"img/{self.folder}/{self.name}/{who}_{number:02d}.jpg"
            for who, count in counts
            for number in range(1, count + 1)
        ]


def write_sample(
    out: Path, *, images: int, seed: int, workers: int, defects: bool = False, with_images: bool = True,
    progress: Progress | None = None,
) -> dict[str, int]:  # fmt: skip
    """Write a sample of `images` images and return how many pairs each split has.

    Raises `UsageError` for an occupied folder or too few images.
    """
    request = Request(images, seed, workers, defects, with_images, progress)
    with sample_folder(Path(out), request, MIN_IMAGES_FOR_DEFECTS if defects else 2) as folder:
        listings = list(_listings(request))
        marks = np.empty((images, NUM_COLUMNS), np.int32)
        draw = partial(_draw_listing, folder if with_images else None, seed)
        found = draw_groups(request, draw, listings, [len(listing.paths) for listing in listings])
        for listing, rows in zip(listings, found, strict=True):
            marks[listing.first : listing.first + len(rows)] = rows
        _write_lists(folder, listings, marks, seed)
        counts = {"images": images, "items": len(listings)} | _write_partition(folder, listings, seed)
        if defects:
            from fprep.synthetic.layouts.deepfashion_defects import plant_consumer2shop_defects

            counts["defects"] = plant_consumer2shop_defects(folder, seed)
    return counts


def item_of(seed: int, number: int) -> Item:
    """Item `number` of a sample of this benchmark."""
    return draw_item(seed, number, _KIND_WEIGHTS)


def _listings(request: Request) -> Iterator[Listing]:
    first = 0
    for number, count in enumerate(group_sizes(request, 3, 9, least=2)):
        generator = chance(request.seed, 119, number)
        split = str(generator.choice(["train", "val", "test"], p=[0.7, 0.1, 0.2]))
        shops = 1 if count < 4 else int(generator.integers(1, 3))
        # Ids have gaps in the release.
        name = f"id_{number + 1 + number // 500:08d}"
        yield Listing(number, name, folder_of(item_of(request.seed, number)), first, shops, count - shops, split)
        first += count


def _draw_listing(folder: Path | None, seed: int, listing: Listing) -> NDArray[np.int32]:
    item = item_of(seed, listing.number)
    if folder is None:
        return invent(item, chance(seed, 120, listing.number), len(listing.paths), 300)
    marks: list[NDArray[np.int32]] = []
    for index, path in enumerate(listing.paths):
        generator, shot = chance(seed, 120, listing.number, index), None
        view = "home" if index < listing.consumers else "shop"
        while shot is None or not shot.pieces:
            place = "street" if view == "home" and generator.random() < 0.25 else view
            shot = photograph([item], generator, VIEWS[place], 301 if generator.random() < 0.13 else 300)
        write_image(folder / IMAGES / path, shot.image, _QUALITY[path.rsplit("/", 1)[1].split("_")[0]])
        marks.append(measure(shot, shot.pieces[0]))
    return np.stack(marks)


def _write_lists(folder: Path, listings: list[Listing], marks: NDArray[np.int32], seed: int) -> None:
    anno, count = folder / "Anno", str(len(marks))
    boxes = [count, padded("image_name") + "clothes_type  source_type  x_1  y_1  x_2  y_2"]
    points = [count, landmark_header(variation=True)]
    attributes = [str(len(listings)), "item_id      attribute_labels"]
    for listing in listings:
        item = item_of(seed, listing.number)
        kind, positive = clothes_type(item), set(attribute_ids(item))
        rows = marks[listing.first : listing.first + len(listing.paths)].tolist()
        for index, (path, row) in enumerate(zip(listing.paths, rows, strict=True)):
            source = 2 if index < listing.consumers else 1
            boxes.append(f"{padded(path)}{kind} {source} {box_text(row)}")
            points.append(f"{padded(path)}{kind} {row[VARIATION]}{landmark_text(row)}")
        values = " ".join(" 1" if place in positive else "-1" for place in range(len(attribute_names())))
        attributes.append(f"{listing.name}  {values}")
    write_text(anno / "list_bbox_consumer2shop.txt", boxes)
    write_text(anno / "list_landmarks_consumer2shop.txt", points)
    write_text(anno / "list_attr_items.txt", attributes)
    write_text(anno / "list_item_consumer2shop.txt", [str(len(listings)), *(listing.name for listing in listings)])
    names = [(chinese, english, str(number)) for chinese, english, number in attribute_names()]
    head = ("attribute_name (Chinese)", "attribute_name (English)", "attribute_type")
    lines = ["303", *(f"{_wide(a, 33)}{_wide(b, 45)}{c}" for a, b, c in (head, *names))]
    write_text(anno / "list_attr_cloth.txt", lines, newline="\r\n", encoding="utf-8-sig")
    kinds = [("attribute_type (Chinese)", "attribute_type (English)"), *type_names()]
    write_text(anno / "list_attr_type.txt", ["18", *(f"{_wide(a, 30)}{b}" for a, b in kinds)], newline="\r\n")


def _write_partition(folder: Path, listings: list[Listing], seed: int) -> dict[str, int]:
    """Each consumer's image with one or all of the shop's."""
    counts = {"train": 0, "val": 0, "test": 0}
    rows: list[str] = []
    for listing in listings:
        generator = chance(seed, 121, listing.number)
        consumers, shops = listing.paths[: listing.consumers], listing.paths[listing.consumers :]
        for consumer in consumers:
            chosen = shops if generator.random() < 0.6 else shops[: int(generator.integers(1, len(shops) + 1))]
            rows += [f"{consumer:<60} {shop:<60} {listing.name:<12} {listing.split}" for shop in chosen]
            counts[listing.split] += len(chosen)
    head = f"{'image_pair_name_1':<60} {'image_pair_name_2':<60} {'item_id':<12} evaluation_status"
    write_text(folder / EVAL, [str(len(rows)), head, *rows])
    return counts


def _wide(text: str, width: int) -> str:
    """Text padded to a width on the screen, where Chinese characters are two wide."""
    taken = sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
    return text + " " * max(width - taken, 2)
