"""A user's own images: a table with an image column, or a tree of class or product folders.

A table is parsed by the functions of `fprep convert csv`. `proposed_columns` interprets its other columns.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from fprep.doctor.contents import inspect_head, read_head
from fprep.doctor.finding import Diagnosis, Finding
from fprep.doctor.images_found import Row, Sampled, image_findings
from fprep.doctor.proposed_columns import OwnTable, propose
from fprep.doctor.scan import Scan
from fprep.raw.dialect import HEAD, Record, find_dialect, plain_name, read_names, sample_records
from fprep.raw.image_names import MAX_LISTED, ImageFinder, clean_path, image_path_problem
from fprep.readers.own.columns import image_column_by_values, looks_like_image, map_columns
from fprep.readers.own.conventions import last_word
from fprep.readers.own.images import IMAGE_FOLDERS
from fschemas.failures import UsageError
from fschemas.wording import count

_TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".psv", ".txt")
_MAX_TABLES = 8
_MAX_BYTES = 4 << 20  # bytes of a table that proposals are checked against
_NUM_SAMPLES = 48
_MAX_LOST = 0.03  # share of rows; the default of `fprep convert` is 0.05
_LISTS = ("box", "attributes")  # keys that take several columns
_UNREADABLE = ("empty", "lfs-pointer", "web-page", "utf-16", "not-utf-8")


class _ImageLocator:
    """Finds the images listed in a table: as `fprep convert csv` does, or anywhere in the scanned folders."""

    def __init__(self, scanned: Scan, table: Path) -> None:
        self.scanned, self.table = scanned, table
        beside = [table.parent / name for name in IMAGE_FOLDERS]
        self.finders: dict[Path, ImageFinder] = {}
        self.usual = [folder for folder in beside if folder.is_dir()]
        self.folders = [folder.path for folder in scanned.folders.values() if folder.images]
        self.by_name: dict[str, list[Path]] = {}
        for folder in scanned.folders.values():
            for name in folder.images:
                for spelling in {name, PurePosixPath(name).stem}:
                    self.by_name.setdefault(spelling, []).append(folder.path / name)

    def find(self, name: str) -> Path | None:
        """Return the path of an image, or None."""
        name = clean_path(name)
        for folder in self.usual:
            if (found := self._file_of(folder, name)) is not None:
                return folder / found
        parts = PurePosixPath(name).parts
        for path in self.by_name.get(parts[-1], []) if parts else []:
            if path.parent.parts[len(path.parent.parts) - len(parts) + 1 :] == parts[:-1]:
                return path
        for folder in self.folders if len(parts) == 1 else []:  # the scan holds only some names of large folders
            if self.scanned.folders[folder].cut and (found := self._file_of(folder, name)) is not None:
                return folder / found
        return None

    def _file_of(self, folder: Path, name: str) -> str | None:
        """Return the file below a folder with this name, or nearly this name, as `fprep convert` resolves it."""
        if folder not in self.finders:
            self.finders[folder] = ImageFinder(os.path.realpath(folder), MAX_LISTED)
        return self.finders[folder].only(clean_path(name))

    def has(self, name: str) -> bool:
        """Whether an image of this name exists."""
        return self.find(name) is not None

    def folder_to_give(self, names: Sequence[str]) -> Path | None:
        """Return the folder to pass with the table, or None if `fprep convert` finds these images without it."""
        found = [(name, path) for name in names if (path := self.find(name)) is not None]
        if not found or all(
            any(path.is_relative_to(folder) and self._file_of(folder, name) for folder in self.usual)
            for name, path in found
        ):
            return None
        homes = list(dict.fromkeys(home for name, _ in found for home in self._homes(name)))
        counts = {home: sum(self._file_of(home, name) is not None for name, _ in found) for home in homes}
        stem = self.table.stem
        home = max(homes, key=lambda home: (counts[home], home.name in stem or stem in home.name), default=None)
        if home is not None and 2 * counts[home] > len(found):
            return home
        return Path(os.path.commonpath([path.parent for _, path in found]))

    def _homes(self, name: str) -> Iterator[Path]:
        parts = PurePosixPath(clean_path(name)).parts
        for path in [*self.by_name.get(parts[-1], []), self.find(name)] if parts else []:
            if path is not None and path.parent.parts[len(path.parent.parts) - len(parts) + 1 :] == parts[:-1]:
                yield path.parents[len(parts) - 1]


def diagnose_own_images(scanned: Scan, taken: list[Path]) -> list[Diagnosis]:
    """Return diagnoses for the readers `csv` and `folders`, outside the folders `taken` by other readers.

    If other data sets are present, each top-level folder is diagnosed separately.
    """
    below = [path for path in scanned.folders if path.parent == scanned.root and path != scanned.root]
    found: list[Diagnosis] = []
    for root in below if taken else [scanned.root]:
        if any(home.is_relative_to(root) or root.is_relative_to(home) for home in taken):
            continue
        paths = [path for path in scanned.files() if path.is_relative_to(root)]
        paths = [path for path in paths if path.suffix.lower() in _TABLE_SUFFIXES][:_MAX_TABLES]
        tables = [table for path in paths if (table := _diagnose_table(scanned, path)) is not None]
        found += tables
        if not any(table.command for table in tables):
            found += _diagnose_folders(scanned, root)
    return found


def _diagnose_folders(scanned: Scan, root: Path) -> list[Diagnosis]:
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


def _diagnose_table(scanned: Scan, path: Path) -> Diagnosis | None:
    head = read_head(path, _MAX_BYTES)
    if head is None:
        return None
    problems = [finding for finding in inspect_head(path, head, None) if finding.code in _UNREADABLE]
    dialect = find_dialect(head.sample[:HEAD])
    records = sample_records(head.sample, dialect)
    if not records or (path.suffix.lower() == ".txt" and len(records[0].fields) < 2):
        return None
    header = [plain_name(name) for name in records[0].fields]
    table = OwnTable(path, header, [record.fields for record in records[1:] if len(record.fields) == len(header)])
    locator = _ImageLocator(scanned, path)
    rows = [table.rows[index * len(table.rows) // _NUM_SAMPLES] for index in range(_NUM_SAMPLES)] if table.rows else []
    image = image_column_by_values(
        header, rows, locator.has
    )  # without a header, its first path may be in the header row
    if image is None:
        return None
    diagnosis = Diagnosis("csv", f"images in the column {header[image]!r}", path)
    findings = diagnosis.findings
    findings += problems
    if looks_like_image(header[image]):
        what = "its first line names an image; put a line with the names of the columns before it"
        findings.append(Finding("problem", "no-header", path, what))
        return diagnosis
    names = list(dict.fromkeys(table.values(image)))
    num_samples = min(len(names), _NUM_SAMPLES)
    some = [names[index * len(names) // num_samples] for index in range(num_samples)]
    rows = [Row(name, path) for name in some]
    found = {row: image_path for row in rows if (image_path := locator.find(row.name)) is not None}
    propose(table, image, has_images=bool(found))
    _note_columns(table, findings)
    findings += image_findings(Sampled(rows, found), path.parent, nested=False)
    lost = _lost_share(records[1:], table, names, image, findings) + (1 - len(found) / len(rows) if found else 0)
    if not problems and lost < 1 and _is_readable(table, locator, findings):
        diagnosis.command = "convert"
        folder = locator.folder_to_give(some)
        diagnosis.raw = [path, *([folder] if folder else [])]
        diagnosis.options = [] if found else ["--check-images", "none"]
        if lost > _MAX_LOST:  # otherwise the command would work but exit with code 3
            diagnosis.options += ["--max-rejected", f"{min(1.0, lost + 0.1):.2f}"]
        for key, value in table.options.items():
            diagnosis.options += ["--map", f"{key}={value}"]
    return diagnosis


def _lost_share(
    records: Sequence[Record], table: OwnTable, names: Sequence[str], image: int, findings: list[Finding]
) -> float:
    """Return the share of rows that cannot be kept as written, and report the problem of the first bad path."""
    problems = [fault for name in names if (fault := image_path_problem(clean_path(name))) is not None]
    if problems:
        severity = "problem" if len(problems) == len(names) else "warning"
        what = f"{len(problems)} of {count(len(names), 'image')} cannot be read by their names: {problems[0][1]}"
        findings.append(Finding(severity, "bad-paths", table.path, what))
    empty = sum(not row[image].strip() for row in table.rows)
    num_bad = len(records) - len(table.rows) + empty
    return num_bad / max(1, len(records)) + len(problems) / max(1, len(names))


def _is_readable(table: OwnTable, locator: _ImageLocator, findings: list[Finding]) -> bool:
    """Whether `fprep convert` accepts the header and the options. Columns that it would guess wrongly are disabled."""
    options = table.options
    try:
        guessed = map_columns(table.header, options, table.rows[:_NUM_SAMPLES], table.path.name, locator.has).guessed
    except UsageError as error:
        findings.append(Finding("problem", "unreadable-table", table.path, str(error)))
        return False
    options |= dict.fromkeys(sorted(guessed), "")
    return True


def _note_columns(table: OwnTable, findings: list[Finding]) -> None:
    mapped = {key: value for key, value in table.options.items() if key != "image"}
    taken = {
        name
        for key, value in mapped.items()
        for name in (read_names(value, table.header) if key in _LISTS else [value])
    }
    others = [name for name in table.header if name not in taken | table.taken() and name]
    message = ", ".join(f"{key} {value!r}" for key, value in mapped.items()) or "none"
    rest = f"; others: {', '.join(others)}" if others else ""
    message += f"{rest}; change this with --map"
    findings.append(Finding("note", "own-table", table.path, f"columns used for {message}"))
