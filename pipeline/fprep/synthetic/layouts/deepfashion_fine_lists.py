"""Files of DeepFashion's fine annotation: parallel lists without headers, row i of each belongs to image i of `<split>.txt`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fprep.synthetic.layouts.deepfashion_coarse import Coarse, item_of
from fprep.synthetic.layouts.deepfashion_marks import POINTS, box_text
from fprep.synthetic.layouts.deepfashion_words import CATEGORY_OF_KIND, fine_ids
from fprep.synthetic.layouts.tree import chance, write_text
from fschemas.vocabularies import vocabulary

FINE = "Anno_fine"
PUBLISHED_FINE = 20_000
_SPLITS = {"train": 0.7, "val": 0.1, "test": 0.2}


def write_fine(folder: Path, coarse: Coarse, seed: int) -> dict[str, int]:
    """Write `Anno_fine` for up to half of the images, at most the published 20,000; returns the rows of each split."""
    num_fine = min(PUBLISHED_FINE, (len(coarse.paths) + 1) // 2)
    chosen = chance(seed, 105).permutation(len(coarse.paths))[:num_fine].tolist()
    product_of = [product for product in coarse.products for _ in range(product.count)]
    items = {number: item_of(seed, number) for number in {product_of[row].number for row in chosen}}
    category = vocabulary("deepfashion-category-50").ids
    first, counts = 0, dict[str, int]()
    for split, share in _SPLITS.items():
        last = num_fine if split == "test" else first + round(share * num_fine)
        rows = chosen[first:last]
        marks = coarse.marks[rows].tolist()
        drawn = [items[product_of[row].number] for row in rows]
        write_text(folder / FINE / f"{split}.txt", (coarse.paths[row] for row in rows))
        write_text(folder / FINE / f"{split}_attr.txt", (flags(fine_ids(item)) for item in drawn))
        write_text(folder / FINE / f"{split}_bbox.txt", map(box_text, marks))
        write_text(
            folder / FINE / f"{split}_cate.txt", (str(category[CATEGORY_OF_KIND[item.kind]] + 1) for item in drawn)
        )
        write_text(folder / FINE / f"{split}_landmarks.txt", map(packed_text, marks))
        first, counts[f"fine_{split}"] = last, len(rows)
    names = vocabulary("deepfashion-fine-26")
    number = {place: group for group, places in enumerate(names.groups.values(), 1) for place in places}
    lines = [f"{name:<21}{number[place]}" for place, name in enumerate(names.values)]
    write_text(folder / FINE / "list_attr_cloth.txt", ["26 ", "attribute_name   attribute_type", *lines])
    return counts


def flags(ids: Sequence[int]) -> str:
    """26 times 0 or 1, a space after each."""
    return "".join("1 " if place in ids else "0 " for place in range(len(vocabulary("deepfashion-fine-26"))))


def packed_text(marks: list[int]) -> str:
    """Eight points packed from the left in the order of the clothes type; an absent one is an unpadded `0 0`."""
    numbers = marks[POINTS]
    triples = [numbers[place : place + 3] for place in range(0, len(numbers), 3)]
    places = [f"{x:03d} {y:03d}" if visibility < 2 else "0 0" for visibility, x, y in triples if visibility >= 0]
    return " ".join([*places, *["0 0"] * (len(triples) - len(places))])
