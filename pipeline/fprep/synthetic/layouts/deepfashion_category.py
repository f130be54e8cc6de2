"""Sample of DeepFashion's Category and Attribute Prediction benchmark (Liu et al., CVPR 2016): its lists, byte layout and quirks.

`Anno_coarse` holds the six lists, `Anno_fine` the later fine annotation of some of the images with a split of its own (which
leaks into the coarse test set, as in the release), `Eval` the partition, `Img/img/<Product>/img_NNNNNNNN.jpg` the images. The
attributes of `list_attr_img.txt` are three-valued: 1 yes, -1 no, 0 not known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.garments.items import Item, pick
from fprep.synthetic.garments.shoot import VIEWS, photograph
from fprep.synthetic.layouts.deepfashion_coarse import Coarse, Product, item_of
from fprep.synthetic.layouts.deepfashion_defects import plant_defects
from fprep.synthetic.layouts.deepfashion_fine_lists import write_fine
from fprep.synthetic.layouts.deepfashion_marks import (
    NUM_COLUMNS,
    box_text,
    clothes_type,
    invent,
    landmark_header,
    landmark_text,
    measure,
    padded,
)
from fprep.synthetic.layouts.deepfashion_words import CATEGORY_OF_KIND, attribute_ids, product_name
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

PUBLISHED_IMAGES = 289_222
COARSE, EVAL, IMAGES = "Anno_coarse", "Eval/list_eval_partition.txt", "Img"
MIN_IMAGES_FOR_DEFECTS = 80
_VIEW_WEIGHTS = {"shop": 6.0, "any": 2.0, "home": 1.0, "street": 1.0, "zoom": 0.5, "back": 0.3, "full": 0.5}
_SPLITS = {"train": 209_222.0, "val": 40_000.0, "test": 40_000.0}
_LINES_AT_ONCE = 500
_TYPES = ("texture", "fabric", "shape", "part", "style")


def write_sample(
    out: Path, *, images: int, seed: int, workers: int, defects: bool = False, with_images: bool = True,
    progress: Progress | None = None,
) -> dict[str, int]:  # fmt: skip
    """Write a sample of `images` images and return how many rows each split has.

    Without `with_images` the lists alone are written, with invented boxes and points, at up to the published 289,222 rows.
    Raises `UsageError` for an occupied folder or too few images.
    """
    request = Request(images, seed, workers, defects, with_images, progress)
    with sample_folder(Path(out), request, MIN_IMAGES_FOR_DEFECTS if defects else 1) as folder:
        coarse = draw_coarse(folder, request)
        write_lists(folder, coarse, seed)
        counts = {split: coarse.splits.count(split) for split in _SPLITS} | write_fine(folder, coarse, seed)
        if defects:
            counts["defects"] = plant_defects(folder, coarse, seed)
    return counts


def draw_coarse(folder: Path, request: Request) -> Coarse:
    """Draw the images (or invent what stands on them) and gather what the lists say."""
    products = list(_products(request))
    draw = partial(_draw_product, folder if request.with_images else None, request.seed)
    marks = np.empty((request.images, NUM_COLUMNS), np.int32)
    for product, found in zip(
        products, draw_groups(request, draw, products, [product.count for product in products]), strict=True
    ):
        marks[product.first : product.first + product.count] = found
    shares = np.cumsum(list(_SPLITS.values())) / sum(_SPLITS.values())
    # Images of one product fall on both sides of the split, as in the release.
    choice = np.searchsorted(shares, chance(request.seed, 103).random(request.images))
    names = list(_SPLITS)
    return Coarse(
        products, marks, [names[index] for index in choice], [path for product in products for path in product.paths]
    )


def _products(request: Request) -> Iterator[Product]:
    taken: set[str] = set()
    first = 0
    for number, count in enumerate(group_sizes(request, 2, 9, 50)):
        item = item_of(request.seed, number)
        yield Product(number, product_name(item, taken), item.kind, first, count)
        first += count


def _draw_product(folder: Path | None, seed: int, product: Product) -> NDArray[np.int32]:
    """Marks (count, 31) of a product's images, which are written below `folder` if there is one."""
    item = item_of(seed, product.number)
    if folder is None:
        return invent(item, chance(seed, 104, product.number), product.count, 300)
    marks: list[NDArray[np.int32]] = []
    for index, path in enumerate(product.paths):
        generator = chance(seed, 104, product.number, index)
        shot = None
        while shot is None or not shot.pieces:
            view = VIEWS[pick(generator, _VIEW_WEIGHTS)]
            shot = photograph([item], generator, view, 301 if generator.random() < 0.13 else 300)
        write_image(folder / IMAGES / path, shot.image)
        marks.append(measure(shot, shot.pieces[0]))
    return np.stack(marks)


