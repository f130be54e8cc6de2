"""Sample of DeepFashion's Category and Attribute Prediction benchmark (Liu et al., CVPR 2016).

`Anno_coarse` holds the six lists, `Anno_fine` the later fine annotation of some images with its own split (which leaks
into the coarse test set, as in the release), `Eval` the partition, `Img/img/<Product>/img_NNNNNNNN.jpg` the images.
Attributes in `list_attr_img.txt` are 1 (yes), -1 (no) or 0 (unknown). The lists of the fine annotation are parallel and
have no headers: row i of each belongs to image i of `<split>.txt`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.garments.items import Item, draw_item, pick
from fprep.synthetic.garments.shoot import Shot, photograph_seen
from fprep.synthetic.layouts import deepfashion as df
from fprep.synthetic.skeleton import (
    Defect,
    Layout,
    Request,
    chance,
    draw_splits,
    group_sizes,
    map_groups,
    read_words,
    write_text,
)  # fmt: skip
from fschemas.vocabularies import vocabulary

COARSE, FINE = "Anno_coarse", "Anno_fine"
_VIEWS = {"shop": 6.0, "any": 2.0, "home": 1.0, "street": 1.0, "zoom": 0.5, "back": 0.3, "full": 0.5}
_SPLITS = {"train": 209_222.0, "val": 40_000.0, "test": 40_000.0}
_FINE_SPLITS = {"train": 0.7, "val": 0.1, "test": 0.2}
_PUBLISHED_FINE = 20_000
_LINES_AT_ONCE = 500
_TYPES = ("texture", "fabric", "shape", "part", "style")

WORDS = read_words(__file__)
CATEGORY_OF_KIND: dict[str, str] = WORDS["category"]
KIND_WEIGHTS: dict[str, float] = WORDS["weight"]


@dataclass(frozen=True)
class Product:
    """A folder of images of one item. `first` is the row of the first of its `count` images in every list."""

    number: int
    name: str
    kind: str
    first: int
    count: int

    @property
    def paths(self) -> list[str]:
        """The image paths as in the lists."""
        return [f"img/{self.name}/img_{number:08d}.jpg" for number in range(1, self.count + 1)]


@dataclass(frozen=True)
class Coarse:
    """The content of the lists: products in order, marks (N, 31) of all images, and image paths."""

    products: list[Product]
    marks: NDArray[np.int32]
    paths: list[str]


def item_of(seed: int, number: int) -> Item:
    """Return item `number` of a sample of this benchmark."""
    return draw_item(seed, number, KIND_WEIGHTS)


def render_coarse(folder: Path, request: Request) -> Coarse:
    """Render the images (or make up boxes and landmarks) and collect the content of the lists."""
    products = list(_products(request))
    render = partial(_render_product, folder if request.with_images else None, request.seed)
    marks = np.concatenate(list(map_groups(request, render, products, [product.count for product in products])))
    return Coarse(products, marks, [path for product in products for path in product.paths])


def _products(request: Request) -> Iterator[Product]:
    taken: set[str] = set()
    first = 0
    for number, count in enumerate(group_sizes(request, 2, 9, 50)):
        item = item_of(request.seed, number)
        yield Product(number, product_name(item, taken), item.kind, first, count)
        first += count


def _render_product(folder: Path | None, seed: int, product: Product) -> NDArray[np.int32]:
    item = item_of(seed, product.number)

    def shoot(generator: np.random.Generator, _index: int) -> Shot:
        return photograph_seen(
            [item], generator, lambda: (pick(generator, _VIEWS), 301 if generator.random() < 0.13 else 300)
        )

    return df.render_marks(folder, item, product.paths, (seed, 104, product.number), 300, shoot)


def _write(folder: Path, request: Request) -> dict[str, int]:
    """Write the six lists of `Anno_coarse`, the partition and the fine annotation."""
    coarse, seed, anno = render_coarse(folder, request), request.seed, folder / COARSE
    types = {"upper": 1, "lower": 2, "full": 3}
    categories, attributes = vocabulary("deepfashion-category-50"), vocabulary("deepfashion-attribute-1000")
    type_of = {categories.values[code]: types[group] for group, codes in categories.groups.items() for code in codes}
    group_of = {code: _TYPES.index(group) + 1 for group, codes in attributes.groups.items() for code in codes}
    names = [f"{name:<15}{type_of[name]}" for name in categories.values]
    df.write_list(anno / "list_category_cloth.txt", "category_name  category_type", names)
    # Some rows of the release have trailing spaces.
    names = [f"{name:<29}{group_of[i]}{'  ' if i % 21 == 12 else ''}" for i, name in enumerate(attributes.values)]
    df.write_list(anno / "list_attr_cloth.txt", "attribute_name  attribute_type", names)
    products = [product for product in coarse.products for _ in range(product.count)]
    rows = list(zip(coarse.paths, products, coarse.marks.tolist(), strict=True))
    label = {product.number: categories.ids[CATEGORY_OF_KIND[product.kind]] + 1 for product in coarse.products}
    kind = {product.number: df.clothes_type(item_of(seed, product.number)) for product in coarse.products}
    head = df.padded("image_name")
    texts = [f"{df.padded(path)}{label[product.number]}" for path, product, _ in rows]
    df.write_list(anno / "list_category_img.txt", head + "category_label", texts)
    texts = [df.padded(path) + df.box_text(marks) for path, _, marks in rows]
    df.write_list(anno / "list_bbox.txt", head + "x_1  y_1  x_2  y_2", texts)
    texts = [f"{df.padded(path)}{kind[product.number]}{df.landmark_text(marks)}" for path, product, marks in rows]
    df.write_list(anno / "list_landmarks.txt", df.landmark_header(variation=False), texts)
    # Images of one product are in several splits, as in the release.
    splits = draw_splits(chance(seed, 103), _SPLITS, len(rows))
    texts = [df.padded(path) + split for path, split in zip(coarse.paths, splits, strict=True)]
    df.write_list(folder / df.EVAL, head + "evaluation_status", texts)
    _write_attributes(anno / "list_attr_img.txt", coarse.products, seed)
    return {split: splits.count(split) for split in _SPLITS} | write_fine(folder, coarse, seed)


def _write_attributes(path: Path, products: Sequence[Product], seed: int) -> None:
    """Write `list_attr_img.txt` product by product: 1,000 values, each in two columns after a space."""
    total = sum(product.count for product in products)
    with path.open("wb") as file:
        file.write(f"{total}\n{df.padded('image_name')}attribute_labels\n".encode())
        for product in products:
            cells = np.tile(np.frombuffer(b" -1", np.uint8), (len(vocabulary("deepfashion-attribute-1000")), 1))
            positive, unknown = attribute_ids(item_of(seed, product.number))
            cells[positive] = np.frombuffer(b"  1", np.uint8)
            cells[unknown] = np.frombuffer(b"  0", np.uint8)
            values, paths = cells.tobytes() + b"\n", product.paths
            for start in range(0, product.count, _LINES_AT_ONCE):
                file.writelines(f"{name:<70}".encode() + values for name in paths[start : start + _LINES_AT_ONCE])


def write_fine(folder: Path, coarse: Coarse, seed: int) -> dict[str, int]:
    """Write `Anno_fine` for up to half of the images, at most the published 20,000; return rows per split."""
    num_fine = min(_PUBLISHED_FINE, (len(coarse.paths) + 1) // 2)
    chosen = chance(seed, 105).permutation(len(coarse.paths))[:num_fine].tolist()
    product_of = [product for product in coarse.products for _ in range(product.count)]
    items = {number: item_of(seed, number) for number in {product_of[row].number for row in chosen}}
    category, names = vocabulary("deepfashion-category-50").ids, vocabulary("deepfashion-fine-26")
    first, counts = 0, dict[str, int]()
    for split, share in _FINE_SPLITS.items():
        last = num_fine if split == "test" else first + round(share * num_fine)
        rows = chosen[first:last]
        marks, found = coarse.marks[rows].tolist(), [items[product_of[row].number] for row in rows]
        flags = ("".join("1 " if code in fine_ids(item) else "0 " for code in range(len(names))) for item in found)
        lists = {
            "": (coarse.paths[row] for row in rows), "_attr": flags, "_bbox": map(df.box_text, marks),
            "_cate": (str(category[CATEGORY_OF_KIND[item.kind]] + 1) for item in found),
            "_landmarks": map(_packed_text, marks),
        }  # fmt: skip
        for end, texts in lists.items():
            write_text(folder / FINE / f"{split}{end}.txt", texts)
        first, counts[f"fine_{split}"] = last, len(rows)
    number = {code: group for group, codes in enumerate(names.groups.values(), 1) for code in codes}
    lines = [f"{name:<21}{number[code]}" for code, name in enumerate(names.values)]
    write_text(folder / FINE / "list_attr_cloth.txt", ["26 ", "attribute_name   attribute_type", *lines])
    return counts


def _packed_text(marks: list[int]) -> str:
    """Return eight landmarks packed from the left in the order of the clothes type; absent ones are `0 0`, unpadded."""
    numbers = marks[df.POINTS]
    triples = [numbers[start : start + 3] for start in range(0, len(numbers), 3)]
    points = [f"{x:03d} {y:03d}" if visibility < 2 else "0 0" for visibility, x, y in triples if visibility >= 0]
    return " ".join([*points, *["0 0"] * (len(triples) - len(points))])


def _insert_defects(folder: Path, request: Request, _counts: dict[str, int]) -> list[Defect]:
    stems = {"bbox": "bbox", "landmarks": "landmarks", "category": "category_img", "attr": "attr_img"}
    files = {name: f"{COARSE}/list_{stem}.txt" for name, stem in stems.items()} | {"eval": df.EVAL}
    spoiler = df.ListSpoiler(folder, request.seed, files)
    spoiler.change("bbox", *df.BOX_DEFECTS)
    spoiler.remove("bbox")
    spoiler.change("landmarks", *df.landmark_defects(1))
    spoiler.change("category", *(("unknown_category", f"category {code}", r"\d+$", code) for code in ("51", "0")))
    spoiler.change("attr", ("bad_cell", "the last attribute is 2", r" -?\d$", " 2"))
    spoiler.change("attr", ("wrong_columns", "999 attributes", r" +-?\d$", ""))
    spoiler.change("eval", df.UNKNOWN_SPLIT, ("path_escape", "a path that leaves the tree", r"^", "img/../../"))
    spoiler.repeat("category")
    spoiler.spoil_images("eval")
    spoiler.enter("category", None, "crlf", "every line ends with CR LF", "kept")
    spoiler.lines["landmarks"][0] = str(request.images + 7)
    spoiler.enter("landmarks", None, "count_differs", "the count line is 7 too high", "kept")
    return spoiler.finish(category="\r\n")


def attribute_ids(item: Item) -> tuple[list[int], list[int]]:
    """Return positive and unknown ids of the 1,000 attributes. Fabrics that look alike in images are unknown."""
    ids = vocabulary("deepfashion-attribute-1000").ids
    positive = {ids[word] for word in _words(item)}
    unsure = WORDS["unsure_fabric"].get(item.fabric, "").split(",")
    return sorted(positive), sorted({ids[word] for word in unsure if word} - positive)


def _words(item: Item) -> Iterator[str]:
    design = item.design
    yield from WORDS["print"][item.print].split(",")
    if item.print == "blobs" and item.color in ("khaki", "green", "brown"):
        yield from ("camo", "camouflage")
    if design.motif != "none":
        yield from ("graphic", *(("star", "stars") if design.motif == "star" else ()))
    yield from WORDS["fabric"][item.fabric].split(",")
    if item.neck:
        yield from WORDS["neck"][item.neck].split(",")
        yield from WORDS["sleeve"][item.sleeve].split(",") if item.sleeve in WORDS["sleeve"] else ()
        yield from ("bell", "bell-sleeve") if design.sleeve_shape == "bell" and design.sleeve else ()
    if item.category in ("blouse", "outwear", "dress") and design.closure in WORDS["closure"]:
        yield from WORDS["closure"][design.closure].split(",")
    yield from _shape_words(item)
    yield from ("pocket",) if design.pockets != "none" else ()
    yield from ("belted",) if design.belt else ()
    yield from ("pleat", "pleated") if design.pleats > 5 else ()
    yield from ("tiered",) if design.tiers else ()
    yield WORDS["look"][item.look]


def _shape_words(item: Item) -> tuple[str, ...]:
    hem = item.design.hem
    if item.category in ("dress", "skirt"):
        length = {"mini": ("mini",), "midi": ("midi", "knee-length"), "maxi": ("maxi",)}[dress_length(item)]
        return length + (("pencil", "bodycon") if hem < 21 else ("flared", "skater") if hem > 34 else ("a-line",))
    if item.category == "trousers":
        width = ("skinny", "slim") if hem < 6.0 else ("wide-leg",) if hem > 14 else ("straight-leg",)
        return width + (("cropped",) if item.leg_share < 0.8 else ("ankle",))
    length = ("crop", "cropped") if item.end < 50 else ("longline",) if item.end > 74 else ()
    return length + {"tight": ("fitted",), "loose": ("loose", "oversized"), "regular": ("fit",)}[item.fit]


def dress_length(item: Item) -> str:
    """Return the length of a dress: mini above the knee, midi to the calf, maxi below."""
    return "mini" if item.end < 98 else "midi" if item.end < 123 else "maxi"


def fine_ids(item: Item) -> list[int]:
    """Return ids of the 26 fine attributes, one per group.

    Dots map to embroidery, thin linen to chiffon, fleece to faux fur.
    """
    striped, lattice = item.print.startswith("stripes"), item.print in ("gingham", "tartan", "houndstooth")
    texture = WORDS["fine_print"].get(item.print, "striped" if striped else "lattice" if lattice else "solid")
    texture = "graphic" if item.design.motif != "none" else "pleated" if item.design.pleats > 5 else texture
    sleeve = "sleeveless" if item.sleeve == "none" else "long_sleeve" if item.design.sleeve > 0.6 else "short_sleeve"
    long = {"mini": "mini_length", "midi": "maxi_length", "maxi": "maxi_length"}
    length = long[dress_length(item)] if item.category in ("dress", "skirt") else "no_dress"
    neck = WORDS["fine_neck"].get(item.neck, "crew_neckline") if item.neck else "no_neckline"
    fit = {"tight": "tight", "loose": "loose", "regular": "conventional"}[item.fit]
    ids, fabric = vocabulary("deepfashion-fine-26").ids, WORDS["fine_fabric"].get(item.fabric, item.fabric)
    return [ids[name] for name in (texture, sleeve, length, neck, fabric, fit)]


def product_name(item: Item, taken: set[str]) -> str:
    """Return the folder name of a product and add it to `taken`.

    It ends in the category and contains HTML entities, as in the release.
    """
    generator, design, flavors = np.random.default_rng(item.design.seed), item.design, WORDS["product"]["flavors"]
    words = [WORDS["print_name"].get(item.print, ""), WORDS["neck_name"].get(item.neck, "")]
    words += [
        "Belted" if design.belt else "",
        item.fabric.capitalize() if item.fabric in ("denim", "knit", "linen") else "",
    ]
    words += [
        "Pleated" if design.pleats > 5 else "",
        dress_length(item).capitalize() if item.category == "dress" else "",
    ]
    used = [word for word in words if word][: int(generator.integers(1, 3))]
    for attempt in range(len(flavors) * 3):
        chosen = [flavors[int(generator.integers(len(flavors)))] for _ in range(1 + attempt // len(flavors))]
        name = "_".join([*chosen, *used, CATEGORY_OF_KIND[item.kind]])
        if len(name) <= 50 and name not in taken:
            break
    else:
        name = f"Style_{item.number}_{CATEGORY_OF_KIND[item.kind]}"
    taken.add(name)
    return name


LAYOUT = Layout(published=289_222, write=_write, insert_defects=_insert_defects, least_for_defects=80)
