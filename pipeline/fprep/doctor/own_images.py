"""A user's own images: a table with an image column, or a tree of class or product folders."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from fprep.doctor.finding import Diagnosis, Finding
from fprep.doctor.own_tables import diagnose_tables
from fprep.doctor.scan import Scan
from fprep.readers.own.conventions import last_word
from fprep.readers.registry import readers
from fschemas.wording import count


def diagnose_own_images(looked: Scan, taken: list[Path]) -> list[Diagnosis]:
    """Return diagnoses for the readers `csv` and `folders`, outside the folders `taken` by other readers.

    If other data sets are present, each top-level folder is diagnosed separately.
    """
    below = [path for path in looked.folders if path.parent == looked.root and path != looked.root]
    known = readers()
    found: list[Diagnosis] = []
    for root in below if taken else [looked.root]:
        if any(place.is_relative_to(root) or root.is_relative_to(place) for place in taken):
            continue
        tables = list(diagnose_tables(looked, root)) if "csv" in known else []
        found += tables
        if not any(table.command for table in tables) and "folders" in known:
            found += _folders(looked, root)
    return found


def _folders(looked: Scan, root: Path) -> list[Diagnosis]:
    """Diagnose a tree that has images in at least two sibling folders."""
    inside = [folder for folder in looked.folders.values() if folder.images and folder.path.is_relative_to(root)]
    counts = {folder.path: len(folder.images) for folder in inside}
    parents = Counter(path.parent for path in counts if path != root)
    if not counts or not parents:
        return []
    home, number = max(parents.items(), key=lambda item: (item[1], -len(item[0].parts)))
    if number < 2:
        return []
    names = sorted(path.name for path in counts if path.parent == home)
    lasts = sorted({last_word(name) for name in names})
    diagnosis = Diagnosis("folders", f"{number} folders", home, "convert")
    what = f"{count(sum(counts.values()), 'image')} in folders such as {names[0]}; {count(len(lasts), 'last word')}, such as {', '.join(lasts[:5])}"
    diagnosis.findings.append(Finding("good", "own-folders", home, what))
    if any(folder.cut for folder in looked.folders.values()):
        diagnosis.findings.append(Finding("note", "cut", home, "of large folders a part was looked at"))
    return [diagnosis]
