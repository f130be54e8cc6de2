"""Readers: one decorated function per raw data set, found by looking into `fprep.readers`.

    @reader(name="my-dataset", table=table_class("landmarks"), landmark_set=…, variants={"archive": ("train.csv",)}, …)
    def my_dataset(raw: RawFolder) -> pl.LazyFrame: ...

A reader parses annotation files and nothing else: it decodes no image and writes nothing.
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
from fschemas.failures import UsageError, did_you_mean
from fschemas.landmarks import LandmarkSet
from fschemas.tables import SampleTable
from fschemas.vocabularies import Vocabulary

Read = Callable[[RawFolder], pl.LazyFrame]

BOX_TEXT = "box_text"  # optional column of a reader: the bounding box as it is written in the file, for messages
IMAGE_COLUMNS = ("width", "height", "sha256", "image_format", "image_mode", "image_orientation")


def _reads_nothing(_: RawFolder) -> pl.LazyFrame:
    raise AssertionError("`reader` decorates a function")


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A raw data set and the function that reads it; `reader`, another name of this class, decorates the function.

    Required: `name`; the `table` class; `variants`, by recognized layout the files (glob patterns below a raw folder) that
    must exist; `paper`, `license` and `citation` for data cards. The function, `read`, returns the columns of `table`. It may
    leave out the image columns, and `group`, which then becomes the image itself.

    Optional: `landmark_set`; `vocabularies`, by column (`attributes`, `category`, `style`) what its ids and names are;
    `totals`, published numbers of rows by name (`part/…` for a part of one), which the reader compares by counting in
    `RawFolder.totals`; `splits`, whether the raw files decide train and val ("given") or `convert` cuts them from train
    ("cut"); `origin`, the raw coordinate of the first pixel, for messages; `any_groups`: `read` returns the columns of
    `SampleTable` and of as many column groups as the raw files have; `instances`: several rows may show the same image, each
    another garment of it; `mapping`, the keys of `--map KEY=VALUE` that the reader takes, each with a sentence about it (they
    arrive in `RawFolder.mapping`); `orientation`: which pixels coordinates belong to if an image has an EXIF orientation and
    no size is stated, those "stored" or those of the "upright" image.
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

    def __post_init__(self) -> None:
        """Every reader of coordinates takes `--map orientation=`."""
        if set(COORDINATES) & set(self.table.column_names()) or "unit" in self.mapping:
            other = "stored" if self.orientation == "upright" else "upright"
            sentence = (
                f"{other}: coordinates on images with an EXIF orientation belong to the {other} pixels, where no size is stated "
                f"(default: {self.orientation})"
            )
            object.__setattr__(self, "mapping", {**self.mapping, "orientation": sentence})

    def __call__(self, read: Read) -> Reader:
        """The reader with the function that it decorates."""
        return replace(self, read=read)

    def orientation_of(self, mapping: Mapping[str, str]) -> str:
        """What `--map orientation=` says ("stored" or "upright"), else the reader's own; raises `UsageError` for anything else."""
        known = ("stored", "upright")
        return chosen_option(mapping, "orientation", known, self.orientation)


reader = Reader


def read_mapping(reader: Reader, entries: Sequence[str]) -> dict[str, str]:
    """`KEY=VALUE` entries as a dict; raises `UsageError` for what the reader does not take."""
    mapping: dict[str, str] = {}
    for entry in entries:
        key, equals, value = entry.partition("=")
        if not equals or not key:
            raise UsageError(f"--map {entry}: expected KEY=VALUE, such as category=last-word")
        if key in mapping:
            raise UsageError(f"--map {entry}: {key} is given twice; leave one out")
        mapping[key] = value
    check_mapping(reader, mapping)
    return mapping


def check_mapping(reader: Reader, mapping: Mapping[str, str]) -> None:
    """Raise `UsageError` for the first key that the reader does not take."""
    for key in (key for key in mapping if key not in reader.mapping):
        if not set(reader.mapping) - {"orientation"}:
            but = " but orientation" if reader.mapping else ""
            raise UsageError(f"--map {key}: {reader.name} knows its files and takes no --map{but}; leave it out")
        known = f"{did_you_mean(key, reader.mapping)}known are {', '.join(reader.mapping)}"
        raise UsageError(f"--map {key}: {reader.name} has no such key; {known}")


def safe_key(text: str) -> str:
    """A sample key: ASCII letters, digits, `_` and `-`, at most 90. A hash tells apart texts that had to be changed."""
    key = re.sub(r"[^A-Za-z0-9_-]+", "_", text)
    return key if key == text and len(key) <= 90 else f"{key[:80]}-{short_hash(text)}"


def short_hash(text: str) -> str:
    """Eight hex digits that depend on the text alone."""
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def columns_of(table: type[SampleTable]) -> dict[str, pl.DataType]:
    """Column names and polars types of a table class, in its order."""
    return {name: column.dtype for name, column in table.columns().items()}


def frame_of(table: type[SampleTable], columns: Mapping[str, Any]) -> pl.DataFrame:
    """A frame of columns, given as lists, arrays (N or N x K) or series, with the types that `table` has for them.

    Enumerations stay text, so that a rule of the table can refuse a value; columns that the table does not have keep their type.
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
    """The columns that say which line of which file each row is."""
    lines = list(lines)
    return {"source_file": [line.file for line in lines], "source_line": [line.number for line in lines]}
