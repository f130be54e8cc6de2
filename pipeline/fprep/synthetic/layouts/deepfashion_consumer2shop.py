"""Sample of DeepFashion's Consumer-to-shop benchmark (Liu et al., CVPR 2016).

Images are named `comsumer_NN.jpg` (sic) and `shop_NN.jpg`. Shop images are well lit on a plain background; consumer
images are taken at home, tilted, in poor light and among clutter. The lists pair them, the partition counts pairs
instead of images, and the attribute list has a byte order mark and CRLF, as in the release. The two text files next to
this module are vocabularies: Chinese and English names of 303 attributes, and of their 18 types.
"""

import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.defects import Flaw
from fprep.synthetic.files import read_words, write_text
from fprep.synthetic.garments.items import Item, draw_item
from fprep.synthetic.garments.shoot import Shot, photograph_seen
from fprep.synthetic.layouts import deepfashion as df
from fprep.synthetic.skeleton import Defect, Group, Layout, Request, chance, draw_groups, map_groups

_BOXES, _LANDMARKS = "Anno/list_bbox_consumer2shop.txt", "Anno/list_landmarks_consumer2shop.txt"
WORDS = read_words(__file__)
_KIND_WEIGHTS = {**dict.fromkeys(WORDS["folder"], 1.0), "tee": 4.0, "dress": 3.0, "mini dress": 3.0, "blouse": 3.0}


@dataclass(frozen=True)
class Listing(Group):
    """One item; the first `consumers` of its images are those of consumers."""

    name: str
    folder: str
    consumers: int
    split: str

    @property
    def paths(self) -> list[str]:
        """The image paths, consumers first, as in the lists."""
        counts = (("comsumer", self.consumers), ("shop", self.count - self.consumers))
        images = [f"{who}_{number:02d}" for who, count in counts for number in range(1, count + 1)]
        return [f"img/{self.folder}/{self.name}/{image}.jpg" for image in images]


def item_of(seed: int, number: int) -> Item:
    """Return item `number` of a sample of this benchmark."""
    return draw_item(seed, number, _KIND_WEIGHTS)


def _listing(seed: int, group: Group) -> Listing:
    generator = chance(seed, 119, group.number)
    split = str(generator.choice(["train", "val", "test"], p=[0.7, 0.1, 0.2]))
    shops = 1 if group.count < 4 else int(generator.integers(1, 3))
    name = f"id_{group.number + 1 + group.number // 500:08d}"  # ids have gaps in the release
    folder = folder_of(item_of(seed, group.number))
    return Listing(group.number, group.first, group.count, name, folder, group.count - shops, split)


def _render_listing(folder: Path, request: Request, listing: Listing) -> NDArray[np.int32]:
    def shoot(generator: np.random.Generator, index: int) -> Shot:
        def choose() -> tuple[str, int]:
            is_shop = index >= listing.consumers
            view = "shop" if is_shop else "street" if generator.random() < 0.25 else "home"
            return view, df.draw_side(generator)

        return photograph_seen([item], generator, choose)

    item = item_of(request.seed, listing.number)
    qualities = [62] * listing.consumers + [90] * (listing.count - listing.consumers)
    return df.render_marks(folder, request, item, listing.paths, 120, 300, shoot, qualities)


