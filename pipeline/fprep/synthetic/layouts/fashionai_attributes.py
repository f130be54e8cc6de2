"""Sample of the FashionAI attribute challenge (Tianchi 2018): archives base, web (warm-up) and rank (test questions).

A row `Images/<attribute>_labels/<md5>.jpg,<attribute>_labels,<label>` labels one image for one of eight attributes,
with one letter per value: one y, m for a length close to the next value, n otherwise. The first value means that the
part is not visible. Values that the renderer does not support (puritan collars, shawl lapels, one shoulder) do not
occur.
"""

import hashlib
from pathlib import Path

from fprep.synthetic.defects import Flaw, LineDefect, ListSpoiler
from fprep.synthetic.files import jpeg_bytes, write_text
from fprep.synthetic.garments.items import Item, draw_item, pick
from fprep.synthetic.garments.shoot import Piece, photograph_seen
from fprep.synthetic.skeleton import Defect, Group, Layout, Request, chance, map_images
from fschemas.landmarks import FASHIONAI_24, Visibility
from fschemas.vocabularies import vocabulary

BASE, WEB, RANK = "base/Annotations/label.csv", "web/Annotations/skirt_length_labels.csv", "rank/Tests/question.csv"
_SIDE = 400

_LEGS = ("jeans", "skinny jeans", "chinos", "leggings", "joggers", "wide trousers")
_DRESSES = ("mini dress", "dress", "maxi dress")
_TOPS = ("tee", "tank", "blouse", "shirt", "sweater")
_KINDS: dict[str, tuple[str, ...]] = {
    "skirt_length": (*_DRESSES, "mini skirt", "skirt", "pencil skirt", "pleated skirt"),
    "sleeve_length": (*_TOPS, "tee", "blouse", *_DRESSES),
    "coat_length": ("blazer", "jacket", "parka", "coat", "peacoat", "trench", "cardigan", "vest", "coat"),
    "pant_length": (*_LEGS, "capris", "culottes", "shorts", "denim shorts", "capris", "shorts", "culottes"),
    "collar_design": ("shirt", "polo", "jacket"),
    "lapel_design": ("blazer", "coat", "peacoat", "cardigan", "vest", "cardigan"),
    "neckline_design": ("tee", "tank", "blouse", "crop top", "sweater", *_DRESSES),
    "neck_design": ("turtleneck", "jacket"),
}
_STEPS: dict[str, tuple[float, ...]] = {  # upper bounds from the second value on, in cm below the neck or as shares
    "skirt_length": (98, 116, 130, 142, 999),
    "coat_length": (52, 62, 74, 88, 108, 126, 999),
    "pant_length": (0.42, 0.58, 0.77, 0.905, 9),
    "sleeve_length": (0.05, 0.25, 0.41, 0.6, 0.79, 0.94, 1.06, 9),
}
_NECKLINES = {
    "v": "V Neck", "boat": "Straight Neck", "square": "Square Neckline", "round": "Round Neckline",
    "sweetheart": "Sweat Heart Neck", "straps": "Deep V Neckline",
}  # fmt: skip
_PARTS = {  # landmarks, one of which must be in the image for the part to be visible
    "skirt_length": ("hemline_left", "hemline_right"), "coat_length": ("top_hem_left", "top_hem_right"),
    "pant_length": ("bottom_left_out", "bottom_right_out"), "sleeve_length": ("cuff_left_out", "cuff_right_out"),
}  # fmt: skip


def _write(folder: Path, request: Request) -> dict[str, int]:
    rows = map_images(folder, request, _render_row)
    counts: dict[str, int] = {}
    for file in (BASE, WEB, RANK):
        lines = [line for found, line in rows if found == file]
        write_text(folder / file, lines)
        counts[file.split("/", 1)[0]] = len(lines)
    return counts


def label_of(attribute: str, item: Item, *, seen: bool) -> str:
    """Return the letters of an item; a part that is not `seen` is labeled Invisible."""
    names = vocabulary("fashionai-attribute-54").values
    values = [name.split("/", 1)[1] for name in names if name.startswith(f"{attribute}/")]
    letters = ["n"] * len(values)
    if not seen:
        return "y" + "".join(letters[1:])
    if attribute in _STEPS:
        measure = {"pant_length": item.leg_share, "sleeve_length": item.design.sleeve}.get(attribute, item.end)
        steps = _STEPS[attribute]
        step = next(step for step, bound in enumerate(steps) if measure < bound)
        letters[step + 1] = "y"
        if step + 1 < len(steps) and measure > 0.985 * steps[step]:
            letters[step + 2] = "m"
        elif step and measure < 1.015 * steps[step - 1]:
            letters[step] = "m"
        return "".join(letters)
    letters[values.index(_design(attribute, item))] = "y"
    return "".join(letters)


