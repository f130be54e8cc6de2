"""Reader for a user's own table: one row per image (or per label or garment in it), with a column mapping.

    fprep convert csv shop.csv table/ --map image=photo --map category=kind --map box=x1,y1,x2,y2

Without `--map`, columns with usual names are used (`image`, `path`, `category`, `label`, `style`, `product`, `split`
…), or for the images the column whose values are names of existing images; the choice is reported. A guess that does
not fit is dropped with a note; only `--map` columns reject rows. Fields are separated by comma, semicolon, tab or `|`
(`fprep.raw.dialect`). An empty cell is unknown. Images are searched next to the table, in the other given folders, and
in `img` or `images` there.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from fprep.raw.dialect import HEAD, Record, find_dialect, read_delimiter, read_table, sample_records
from fprep.raw.file import RawFile, foreign_encoding, is_file
from fprep.raw.folder import RawFolder
from fprep.raw.image_names import clean_path, image_path_problem
from fprep.readers.own.columns import KNOWN_VALUES, USUAL_NAMES, Columns, map_columns, read_box, value_fits
from fprep.readers.own.conventions import SPLIT_NAMES, Spellings, add_vocabulary
from fprep.readers.own.images import ImageLocations
from fprep.readers.own.rows import ROW_MEANINGS, OwnRow, joined_groups, merge_rows
from fprep.readers.reader import BOX_TEXT, reader, safe_key
from fprep.readers.units import BOX_FORMS, COORDINATE_KEYS
from fschemas.failures import UsageError
from fschemas.tables import SampleTable
from fschemas.vocabularies import Vocabulary
from fschemas.walk import list_folder
from fschemas.wording import are, count

Problem = tuple[str, str, str, str]  # rule, message, column, value found


@dataclass
class _Rows:
    """Rows kept so far. `strange` are values that do not fit a guessed column, by key, in file order."""

    good: list[OwnRow] = field(default_factory=list[OwnRow])
    strange: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    spellings: Spellings = field(default_factory=Spellings)


@reader(
    name="csv",
    table=SampleTable,
    variants={"csv": ("**/*.csv",), "tsv": ("**/*.tsv",)},
    splits="cut",
    any_groups=True,
    orientation="upright",
    mapping={
        **{key: f"the column that holds the {key}" for key in USUAL_NAMES},
        "box": "four columns x1,y1,x2,y2, or one column with four numbers",
        "box-form": "corners (default: x1, y1, x2, y2, the last pixel included), size (x, y, width, height) or center (x, y of the "
        "center, width, height)",
        **COORDINATE_KEYS,
        "attributes": "columns separated by commas; each value becomes an attribute of the group that the column is",
        "folder": "the folder of the images, relative to the table",
        "delimiter": "the sign between fields, or comma, semicolon, tab, pipe, space (default: the one that fits)",
        "rows": f"what one row is: {', '.join(ROW_MEANINGS)}; default: garment or label where images repeat with other boxes or labels",
    },
    paper="none: a user's own images",
    license="that of the images; the converter knows none",
    citation="none: a user's own images",
)
def csv_file(raw: RawFolder) -> pl.LazyFrame:
    """Read one row per image, or per garment, with the mapped column groups."""
    path = _file(raw)
    file = raw.open_file(path)
    form, pixels = raw.option("box-form", BOX_FORMS, "corners"), raw.mapping.get("unit", "pixel") == "pixel"
    meaning = raw.option("rows", ("", *ROW_MEANINGS), "")
    delimiter = read_delimiter(raw.mapping["delimiter"]) if raw.mapping.get("delimiter") else ""
    dialect = find_dialect(file.head(HEAD), delimiter)
    records = read_table(file, dialect)
    header = next(records, None)
    if header is None:
        raise UsageError(f"{file.name}: no row; the first line must name the columns")
    if header.problem is not None:
        rule, message, _ = header.problem
        encoding = foreign_encoding(file.head(HEAD)) if rule == "bad_encoding" else ""
        looks = f", and looks like {encoding}" if encoding else ""
        remedy = "save the file as UTF-8" if rule == "bad_encoding" else "the first line must name the columns"
        raise UsageError(f"{header.line}: {message}{looks}; {remedy}")
    file.accounts["header"] += 1
    locations = ImageLocations(raw, path)
    sampled = [record.fields for record in sample_records(file.head(HEAD), dialect)[1:]]
    columns = map_columns(header.fields, raw.mapping, sampled, str(header.line), locations.has)
    rows = _Rows()
    for record in records:
        problem = _read_row(record, columns, rows, form=form, pixels=pixels)
        if problem is not None:
            raw.reject(record.line, *problem)
    _drop_guesses(raw, file, columns, rows)
    _note_columns(raw, file, columns)
    rows.spellings.note(raw)
    kept, label_keys = merge_rows(raw, rows.good, meaning)
    return _frame(raw, locations, columns, kept, label_keys).lazy()


def _file(raw: RawFolder) -> Path:
    found = [given for given in raw.given if given.is_file()]
    for folder in raw.given:
        if folder.is_dir() and not found:
            files = [folder / name for name in list_folder(folder).files]
            found += [path for path in files if path.suffix.lower() in (".csv", ".tsv") and is_file(path)]
    if len(found) == 1:
        return found[0]
    paths = ", ".join(str(path) for path in (found or raw.given))
    raise UsageError(f"{paths}: {len(found) or 'no'} CSV files; pass exactly one")


def _note_columns(raw: RawFolder, file: RawFile, columns: Columns) -> None:
    chosen = " ".join(f"{key}={names}" for key, names in columns.chosen().items())
    unused = ", ".join(columns.unused())
    raw.notes.append(f"{file.name}: columns {chosen}{f'; not used: {unused}' if unused else ''}")
    raw.guessed = {key: names for key, names in columns.chosen().items() if key in columns.guessed}
    not_utf8 = sum(reject.rule == "bad_encoding" and reject.row.file == file.name for reject in raw.rejects)
    if not_utf8 and (encoding := foreign_encoding(file.head(HEAD))):
        raw.notes.append(
            f"{file.name}: {count(not_utf8, 'row')} {are(not_utf8)} not UTF-8; the file looks like {encoding}: save it as UTF-8"
        )


def _read_row(record: Record, columns: Columns, rows: _Rows, *, form: str, pixels: bool) -> Problem | None:
    if record.problem is not None:
        rule, message, found = record.problem
        return rule, message, "", found
    cells = record.fields
    if len(cells) != len(columns.header):
        message = f"{len(cells)} fields, expected {len(columns.header)} as in the first line"
        return "wrong_columns", message, "", str(len(cells))
    single = {key: number for key, number in columns.single.items() if key != "image"}
    values = {key: rows.spellings.plain(key, _one_line(cells[number])) for key, number in single.items()}
    image = clean_path(cells[columns.single["image"]].strip())
    problem = image_path_problem(image)
    if problem is not None:
        return (*problem, "image", image)
    strange = {key: values[key] for key in KNOWN_VALUES if not value_fits(key, values.get(key, ""))}
    cut = [cells[number].strip() for number in columns.box]
    box, box_text = (read_box(cut, form, pixels=pixels) if cut else []), " ".join(cut)
    strange |= {"box": box_text} if box is None else {}
    for key, value in strange.items():
        if key not in columns.guessed:
            if key == "box":
                return "bad_cell", f"the box {value!r} is not four numbers", "box", value
            return f"unknown_{key}", f"{key} {value!r}, expected one of {', '.join(KNOWN_VALUES[key])}", key, value
    for key, value in strange.items():
        rows.strange.setdefault(key, []).append(value)
    attributes = [[rows.spellings.plain("attributes", _one_line(cells[number]))] for number in columns.attributes]
    rows.good.append(OwnRow(record.line, image, values, box or [], attributes, box_text))
    return None


def _one_line(cell: str) -> str:
    return " ".join(cell.split()) if "\n" in cell else cell


def _drop_guesses(raw: RawFolder, file: RawFile, columns: Columns, rows: _Rows) -> None:
    """Drop guessed columns with values that do not fit, since the guess may be wrong."""
    for key, strange in rows.strange.items():
        names = columns.chosen()[key]
        examples = ", ".join(repr(value[:40]) for value in list(dict.fromkeys(strange))[:3])
        raw.notes.append(
            f"{file.name}: {names} was guessed to be the {key}, but the values of {count(len(strange), 'row')} ({examples}) do not fit, so it is not "
            f"read; --map {key}={names} reads it and rejects these rows"
        )
        columns.guessed.discard(key)
        columns.box = [] if key == "box" else columns.box
        columns.single.pop(key, None)
        for row in rows.good:
            row.box = [] if key == "box" else row.box
            row.values.pop(key, None)


def _frame(
    raw: RawFolder, locations: ImageLocations, columns: Columns, rows: list[OwnRow], label_keys: list[str]
) -> pl.DataFrame:
    images = locations.find([row.image for row in rows])
    cells = {key: [row.values[key] for row in rows] for key in columns.single if key not in ("image", *label_keys)}
    splits = cells.pop("split", [""] * len(rows))
    groups = cells.pop("group", None) or cells.get("item") or [""] * len(rows)
    for key in ("category", "style"):
        if key in cells:
            add_vocabulary(raw, key, "csv", [*cells[key], *(cells.get("substyle", []) if key == "style" else [])])
    if "style" in cells:
        cells.setdefault("substyle", [""] * len(rows))
    else:
        cells.pop("substyle", None)
    if "domain" in cells:
        cells["domain"] = [domain.casefold() or "unknown" for domain in cells["domain"]]
    frame_columns: dict[str, pl.Series] = {key: pl.Series(values, dtype=pl.String) for key, values in cells.items()}
    if columns.box:
        frame_columns["box"] = pl.Series([row.box or None for row in rows], dtype=pl.List(pl.Float32))
        frame_columns[BOX_TEXT] = pl.Series([row.box_text or None for row in rows], dtype=pl.String)
    if columns.attributes or label_keys:
        names = [columns.header[number] for number in columns.attributes]
        values = {name: [row.attributes[index] for row in rows] for index, name in enumerate(names)}
        for key in label_keys:
            name = columns.header[columns.single[key]]
            values.setdefault(name, [row.labels.get(key, [row.values[key]]) for row in rows])
        frame_columns |= _attributes(raw, values)
    return pl.DataFrame({
        "key": _keys([row.image for row in rows]),
        "image": images,
        "split": [SPLIT_NAMES.get(split.casefold(), split.casefold() or "train") for split in splits],
        "group": pl.Series([group or None for group in joined_groups(images, groups)], dtype=pl.String),
        "source_file": [row.line.file for row in rows],
        "source_line": pl.Series([row.line.number for row in rows], dtype=pl.Int32),
        **frame_columns,
    }, schema_overrides={"key": pl.String, "image": pl.String, "split": pl.String, "source_file": pl.String})  # fmt: skip


def _keys(images: list[str]) -> list[str]:
    """Return keys from image paths; additional rows of an image are numbered."""
    counts = Counter[str]()
    keys: list[str] = []
    for image in images:
        counts[image] += 1
        stem = re.sub(r"\.[^./]*$", "", image).replace("/", "-")
        keys.append(safe_key(stem if counts[image] == 1 else f"{stem}-{counts[image]}"))
    return keys


def _attributes(raw: RawFolder, columns: dict[str, list[list[str]]]) -> dict[str, pl.Series]:
    """Return one attribute per value of a column; a row without a value leaves the column's attributes unknown."""
    values: list[str] = []
    groups: dict[str, tuple[int, ...]] = {}
    for name, rows in columns.items():
        found = sorted({value for row in rows for value in row} - {""})
        groups[name] = tuple(range(len(values), len(values) + len(found)))
        values += [f"{name}/{value}" for value in found]
    exclusive = all(len({*row} - {""}) <= 1 for rows in columns.values() for row in rows)
    vocabulary = raw.vocabularies["attributes"] = Vocabulary("csv-attributes", tuple(values), groups, exclusive)
    positive: list[list[int]] = []
    unknown: list[list[int]] = []
    for cells in zip(*columns.values(), strict=True):
        names = [(name, {*cell} - {""}) for name, cell in zip(columns, cells, strict=True)]
        positive.append(sorted(vocabulary.ids[f"{name}/{value}"] for name, row in names for value in row))
        unknown.append([number for name, row in names if not row for number in groups[name]])
    found = {"attributes_positive": positive, "attributes_unknown": unknown}
    return {name: pl.Series(ids, dtype=pl.List(pl.Int16)) for name, ids in found.items()}
