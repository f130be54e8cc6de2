"""The reader contract: one decorated function per raw data set, discovered in `fprep.readers`.

    @reader(name="my-dataset", table=table_class("landmarks"), landmark_set=…, variants={"archive": ("train.csv",)}, …)
    def my_dataset(raw: RawFolder) -> pl.LazyFrame: ...

A reader only parses annotation files: it decodes no images and writes nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import polars as pl

from fprep.raw.folder import RawFolder, RawLine, chosen_option
from fprep.readers.orientation import COORDINATES
from fprep.readers.signature import Signature, signatures_of
from fschemas.failures import UsageError, did_you_mean
from fschemas.landmarks import LandmarkSet
from fschemas.tables import SampleTable
from fschemas.vocabularies import Vocabulary

Read = Callable[[RawFolder], pl.LazyFrame]

BOX_TEXT = "box_text"  # optional column of a reader: the bounding box as written in the file, for messages
IMAGE_COLUMNS = ("width", "height", "sha256", "image_format", "image_mode", "image_orientation")


def _reads_nothing(_: RawFolder) -> pl.LazyFrame:
    raise AssertionError("`reader` decorates a function")


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A raw data set and the function that reads it. The alias `reader` of this class decorates the function.

    Required: `name`; the `table` class; `variants`, the recognized layouts, each with the files (glob patterns below a
    raw folder) that must exist; `paper`, `license` and `citation` for data cards. The function, `read`, returns the
    columns of `table`. It may omit the image columns, and `group`, which then defaults to the image.

    Optional: `landmark_set`; `vocabularies` of ids and names, by column (`attributes`, `category`, `style`); `totals`,
    published row counts by name (`part/…` for a subset), to which the reader adds the actual counts in
    `RawFolder.totals`; `splits`, "given" if the raw files define train and val, "cut" if `convert` splits them off
    train; `origin`, the raw coordinate of the first pixel, for messages; `any_groups`, if `read` returns the columns of
    `SampleTable` and of the column groups found in the raw files; `instances`, if several rows may show the same image,
    each a different garment in it; `mapping`, the `--map KEY=VALUE` keys of the reader with their descriptions (the
    values arrive in `RawFolder.mapping`); `orientation`, the pixel grid of the coordinates if an image has an EXIF
    orientation and no size is stated: "stored" or "upright".

    For `fprep doctor`: `signatures` of the annotation files (default: their names in `variants`); `collects`, what the
    reader combines below one folder: several annotation "files" or archives, or "documents", one per image, in folders
    of splits; `image_side`, the long side in pixels of the images that the coordinates belong to.
    """

    name: str
    table: type[SampleTable]
    variants: Mapping[str, tuple[str, ...]]
    paper: str
    license: str
    citation: str
    read: Read = _reads_nothing
    landmark_set: LandmarkSet | None = None
    vocabularies: Mapping[str, Vocabulary] = field(default_factory=dict[str, Vocabulary])
    totals: Mapping[str, int] = field(default_factory=dict[str, int])
    splits: Literal["cut", "given"] = "given"
    origin: int = 0
    any_groups: bool = False
    instances: bool = False
    mapping: Mapping[str, str] = field(default_factory=dict[str, str])
    orientation: Literal["stored", "upright"] = "stored"
    signatures: tuple[Signature, ...] = ()
    collects: Literal["", "files", "documents"] = ""
    image_side: int = 0

    def __post_init__(self) -> None:
        """Complete the signatures, and add `--map orientation=` to every reader of coordinates."""
        patterns = (pattern for patterns in self.variants.values() for pattern in patterns)
        signatures = self.signatures or signatures_of(patterns)
        object.__setattr__(self, "signatures", tuple(replace(entry, reader=self.name) for entry in signatures))
        if set(COORDINATES) & set(self.table.column_names()) or "unit" in self.mapping:
            other = "stored" if self.orientation == "upright" else "upright"
            sentence = (
                f"{other}: coordinates on images with an EXIF orientation belong to the {other} pixels, where no size is stated "
                f"(default: {self.orientation})"
            )
            object.__setattr__(self, "mapping", {**self.mapping, "orientation": sentence})

    def __call__(self, read: Read) -> Reader:
        """Return the reader with the decorated function."""
        return replace(self, read=read)

    def orientation_of(self, mapping: Mapping[str, str]) -> str:
        """Return `--map orientation=` ("stored" or "upright"), else the reader's own. Raises `UsageError` otherwise."""
        known = ("stored", "upright")
        return chosen_option(mapping, "orientation", known, self.orientation)


reader = Reader


def read_mapping(reader: Reader, entries: Sequence[str]) -> dict[str, str]:
    """Parse `KEY=VALUE` entries. Raises `UsageError` for keys that the reader does not accept."""
    mapping: dict[str, str] = {}
    for entry in entries:
        key, equals, value = entry.partition("=")
        if not equals or not key:
            raise UsageError(f"--map {entry}: expected KEY=VALUE, such as category=last-word")
        if key in mapping:
            raise UsageError(f"--map {entry}: {key} is given twice; remove one")
        mapping[key] = value
    check_mapping(reader, mapping)
    return mapping


def check_mapping(reader: Reader, mapping: Mapping[str, str]) -> None:
    """Raise `UsageError` for the first key that the reader does not accept."""
    for key in (key for key in mapping if key not in reader.mapping):
        if not set(reader.mapping) - {"orientation"}:
            but = " except orientation" if reader.mapping else ""
            raise UsageError(f"--map {key}: {reader.name} has a fixed format and does not accept --map{but}; omit it")
        known = f"{did_you_mean(key, reader.mapping)}choose from {', '.join(reader.mapping)}"
        raise UsageError(f"--map {key}: {reader.name} has no such key; {known}")


def safe_key(text: str) -> str:
    """Return a sample key of at most 90 ASCII letters, digits, `_` and `-`. Altered texts get a hash."""
    key = re.sub(r"[^A-Za-z0-9_-]+", "_", text)
    return key if key == text and len(key) <= 90 else f"{key[:80]}-{short_hash(text)}"


def short_hash(text: str) -> str:
    """Return eight hex digits that depend on the text alone."""
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def columns_of(table: type[SampleTable]) -> dict[str, pl.DataType]:
    """Return column names and polars types of a table class, in its order."""
    return {name: column.dtype for name, column in table.columns().items()}


def frame_of(table: type[SampleTable], columns: Mapping[str, Any]) -> pl.DataFrame:
    """Build a frame from lists, arrays (N or N x K) or series, with the column types of `table`.

    Enumerations stay text, so that a rule of the table can reject a value. Columns that the table lacks keep their
    type.
    """
    kinds = {name: pl.String() if isinstance(kind, pl.Enum) else kind for name, kind in columns_of(table).items()}
    series: list[pl.Series] = []
    for name, values in columns.items():
        kind = kinds.get(name)
        found = pl.Series(name, values, None if isinstance(values, np.ndarray | pl.Series) else kind)
        found = found.arr.to_list() if isinstance(found.dtype, pl.Array) else found
        series.append(found.alias(name) if kind is None else found.alias(name).cast(kind))
    return pl.DataFrame(series)


def source_columns(lines: Iterable[RawLine]) -> dict[str, list[Any]]:
    """Return the columns with the source file and line of each row."""
    lines = list(lines)
    return {"source_file": [line.file for line in lines], "source_line": [line.number for line in lines]}
