"""Attributes of DeepFashion's category benchmark that can be seen on a synthetic item, and the names of its products."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fprep.synthetic.garments.items import Item
from fschemas.vocabularies import vocabulary

CATEGORY_OF_KIND = {
    "tee": "Tee", "tank": "Tank", "cami": "Top", "crop top": "Top", "blouse": "Blouse", "shirt": "Button-Down",
    "sweater": "Sweater", "turtleneck": "Turtleneck", "hoodie": "Hoodie", "cardigan": "Cardigan", "blazer": "Blazer",
    "jacket": "Jacket", "parka": "Parka", "coat": "Coat", "trench": "Coat", "peacoat": "Peacoat", "mini dress": "Dress",
    "dress": "Dress", "maxi dress": "Dress", "mini skirt": "Skirt", "skirt": "Skirt", "pencil skirt": "Skirt",
    "pleated skirt": "Skirt", "jeans": "Jeans", "skinny jeans": "Jeggings", "chinos": "Chinos", "leggings": "Leggings",
    "joggers": "Joggers", "capris": "Capris", "culottes": "Culottes", "shorts": "Shorts", "denim shorts": "Cutoffs",
}  # fmt: skip
"""DeepFashion's category for each kind of garment that the benchmark has."""

KIND_WEIGHTS = {
    **dict.fromkeys(CATEGORY_OF_KIND, 1.0), "tee": 5.0, "tank": 2.5, "cami": 1.5, "blouse": 4.0, "sweater": 2.5, "cardigan": 2.5,
    "jacket": 2.0, "blazer": 1.5, "mini dress": 3.0, "dress": 4.0, "maxi dress": 2.5, "shorts": 3.0, "jeans": 1.5,
}  # fmt: skip

_PRINT_WORDS = {
    "stripes across": "stripe,stripes,striped", "stripes along": "stripe,striped,pinstripe,pinstriped,vertical",
    "stripes diagonal": "stripe,striped,abstract stripe", "gingham": "gingham,checked,checkered", "tartan": "plaid,tartan",
    "dots": "dot,dots,dotted,polka dot", "floral": "floral,floral print,flower,printed", "houndstooth": "houndstooth",
    "blobs": "abstract,abstract print,printed", "plain": "solid",
}  # fmt: skip
_SLEEVE_WORDS = {
    "none": "sleeveless", "cap": "cap-sleeve", "wrist": "long sleeve,long-sleeved", "long": "long sleeve,long-sleeve,long-sleeved",
    "extra long": "long sleeve,long-sleeve,long-sleeved",
}  # fmt: skip
_NECK_WORDS = {
    "round": "crew,crew neck,round", "v": "v-neck", "square": "square,neckline", "boat": "boat neck", "straps": "strap,strappy,cami",
    "sweetheart": "strapless,sweetheart", "shirt": "collar,collared,shirt", "stand": "mock neck,zip", "hood": "hood,hooded",
    "turtleneck": "turtle-neck,high-neck", "lapel": "lapel,notched collar",
}  # fmt: skip
_FABRIC_WORDS = {
    "denim": "denim,wash", "knit": "knit,ribbed", "linen": "linen,woven", "fleece": "french terry,soft", "leather": "leather,faux leather",
    "smooth": "woven",
}  # fmt: skip
_CLOSURE_WORDS = {
    "buttons": "button,buttoned,button-front", "double": "double-breasted,buttoned", "zip": "zip,zipper,zip-front", "open": "open-front",
}  # fmt: skip
_LOOK_WORDS = {
    "classic": "classic", "preppy": "classic", "mannish": "trouser", "tomboy": "boyfriend", "feminine": "chic", "romantic": "sweet",
    "sexy": "flirty", "hippie": "boho", "western": "rustic", "oriental": "folk", "modern": "modernist", "sophisticated": "sophisticated",
    "avant-garde": "art", "country": "garden", "resort": "beach", "genderless": "basic", "sporty": "sporty", "retro": "retro",
    "kitsch": "quirky", "hip-hop": "athletic", "punk": "rebel", "military": "utility", "street": "everyday",
}  # fmt: skip
_UNSURE = {"smooth": "cotton,cotton-blend,stretch", "linen": "linen-blend,cotton,chiffon", "knit": "cotton knit,cozy"}


def attribute_ids(item: Item) -> tuple[list[int], list[int]]:
    """Positive and unknown ids of the 1,000 attributes; fabrics that no image tells apart are unknown."""
    ids = vocabulary("deepfashion-attribute-1000").ids
    positive = {ids[word] for word in _words(item)}
    unknown = {ids[word] for word in _UNSURE.get(item.fabric, "").split(",") if word} - positive
    return sorted(positive), sorted(unknown)


def _words(item: Item) -> Iterator[str]:
    design = item.design
    yield from _PRINT_WORDS[item.print].split(",")
    if item.print == "blobs" and item.color in ("khaki", "green", "brown"):
        yield from ("camo", "camouflage")
    if design.motif != "none":
        yield from ("graphic", *(("star", "stars") if design.motif == "star" else ()))
    yield from _FABRIC_WORDS[item.fabric].split(",")
    if item.neck:
        yield from _NECK_WORDS[item.neck].split(",")
        yield from _SLEEVE_WORDS[item.sleeve].split(",") if item.sleeve in _SLEEVE_WORDS else ()
        yield from ("bell", "bell-sleeve") if design.sleeve_shape == "bell" and design.sleeve else ()
    if item.category in ("blouse", "outwear", "dress") and design.closure in _CLOSURE_WORDS:
        yield from _CLOSURE_WORDS[design.closure].split(",")
    yield from _shape_words(item)
    yield from ("pocket",) if design.pockets != "none" else ()
    yield from ("belted",) if design.belt else ()
    yield from ("pleat", "pleated") if design.pleats > 5 else ()
    yield from ("tiered",) if design.tiers else ()
    yield _LOOK_WORDS[item.look]


