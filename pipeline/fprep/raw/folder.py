"""The raw folder as a reader sees it: strict lines of bytes, and an account of every line.

Annotation files are split only at LF or CRLF (at CR if there is no LF). Readers report here what they do with each
line, and the conversion ends with the row accounting of each file: lines = kept + rejected + superseded + left out +
joined + header + blank.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path

from fprep.raw.file import MAX_LINE, RawFile, RawLine
from fprep.raw.image_names import HOW, ImageFinder, clean_path, difference_of, image_path_problem
from fprep.raw.safe_open import HOW_TO_FOLLOW, OpenError, open_inside, read_all
from fprep.raw.spill import SpillFile
from fschemas.failures import UsageError, did_you_mean
from fschemas.landmarks import LandmarkSet
from fschemas.vocabularies import Vocabulary
from fschemas.walk import Walked, is_below, is_stored_by_content, is_utf8, list_folder, readable, walk

_MAX_COUNTED = 100_000  # names that are classified by kind of difference
MAX_RAW = 4096  # bytes to keep of a rejected line
# Images are next to such a folder, not in it.
ANNOTATION_FOLDERS = ("Annotations", "Anno_coarse", "Anno_fine", "Anno", "Eval", "split")

MISNAMED = "the name of this file or of a folder above it is not UTF-8; rename it"

# Categories of lines that are neither kept nor rejected.
ACCOUNTS = ("superseded", "left_out", "joined", "header", "blank")


@dataclass(frozen=True, slots=True)
class Reject:
    """A rejected row: the row, the location of the problem (usually the same line), the rule and the value found."""

    row: RawLine
    location: RawLine
    rule: str
    message: str
    column: str = ""
    found: str = ""
    rules: tuple[str, ...] = ()


@dataclass
class RawFolder:
    """Input of a reader: the given folders, their common root, and the row accounting.

    `files` are the annotation files read so far, `rejects` the rejected rows, `warnings` counts of suspicious rows that
    were kept, `notes` sentences for the report, `totals` the row counts to compare with published ones, `vocabularies`
    those that only the raw files define, by column. `mapping` contains the `--map` options, `workers` is the number of
    processes a reader may start (0: one per core), `progress` is called with (done, total) while reading. `guessed` are
    guessed columns by the `--map` key that sets them; `instances` means that several rows show the same image.
    `box_form` is the box format of the files (`fprep.readers.units`); `landmark_set` and `column_groups` are set if
    only the files determine them; `splits_are_given` means that no split is cut from train, even if the reader leaves
    splits to `convert`. `spill`, created by readers with wide columns for more rows than fit in memory, spills to a
    file below `scratch`. With `follow_links`, files reached by links that leave the root may be read. `walked` counts the
    entries that `walk` skipped, `collections` the JSON files with many rows each, which `documents` counts by folder.
    """

    given: tuple[Path, ...]
    root: Path
    follow_links: bool = False
    walked: Walked = field(default_factory=Walked)
    mapping: dict[str, str] = field(default_factory=dict[str, str])
    workers: int = 0
    progress: Callable[[int, int], None] = field(default=lambda _done, _total: None)
    scratch: Path | None = None
    box_form: str = "corners"
    landmark_set: LandmarkSet | None = None
    column_groups: tuple[str, ...] = ()
    splits_are_given: bool = False
    spill: SpillFile | None = None
    files: dict[str, RawFile] = field(default_factory=dict[str, RawFile])
    rejects: list[Reject] = field(default_factory=list[Reject])
    warnings: Counter[str] = field(default_factory=Counter[str])
    examples: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    notes: list[str] = field(default_factory=list[str])
    totals: Counter[str] = field(default_factory=Counter[str])
    vocabularies: dict[str, Vocabulary] = field(default_factory=dict[str, Vocabulary])
    guessed: dict[str, str] = field(default_factory=dict[str, str])
    instances: bool = False
    documents: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])
    collections: set[str] = field(default_factory=set[str])
    joins: dict[str, dict[str, tuple[str, list[int]]]] = field(
        default_factory=dict[str, dict[str, tuple[str, list[int]]]]
    )
    _odd_paths: dict[str, Path] = field(default_factory=dict[str, Path])

    @classmethod
    def open(cls, raw: Sequence[Path], *, follow_links: bool = False) -> RawFolder:
        """Resolve the user's paths. Raises `UsageError` if one does not exist. The root is their common parent."""
        if not raw:
            raise UsageError("no raw folder given; pass at least one folder or annotation file")
        given: list[Path] = []
        homes: list[str] = []
        for path in raw:
            if not path.exists():
                raise UsageError(f"{readable(path)}: {absent(path)}; choose the unpacked archive")
            if not (path.is_dir() or path.is_file()):
                raise UsageError(f"{readable(path)}: neither a folder nor a regular file; choose the unpacked archive")
            resolved = real_path(path)
            if not is_utf8(str(resolved)):
                raise UsageError(f"{readable(resolved)}: the name is not UTF-8; rename the folder")
            if resolved not in given:
                given.append(resolved)
            home = resolved if resolved.is_dir() else resolved.parent
            homes.append(str(home.parent if home.name in ANNOTATION_FOLDERS else home))
        return cls(tuple(sorted(given)), Path(os.path.commonpath(homes)), follow_links)

    def walk(self, folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
        """Walk a folder with `fschemas.walk.walk`, under the link policy of this conversion."""
        return walk(folder, follow_links=self.follow_links, walked=self.walked)

    def folders_in(self, folder: Path) -> list[Path]:
        """Return the subfolders, including links to folders, by name; without junk and hidden ones."""
        found = list_folder(folder)
        return [folder / name for name in sorted([*found.folders, *found.linked])]

    @cached_property
    def images(self) -> ImageFinder:
        """Finder of images below the root, which tolerates spelling differences between annotation and disk."""
        return ImageFinder(str(self.root))

    def has_image(self, folder: Path, name: str) -> bool:
        """Return whether the folder, which is below the root, has a file with this name or a similar one."""
        return self.images.has("/".join((*folder.relative_to(self.root).parts, name)))

    def close(self) -> None:
        """Discard the spilled columns."""
        if self.spill is not None:
            self.spill.close()

    def name_of(self, path: Path) -> str:
        """Return the path relative to the root, with `/`. Escapes bytes that are not UTF-8; inverse: `path_of`."""
        name = path.relative_to(self.root).as_posix()
        text = name if name.isascii() else readable(name)
        if text != name:
            self._odd_paths[text] = path
        return text

    def path_of(self, name: str) -> Path:
        """Return the path for a result of `name_of`."""
        return self._odd_paths.get(name) or self.root / name

    def check_link(self, path: Path) -> None:
        """Raise `UsageError` if an annotation file is outside the raw folders by a link, unless links are followed."""
        real = os.path.realpath(path)
        inside = any(is_below(real, str(folder)) for folder in (self.root, *self.given))
        if not (self.follow_links or inside or is_stored_by_content(real)):
            name = self.name_of(path)
            raise UsageError(f"{name}: a symbolic link leads out of the raw folder, to {real}; {HOW_TO_FOLLOW}")

    def open_file(self, path: Path) -> RawFile:
        """Open an annotation file and account for it. A byte order mark and line ends other than LF are noted."""
        name = self.name_of(path)
        if name not in self.files:
            self.check_link(path)
            file = self.files[name] = RawFile(path, name)
            for quirk, present in (("bom", file.has_bom), ("crlf", file.has_crlf), ("cr", file.has_cr)):
                if present:
                    self.warn(quirk, name)
        return self.files[name]

    def read_document(self, path: Path, limit: int) -> bytes:
        """Return at most `limit` + 1 bytes of a one-row annotation file. Raises `OpenError`."""
        opened = open_inside(str(self.root), path.relative_to(self.root).as_posix(), follow_links=self.follow_links)
        try:
            return read_all(opened.descriptor, min(opened.size, limit + 1))
        finally:
            os.close(opened.descriptor)

    def count_documents(self, pattern: str, count: int, account: str = "") -> None:
        """Account for one-row annotation files as a single entry, because a million entries would not fit in memory.

        `pattern` is their folder relative to the root, with `*.json` in place of the file name: the result of
        `document_pattern` for each row's `source_file`. With `account` (one of ACCOUNTS), they are not rows.
        """
        counts = self.documents.setdefault(pattern, Counter())
        counts["lines"] += count
        if account:
            counts[account] += count

    def account(self, file: str, account: str) -> None:
        """Count one row of a file or document under one of ACCOUNTS."""
        books = self.files[file].accounts if file in self.files else self.documents[document_pattern(file)]
        books[account] += 1

    def line(self, file: str, number: int) -> RawLine:
        """Return a line by the file and number that a row has for it; the start of a document is read again."""
        if file in self.files:
            return self.files[file].line(number)
        try:
            return RawLine(file, number, 0, self.read_document(self.path_of(file), MAX_RAW)[:MAX_RAW])
        except OpenError:
            return RawLine(file, number, 0, b"")

    def option(self, key: str, known: Collection[str], default: str) -> str:
        """Return `chosen_option` for this conversion."""
        return chosen_option(self.mapping, key, known, default)

    def prefix_of(self, folder: Path) -> str:
        """Return the prefix for paths in `folder`, relative to the root: its name and `/`, or "" for the root."""
        return "" if folder == self.root else f"{self.name_of(folder)}/"

    def nothing_found(self, message: str) -> UsageError:
        """Return the error for folders without readable data; `message` describes what was expected."""
        return UsageError(f"{', '.join(map(str, self.given))}: {message}")

    def reject(self, row: RawLine, rule: str, message: str, column: str = "", found: str = "", *, location: RawLine | None = None,
               rules: tuple[str, ...] = ()) -> None:  # fmt: skip
        """Reject a row, often with `*problem`.

        `message` describes the problem without its location. `location` is that of the problem, if it is not in the row itself.
        """
        where = location or row
        message = f"{where}: {message}; row rejected"
        self.rejects.append(Reject(row, where, rule, message, column, found[:200], rules or (rule,)))

    def has_path(self, line: RawLine) -> bool:
        """Return whether a line is the path of an image, as returned by `path_in`; other lines are rejected."""
        problem = text_problem(line) or image_path_problem(path_in(line))
        if problem is not None:
            self.reject(line, *problem, column="image", found=repr(line.content[:100]))
        return problem is None

    def warn(self, rule: str, location: object) -> None:
        """Count a suspicious row that is kept. The report lists the first ten locations."""
        self.warnings[rule] += 1
        examples = self.examples.setdefault(rule, [])
        if len(examples) < 10:
            examples.append(str(location))

    def note_similar_spellings(self, names: Mapping[str, str]) -> None:
        """Note and count images found under a similar name. `names` maps annotated names to names on disk."""
        if not names:
            return
        kinds = Counter(HOW[difference_of(*pair)] for pair in islice(names.items(), _MAX_COUNTED))
        differences = ", ".join(f"{count} by {kind}" for kind, count in sorted(kinds.items()))
        first, other = next(iter(names.items()))
        what = "images whose names are spelled differently on the disk, but were found"
        self.notes.append(f"{what}: {len(names)} ({differences}), such as {first}, which is {other}")
        for name, path in names.items():
            self.warn("near_image_name", f"{name} -> {path}")

    def join(self, rows: str, column: str, file: str, numbers: list[int]) -> None:
        """Record that `column` of line i of file `rows` is in line `numbers[i - 1]` of `file` (0: missing)."""
        self.joins.setdefault(rows, {})[column] = (file, numbers)

    def location(self, row: RawLine, column: str) -> RawLine:
        """Return the line that contains a column of a row."""
        for prefix, (file, numbers) in self.joins.get(row.file, {}).items():
            if column.startswith(prefix) and numbers[row.number - 1]:
                return self.line(file, numbers[row.number - 1])
        return row


def chosen_option(mapping: Mapping[str, str], key: str, known: Collection[str], default: str) -> str:
    """Return the value of `--map KEY=`, else `default`. Raises `UsageError` if the value is not `known`."""
    value = mapping.get(key, default)
    if value in known:
        return value
    raise UsageError(f"--map {key}={value}: {did_you_mean(value, known)}expected {' or '.join(filter(None, known))}")


def real_path(path: Path) -> Path:
    """Resolve all links. Unlike `Path.resolve`, does not raise for a link to itself."""
    return Path(os.path.realpath(path))


def absent(path: Path) -> str:
    """Return why a path does not exist: it is missing, or a broken link."""
    if path.is_symlink():
        return f"a link to {path.readlink()}, which does not exist"
    return "no such file or folder"


def document_pattern(name: str) -> str:
    """Return the pattern of a document: `labels/romantic/123.json` -> `labels/romantic/*.json`."""
    folder, _, last = name.rpartition("/")
    suffix = last.rpartition(".")[2]
    return f"{folder}/*.{suffix}" if folder else f"*.{suffix}"


def path_in(line: RawLine) -> str:
    """Return the image path that a whole line consists of."""
    return clean_path(line.content.decode().strip(" \t"))


def text_problem(line: RawLine) -> tuple[str, str] | None:
    """Return rule and message for a line that is too long, quoted or not UTF-8, else None."""
    if len(line.content) > MAX_LINE:
        return "line_too_long", f"the line has more than {MAX_LINE} bytes"
    if b'"' in line.content:
        return "quoted_row", 'the row contains a quotation mark ("), which these files never use'
    try:
        line.content.decode("utf-8")
    except UnicodeDecodeError as error:
        return "bad_encoding", f"byte 0x{line.content[error.start]:02x} at position {error.start + 1} is not UTF-8"
    return None