def _design(attribute: str, item: Item) -> str:
    if attribute == "collar_design":
        return "Shirt Collar" if item.neck in ("shirt", "polo") else "Rib Collar"
    if attribute == "lapel_design":
        return "Notched" if item.neck == "lapel" else "Collarless"
    if attribute == "neck_design":
        return "Turtle Neck" if item.neck == "turtleneck" else "Low Turtle Neck"
    deep = item.neck == "v" and item.design.neck_depth > 16.5
    return "Deep V Neckline" if deep else _NECKLINES.get(item.neck, "Round Neckline")


def _render_row(folder: Path, request: Request, image: Group) -> tuple[str, str]:
    """Return the list of an image and its line, `path,attribute_labels,label`."""
    attribute, index = list(_KINDS)[image.number % len(_KINDS)], image.number
    generator = chance(request.seed, 115, index)
    item = draw_item(request.seed, index, dict.fromkeys(_KINDS[attribute], 1.0))
    while not _suits(attribute, item):
        item = draw_item(int(generator.integers(2**31)), index, dict.fromkeys(_KINDS[attribute], 1.0))
    file = RANK if index % 10 == 9 else WEB if attribute == "skirt_length" and index % 3 == 0 else BASE
    if request.with_images:
        hidden = generator.random() < 0.1
        views = {"shop": 2.0, "any": 3.0, "street": 1.0}
        if hidden:
            views = {"zoom": 1.0} if attribute in _STEPS else {"back": 1.0}
        shot = photograph_seen([item], generator, lambda: (pick(generator, views), _SIDE))
        content = jpeg_bytes(shot.image)
        seen = _is_seen(attribute, shot.pieces[0]) and not (shot.figure.back and attribute not in _STEPS)
    else:
        content, seen = f"{request.seed} {index}".encode(), generator.random() < 0.93
    path = f"Images/{attribute}_labels/{hashlib.md5(content, usedforsecurity=False).hexdigest()}.jpg"
    if request.with_images:
        target = folder / file.split("/", 1)[0] / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    label = "?" if file == RANK else label_of(attribute, item, seen=seen)
    return file, f"{path},{attribute}_labels,{label}"


def _suits(attribute: str, item: Item) -> bool:
    """Whether the neckline is not covered by a collar and the neck is not high."""
    if attribute == "neckline_design":
        return item.design.collar == "none"
    return attribute != "neck_design" or item.neck in ("turtleneck", "stand")


def _is_seen(attribute: str, piece: Piece) -> bool:
    names = _PARTS.get(attribute, ("neckline_left", "neckline_right"))
    if attribute == "sleeve_length" and not piece.item.design.sleeve:
        names = ("shoulder_left", "shoulder_right", "armpit_left", "armpit_right")
    points = [FASHIONAI_24.names.index(name) for name in names]
    return bool((piece.visibility[points] >= Visibility.OCCLUDED).any())


_DEFECTS: tuple[LineDefect, ...] = (
    (Flaw("bad_label", "two letters y"), r"\w+$", "yynnn"),
    (Flaw("bad_label", "no letter y"), r"\w+$", "nnnnn"),
    (Flaw("bad_label", "a letter x"), r"\w+$", "xnnnn"),
    (Flaw("bad_label", "a letter too many"), r"\w+$", "ynnnnnnnnnnn"),
    (Flaw("unknown_attribute", "an attribute that does not exist"), r",\w+_labels,", ",shoe_design_labels,"),
    (Flaw("path_escape", "a path that leaves the archive"), r"^[^,]+", "Images/../../../escape.jpg"),
    (Flaw("absolute_path", "a path that starts at the root"), r"^[^,]+", "/Images/collar_design_labels/a.jpg"),
)


def _insert_defects(folder: Path, request: Request, counts: dict[str, int]) -> list[Defect]:
    """Insert defects into rows of base and images."""
    spoiler = ListSpoiler(folder, request.seed, {"base": BASE}, "base")
    spoiler.change("base", *_DEFECTS)
    spoiler.spoil_images("base", ("missing_image", "truncated_image", "zero_byte_image"))
    spoiler.insert("base", Flaw("duplicate_row", "the line before once more"), str)
    counts["base"] += 1
    return spoiler.finish()


LAYOUT = Layout(
    published=99_763, write=_write, insert_defects=_insert_defects, least_for_defects=60
)  # 89,683 of base and 10,080 of rank