def _shape_words(item: Item) -> Iterator[str]:
    if item.category in ("dress", "skirt"):
        yield from {"mini": ("mini",), "midi": ("midi", "knee-length"), "maxi": ("maxi",)}[dress_length(item)]
        yield from (
            ("pencil", "bodycon")
            if item.design.hem < 21
            else ("flared", "skater")
            if item.design.hem > 34
            else ("a-line",)
        )
    elif item.category == "trousers":
        yield from (
            ("skinny", "slim")
            if item.design.hem < 6.0
            else ("wide-leg",)
            if item.design.hem > 14
            else ("straight-leg",)
        )
        yield from ("cropped",) if item.leg_share < 0.8 else ("ankle",)
    else:
        yield from ("crop", "cropped") if item.end < 50 else ("longline",) if item.end > 74 else ()
        yield from {"tight": ("fitted",), "loose": ("loose", "oversized"), "regular": ("fit",)}[item.fit]


def dress_length(item: Item) -> str:
    """mini above the knee, midi to the calf, maxi below."""
    return "mini" if item.end < 98 else "midi" if item.end < 123 else "maxi"


_GROUPS = ("texture", "sleeve", "length", "neckline", "fabric", "fit")
_FINE_PRINT = {"floral": "floral", "dots": "embroidered", "blobs": "graphic", "plain": "solid"}
_FINE_NECK = {
    "v": "v_neckline",
    "lapel": "v_neckline",
    "square": "square_neckline",
    "straps": "no_neckline",
    "sweetheart": "no_neckline",
}
_FINE_FABRIC = {"smooth": "cotton", "linen": "chiffon", "fleece": "faux"}


def fine_ids(item: Item) -> list[int]:
    """Ids of the 26 fine attributes, one of each group. Dots stand for embroidery, thin linen for chiffon, fleece for faux fur."""
    striped, lattice = item.print.startswith("stripes"), item.print in ("gingham", "tartan", "houndstooth")
    texture = _FINE_PRINT.get(item.print, "striped" if striped else "lattice" if lattice else "solid")
    texture = "graphic" if item.design.motif != "none" else "pleated" if item.design.pleats > 5 else texture
    sleeve = "sleeveless" if item.sleeve == "none" else "long_sleeve" if item.design.sleeve > 0.6 else "short_sleeve"
    long = {"mini": "mini_length", "midi": "maxi_length", "maxi": "maxi_length"}
    length = long[dress_length(item)] if item.category in ("dress", "skirt") else "no_dress"
    neck = _FINE_NECK.get(item.neck, "crew_neckline") if item.neck else "no_neckline"
    fit = {"tight": "tight", "loose": "loose", "regular": "conventional"}[item.fit]
    ids = vocabulary("deepfashion-fine-26").ids
    return [ids[name] for name in (texture, sleeve, length, neck, _FINE_FABRIC.get(item.fabric, item.fabric), fit)]


_PRINT_NAMES = {
    "stripes across": "Striped", "stripes along": "Pinstriped", "stripes diagonal": "Abstract_Stripe", "gingham": "Gingham",
    "tartan": "Plaid", "dots": "Polka_Dot", "floral": "Floral_Print", "houndstooth": "Houndstooth", "blobs": "Abstract_Print",
}  # fmt: skip
_NECK_NAMES = {
    "v": "V-Neck",
    "boat": "Boat_Neck",
    "sweetheart": "Strapless",
    "straps": "Strappy",
    "hood": "Hooded",
    "shirt": "Collared",
}
_FLAVOURS = (
    "Sweet", "Classic", "Everyday", "Dainty", "Bold", "Boho", "Contrast", "Relaxed", "Textured", "Paneled", "Layered",
    "Slub", "Fitted", "Flowy", "Boxy", "Favorite", "Crinkled", "Lightweight", "Chic", "Essential", "Girly", "Refined",
    "Sleek", "Standout", "Cozy", "Faded", "Crisp", "Tailored", "Draped", "Woven", "Vintage-Inspired", "Life_in_Progress",
    "Piqu&eacute;", "Matelass&eacute;", "Boucl&eacute;", "Cr&ecirc;pe", "Lace_&_Mesh", "Mid-Rise_-", "Women's",
    "Rock_'n'_Roll", "St._Tropez", "Sun,_Sea",
)  # fmt: skip


def product_name(item: Item, taken: set[str]) -> str:
    """Name of a product's folder, which ends in the category and is added to `taken`; names keep the HTML entities of the release."""
    generator = np.random.default_rng(item.design.seed)
    words = [_PRINT_NAMES.get(item.print, ""), _NECK_NAMES.get(item.neck, ""), "Belted" if item.design.belt else ""]
    words += [
        item.fabric.capitalize() if item.fabric in ("denim", "knit", "linen") else "",
        "Pleated" if item.design.pleats > 5 else "",
    ]
    words += [dress_length(item).capitalize() if item.category == "dress" else ""]
    told = [word for word in words if word][: int(generator.integers(1, 3))]
    for attempt in range(len(_FLAVOURS) * 3):
        flavours = [_FLAVOURS[int(generator.integers(len(_FLAVOURS)))] for _ in range(1 + attempt // len(_FLAVOURS))]
        name = "_".join([*flavours, *told, CATEGORY_OF_KIND[item.kind]])
        if len(name) <= 50 and name not in taken:
            break
    else:
        name = f"Style_{item.number}_{CATEGORY_OF_KIND[item.kind]}"
    taken.add(name)
    return name