def _write(folder: Path, request: Request) -> dict[str, int]:
    seed, anno = request.seed, folder / "Anno"
    listings = [_listing(seed, group) for group in draw_groups(request, 3, 9, least=2)]
    boxes: list[str] = []
    points: list[str] = []
    attributes: list[str] = []
    for listing, marks in zip(listings, map_groups(folder, request, _render_listing, listings), strict=True):
        item = item_of(seed, listing.number)
        positive = set(attribute_ids(item))
        for index, (path, row) in enumerate(zip(listing.paths, marks.tolist(), strict=True)):
            start = f"{df.padded(path)}{df.clothes_type(item)}"
            boxes.append(f"{start} {2 if index < listing.consumers else 1} {df.box_text(row)}")
            points.append(f"{start} {row[df.VARIATION]}{df.landmark_text(row)}")
        values = " ".join(" 1" if code in positive else "-1" for code in range(len(attribute_names())))
        attributes.append(f"{listing.name}  {values}")
    df.write_list(folder / _BOXES, df.padded("image_name") + "clothes_type  source_type  x_1  y_1  x_2  y_2", boxes)
    df.write_list(folder / _LANDMARKS, df.landmark_header(variation=True), points)
    df.write_list(anno / "list_attr_items.txt", "item_id      attribute_labels", attributes)
    write_text(anno / "list_item_consumer2shop.txt", [str(len(listings)), *(listing.name for listing in listings)])
    head = ("attribute_name (Chinese)", "attribute_name (English)", "attribute_type")
    lines = ["303", *(f"{_wide(a, 33)}{_wide(b, 45)}{c}" for a, b, c in (head, *attribute_names()))]
    write_text(anno / "list_attr_cloth.txt", lines, newline="\r\n", encoding="utf-8-sig")
    types = [("attribute_type (Chinese)", "attribute_type (English)"), *(row[-2:] for row in _rows("attribute_types"))]
    write_text(anno / "list_attr_type.txt", ["18", *(f"{_wide(a, 30)}{b}" for a, b in types)], newline="\r\n")
    return {"images": request.images, "items": len(listings)} | _write_partition(folder, listings, seed)


def _write_partition(folder: Path, listings: list[Listing], seed: int) -> dict[str, int]:
    """Pair each consumer image with one or all shop images."""
    counts = {"train": 0, "val": 0, "test": 0}
    rows: list[str] = []
    for listing in listings:
        generator = chance(seed, 121, listing.number)
        consumers, shops = listing.paths[: listing.consumers], listing.paths[listing.consumers :]
        for consumer in consumers:
            chosen = shops if generator.random() < 0.6 else shops[: int(generator.integers(1, len(shops) + 1))]
            rows += [f"{consumer:<60} {shop:<60} {listing.name:<12} {listing.split}" for shop in chosen]
            counts[listing.split] += len(chosen)
    df.write_list(
        folder / df.EVAL, f"{'image_pair_name_1':<60} {'image_pair_name_2':<60} {'item_id':<12} evaluation_status", rows
    )
    return counts


def _insert_defects(folder: Path, request: Request, _counts: dict[str, int]) -> list[Defect]:
    spoiler = df.spoil_lists(folder, request, {"bbox": _BOXES, "landmarks": _LANDMARKS})
    source = r" \d( \d{3} \d{3} \d{3} \d{3})$"
    spoiler.change("bbox", (Flaw("source_differs", "the source type is 3", "kept"), source, r" 3\1"))
    return spoiler.finish()


def _wide(text: str, width: int) -> str:
    """Pad text to a display width; Chinese characters are two columns wide."""
    taken = sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
    return text + " " * max(width - taken, 2)


@cache
def _rows(name: str) -> list[tuple[str, ...]]:
    text = Path(__file__).with_name(f"consumer2shop_{name}.txt").read_text(encoding="utf-8")
    return [tuple(line.split("\t")) for line in text.removesuffix("\n").split("\n")]


def attribute_names() -> list[tuple[str, ...]]:
    """Return the 303 attributes in order: Chinese and English name, number of the type."""
    return _rows("attributes")


def folder_of(item: Item) -> str:
    """Return department and folder."""
    bare = item.category == "dress" and item.sleeve == "none"
    return "DRESSES/Sleeveless_Dress" if bare else WORDS["folder"][item.kind]


def attribute_ids(item: Item) -> list[int]:
    """Return the ids of visible attributes. If a name has several ids in one type, use the first."""
    ids = {(int(number), english): code for code, (_, english, number) in reversed(list(enumerate(attribute_names())))}
    types = WORDS["type"]
    found = {
        (types.get(f"{facet} of {item.category}", types[facet]), word) for facet, word in item.words(WORDS["words"])
    }
    return sorted(ids[pair] for pair in found)


LAYOUT = Layout(published=239_557, write=_write, insert_defects=_insert_defects, least=2, least_for_defects=60)
