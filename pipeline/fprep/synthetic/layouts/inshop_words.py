"""What a shop writes about a synthetic item: its department, color, description and the attributes of DeepFashion's In-shop benchmark."""

from __future__ import annotations

from collections.abc import Iterator

from fprep.synthetic.garments.items import Item
from fprep.synthetic.garments.kinds import KINDS

FOLDER_OF_KIND = {
    "tee": "Tees_Tanks", "tank": "Tees_Tanks", "cami": "Tees_Tanks", "crop top": "Tees_Tanks", "blouse": "Blouses_Shirts",
    "shirt": "Blouses_Shirts", "polo": "Shirts_Polos", "sweater": "Sweaters", "turtleneck": "Sweaters",
    "hoodie": "Sweatshirts_Hoodies", "cardigan": "Cardigans", "vest": "Jackets_Coats", "blazer": "Jackets_Coats",
    "jacket": "Jackets_Coats", "parka": "Jackets_Coats", "coat": "Jackets_Coats", "peacoat": "Jackets_Coats",
    "trench": "Jackets_Coats", "mini dress": "Dresses", "dress": "Dresses", "maxi dress": "Dresses", "mini skirt": "Skirts",
    "skirt": "Skirts", "pencil skirt": "Skirts", "pleated skirt": "Skirts", "jeans": "Denim", "skinny jeans": "Denim",
    "chinos": "Pants", "leggings": "Leggings", "joggers": "Pants", "wide trousers": "Pants", "capris": "Pants", "culottes": "Pants",
    "shorts": "Shorts", "denim shorts": "Shorts",
}  # fmt: skip
"""Folder of the women's department for each kind."""

_MENS = {
    "Blouses_Shirts": "Shirts_Polos", "Cardigans": "Sweaters", "Jackets_Coats": "Jackets_Vests", "Graphic_Tees": "Tees_Tanks",
}  # fmt: skip
SECOND_FOLDER = {
    "Cardigans": "Sweaters",
    "Sweaters": "Cardigans",
    "Graphic_Tees": "Tees_Tanks",
    "Tees_Tanks": "Graphic_Tees",
}
"""Where a second variant of a few items stands, as in the release."""

KIND_WEIGHTS = {
    **dict.fromkeys(FOLDER_OF_KIND, 1.0), "tee": 5.0, "tank": 3.0, "blouse": 3.0, "shirt": 3.0, "dress": 3.0, "mini dress": 2.5,
    "sweater": 2.5, "shorts": 2.0,
}  # fmt: skip
_COLORS = {
    "black": "Black", "white": "White", "grey": "Heather grey", "navy": "Navy", "beige": "Taupe", "brown": "Brown", "red": "Red",
    "wine": "Burgundy", "pink": "Pink", "orange": "Orange", "yellow": "Yellow", "green": "Green", "mint": "Mint", "khaki": "Olive",
    "blue": "Blue", "sky blue": "Light blue", "lavender": "Lavender", "purple": "Purple",
}  # fmt: skip
_DENIM = {
    "navy": "Dark denim",
    "blue": "Medium denim",
    "sky blue": "Light denim",
    "black": "Denim black",
    "white": "White",
}


def gender_of(item: Item) -> str:
    """WOMEN, or MEN for a third of what both wear."""
    wearers = KINDS[item.kind].gender
    return "MEN" if wearers == "M" or (wearers == "WM" and item.design.seed % 3 == 0) else "WOMEN"


def folder_of(item: Item) -> str:
    """The department's folder."""
    folder = "Graphic_Tees" if item.kind == "tee" and item.design.motif != "none" else FOLDER_OF_KIND[item.kind]
    return _MENS.get(folder, folder) if gender_of(item) == "MEN" else folder


def color_of(item: Item) -> str:
    """The color as the shop calls it, with the second one of a print."""
    if item.fabric == "denim":
        return _DENIM.get(item.color, _COLORS[item.color])
    first = _COLORS[item.color]
    return first if item.print == "plain" else f"{first}-{_COLORS[item.accent].lower()}"


