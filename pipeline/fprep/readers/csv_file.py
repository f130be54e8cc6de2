"""A user's own CSV: a row a picture, and a mapping of its columns to what a table holds.

    fprep convert csv shop.csv table/ --map image=photo --map category=kind --map box=x1,y1,x2,y2

Without `--map` columns with usual names are taken (`image`, `path`, `category`, `label`, `style`, `product`, `split` …), and it is
said which. Comma, semicolon or tab; quoted fields are read, but a field never runs over the end of a line. An empty cell is
unknown. Pictures are looked for beside the CSV, in the folders given with it, and in `img` or `images` there.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from fprep.parsing.own_pictures import SPLIT_NAMES, add_vocabulary, plain
from fprep.parsing.raw_file import MAX_LINE, RawFile, RawLine
from fprep.raw import RawFolder, picture_path_fault
from fprep.reader import reader, safe_key
from fschemas.failures import UsageError, did_you_mean
from fschemas.tables import SPLITS, SampleTable
from fschemas.vocabularies import Vocabulary

_USUAL_NAMES = {
    "image": ("image", "image_path", "image_file_name", "image_name", "image_id", "img", "img_path", "file", "file_name",
              "filename", "path", "photo", "picture"),
    "category": ("category", "class", "label", "kind", "garment", "type"),
    "style": ("style",),
    "substyle": ("substyle", "style2"),
    "item": ("item", "item_id", "product", "product_id", "sku"),
    "group": ("group", "group_id", "shoot"),
    "split": ("split", "subset", "fold"),
    "domain": ("domain",),
}  # fmt: skip
_USUAL_BOXES = (("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"), ("x_1", "y_1", "x_2", "y_2"))
_PICTURE_FOLDERS = ("", "img", "images", "image", "pictures", "photos")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?", re.ASCII)
_DOMAINS = ("shop", "consumer", "unknown")


@dataclass
class _Mapping:
    """Column numbers by what they mean."""

    single: dict[str, int]
    box: list[int]
    attributes: list[int]
    header: list[str]
    delimiter: str


@dataclass
class _Rows:
    """Rows that are kept so far."""

    lines: list[RawLine] = field(default_factory=list[RawLine])
    images: list[str] = field(default_factory=list[str])
    cells: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    boxes: list[list[float] | None] = field(default_factory=list[list[float] | None])
    attributes: list[list[str]] = field(default_factory=list[list[str]])


@reader(
    name="csv",
    table=SampleTable,
    variants={"csv": ("**/*.csv",), "tsv": ("**/*.tsv",)},
    splits="cut",
    any_groups=True,
    mapping={
        **{key: f"the column that holds the {key}" for key in _USUAL_NAMES},
        "box": "four columns x1,y1,x2,y2, or one column with four numbers",
        "box-form": "corners (default: x1, y1, x2, y2, the last pixel included) or size (x, y, width, height)",
        "attributes": "columns separated by commas; each value becomes an attribute of the group that the column is",
        "folder": "the folder of the pictures, relative to the CSV",
    },
    paper="none: a user's own pictures",
    licence="that of the pictures; the converter knows none",
    citation="none: a user's own pictures",
)
def csv_file(raw: RawFolder) -> pl.LazyFrame:
    """One row a picture, with the column groups that are mapped."""
    path = _file(raw)
    file = raw.open_file(path)
    lines = file.lines()
    header = next(lines, None)
    if header is None:
        raise UsageError(f"{file.name}: no row; the first line must name the columns")
    file.accounts["header"] += 1
    mapping = _map_columns(raw, file, header)
    rows = _Rows(cells={key: [] for key in mapping.single if key != "image"})
    as_size = _choice(raw, "box-form", ("corners", "size")) == "size"
    for line in lines:
        fault = _read_row(line, mapping, rows, as_size=as_size)
        if fault is not None:
            rule, message, column, found = fault
            raw.reject(line, rule, message, column=column, found=found)
    return _frame(raw, path, mapping, rows).lazy()


def _file(raw: RawFolder) -> Path:
    found = [given for given in raw.given if given.is_file()]
    for folder in raw.given:
        if folder.is_dir() and not found:
            found += [path for path in sorted(folder.iterdir()) if path.suffix.lower() in (".csv", ".tsv") and path.is_file()]
    if len(found) == 1:
        return found[0]
    places = ", ".join(str(path) for path in (found or raw.given))
    raise UsageError(f"{places}: {len(found) or 'no'} CSV files; name exactly one")


def _choice(raw: RawFolder, key: str, choices: Sequence[str]) -> str:
    value = raw.mapping.get(key, choices[0])
    if value not in choices:
        raise UsageError(f"--map {key}={value}: expected {' or '.join(choices)}")
    return value


def _map_columns(raw: RawFolder, file: RawFile, line: RawLine) -> _Mapping:
    try:
        text = line.content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{line}: not UTF-8 ({error.reason} at byte {error.start + 1}); save the file as UTF-8") from None
    delimiter = max(",;\t", key=text.count)
    cells = _cells(text, delimiter)
    if cells is None:
        raise UsageError(f"{line}: a quotation mark is not closed; the first line must name the columns")
    header = [plain(cell) for cell in cells]
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{line}: two columns are called {twice!r}; rename one")
    single: dict[str, int] = {}
    for key, usual in _USUAL_NAMES.items():
        if key in raw.mapping:
            single |= {key: _column(header, raw.mapping[key], key, file)} if raw.mapping[key] else {}
        else:
            index = next((index for name in usual for index, found in enumerate(header) if found.casefold() == name), None)
            single |= {} if index is None else {key: index}
    if "image" not in single:
        names = ", ".join(header)
        raise UsageError(f"{line}: no column is called image or path; say which it is with --map image=COLUMN; there are {names}")
    box = _box_columns(raw, header, file)
    attributes = [_column(header, name, "attributes", file) for name in raw.mapping.get("attributes", "").split(",") if name]
    said = [f"{key}={header[index]}" for key, index in single.items()]
    said += [f"box={','.join(header[index] for index in box)}"] if box else []
    used = {*single.values(), *box, *attributes}
    unused = ", ".join(name for index, name in enumerate(header) if index not in used)
    raw.notes.append(f"{file.name}: columns {' '.join(said)}{f'; not used: {unused}' if unused else ''}")
    return _Mapping(single, box, attributes, header, delimiter)


def _column(header: list[str], name: str, key: str, file: RawFile) -> int:
    if plain(name) in header:
        return header.index(plain(name))
    raise UsageError(
        f"--map {key}={name}: {file.name} has no such column; {did_you_mean(name, header)}there are {', '.join(header)}"
    )


def _box_columns(raw: RawFolder, header: list[str], file: RawFile) -> list[int]:
    if "box" in raw.mapping:
        names = [name for name in raw.mapping["box"].split(",") if name]
        if len(names) not in (0, 1, 4):
            raise UsageError(f"--map box={raw.mapping['box']}: expected one column or four, separated by commas")
        return [_column(header, name, "box", file) for name in names]
    lower = [name.casefold() for name in header]
    return next(([lower.index(name) for name in names] for names in _USUAL_BOXES if set(names) <= set(lower)), [])


def _cells(text: str, delimiter: str) -> list[str] | None:
    """The fields of one line, None where its quotes do not match."""
    if '"' not in text:
        return text.split(delimiter)
    try:
        return next(csv.reader(io.StringIO(text), delimiter=delimiter, strict=True))
    except csv.Error:
        return None


def _read_row(line: RawLine, mapping: _Mapping, rows: _Rows, *, as_size: bool) -> tuple[str, str, str, str] | None:
    """Add a row; or rule, message, column and what was found."""
    if len(line.content) > MAX_LINE:
        return "line_too_long", f"the line has more than {MAX_LINE} bytes", "", ""
    try:
        text = line.content.decode()
    except UnicodeDecodeError as error:
        message = f"byte 0x{line.content[error.start]:02x} at position {error.start + 1} is not UTF-8"
        return "bad_encoding", message, "", ""
    cells = _cells(text, mapping.delimiter)
    if cells is None:
        return "quoted_row", 'a quotation mark (") is not closed in this line', "", text[:100]
    if len(cells) != len(mapping.header):
        return "wrong_columns", f"{len(cells)} fields, expected {len(mapping.header)} as in the first line", "", str(len(cells))
    values = {key: plain(cells[index]) if key != "image" else cells[index].strip() for key, index in mapping.single.items()}
    image = values.pop("image").removeprefix("./")
    fault = picture_path_fault(image)
    if fault is not None:
        return (*fault, "image", image)
    for key, known in (("split", SPLIT_NAMES), ("domain", _DOMAINS)):
        value = values.get(key, "").casefold()
        if value and value not in known and value not in SPLITS:
            return f"unknown_{key}", f"{key} {value!r}, expected one of {', '.join(known)}", key, value
    box: list[float] | None = None
    if mapping.box:
        box = _box([cells[index] for index in mapping.box], as_size=as_size)
        if box is None:
            found = " ".join(cells[index] for index in mapping.box)
            return "bad_cell", f"the box {found!r} is not four numbers", "box", found
    rows.lines.append(line)
    rows.images.append(image)
    rows.boxes.append(box or None)
    rows.attributes.append([plain(cells[index]) for index in mapping.attributes])
    for key, value in values.items():
        rows.cells[key].append(value)
    return None


def _box(cells: list[str], *, as_size: bool) -> list[float] | None:
    """x1, y1, x2, y2; [] for empty cells, None for what are not four numbers."""
    numbers = cells if len(cells) == 4 else re.split(r"[\s,;]+", cells[0].strip().strip("[]()").strip())
    numbers = [number.strip() for number in numbers]
    if not any(numbers):
        return []
    if len(numbers) != 4 or not all(_NUMBER.fullmatch(number) for number in numbers):
        return None
    x, y, x2, y2 = map(float, numbers)
    return [x, y, x + x2 - 1, y + y2 - 1] if as_size else [x, y, x2, y2]


def _frame(raw: RawFolder, path: Path, mapping: _Mapping, rows: _Rows) -> pl.DataFrame:
    prefix = _picture_folder(raw, path, rows.images)
    cells = rows.cells
    splits = [
        SPLIT_NAMES.get(split.casefold(), split.casefold() or "train") for split in cells.pop("split", [""] * len(rows.images))
    ]
    groups = cells.pop("group", None) or cells.get("item") or [""] * len(rows.images)
    for key in ("category", "style"):
        if key in cells:
            add_vocabulary(raw, key, "csv", [*cells[key], *(cells.get("substyle", []) if key == "style" else [])])
    if "style" in cells:
        cells.setdefault("substyle", [""] * len(rows.images))
    else:
        cells.pop("substyle", None)
    if "domain" in cells:
        cells["domain"] = [domain.casefold() or "unknown" for domain in cells["domain"]]
    columns: dict[str, pl.Series] = {key: pl.Series(values, dtype=pl.String) for key, values in cells.items()}
    if mapping.box:
        columns["box"] = pl.Series(rows.boxes, dtype=pl.List(pl.Float32))
    if mapping.attributes:
        columns |= _attributes(raw, [mapping.header[index] for index in mapping.attributes], rows.attributes)
    return pl.DataFrame({
        "key": [safe_key(re.sub(r"\.[^./]*$", "", image).replace("/", "-")) for image in rows.images],
        "image": [prefix + image for image in rows.images],
        "split": splits,
        "group": pl.Series([group or None for group in groups], dtype=pl.String),
        "source_file": [line.file for line in rows.lines],
        "source_line": pl.Series([line.number for line in rows.lines], dtype=pl.Int32),
        **columns,
    }, schema_overrides={"key": pl.String, "image": pl.String, "split": pl.String, "source_file": pl.String})  # fmt: skip


def _picture_folder(raw: RawFolder, path: Path, images: list[str]) -> str:
    """Where the first pictures are, as a prefix from the root; beside the CSV if they are nowhere."""
    if "folder" in raw.mapping:
        place = (path.parent / raw.mapping["folder"]).resolve()
        if not place.is_dir() or not place.is_relative_to(raw.root):
            raise UsageError(f"--map folder={raw.mapping['folder']}: no such folder beside {path.name}; give it as a raw folder")
        return "" if place == raw.root else f"{raw.name_of(place)}/"
    homes = [path.parent, *(given for given in raw.given if given.is_dir()), raw.root]
    for home in homes:
        for name in _PICTURE_FOLDERS:
            place = home / name if name else home
            if place.is_relative_to(raw.root) and any((place / image).is_file() for image in images[:20]):
                return "" if place == raw.root else f"{raw.name_of(place)}/"
    return "" if path.parent == raw.root else f"{raw.name_of(path.parent)}/"


def _attributes(raw: RawFolder, names: list[str], rows: list[list[str]]) -> dict[str, pl.Series]:
    """One attribute per value of a column; an empty cell leaves the column's attributes unknown."""
    values: list[str] = []
    groups: dict[str, tuple[int, ...]] = {}
    for column, name in enumerate(names):
        found = sorted({row[column] for row in rows} - {""})
        groups[name] = tuple(range(len(values), len(values) + len(found)))
        values += [f"{name}/{value}" for value in found]
    vocabulary = raw.vocabularies["attributes"] = Vocabulary("csv-attributes", tuple(values), groups, exclusive=True)
    positive = [[vocabulary.ids[f"{name}/{value}"] for name, value in zip(names, row, strict=True) if value] for row in rows]
    unknown = [[number for name, value in zip(names, row, strict=True) if not value for number in groups[name]] for row in rows]
    return {
        "attributes_positive": pl.Series(positive, dtype=pl.List(pl.Int16)),
        "attributes_unknown": pl.Series(unknown, dtype=pl.List(pl.Int16)),
    }
