"""Meaning of the columns of a user's own table: set with `--map`, or guessed from names and values.

A guess never rejects a row: if values do not fit, the guess is dropped with a note. `fprep convert csv` and the `--map`
options that `fprep doctor` suggests share these functions.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fprep.raw.dialect import join_names, plain_name, read_names
from fprep.readers.own.conventions import SPLIT_NAMES
from fprep.readers.units import COORDINATE_KEYS, corners_of
from fschemas.failures import UsageError, did_you_mean
from fschemas.image_limits import IMAGE_EXTENSIONS
from fschemas.splits import SPLITS

USUAL_NAMES = {
    "image": ("image", "image_path", "image_file_name", "image_name", "image_id", "img", "img_path", "file", "file_name",
              "filename", "path", "photo", "image"),
    "category": ("category", "class", "label", "kind", "garment", "type"),
    "style": ("style",),
    "substyle": ("substyle", "style2"),
    "item": ("item", "item_id", "product", "product_id", "sku"),
    "group": ("group", "group_id", "shoot"),
    "split": ("split", "subset", "fold"),
    "domain": ("domain",),
}  # fmt: skip
USUAL_BOXES = (("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"), ("x_1", "y_1", "x_2", "y_2"))
DOMAINS = ("shop", "consumer", "unknown")
# For columns with a fixed set of values.
KNOWN_VALUES = {"split": tuple(dict.fromkeys((*SPLIT_NAMES, *SPLITS))), "domain": DOMAINS}
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?", re.ASCII)

NamesImage = Callable[[str], bool]


@dataclass
class Columns:
    """Column numbers by meaning; `guessed` are the `--map` keys that were guessed."""

    header: list[str]
    single: dict[str, int]
    box: list[int] = field(default_factory=list[int])
    attributes: list[int] = field(default_factory=list[int])
    guessed: set[str] = field(default_factory=set[str])

    def chosen(self) -> dict[str, str]:
        """Return all mappings by key, in `--map` syntax."""
        numbers = {key: [number] for key, number in self.single.items()}
        numbers |= {"box": self.box, "attributes": self.attributes}
        names = {key: [self.header[number] for number in found] for key, found in numbers.items() if found}
        return {key: join_names(found, self.header) for key, found in names.items()}

    def unused(self) -> list[str]:
        """Return the names of the unmapped columns."""
        used = {*self.single.values(), *self.box, *self.attributes}
        return [name for number, name in enumerate(self.header) if number not in used]


def map_columns(
    header: Sequence[str], mapping: Mapping[str, str], rows: Sequence[Sequence[str]], file: str, names_image: NamesImage
) -> Columns:
    """Return the columns of a table with this header: those in `mapping`, and guesses for the other keys.

    `rows` are sample rows, and `names_image` tests whether a value is the name of an image; both decide between
    candidate image columns. Raises `UsageError` for missing column names, and if there is no image column.
    """
    names = [plain_name(name) for name in header]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{file}: two columns are called {twice!r}; rename one")
    columns = Columns(names, {})
    for key, usual in USUAL_NAMES.items():
        if mapping.get(key):
            columns.single[key] = _column(names, mapping[key], key, file)
        elif key not in mapping:
            number = image_column_by_values(names, rows, names_image) if key == "image" else None
            number = _usual(names, usual) if number is None else number
            if number is not None:
                columns.single[key] = number
                columns.guessed.add(key)
    if "image" not in columns.single:
        raise UsageError(
            f"{file}: no column is called image or path, and none contains names of existing images; set it with "
            f"--map image=COLUMN; there are {', '.join(names)}"
        )
    if looks_like_image(names[columns.single["image"]]):
        raise UsageError(
            f"{file}: the first line names an image ({names[columns.single['image']]}) and no columns; put a line with the names of "
            "the columns before it"
        )
    attributes = read_names(mapping.get("attributes", ""), names)
    columns.attributes = [_column(names, name, "attributes", file) for name in attributes]
    columns.box = _box_columns(names, mapping, file)
    idle = next((key for key in ("box-form", *COORDINATE_KEYS) if mapping.get(key) and not columns.box), None)
    if idle is not None:
        raise UsageError(
            f"--map {idle}={mapping[idle]}: no column of {file} is read as boxes; set them with --map box=COLUMN; there are "
            f"{', '.join(names)}"
        )
    columns.guessed |= {"box"} if columns.box and "box" not in mapping else set()
    return columns


def _fitting_image_column(names: Sequence[str], rows: Sequence[Sequence[str]], names_image: NamesImage) -> int | None:
    """Return the column with mostly image names, None if there is none.

    Ties go to the first usual column name, then to the column with the most values: numbers may be image names by
    chance.
    """
    usual = {name: -rank for rank, name in enumerate(USUAL_NAMES["image"])}
    found: list[tuple[float, int, int, int]] = []
    for number, name in enumerate(names):
        values = [row[number].strip() for row in rows if number < len(row) and row[number].strip()]
        share = sum(map(names_image, values)) / max(1, len(values))
        if name and share > 0.5:
            found.append((share, usual.get(name.casefold(), -len(usual)), len(set(values)), -number))
    return -max(found)[3] if found else None


def looks_like_image(value: str) -> bool:
    """Return whether a value ends in an image extension and is not a URL."""
    return value.strip().lower().endswith(IMAGE_EXTENSIONS) and "://" not in value


def value_fits(key: str, value: str) -> bool:
    """Return whether a value of the split or domain column is empty or valid."""
    return not value or value.casefold() in KNOWN_VALUES[key]


def read_box(cells: Sequence[str], form: str, *, pixels: bool) -> list[float] | None:
    """Return x1, y1, x2, y2 of a box in one of BOX_FORMS; [] for empty cells, None unless there are four numbers."""
    numbers = cells if len(cells) == 4 else re.split(r"[\s,;]+", cells[0].strip().strip("[]()").strip())
    numbers = [number.strip() for number in numbers]
    if not any(numbers):
        return []
    if len(numbers) != 4 or not all(_NUMBER.fullmatch(number) for number in numbers):
        return None
    return corners_of([float(number) for number in numbers], form, pixels=pixels)


def _usual(names: Sequence[str], usual: Sequence[str]) -> int | None:
    return next((number for word in usual for number, name in enumerate(names) if name.casefold() == word), None)


def image_column_by_values(names: Sequence[str], rows: Sequence[Sequence[str]], names_image: NamesImage) -> int | None:
    """Return the column of existing files, else of image names, else of names without extension; None if none fits."""
    tests = (lambda value: looks_like_image(value) and names_image(value), looks_like_image, names_image)
    found = (_fitting_image_column(names, rows, test) for test in tests)
    return next((number for number in found if number is not None), None)


def _column(names: Sequence[str], name: str, key: str, file: str) -> int:
    if plain_name(name) in names:
        return names.index(plain_name(name))
    known = f"{did_you_mean(name, names)}there are {', '.join(names)}"
    raise UsageError(f"--map {key}={name}: {file} has no such column; {known}")


def _box_columns(names: Sequence[str], mapping: Mapping[str, str], file: str) -> list[int]:
    if "box" in mapping:
        chosen = read_names(mapping["box"], names)
        if len(chosen) not in (0, 1, 4):
            raise UsageError(f"--map box={mapping['box']}: expected one column or four, separated by commas")
        return [_column(names, name, "box", file) for name in chosen]
    lower = [name.casefold() for name in names]
    return next(([lower.index(name) for name in usual] for usual in USUAL_BOXES if set(usual) <= set(lower)), [])
