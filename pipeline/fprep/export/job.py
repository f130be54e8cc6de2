"""The input of a format: the selected rows of a table by image, and the location of the images."""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

import polars as pl

from fprep.convert.source_table import SourceTable
from fprep.raw.safe_open import follows_links
from fprep.shard.sample import read_image
from fschemas import wording
from fschemas.failures import UsageError
from fschemas.image_limits import EXTENSIONS
from fschemas.splits import SPLITS

CHUNK = 1024  # images per chunk of rows held in memory
UNLABELED = "unlabeled"

_OPEN = re.compile(r"\b(CC0|CC[ -]BY|public domain|MIT|Apache|BSD|Unlicense|ODC-BY|PDDL)\b", re.IGNORECASE)
_CLOSED = re.compile(r"no redistribution|not be (re)?distributed|do not (re)?distribute", re.IGNORECASE)


@dataclass(frozen=True)
class ExportOptions:
    """Options of an export.

    `copy`: copy images instead of linking them. `include_images`: even those that their license does not allow to
    redistribute. `predictions`: labels are predictions to be corrected. `limit`: number of evenly spaced rows.
    """

    copy: bool = False
    include_images: bool = False
    predictions: bool = False
    limit: int | None = None


@dataclass
class ExportJob:
    """One export. A format calls `progress` once per image, adds to `counts`, and puts remarks for the user in `notes`.

    `final` is the published path of the folder, the base of relative links; the format writes to a temporary folder.
    """

    source: SourceTable
    options: ExportOptions
    final: Path
    image_root_given: Path | None = None
    progress: Callable[[], None] = lambda: None
    notes: list[str] = field(default_factory=list[str])
    counts: dict[str, int] = field(default_factory=dict[str, int])
    _relative_roots: dict[Path, str] = field(
        default_factory=dict[Path, str]
    )  # relative paths from image folders to the raw root

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata of the table."""
        return self.source.metadata

    @property
    def name(self) -> str:
        """The name of the data set."""
        return str(self.metadata.get("dataset") or "dataset")

    @property
    def groups(self) -> tuple[str, ...]:
        """The column groups of the table."""
        return tuple(self.metadata.get("column_groups", ()))

    @property
    def landmark_set(self) -> dict[str, Any] | None:
        """The landmark set as plain JSON values, or None."""
        return self.metadata.get("landmark_set") if "landmarks" in self.groups else None

    @property
    def vocabularies(self) -> dict[str, dict[str, Any]]:
        """Vocabularies by column, as plain JSON values."""
        return dict(self.metadata.get("vocabularies") or {})

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """Indices of the selected rows in the table."""
        height, limit = self.source.frame.height, self.options.limit
        if limit is None or limit >= height:
            return tuple(range(height))
        return tuple(index * height // limit for index in range(limit))

    @cached_property
    def frame(self) -> pl.DataFrame:
        """The selected rows."""
        return self.source.frame[list(self.numbers)]

    @cached_property
    def splits(self) -> dict[str, list[list[int]]]:
        """By split, in the order of `SPLITS`: the row indices of each image, in table order."""
        found: dict[str, dict[str, list[int]]] = {}
        columns = self.frame["split"].cast(pl.String).to_list(), self.frame["image"].to_list()
        for number, split, image in zip(self.numbers, *columns, strict=True):
            found.setdefault(split, {}).setdefault(image, []).append(number)
        return {split: list(found[split].values()) for split in SPLITS if split in found}

    def images(self, split: str, *, again: bool = False) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows of each image of a split, as dicts. `again`: do not count the images for progress."""
        images = self.splits[split]
        for start in range(0, len(images), CHUNK):
            chunk = images[start : start + CHUNK]
            rows = iter(self.source.rows(tuple(number for numbers in chunk for number in numbers)))
            for numbers in chunk:
                yield [next(rows) for _ in numbers]
                if not again:
                    self.progress()

    def need_sizes(self) -> None:
        """Raise `UsageError` if the size of an image is unknown."""
        unknown = self.frame["width"].null_count()
        if unknown:
            what = f"the size of {wording.count(unknown, 'image')} is unknown, but this format needs it"
            raise UsageError(f"{self.source.path}: {what}; run `fprep convert` again with `--check-images header`")

    def need(self, group: str, others: str) -> None:
        """Raise `UsageError` if the table lacks the column group. `others` are formats that do not need it."""
        if group not in self.groups:
            has = ", ".join(self.groups) or "no labels"
            raise UsageError(f"{self.source.path}: this format needs {group}, but the table has {has}; use {others}")

    @cached_property
    def raw_root(self) -> Path:
        """The folder of the images. Raises `UsageError` if it does not exist."""
        return self.source.raw_root(self.image_root_given)

    def add_image(self, row: dict[str, Any], target: Path, folder: Path, *, copy: bool) -> None:
        """Put the image of a row at `folder/target`: a copy with verified digest, or a relative link."""
        source = self.raw_root / row["image"]
        path = folder / target
        if path.parent not in self._relative_roots:
            path.parent.mkdir(parents=True, exist_ok=True)
            home = (self.final / target).parent.absolute().resolve()
            self._relative_roots[path.parent] = os.path.relpath(self.raw_root.resolve(), home)
        if copy:
            follow_links = follows_links(self.metadata)
            path.write_bytes(read_image(self.raw_root, row["image"], row["sha256"], follow_links=follow_links))
        elif source.is_file():
            path.symlink_to(f"{self._relative_roots[path.parent]}/{row['image']}")
        else:
            raise UsageError(f"{source}: no such image; pass the raw root with --images, or convert again")

    def count(self, name: str, more: int = 1) -> None:
        """Add to a counter of the summary."""
        self.counts[name] = self.counts.get(name, 0) + more


def compact_json(value: Any) -> str:
    """Return a JSON value on one line, with non-ASCII characters unescaped."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def write_list(file: TextIO, items: Iterable[Any]) -> None:
    """Write a JSON array with one item per line."""
    file.write("[")
    file.writelines(f"{',' if number else ''}\n{compact_json(item)}" for number, item in enumerate(items))
    file.write("\n]")


def image_suffix(row: dict[str, Any]) -> str:
    """Return the suffix that fits the content of the image, or else that of its name."""
    known = EXTENSIONS.get(row["image_format"] or "")
    return known[0] if known else Path(row["image"]).suffix.lower() or ".jpg"


def may_be_published(metadata: dict[str, Any]) -> bool:
    """Whether the images may be redistributed: synthetic ones may, others only if their license allows it."""
    terms = str(metadata.get("license") or "")
    return bool(metadata.get("synthetic")) or (bool(_OPEN.search(terms)) and not _CLOSED.search(terms))


def size_of(folder: Path) -> tuple[int, int]:
    """Return the number of files and bytes below a folder. Links count as empty files."""
    files = [path for path in folder.rglob("*") if path.is_symlink() or path.is_file()]
    return len(files), sum(path.stat().st_size for path in files if not path.is_symlink())
