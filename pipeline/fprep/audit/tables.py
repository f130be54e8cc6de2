"""The tables of an audit as one list of rows and one list of distinct images."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fprep.convert.source_table import check_table_digest, table_path
from fprep.near_duplicates.perceptual_hash import BLANK_CONTRAST, ImageHash, ImageTask, Views, hash_images
from fprep.raw.safe_open import follows_links
from fprep.readers.registry import readers
from fschemas.failures import IntegrityError, UsageError
from fschemas.publish import sha256_of
from fschemas.splits import SIDES
from fschemas.table_file import read_metadata, read_table
from fschemas.tables import SampleTable
from fschemas.vocabularies import vocabulary_names


@dataclass(frozen=True)
class AuditTable:
    """A table and its metadata. `name` is that of the data set, numbered if several tables share it."""

    name: str
    path: Path
    sha256: str
    metadata: dict[str, Any]
    frame: pl.DataFrame

    @property
    def raw_root(self) -> Path:
        """The folder where convert found the images."""
        return self.path.parent / str(self.metadata.get("raw_root", ""))

    @property
    def dataset(self) -> str:
        """The name of the reader."""
        return str(self.metadata.get("dataset", self.path.parent.name))

    @property
    def open_vocabularies(self) -> dict[str, list[str]]:
        """Vocabularies by column that come from the raw files instead of a published data set."""
        stored: dict[str, dict[str, Any]] = dict(self.metadata.get("vocabularies") or {})
        published = (entry.name for reader in readers().values() for entry in reader.vocabularies.values())
        known = {*vocabulary_names(), *published}
        return {name: list(entry.get("values", ())) for name, entry in stored.items() if entry.get("name") not in known}

    @property
    def family(self) -> str:
        """The common name of benchmarks on the same images: `deepfashion` for `deepfashion-fine`."""
        return self.dataset.partition("-")[0]


def open_tables(paths: Sequence[Path], limit: int | None) -> list[AuditTable]:
    """Open the tables (files or their folders); with `limit`, that many evenly spaced rows of each.

    Raises `UsageError` if a table is missing, not a table or given twice; `IntegrityError` if it is damaged.
    """
    if not paths:
        example = "table.parquet or its folder, for example `fprep audit data/fine`"
        raise UsageError(f"audit needs at least one table; pass {example}")
    tables: list[AuditTable] = []
    for given in paths:
        path = table_path(given)
        if any(table.path.resolve() == path.resolve() for table in tables):
            raise UsageError(f"{path}: given twice; pass each table once")
        check_table_digest(path)
        metadata, frame = read_metadata(path), pl.DataFrame(read_table(path))
        missing = [name for name in SampleTable.column_names() if name not in frame.columns]
        if missing:
            raise IntegrityError(f"{path}: columns {', '.join(missing)} are missing; run `fprep convert` again")
        if limit is not None and limit < len(frame):
            frame = frame[[index * len(frame) // limit for index in range(limit)]]
        table = AuditTable("", path, sha256_of(path), metadata, frame)
        number = 1 + sum(other.dataset == table.dataset for other in tables)
        tables.append(replace(table, name=f"{table.dataset}#{number}" if number > 1 else table.dataset))
    return tables


def rows_of(tables: Sequence[AuditTable]) -> pl.DataFrame:
    """Return the rows of all tables in one frame.

    Its columns are `table` (index), `name`, `row`, `key`, `image`, `split`, `side`, `group`, `item`, `sha256`,
    `orientation`, `dataset`, `coarse_split` and `family`. Text columns have no null.
    """
    parts: list[pl.DataFrame] = []
    for number, table in enumerate(tables):
        frame = table.frame
        optional = [name for name in ("item", "coarse_split") if name in frame.columns]
        part = frame.select(
            pl.lit(number).cast(pl.Int32).alias("table"), pl.lit(table.name).alias("name"), "key", "image", "group", *optional,
            pl.col("split").cast(pl.String), pl.col("sha256").fill_null(""),
            pl.col("image_orientation").cast(pl.Int32).fill_null(1).alias("orientation"),
            pl.lit(table.dataset).alias("dataset"), pl.lit(table.family).alias("family"),
        ).with_row_index("row")  # fmt: skip
        absent = [name for name in ("item", "coarse_split") if name not in optional]
        part = part.with_columns(pl.lit("").alias(name) for name in absent).with_columns(
            pl.col("split").replace_strict(SIDES, default="unlabeled").alias("side")
        )
        parts.append(part.select(sorted(part.columns)))
    return pl.concat(parts)


@dataclass(frozen=True)
class Images:
    """The distinct images (N) of all rows (R).

    `of_row` (R,) is the image index of each row. `views` are the data compared between the images that were read; the
    masks `seen` (N,) and `blank` (N,) mark images that were read and blank ones. `problems` are (row, problem) for images
    that are missing, unreadable or different from the table.
    """

    of_row: np.ndarray
    views: Views
    seen: np.ndarray
    blank: np.ndarray
    problems: list[tuple[int, str]]


def inspect_images(
    tables: Sequence[AuditTable],
    rows: pl.DataFrame,
    *,
    near: bool,
    images: Path | None = None,
    follow_links: bool = False,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Images:
    """Number the distinct images and, with `near`, decode each of them once.

    Two rows show the same image if the SHA-256 of its bytes is the same or, if that is unknown, table and path are.
    `images` replaces the raw root of a single table. `follow_links` also applies to tables converted without it.
    """
    identity = pl.when(pl.col("sha256") != "").then("sha256").otherwise(pl.format("{}/{}", "table", "image"))
    rows = rows.with_columns(identity=identity).with_row_index("index")
    identities, first = rows["identity"], rows.unique("identity", keep="first", maintain_order=True)
    if not near:
        return _numbered(identities, first["identity"], {}, [])
    roots = [os.path.realpath(images or table.raw_root) for table in tables]
    follow = [follow_links or follows_links(table.metadata) for table in tables]
    tasks = [
        ImageTask(roots[table], image, orientation, follow[table])
        for table, image, orientation in first.select("table", "image", "orientation").iter_rows()
    ]
    hashes = hash_images(tasks, workers=workers, progress=progress)
    problems: list[tuple[int, str]] = []
    found: dict[str, ImageHash] = {}
    renamed: dict[str, str] = {}
    listed = first.select("index", "identity", "sha256").iter_rows()
    for (index, identity, sha256), seen in zip(listed, hashes, strict=True):
        if seen.problem:
            problems.append((index, seen.problem))
        elif sha256 and seen.sha256 != sha256:
            problems.append((index, "changed"))
        else:
            renamed[identity] = seen.sha256
            found[seen.sha256] = seen
    known = identities.replace(renamed) if renamed else identities
    return _numbered(known, known.unique(maintain_order=True), found, problems)


def _numbered(
    identities: pl.Series, distinct: pl.Series, found: dict[str, ImageHash], problems: list[tuple[int, str]]
) -> Images:
    names: list[str] = distinct.to_list()
    numbers = {name: number for number, name in enumerate(names)}
    hashes_by_number = {numbers[name]: image_hash for name, image_hash in found.items()}
    seen, blank = np.zeros(len(names), bool), np.zeros(len(names), bool)
    for number, image_hash in hashes_by_number.items():
        seen[number], blank[number] = True, image_hash.contrast < BLANK_CONTRAST
    of_row = np.array([numbers[name] for name in identities.to_list()], np.int64)
    return Images(of_row, Views.of(hashes_by_number), seen, blank, problems)
