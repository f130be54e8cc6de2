"""Labels of K-Fashion: spellings to ids, what is unknown and what is known to be absent, and the shoot in an image's name.

A present garment (it has a label, a rect or a polygon) leaves unknown the families that it does not name: annotators filled in
what they saw. A part that an image does not have is known to have none of its labels, unless no part at all is annotated:
then nobody looked, and everything is unknown.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from fschemas.vocabularies import vocabulary

ATTRIBUTES = vocabulary("kfashion-attribute-660")
STYLES = vocabulary("kfashion-style-24")
PARTS = vocabulary("kfashion-part-4").values

# As the release (NBSP within 하운즈 투스, 노말 for outerwear only) and the published guides spell them.
_ALIASES = {
    "노말": "노멀", "하운즈 투스": "하운즈투스", "키치/키덜트": "키치", "원 숄더": "원숄더", "홀토넥": "홀터넥",
    "테일러칼라": "테일러드칼라",
}  # fmt: skip

Tell = Callable[[str], None]


def normalise(text: str) -> str:
    """One spelling: NFC, plain spaces, none at the ends, aliases resolved."""
    plain = unicodedata.normalize("NFC", text).replace("\u00a0", " ").strip()
    return _ALIASES.get(plain, plain)


def _ids_by_family() -> dict[str, dict[str, dict[str, int]]]:
    found: dict[str, dict[str, dict[str, int]]] = {part: {} for part in PARTS}
    for number, name in enumerate(ATTRIBUTES.values):
        part, family, value = name.split("/", 2)
        found[part].setdefault(family, {})[value] = number
    return found


_IDS = _ids_by_family()
_STYLE_NAMES = {"", *STYLES.values}


def part_ids(part: str, labels: dict[str, Any], ids: list[int], tell: Tell) -> np.ndarray:
    """Append the ids of a garment's labels to `ids`; the ids of the families that it does not name are returned.

    A family or value that the vocabulary has not is told as `unknown_label`; the family then counts as not named.
    """
    families, named = _IDS[part], tuple(labels)
    for family, value in labels.items():
        try:
            if value.__class__ is str:
                ids.append(families[family][value])
            elif not value:
                raise KeyError(family)
            else:
                ids += [families[family][each] for each in value]
        except (KeyError, TypeError):
            numbers = _unusual(families.get(family, {}), value, tell)
            ids += numbers
            if not numbers:
                named = tuple(other for other in named if other != family)
    return unknown_ids(part, named)


def _unusual(known: dict[str, int], value: Any, tell: Tell) -> list[int]:
    """Ids of values that are not spelled as in the vocabulary, as far as they are known."""
    values = value if isinstance(value, list) else [value]
    numbers = [known.get(normalise(each)) if isinstance(each, str) else None for each in values]
    if None in numbers or not numbers:
        tell("unknown_label")
    return [number for number in numbers if number is not None]


@functools.lru_cache(maxsize=1 << 14)
def unknown_ids(part: str, named: tuple[str, ...]) -> np.ndarray:
    """Ids of all families of a part but those named, ascending."""
    left_out = {f"{part}/{family}" for family in named}
    families = [family for family in ATTRIBUTES.groups if family.startswith(f"{part}/") and family not in left_out]
    return np.array([number for family in families for number in ATTRIBUTES.groups[family]], np.int16)


def style_of(labels: Any, folder: str, tell: Tell) -> tuple[str, str]:
    """Style and second style: of the record, else of its folder, else ""."""
    entry = labels[0] if isinstance(labels, list) and labels and isinstance(labels[0], dict) else {}
    style, substyle = entry.get("스타일", ""), entry.get("서브스타일", "")
    if style.__class__ is not str or style not in _STYLE_NAMES:
        style = _unusual_style(style, tell)
    if substyle.__class__ is not str or substyle not in _STYLE_NAMES:
        substyle = _unusual_style(substyle, tell)
    if style and folder and style != folder:
        tell("style_is_not_the_folder")
    return style or folder, substyle


def _unusual_style(value: Any, tell: Tell) -> str:
    name = normalise(value) if isinstance(value, str) else ""
    if name in STYLES.ids:
        return name
    if value is not None:
        tell("unknown_style")
    return ""


def folder_style(folder: str) -> str:
    """The style that a folder's name is, else ""."""
    name = normalise(folder)
    return name if name in STYLES.ids else ""


_END = r"(?:[_-](?:\d{1,3}|imgs?))+$"  # the number of the photo within a shoot, sometimes with one of a detail
_SHOOTS = (
    r"^(\d{4}-\d{2}-\d{2}\D*)\d*$",  # a day and a running number
    r"(?:^|[^a-z\d])((?:k\d\d)?[a-z]{1,4}\d{3,4}[kc]\d[\da-c])(?:\D|$)",  # anywhere: a shop's item with year and month
    r"(?:^|[-,])([\w.]*[^\W\d_][\w.]*_\d{3,4})" + _END,  # Shop_409_05: the item's number and the photo's
    r"^([a-z\d]*[a-z]\d{3,4}[a-z\d]{0,4})(?:[-_][a-z\d]+)?[-_](?:s|\d{3})" + _END,  # ab1234-ab1234-s_7
)
_HEAP = r"\(\d+\)$"  # files that were renamed together bear the name of the first one
_CAMERA = r"^(?:img|dsc)_"


def shoot_of(name: pl.Expr) -> pl.Expr:
    """The shoot that an original file name tells, null where it tells none (`IMG_0001.JPG`, numbered heaps).

    Shops number their items and an item's photos, or name the day: those photos show one garment in one light, so they
    belong into one split. The date in the record is that of the annotation, not of the shoot.
    """
    stem = name.str.normalize("NFC").str.replace(r"\.[^.]*$", "").str.to_lowercase()
    found = pl.coalesce(stem.str.extract(pattern) for pattern in _SHOOTS).str.strip_chars()
    is_shoot = ~stem.str.contains(_HEAP) & ~found.str.contains(_CAMERA)
    return pl.when(is_shoot).then(pl.lit("shoot-") + found)
