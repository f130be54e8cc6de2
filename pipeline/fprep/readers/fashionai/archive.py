"""Shared by the FashionAI readers: the search for CSV files, rows, license and citation."""

from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from fprep.raw.dialect import Record
from fprep.raw.folder import RawFolder, RawLine, real_path
from fprep.readers.reader import Reader, safe_key, source_columns
from fschemas import wording

ROLES = {"train": 0, "test": 1, "unlabeled": 2}  # splits, in the order of the table
_MAX_DEPTH = 4  # levels of folders to search

fashionai_reader = partial(
    Reader,
    splits="cut",
    collects="files",
    license="Tianchi terms of the FashionAI challenge: research use, no redistribution",
    citation="@inproceedings{zou2019fashionai, title={FashionAI: A Hierarchical Dataset for Fashion Understanding}, "
    "author={Zou, Xingxing and Kong, Xiangheng and Wong, Waikeung and Wang, Congde and Liu, Yuguang and Cao, Yang}, "
    "booktitle={CVPR Workshops}, year={2019}}",
)


class Row(NamedTuple):
    """A row: line, image name, the garment or attribute that it is about, and its label, None for test questions."""

    line: RawLine
    name: str
    topic: str
    label: Any


def annotation_files(raw: RawFolder, is_annotation: Callable[[Path], bool], missing: str) -> list[Path]:
    """Return the given files, and the annotation files in the given folders; image folders are skipped.

    Raises `UsageError` with the message `missing` if there are none.
    """
    found: dict[Path, Path] = {}
    for given in raw.given:
        for here, folders, files in raw.walk(given) if given.is_dir() else ():
            deep = len(here.relative_to(given).parts) >= _MAX_DEPTH
            folders[:] = [] if deep else [name for name in folders if name != "Images"]
            candidates = (here / name for name in files if name.endswith(".csv"))
            found |= {real_path(path): path for path in candidates if is_annotation(path)}
        found |= {given: given} if given.is_file() else {}
    if not found:
        raise raw.nothing_found(missing)
    return sorted(found.values())


def is_sound(raw: RawFolder, record: Record) -> bool:
    """Reject a record that cannot be split, or has a quotation mark inside a field, which no release has."""
    stray = ("quoted_row", 'a quotation mark (") inside a field, which these files never use')
    problem = record.problem or (stray if record.has_strays else None)
    if problem is not None:
        raw.reject(record.line, *problem[:2], found=repr(record.line.content[:60]))
    return problem is None


def without_answered(raw: RawFolder, path: Path, rows: list[Row], answered: Collection[str], note: str) -> list[Row]:
    """Return the rows without questions about `answered` images; a note describes and counts them."""
    kept = [row for row in rows if row.label is not None or row.name not in answered]
    if superseded := len(rows) - len(kept):
        raw.files[raw.name_of(path)].accounts["superseded"] += superseded
        raw.notes.append(f"{raw.name_of(path)}: {note}: {wording.count(superseded, 'row')}")
    return kept


def image_columns(raw: RawFolder, rows: list[Row], homes: Iterable[Path]) -> dict[str, list[Any]]:
    """Return the columns of key, image and source. `homes` has the folder that contains `Images` for each row."""
    homes = list(homes)
    prefixes = {home: raw.prefix_of(home) for home in set(homes)}
    stems = [row.name.rsplit("/", 1)[-1].rsplit(".", 1)[0] for row in rows]
    return {
        "key": [safe_key(f"{row.topic}-{stem}") for row, stem in zip(rows, stems, strict=True)],
        "image": [prefixes[home] + row.name for home, row in zip(homes, rows, strict=True)],
        **source_columns(row.line for row in rows),
    }
