"""A user's own pictures: a CSV file with a column of pictures, or a tree of class or product folders."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from fprep.doctoring.contents import read_head
from fprep.doctoring.findings import Diagnosis, Finding
from fprep.doctoring.pictures import judge_pictures, look_for, sample_rows
from fprep.doctoring.scan import Scan, is_picture
from fprep.reader import readers

_TABLE_SUFFIXES = (".csv", ".tsv")
_MAX_TABLES = 8


def diagnose_own_pictures(looked: Scan, taken: list[Path]) -> list[Diagnosis]:
    """Diagnoses for the readers `csv` and `folders` of what stands outside the folders `taken`, which other readers have.

    Beside other data sets each folder of the root is judged by itself.
    """
    roots = (
        [looked.root] if not taken else [path for path in looked.folders if path.parent == looked.root and path != looked.root]
    )
    known = readers()
    found: list[Diagnosis] = []
    for root in roots:
        if any(place.is_relative_to(root) or root.is_relative_to(place) for place in taken):
            continue
        tables = list(_tables(looked, root)) if "csv" in known else []
        found += tables
        if not tables and "folders" in known:
            found += _folders(looked, root)
    return found


def _tables(looked: Scan, root: Path) -> Iterator[Diagnosis]:
    """CSV files whose first row after the header names a picture."""
    paths = [path for path in looked.files() if path.is_relative_to(root) and path.suffix.lower() in _TABLE_SUFFIXES]
    for path in paths[:_MAX_TABLES]:
        head = read_head(path)
        if head is None:
            continue
        lines = head.text.decode("utf-8", errors="replace").split("\n")[:2]
        names, *cells = csv.reader(lines, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        column = next((name for name, cell in zip(names, cells[0] if cells else (), strict=False) if is_picture(cell)), None)
        if column is None or is_picture(column):
            continue
        others = ", ".join(name for name in names if name != column)
        diagnosis = Diagnosis("csv", f"pictures in the column {column!r}", path, "convert" + _mapping(names, column))
        diagnosis.findings.append(Finding("note", "own-table", path, f"its other columns: {others}; --map says what they mean"))
        sampled = look_for(looked, [path.parent], sample_rows([path]))
        diagnosis.findings += judge_pictures(sampled, path.parent, nested=False)
        yield diagnosis


def _mapping(names: list[str], image: str) -> str:
    """Options that say what the columns mean, for those that are called what the reader asks for."""
    columns = {name.strip().lower(): name for name in names} | {"image": image}
    keys = [key for key in readers()["csv"].mapping if key in columns and not re.search(r"[\s=]", columns[key])]
    return "".join(f" --map {key}={columns[key]}" for key in keys)


def _folders(looked: Scan, root: Path) -> list[Diagnosis]:
    """A tree with pictures in at least two folders beside each other."""
    counts = {
        path: len(folder.pictures) for path, folder in looked.folders.items() if folder.pictures and path.is_relative_to(root)
    }
    parents = Counter(path.parent for path in counts if path != root)
    if not counts or not parents:
        return []
    home, number = max(parents.items(), key=lambda item: (item[1], -len(item[0].parts)))
    if number < 2:
        return []
    names = sorted(path.name for path in counts if path.parent == home)
    lasts = sorted({re.split(r"[_\s]", name)[-1] for name in names})
    diagnosis = Diagnosis("folders", f"{number} folders", home, "convert")
    what = (
        f"{sum(counts.values())} pictures in folders such as {names[0]}; {len(lasts)} last words, such as {', '.join(lasts[:5])}"
    )
    diagnosis.findings.append(Finding("good", "own-folders", home, what))
    if any(folder.cut for folder in looked.folders.values()):
        diagnosis.findings.append(Finding("note", "cut", home, "of large folders a part was looked at"))
    return [diagnosis]
