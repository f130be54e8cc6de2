"""Sample of DeepFashion's In-shop Clothes Retrieval benchmark (Liu et al., CVPR 2016).

Version 2.0, without masks and DensePose. Items of a shop in one or two colors are photographed from several sides on a
plain background. Names, row widths, trailing spaces and row order follow the release. `Img/img` holds the images, 256 x
256.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.defects import Flaw
from fprep.synthetic.files import read_words, write_text
from fprep.synthetic.garments.items import Item, draw_item
from fprep.synthetic.garments.kinds import KINDS
from fprep.synthetic.garments.palette import COLORS, draw_named_color
from fprep.synthetic.garments.people import draw_person
from fprep.synthetic.garments.shoot import Shot, photograph_seen
from fprep.synthetic.layouts import deepfashion as df
from fprep.synthetic.skeleton import Defect, Group, Layout, Request, chance, draw_groups, map_groups
from fschemas.vocabularies import vocabulary

SIDE = 256
_BOXES, _LANDMARKS = "Anno/list_bbox_inshop.txt", "Anno/list_landmarks_inshop.txt"
_SHOWN = ("1_front", "2_side", "3_back", "7_additional")
_VIEWS = {  # name of a view, and DeepFashion's pose type
    "1_front": ("front", 1), "2_side": ("side", 2), "3_back": ("back", 3), "4_full": ("full", 4), "6_flat": ("flat", 6),
    "7_additional": ("zoom", 5),
}  # fmt: skip
WORDS = read_words(__file__)


@dataclass(frozen=True)
class Listing(Group):
    """One item with its images: (path, view, variant) each."""

    images: tuple[tuple[str, str, int], ...]
    is_test: bool

    @property
    def name(self) -> str:
        """The item id in the lists."""
        return f"id_{self.number + 1:08d}"


def item_of(seed: int, number: int, variant: int = 0) -> Item:
    """Return item `number` of a sample in its first or second color."""
    item = draw_item(seed, number, WORDS["weight"])
    if not variant:
        return item
    generator = chance(seed, 106, number, variant)
    others = [name for name in COLORS if name not in (item.color, item.accent)]
    color = others[int(generator.integers(len(others)))]
    return replace(item, color=color, design=replace(item.design, color=draw_named_color(generator, color)))


def _listing(seed: int, group: Group) -> Listing:
    generator = chance(seed, 107, group.number)
    item = item_of(seed, group.number)
    folder, gender, variant = folder_of(item), gender_of(item), int(generator.integers(1, 9))
    both = generator.random() < 0.0125 and gender == "WOMEN"
    views = [*_SHOWN, *(view for view, share in (("4_full", 0.6), ("6_flat", 0.1)) if generator.random() < share)]
    images: list[tuple[str, str, int]] = []
    for index in range(group.count):
        second, view = divmod(index, len(views))
        department = WORDS["second_folder"].get(folder, folder) if second and both else folder
        name = f"img/{gender}/{department}/id_{group.number + 1:08d}/{variant + second:02d}_{views[view]}.jpg"
        images.append((name, views[view], second))
    is_test = group.count >= 2 and bool(generator.random() < 0.5)
    return Listing(group.number, group.first, group.count, tuple(images), is_test)


def _render_listing(folder: Path, request: Request, listing: Listing) -> NDArray[np.int32]:
    """Return the marks of an item's images, which all show the same model."""
    seed = request.seed
    item, wearer = item_of(seed, listing.number), draw_person(chance(seed, 109, listing.number))
    if gender_of(item) == "MEN":
        wearer = replace(wearer, hair_style="short", tights=None)

    def shoot(generator: np.random.Generator, index: int) -> Shot:
        _, view, variant = listing.images[index]
        colored = item_of(seed, listing.number, variant)
        return photograph_seen([colored], generator, lambda: (_VIEWS[view][0], (SIDE, SIDE)), wearer)

    paths = [path for path, _, _ in listing.images]
    return df.render_marks(folder, request, item, paths, 108, SIDE, shoot, [92] * len(paths))


