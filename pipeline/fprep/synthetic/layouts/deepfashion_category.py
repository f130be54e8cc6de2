"""Sample of DeepFashion's Category and Attribute Prediction benchmark (Liu et al., CVPR 2016).

`Anno_coarse` holds the six lists, `Anno_fine` the later fine annotation of some images with its own split (which leaks
into the coarse test set, as in the release), `Eval` the partition, `Img/img/<Product>/img_NNNNNNNN.jpg` the images.
Attributes in `list_attr_img.txt` are 1 (yes), -1 (no) or 0 (unknown). The lists of the fine annotation are parallel and
have no headers: row i of each belongs to image i of `<split>.txt`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.defects import Flaw
from fprep.synthetic.files import read_words, write_text
from fprep.synthetic.garments.items import Item, draw_item, pick
from fprep.synthetic.garments.shoot import Shot, photograph_seen
from fprep.synthetic.layouts import deepfashion as df
from fprep.synthetic.skeleton import Defect, Group, Layout, Request, chance, draw_groups, draw_splits, map_groups
from fschemas.vocabularies import vocabulary

COARSE, FINE = "Anno_coarse", "Anno_fine"
_VIEWS = {"shop": 6.0, "any": 2.0, "home": 1.0, "street": 1.0, "zoom": 0.5, "back": 0.3, "full": 0.5}
_SPLITS = {"train": 209_222.0, "val": 40_000.0, "test": 40_000.0}
_FINE_SPLITS = {"train": 0.7, "val": 0.1, "test": 0.2}
_PUBLISHED_FINE = 20_000
_TYPES = ("texture", "fabric", "shape", "part", "style")

WORDS = read_words(__file__)
CATEGORY_OF_KIND: dict[str, str] = WORDS["category"]
KIND_WEIGHTS: dict[str, float] = WORDS["weight"]


@dataclass(frozen=True)
class Product(Group):
    """A folder of images of one item."""

    name: str
    kind: str

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
    products, taken = list[Product](), set[str]()
    for group in draw_groups(request, 2, 9, 50):
        item = item_of(request.seed, group.number)
        products.append(Product(group.number, group.first, group.count, product_name(item, taken), item.kind))
    marks = np.concatenate(list(map_groups(folder, request, _render_product, products)))
    return Coarse(products, marks, [path for product in products for path in product.paths])


def _render_product(folder: Path, request: Request, product: Product) -> NDArray[np.int32]:
    item = item_of(request.seed, product.number)

    def shoot(generator: np.random.Generator, _index: int) -> Shot:
        return photograph_seen([item], generator, lambda: (pick(generator, _VIEWS), df.draw_side(generator)))

    return df.render_marks(folder, request, item, product.paths, 104, 300, shoot)


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
            values = cells.tobytes() + b"\n"
            file.writelines(f"{name:<70}".encode() + values for name in product.paths)


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
    spoiler = df.spoil_lists(folder, request, files, cut=1)
    spoiler.remove("bbox")
    spoiler.change("category", *((Flaw("unknown_category", f"category {code}"), r"\d+$", code) for code in ("51", "0")))
    spoiler.change("attr", (Flaw("bad_cell", "the last attribute is 2"), r" -?\d$", " 2"))
    spoiler.change("attr", (Flaw("wrong_columns", "999 attributes"), r" +-?\d$", ""))
    spoiler.change("eval", df.UNKNOWN_SPLIT, (Flaw("path_escape", "a path that leaves the tree"), r"^", "img/../../"))
    spoiler.insert("category", Flaw("repeated_row", "the row occurs twice", "kept"), str)
    spoiler.note("category", Flaw("crlf", "every line ends with CR LF", "kept"))
    spoiler.lines["landmarks"][0].text = str(request.images + 7)
    spoiler.note("landmarks", Flaw("count_differs", "the count line is 7 too high", "kept"))
    return spoiler.finish(category="\r\n")


def attribute_ids(item: Item) -> tuple[list[int], list[int]]:
    """Return positive and unknown ids of the 1,000 attributes. Fabrics that look alike in images are unknown."""
    ids = vocabulary("deepfashion-attribute-1000").ids
    positive = {ids[word] for _, word in item.words(WORDS["words"])}
    if item.print == "blobs" and item.color in ("khaki", "green", "brown"):
        positive |= {ids["camo"], ids["camouflage"]}
    unsure = WORDS["unsure_fabric"].get(item.fabric, "").split(",")
    return sorted(positive), sorted({ids[word] for word in unsure if word} - positive)


def fine_ids(item: Item) -> list[int]:
    """Return ids of the 26 fine attributes, one per group.

    Dots map to embroidery, thin linen to chiffon, fleece to faux fur.
    """
    texture = WORDS["fine_print"].get(item.print, "striped")
    texture = "graphic" if item.design.motif != "none" else "pleated" if item.design.pleats > 5 else texture
    sleeve = "sleeveless" if item.sleeve == "none" else "long_sleeve" if item.design.sleeve > 0.6 else "short_sleeve"
    length = WORDS["fine_length"].get(item.length, "no_dress")
    neck = WORDS["fine_neck"].get(item.neck, "crew_neckline") if item.neck else "no_neckline"
    fit = {"tight": "tight", "loose": "loose", "regular": "conventional"}[item.fit]
    ids, fabric = vocabulary("deepfashion-fine-26").ids, WORDS["fine_fabric"].get(item.fabric, item.fabric)
    return [ids[name] for name in (texture, sleeve, length, neck, fabric, fit)]


def product_name(item: Item, taken: set[str]) -> str:
    """Return the folder name of a product and add it to `taken`.

    It ends in the category and contains HTML entities, as in the release.
    """
    generator, design, flavors = np.random.default_rng(item.design.seed), item.design, WORDS["product"]["flavors"]
    words = [WORDS["print_name"].get(item.print), WORDS["neck_name"].get(item.neck), "Belted" if design.belt else ""]
    words.append(item.fabric.capitalize() if item.fabric in ("denim", "knit", "linen") else "")
    words.append("Pleated" if design.pleats > 5 else "")
    words.append(WORDS["length_name"].get(item.length) if item.category == "dress" else "")
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