_PRINT_WORDS = {
    "stripes across": "stripes,striped,stripe,pattern,striped pattern", "stripes along": "stripes,striped,stripe,pattern",
    "stripes diagonal": "striped,pattern", "gingham": "plaid,pattern", "tartan": "plaid,pattern", "dots": "polka dot,polka,dot,print",
    "floral": "floral,print,printed", "houndstooth": "pattern", "blobs": "abstract,print,printed", "plain": "",
}  # fmt: skip
_SLEEVES = {
    "none": "sleeveless", "cap": "cap,cap sleeve", "short": "short sleeve,short-sleeved", "elbow": "short sleeve",
    "three-quarter": "3/4 sleeve", "wrist": "long sleeve,long-sleeved", "long": "long sleeve,long-sleeved",
    "extra long": "long sleeve,long-sleeved",
}  # fmt: skip
_NECKS = {
    "round": "round neckline,crew neck,crew neckline", "v": "v-neckline", "square": "scoop", "boat": "neck",
    "straps": "cami,straps,spaghetti,cami strap,spaghetti strap", "sweetheart": "strapless,sweetheart", "shirt": "basic collar,shirt",
    "stand": "stand", "hood": "hood,hoodie", "turtleneck": "neck", "lapel": "notched",
}  # fmt: skip
_FABRICS = {
    "denim": "denim,jeans,five-pocket", "knit": "knit,ribbed,knit fabrication,acrylic", "linen": "linen,woven", "fleece": "french terry,soft,cozy",
    "leather": "faux leather,leather,faux", "smooth": "woven,lightweight",
}  # fmt: skip
_CLOSURES = {
    "buttons": "buttoned,button,buttoned front", "double": "buttoned,buttoned front", "zip": "zipper,zip", "open": "open-front,open front",
}  # fmt: skip
_CATEGORY_WORDS = {
    "dress": "dress",
    "skirt": "skirt,bottoms",
    "trousers": "pants,bottoms",
    "outwear": "jacket",
    "blouse": "top",
}


def attribute_words(item: Item) -> list[str]:
    """Names among the 463 that are true of the item."""
    return sorted(set(filter(None, _words(item))))


def _words(item: Item) -> Iterator[str]:
    design = item.design
    yield from _PRINT_WORDS[item.print].split(",")
    yield from _FABRICS[item.fabric].split(",")
    yield from _CATEGORY_WORDS[item.category].split(",")
    if item.neck:
        yield from (*_SLEEVES[item.sleeve].split(","), *_NECKS[item.neck].split(","))
    if item.category in ("blouse", "outwear", "dress"):
        yield from _CLOSURES.get(design.closure, "").split(",")
    else:
        yield from ("fly", "zip fly") if design.closure == "zip" and item.category == "trousers" else ()
        yield from ("skinny", "slim") if design.hem < 6.0 else ("flared",) if design.hem > 34 else ()
    yield {"tight": "fitted", "regular": "classic", "loose": "relaxed"}[item.fit]
    yield from ("belt",) if design.belt else ()
    yield from ("pleated", "pleats") if design.pleats > 5 else ()
    yield from ("pocket", "pockets") if design.pockets != "none" else ()
    yield from ("maxi",) if item.category == "dress" and item.end > 123 else ()
    yield from ("mini",) if item.category in ("dress", "skirt") and item.end < 98 else ()
    yield from ("graphic",) if design.motif != "none" else ()
    yield from {
        "tee": ("tee",),
        "tank": ("tank",),
        "shorts": ("shorts",),
        "sweater": ("sweater",),
        "blazer": ("blazer",),
    }.get(item.kind, ())


def description_of(item: Item) -> list[str]:
    """Sentences of the shop; the first ends in a space, as most of the released ones do."""
    words = [word for word in attribute_words(item) if " " not in word]
    first = f"A {color_of(item).lower()} {item.kind} with {', '.join(words[:4])} details. "
    if item.look == "romantic":
        first = f"This décolleté {item.kind} from L'Été™ is made for a night à la carte. "
    cloth = {"knit": "100% acrylic", "denim": "99% cotton, 1% spandex", "leather": "100% polyurethane"}.get(
        item.fabric, "100% polyester"
    )
    return [
        first, "Lightweight, woven" if item.fabric in ("linen", "smooth") else "Midweight", cloth,
        f'{round(item.design.length / 2.54)}" full length, {round((15 + item.design.ease) * 4 / 2.54)}" chest',
        "Measured from Small", "Hand wash cold", "Imported",
    ]  # fmt: skip