def write_lists(folder: Path, coarse: Coarse, seed: int) -> None:
    """Write the six lists of `Anno_coarse` and the partition."""
    anno, count = folder / COARSE, str(len(coarse.paths))
    types = {"upper": 1, "lower": 2, "full": 3}
    categories, attributes = vocabulary("deepfashion-category-50"), vocabulary("deepfashion-attribute-1000")
    type_of = {
        categories.values[place]: types[group] for group, places in categories.groups.items() for place in places
    }
    group_of = {place: _TYPES.index(group) + 1 for group, places in attributes.groups.items() for place in places}
    names = [f"{name:<15}{type_of[name]}" for name in categories.values]
    write_text(anno / "list_category_cloth.txt", ["50", "category_name  category_type", *names])
    # The release ends some rows in spaces.
    lines = [
        f"{name:<29}{group_of[place]}{'  ' if place % 21 == 12 else ''}" for place, name in enumerate(attributes.values)
    ]
    write_text(anno / "list_attr_cloth.txt", ["1000", "attribute_name  attribute_type", *lines])
    rows = [
        (path, product, marks)
        for product in coarse.products
        for path, marks in zip(
            product.paths, coarse.marks[product.first : product.first + product.count].tolist(), strict=True
        )
    ]
    label = {product.number: categories.ids[CATEGORY_OF_KIND[product.kind]] + 1 for product in coarse.products}
    kind = {product.number: clothes_type(item_of(seed, product.number)) for product in coarse.products}
    head = padded("image_name")
    texts = (f"{padded(path)}{label[product.number]}" for path, product, _ in rows)
    write_text(anno / "list_category_img.txt", [count, head + "category_label", *texts])
    texts = (padded(path) + box_text(marks) for path, _, marks in rows)
    write_text(anno / "list_bbox.txt", [count, head + "x_1  y_1  x_2  y_2", *texts])
    texts = (f"{padded(path)}{kind[product.number]}{landmark_text(marks)}" for path, product, marks in rows)
    write_text(anno / "list_landmarks.txt", [count, landmark_header(variation=False), *texts])
    texts = (padded(path) + split for path, split in zip(coarse.paths, coarse.splits, strict=True))
    write_text(folder / EVAL, [count, head + "evaluation_status", *texts])
    write_attributes(anno / "list_attr_img.txt", coarse.products, seed)


def write_attributes(path: Path, products: Sequence[Product], seed: int) -> None:
    """Write `list_attr_img.txt` product by product: 1,000 values in columns of width 2 after a space each."""
    total = sum(product.count for product in products)
    with path.open("wb") as file:
        file.write(f"{total}\n{padded('image_name')}attribute_labels\n".encode())
        for product in products:
            values = attribute_values(item_of(seed, product.number)) + b"\n"
            for start in range(0, product.count, _LINES_AT_ONCE):
                file.writelines(
                    f"{name:<70}".encode() + values for name in product.paths[start : start + _LINES_AT_ONCE]
                )


def attribute_values(item: Item) -> bytes:
    """The 3,000 bytes of a row after its path."""
    cells = np.tile(np.frombuffer(b" -1", np.uint8), (len(vocabulary("deepfashion-attribute-1000")), 1))
    positive, unknown = attribute_ids(item)
    cells[positive] = np.frombuffer(b"  1", np.uint8)
    cells[unknown] = np.frombuffer(b"  0", np.uint8)
    return cells.tobytes()
