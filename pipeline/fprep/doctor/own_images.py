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


def diagnose_own_images(scanned: Scan, taken: list[Path]) -> list[Diagnosis]:
    """Return diagnoses for the readers `csv` and `folders`, outside the folders `taken` by other readers.

    If other data sets are present, each top-level folder is diagnosed separately.
    """
    below = [path for path in scanned.folders if path.parent == scanned.root and path != scanned.root]
    known = readers()
    found: list[Diagnosis] = []
    for root in below if taken else [scanned.root]:
        if any(home.is_relative_to(root) or root.is_relative_to(home) for home in taken):
            continue
        tables = list(diagnose_tables(scanned, root)) if "csv" in known else []
        found += tables
        if not any(table.command for table in tables) and "folders" in known:
            found += _folders(scanned, root)
    return found


def _folders(scanned: Scan, root: Path) -> list[Diagnosis]:
    """Diagnose a tree that has images in at least two sibling folders."""
    inside = [folder for folder in scanned.folders.values() if folder.images and folder.path.is_relative_to(root)]
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
    if any(folder.cut for folder in scanned.folders.values()):
        diagnosis.findings.append(Finding("note", "cut", home, "large folders were scanned in part"))
    return [diagnosis]
