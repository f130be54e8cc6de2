"""What DeepFashion's Consumer-to-shop benchmark says of a synthetic item: its folder and its attributes among 303 in 18 types.

The two files beside this module are vocabularies: Chinese and English names with the number of their type.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from fprep.synthetic.garments.items import Item

FOLDER_OF_KIND = {
    "tee": "TOPS/T_Shirt", "tank": "TOPS/Tank_Top", "cami": "TOPS/Tank_Top", "crop top": "TOPS/Summer_Wear", "blouse": "TOPS/Blouse",
    "shirt": "CLOTHING/Blouse", "polo": "CLOTHING/Polo_Shirt", "sweater": "TOPS/T_Shirt", "hoodie": "CLOTHING/Coat",
    "cardigan": "TOPS/Coat", "jacket": "CLOTHING/Coat", "coat": "TOPS/Coat", "blazer": "CLOTHING/Summer_Suit",
    "mini dress": "DRESSES/Dress", "dress": "DRESSES/Dress", "maxi dress": "DRESSES/Dress", "mini skirt": "DRESSES/Skirt",
    "skirt": "DRESSES/Skirt", "pleated skirt": "DRESSES/Skirt", "jeans": "TROUSERS/Pants", "chinos": "TROUSERS/Pants",
    "wide trousers": "TROUSERS/Pants", "shorts": "TROUSERS/Pants", "leggings": "TROUSERS/Pants",
}  # fmt: skip

Name = tuple[str, str, int]  # Chinese, English, number of the type


@cache
def attribute_names() -> list[Name]:
    """The 303 attributes in order."""
    rows = [line.split("\t") for line in _lines("consumer2shop_attributes.txt")]
    return [(chinese, english, int(number)) for chinese, english, number in rows]


@cache
def type_names() -> list[tuple[str, str]]:
    """Chinese and English names of the 18 types."""
    rows = [line.split("\t") for line in _lines("consumer2shop_attribute_types.txt")]
    return [(row[-2], row[-1]) for row in rows]


def _lines(name: str) -> list[str]:
    return Path(__file__).with_name(name).read_text(encoding="utf-8").removesuffix("\n").split("\n")


def folder_of(item: Item) -> str:
    """Department and folder."""
    bare = item.category == "dress" and item.sleeve == "none"
    return "DRESSES/Sleeveless_Dress" if bare else FOLDER_OF_KIND[item.kind]


def attribute_ids(item: Item) -> list[int]:
    """Ids of what can be seen; of names that stand for several ids of one type the first is taken."""
    names = attribute_names()
    wanted = set(_words(item))
    ids = {pair: place for place, pair in reversed(list(enumerate((number, english) for _, english, number in names)))}
    return sorted(ids[pair] for pair in wanted)


_SLEEVES = {
    "none": "Sleeveless",
    "cap": "Short Sleeves",
    "short": "Short Sleeves",
    "elbow": "Half Sleeves",
    "three-quarter": "3/4 Sleeves",
}
_PATTERNS = {
    "plain": "Solid Colour/Pure Colour", "stripes across": "Stripes", "stripes along": "Vertical stripes", "stripes diagonal": "Stripes",
    "gingham": "Small plaid", "tartan": "Plaid", "houndstooth": "Plaid", "dots": "Polka Dotted", "floral": "Floral Printing", "blobs": "Abstract",
}  # fmt: skip
_COLLARS = {
    "round": "Crewneck", "v": "V-neck", "boat": "Boat Neck", "square": "Square Collar", "hood": "Hoodies", "stand": "Stand Collar",
    "shirt": "Classic Collar", "lapel": "Classic Collar",
}  # fmt: skip
_FABRICS = {"denim": "Jeans cloth", "knit": "Knitted", "linen": "Hemp", "fleece": "Wool", "smooth": "Cotton"}
_CLOSURES = {"buttons": "Single breasted", "zip": "Zip", "open": "No button"}


def _words(item: Item) -> Iterator[tuple[int, str]]:
    design = item.design
    yield 10, "Pattern" if design.motif != "none" else _PATTERNS[item.print]
    if item.fabric in _FABRICS:
        yield 7, _FABRICS[item.fabric]
    if item.category == "trousers":
        yield 2, "Skinny/Pencil pants" if design.hem < 6 else "Wide-legs" if design.hem > 14 else "Straight pants"
        yield 5, "Shorts" if item.leg_share < 0.45 else "Cropped pants" if item.leg_share < 0.8 else "Long pants"
    elif item.category != "skirt":
        yield 13, _SLEEVES.get(item.sleeve, "Long Sleeves")
        if item.neck in _COLLARS:
            yield 15, "Polo Collar" if item.kind == "polo" else _COLLARS[item.neck]
        if design.closure in _CLOSURES:
            yield 4, _CLOSURES[design.closure]
        yield 14, "Wide/Loose" if item.fit == "loose" else "Slim Fit"
    if item.category in ("dress", "skirt"):
        yield 11, "Above Knee" if item.end < 98 else "Knee" if item.end < 116 else "Midi"
        yield 16, "Bodycon" if design.hem < 21 else "A-lined Dress"
    yield from ((3, "Pleated"),) if design.pleats > 5 else ()
    yield from ((3, "Waistbelt"),) if design.belt else ()
    yield from ((3, "Pockets"),) if design.pockets != "none" else ()
