"""Labels of K-Fashion: spellings to ids, unknown and absent labels, and the shoot in an image's name.

For a garment in the image (with a label, rect or polygon), families without a label are unknown, because annotators
labeled what they saw. For a part that an image lacks, all labels are absent, unless the image has no part at all: then
it was not annotated, and everything is unknown.
"""

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

# Spellings in the release (NBSP in 하운즈 투스, 노말 for outerwear only) and in the published guides.
_ALIASES = {
    "노말": "노멀", "하운즈 투스": "하운즈투스", "키치/키덜트": "키치", "원 숄더": "원숄더", "홀토넥": "홀터넥",
    "테일러칼라": "테일러드칼라",
}  # fmt: skip

Warn = Callable[[str], None]


def normalize_label(text: str) -> str:
    """Normalize a label: NFC, plain spaces, stripped, aliases resolved."""
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


def part_ids(part: str, labels: dict[str, Any], ids: list[int], warn: Warn) -> np.ndarray:
    """Append the ids of a garment's labels to `ids`; return the ids of the families without a label.

    A family or value that is not in the vocabulary is counted as `unknown_label`; its family then counts as unlabeled.
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
            numbers = _unusual(families.get(family, {}), value, warn)
            ids += numbers
            if not numbers:
                named = tuple(other for other in named if other != family)
    return unknown_ids(part, named)


def _unusual(known: dict[str, int], value: Any, warn: Warn) -> list[int]:
    """Return the known ids among values that are not spelled as in the vocabulary."""
    values = value if isinstance(value, list) else [value]
    numbers = [known.get(normalize_label(each)) if isinstance(each, str) else None for each in values]
    if None in numbers or not numbers:
        warn("unknown_label")
    return [number for number in numbers if number is not None]


@functools.lru_cache(maxsize=1 << 14)
def unknown_ids(part: str, named: tuple[str, ...]) -> np.ndarray:
    """Return the ids of all families of a part except the named ones, ascending."""
    left_out = {f"{part}/{family}" for family in named}
    families = [family for family in ATTRIBUTES.groups if family.startswith(f"{part}/") and family not in left_out]
    return np.array([number for family in families for number in ATTRIBUTES.groups[family]], np.int16)


def style_of(labels: Any, folder: str, warn: Warn) -> tuple[str, str]:
    """Return style and second style of the record; the style defaults to that of its folder, else ""."""
    entry = labels[0] if isinstance(labels, list) and labels and isinstance(labels[0], dict) else {}
    style, substyle = entry.get("스타일", ""), entry.get("서브스타일", "")
    if style.__class__ is not str or style not in _STYLE_NAMES:
        style = _unusual_style(style, warn)
    if substyle.__class__ is not str or substyle not in _STYLE_NAMES:
        substyle = _unusual_style(substyle, warn)
    if style and folder and style != folder:
        warn("style_is_not_the_folder")
    return style or folder, substyle


def _unusual_style(value: Any, warn: Warn) -> str:
    name = normalize_label(value) if isinstance(value, str) else ""
    if name in STYLES.ids:
        return name
    if value is not None:
        warn("unknown_style")
    return ""


def folder_style(folder: str) -> str:
    """Return the style in a folder's name, else ""."""
    name = normalize_label(folder)
    return name if name in STYLES.ids else ""


_END = r"(?:[_-](?:\d{1,3}|imgs?))+$"  # number of the photo within a shoot, sometimes with one of a detail
_SHOOTS = (
    r"^(\d{4}-\d{2}-\d{2}\D*)\d*$",  # date and running number
    r"(?:^|[^a-z\d])((?:k\d\d)?[a-z]{1,4}\d{3,4}[kc]\d[\da-c])(?:\D|$)",  # anywhere: a shop's item with year and month
    r"(?:^|[-,])([\w.]*[^\W\d_][\w.]*_\d{3,4})" + _END,  # Shop_409_05: numbers of the item and of the photo
    r"^([a-z\d]*[a-z]\d{3,4}[a-z\d]{0,4})(?:[-_][a-z\d]+)?[-_](?:s|\d{3})" + _END,  # ab1234-ab1234-s_7
)
_HEAP = r"\(\d+\)$"  # files renamed in bulk share the name of the first one
_CAMERA = r"^(?:img|dsc)_"


def shoot_of(name: pl.Expr) -> pl.Expr:
    """Return the shoot encoded in an original file name, null if there is none (`IMG_0001.JPG`, bulk-renamed files).

    Shops number their items and the photos of an item, or use the date: these photos show one garment in one light, so
    they belong in one split. The date in the record is that of the annotation, not of the shoot.
    """
    stem = name.str.normalize("NFC").str.replace(r"\.[^.]*$", "").str.to_lowercase()
    found = pl.coalesce(stem.str.extract(pattern) for pattern in _SHOOTS).str.strip_chars()
    is_shoot = ~stem.str.contains(_HEAP) & ~found.str.contains(_CAMERA)
    return pl.when(is_shoot).then(pl.lit("shoot-") + found)
