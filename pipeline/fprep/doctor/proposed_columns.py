"""Infer the meaning of the columns of a user's own table from names and values, as `--map` options.

Proposals are checked against all sampled rows, because a wrong `--map` option rejects rows.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fprep.raw.dialect import join_names
from fprep.readers.own.columns import KNOWN_VALUES, USUAL_BOXES, USUAL_NAMES, read_box, value_fits
from fprep.readers.own.conventions import SPLIT_NAMES

_MAX_CLASSES = 200
_CLASS_WORDS = re.compile(r"categ|class|label|kind|type|article|garment|cloth|부류|종류|카테고리|类", re.IGNORECASE)
_NO_WORD = re.compile(r"[\d.,:/ -]*|true|false|yes|no|nan|none|null", re.IGNORECASE)
_ITEM_WORDS = re.compile(r"(product|item|sku|article|style)[ _-]?(id|code|no|nr|number)?", re.IGNORECASE)
_BOXES = (
    *((names, "corners") for names in (*USUAL_BOXES, ("left", "top", "right", "bottom"), ("x0", "y0", "x1", "y1"))),
    (("x", "y", "w", "h"), "size"),
    (("x", "y", "width", "height"), "size"),
    (("left", "top", "width", "height"), "size"),
    (("cx", "cy", "w", "h"), "center"),
    (("x_center", "y_center", "width", "height"), "center"),
)


@dataclass
class OwnTable:
    """The column names, and the rows with as many fields."""

    path: Path
    header: list[str]
    rows: list[list[str]]
    options: dict[str, str] = field(default_factory=dict[str, str])

    def values(self, number: int) -> list[str]:
        """Return the non-empty values of a column."""
        return [row[number].strip() for row in self.rows if row[number].strip()]

    def taken(self) -> set[str]:
        """Return the columns that already have a meaning."""
        return set(self.options.values())


def propose(table: OwnTable, image: int, *, has_images: bool) -> None:
    """Fill in the options of a table with image column `image`, by the names and values of its other columns.

    Relative boxes are proposed only if the table `has_images`: converting them to pixels requires the image sizes.
    """
    header, options = table.header, table.options
    options["image"] = header[image]
    lower = [name.casefold() for name in header]
    for key, usual in USUAL_NAMES.items():
        numbers = (lower.index(name) for name in usual if name in lower)
        free = (number for number in numbers if header[number] not in table.taken() and _fits(table, key, number))
        number = next(free, None)
        if key != "image" and number is not None:
            options[key] = header[number]
    if "split" not in options:
        splits = [name for name, values in _free(table) if all(value.casefold() in SPLIT_NAMES for value in values)]
        options |= {"split": splits[0]} if splits else {}
    if "item" not in options:  # a column with a product name and at most some tens of images per product
        named = ((name, values, set(values)) for name, values in _free(table) if _ITEM_WORDS.fullmatch(name))
        items = [name for name, values, distinct in named if 50 * len(distinct) >= len(values) and len(distinct) > 1]
        options |= {"item": items[0]} if items else {}
    _propose_box(table, has_images=has_images)
    if "category" not in options and "style" not in options and (name := _label_column(table)) is not None:
        options["category"] = name
    if "substyle" in options and "style" not in options:
        del options["substyle"]


def _fits(table: OwnTable, key: str, number: int) -> bool:
    values = set(table.values(number))
    return bool(values) and (key not in KNOWN_VALUES or all(value_fits(key, value) for value in values))


def _free(table: OwnTable) -> Iterator[tuple[str, list[str]]]:
    """Yield name and values of the columns without a meaning so far."""
    for number, name in enumerate(table.header):
        if name and name not in table.taken() and (values := table.values(number)):
            yield name, values


def _label_column(table: OwnTable) -> str | None:
    """Return the column with few distinct text values: one with a class-like name, else the one with most values."""
    found: dict[str, tuple[bool, int]] = {}
    for name, values in _free(table):
        distinct = set(values)
        is_words = not all(_NO_WORD.fullmatch(value) for value in distinct)
        if is_words and 1 < len(distinct) <= min(_MAX_CLASSES, max(2, len(values) // 2)):
            found[name] = bool(_CLASS_WORDS.search(name)), len(distinct)
    return max(found, key=found.__getitem__, default=None)


def _propose_box(table: OwnTable, *, has_images: bool) -> None:
    """Propose four columns with conventional names, or one with four numbers per cell, that fit all rows as boxes."""
    lower = [name.casefold() for name in table.header]
    choices = [([lower.index(name) for name in names], form) for names, form in _BOXES if set(names) <= set(lower)]
    for name, _ in _free(table):
        if re.search(r"box|rect", name, re.IGNORECASE):
            choices += [([table.header.index(name)], form) for form in ("corners", "size")]
    for unit in ("pixel", "relative") if has_images else ("pixel",):  # converting relative boxes requires image sizes
        for numbers, form in choices:
            cells = [[row[number] for number in numbers] for row in table.rows]
            boxes = [read_box(cell, form, pixels=unit == "pixel") for cell in cells]
            if any(boxes) and all(box is not None and (not box or _is_box(box, unit)) for box in boxes):
                table.options["box"] = join_names([table.header[number] for number in numbers], table.header)
                table.options |= {} if form == "corners" else {"box-form": form}
                table.options |= {} if unit == "pixel" else {"unit": unit}
                return


def _is_box(box: Sequence[float], unit: str) -> bool:
    x1, y1, x2, y2 = box
    far = max(x2, y2)
    return x1 >= -1 and y1 >= -1 and x2 > x1 and y2 > y1 and (far > 1 if unit == "pixel" else far <= 1.001)
