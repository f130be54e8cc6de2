"""Readers: one decorated function per raw dataset, found by looking into `fprep.readers`.

    @reader(name="my-dataset", table=table_class("landmarks"), landmark_set=…, variants={"archive": ("train.csv",)}, …)
    def my_dataset(raw: RawFolder) -> pl.LazyFrame: ...

A reader parses annotation files and nothing else: it decodes no image and writes nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from fprep.raw.folder import RawFolder
from fprep.readers.orientation import COORDINATES
from fschemas.failures import UsageError, did_you_mean
from fschemas.landmarks import LandmarkSet
from fschemas.tables import SampleTable
from fschemas.vocabularies import Vocabulary

Read = Callable[[RawFolder], pl.LazyFrame]

BOX_TEXT = "box_text"  # column that a reader may give: the box as it is written in the file, for messages
IMAGE_COLUMNS = ("width", "height", "sha256", "image_format", "image_mode", "image_orientation")


@dataclass(frozen=True)
class Reader:
    """A raw dataset and the function that reads it.

    `variants` gives, per recognized layout, files (glob patterns below a raw folder) that must exist. `totals` are published
    numbers of rows by name (`part/…` for a part of one); the reader reports what it found under the same names. `splits` says
    whether the raw files decide train and val ("given") or `convert` cuts them from train ("cut"). `origin` is the raw
    coordinate of the first pixel, which messages use. `vocabularies` says by column (`attributes`, `category`, `style`) what the
    ids and names of that column are. `read` returns the columns of `table`, with `any_groups` those of
    `SampleTable` and of as many column groups as the raw files have; the image columns may be left
    out, and `group` too, which then becomes the image itself. `instances`: several
    rows may show the same image, each another garment of it. `mapping`: the keys of `--map KEY=VALUE` that the reader
    understands, each with a sentence about it; they arrive in `RawFolder.mapping`. `orientation`: which pixels coordinates belong to
    where an image has an EXIF orientation and no size is stated: those "stored" or those of the "upright" image.
    """

    name: str
    table: type[SampleTable]
    variants: Mapping[str, tuple[str, ...]]
    paper: str
    license: str
    citation: str
    read: Read
    landmark_set: LandmarkSet | None = None
    vocabularies: Mapping[str, Vocabulary] = field(default_factory=dict[str, Vocabulary])
    totals: Mapping[str, int] = field(default_factory=dict[str, int])
    splits: Literal["cut", "given"] = "given"
    origin: int = 0
    any_groups: bool = False
    instances: bool = False
    mapping: Mapping[str, str] = field(default_factory=dict[str, str])
    orientation: Literal["stored", "upright"] = "stored"

    def orientation_of(self, mapping: Mapping[str, str]) -> Literal["stored", "upright"]:
        """What `--map orientation=` says, else the reader's own; raises `UsageError` for anything else."""
        value = mapping.get("orientation", self.orientation)
        if value == "stored" or value == "upright":
            return value
        raise UsageError(f"--map orientation={value}: expected stored or upright")


def reader(
    *,
    name: str,
    table: type[SampleTable],
    variants: Mapping[str, tuple[str, ...]],
    paper: str,
    license: str,  # noqa: A002 - the word that data cards use
    citation: str,
    landmark_set: LandmarkSet | None = None,
    vocabularies: Mapping[str, Vocabulary] | None = None,
    totals: Mapping[str, int] | None = None,
    splits: Literal["cut", "given"] = "given",
    origin: int = 0,
    any_groups: bool = False,
    instances: bool = False,
    mapping: Mapping[str, str] | None = None,
    orientation: Literal["stored", "upright"] = "stored",
) -> Callable[[Read], Reader]:
    """Make a `Reader` of a function from `RawFolder` to a lazy frame; the arguments are the fields of `Reader`."""

    def decorate(read: Read) -> Reader:
        return Reader(
            name,
            table,
            variants,
            paper,
            license,
            citation,
            read,
            landmark_set,
            dict(vocabularies or {}),
            dict(totals or {}),
            splits,
            origin,
            any_groups,
            instances,
            dict(mapping or {})
            | (orientation_key(orientation) if set(COORDINATES) & set(table.column_names()) else {}),
            orientation,
        )

    return decorate


def orientation_key(assumed: str) -> dict[str, str]:
    """The key of `--map` that every reader of coordinates has."""
    other = "stored" if assumed == "upright" else "upright"
    return {
        "orientation": f"{other}: coordinates on images with an EXIF orientation belong to the {other} pixels, where no size is stated "
        f"(default: {assumed})"
    }


def read_mapping(reader: Reader, entries: Sequence[str]) -> dict[str, str]:
    """`KEY=VALUE` entries as a dict; raises `UsageError` for what the reader does not understand."""
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
    """Raise `UsageError` for the first key that the reader does not know."""
    for key in mapping:
        if not set(reader.mapping) - {"orientation"} and key not in reader.mapping:
            but = " but orientation" if reader.mapping else ""
            raise UsageError(
                f"--map {key}: the reader {reader.name} knows its files and takes no --map{but}; leave it out"
            )
        if key not in reader.mapping:
            known = ", ".join(reader.mapping)
            raise UsageError(
                f"--map {key}: {reader.name} has no such key; {did_you_mean(key, reader.mapping)}known are {known}"
            )


def safe_key(text: str) -> str:
    """A sample key: ASCII letters, digits, `_` and `-`, at most 90. What had to be changed is told apart by a hash."""
    key = re.sub(r"[^A-Za-z0-9_-]+", "_", text)
    if key == text and len(key) <= 90:
        return key
    return f"{key[:80]}-{short_hash(text)}"


def short_hash(text: str) -> str:
    """Eight hex digits that depend on the text alone."""
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def columns_of(table: type[SampleTable]) -> dict[str, pl.DataType]:
    """Column names and polars types of a table class, in its order."""
    return {name: column.dtype for name, column in table.columns().items()}