def _write(folder: Path, request: Request) -> dict[str, int]:
    seed, anno = request.seed, folder / "Anno"
    listings = [_listing(seed, group) for group in draw_groups(request, 3, 10)]
    boxes: list[str] = []
    points: list[str] = []
    colors: list[str] = []
    attributes: list[str] = []
    described: list[dict[str, object]] = []
    ids = vocabulary("deepfashion-inshop-attribute-463").ids
    for listing, marks in zip(listings, map_groups(folder, request, _render_listing, listings), strict=True):
        item = item_of(seed, listing.number)
        for (path, view, variant), row in zip(listing.images, marks.tolist(), strict=True):
            start = f"{df.padded(path)}{df.clothes_type(item)}"
            boxes.append(f"{start} {_VIEWS[view][1]} {df.box_text(row)}")
            points.append(f"{start} {row[df.VARIATION]}{df.landmark_text(row)}")
            color = color_of(item_of(seed, listing.number, variant))
            colors.append(f"{df.padded(path)}  {color}{'' if ' ' in color else ' '}")
        positive = {ids[word] for word in attribute_words(item)}
        values = " ".join("1" if code in positive else "-1" for code in range(len(ids)))
        attributes.append(f"{listing.name} {values}")
        described.append({"item": listing.name, "color": color_of(item), "description": description_of(item)})
    write_text(anno / "list_item_inshop.txt", [str(len(listings)), *(listing.name for listing in listings)])
    df.write_list(folder / _BOXES, "image_name clothes_type pose_type x_1 y_1 x_2 y_2", boxes)
    df.write_list(folder / _LANDMARKS, " ".join(df.landmark_header(variation=True).split()), points)
    text = json.dumps(described, indent=4, ensure_ascii=False)
    (anno / "list_description_inshop.json").write_bytes(text.encode())
    write_text(anno / "attributes/list_attr_cloth.txt", ["463", "attribute_name", *ids])
    df.write_list(anno / "attributes/list_attr_items.txt", "item_id attribute_labels", attributes)
    # The released color list has its own order; here every seventh image comes first.
    ordered = [colors[index] for index in sorted(range(len(colors)), key=lambda index: index % 7 != 3)]
    df.write_list(anno / "attributes/list_color_cloth.txt", "image_name  clothes_color", ordered)
    return _write_partition(folder, listings, seed)


def _write_partition(folder: Path, listings: list[Listing], seed: int) -> dict[str, int]:
    """Write train first, then query and gallery interleaved; both contain every test item."""
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
    df.write_list(folder / df.EVAL, "image_name item_id evaluation_status", rows[False] + rows[True])
    return counts


def _insert_defects(folder: Path, request: Request, _counts: dict[str, int]) -> list[Defect]:
    spoiler = df.spoil_lists(folder, request, {"eval": df.EVAL, "bbox": _BOXES, "landmarks": _LANDMARKS})
    spoiler.remove("bbox", "kept")
    spoiler.change("eval", (Flaw("unknown_split", "the status is testing"), r"(train|query|gallery) +$", "testing    "))
    spoiler.change("eval", (Flaw("item_path_mismatch", "the item id has a letter"), r" id_0", " id_x"))
    return spoiler.finish()


def gender_of(item: Item) -> str:
    """Return WOMEN, or MEN for a third of the unisex items."""
    wearers = KINDS[item.kind].gender
    return "MEN" if wearers == "M" or (wearers == "WM" and item.design.seed % 3 == 0) else "WOMEN"


def folder_of(item: Item) -> str:
    """Return the folder of the department."""
    folder = "Graphic_Tees" if item.kind == "tee" and item.design.motif != "none" else WORDS["folder"][item.kind]
    return WORDS["mens_folder"].get(folder, folder) if gender_of(item) == "MEN" else folder


def color_of(item: Item) -> str:
    """Return the shop's name of the color, including the second color of a print."""
    first = WORDS["color"][item.color]
    if item.fabric == "denim":
        return WORDS["denim_color"].get(item.color, first)
    return first if item.print == "plain" else f"{first}-{WORDS['color'][item.accent].lower()}"


def attribute_words(item: Item) -> list[str]:
    """Return the attributes of the item, out of the 463 names."""
    return sorted({word for _, word in item.words(WORDS["words"])})


def description_of(item: Item) -> list[str]:
    """Return the shop's description. The first sentence ends in a space, as in most released ones."""
    words = [word for word in attribute_words(item) if " " not in word]
    first = f"A {color_of(item).lower()} {item.kind} with {', '.join(words[:4])} details. "
    if item.look == "romantic":
        first = f"This décolleté {item.kind} from L'Été™ is made for a night à la carte. "
    cloths = {"knit": "100% acrylic", "denim": "99% cotton, 1% spandex", "leather": "100% polyurethane"}
    return [
        first, "Lightweight, woven" if item.fabric in ("linen", "smooth") else "Midweight",
        cloths.get(item.fabric, "100% polyester"),
        f'{round(item.design.length / 2.54)}" full length, {round((15 + item.design.ease) * 4 / 2.54)}" chest',
        "Measured from Small", "Hand wash cold", "Imported",
    ]  # fmt: skip


LAYOUT = Layout(published=52_712, write=_write, insert_defects=_insert_defects, least=2, least_for_defects=60)
