"""The raw folder as a reader sees it: strict lines from bytes, and an account of every line.

Annotation files are split at LF (or CRLF; at CR where there is no LF) and at nothing else. Whatever a reader does with a line, it says so here; at the
end of a conversion the law of rows is checked for each file:
lines = kept + rejected + superseded + left out + joined + header + blank.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from fprep.raw.file import MAX_LINE, RawFile, RawLine
from fprep.raw.image_names import HOW, ImageFinder, difference_of
from fprep.raw.safe_open import HOW_TO_FOLLOW, CannotOpen, open_inside, read_all
from fprep.raw.spill import Aside
from fschemas.failures import UsageError, did_you_mean
from fschemas.landmarks import LandmarkSet
from fschemas.vocabularies import Vocabulary
from fschemas.walk import Walked, is_below, is_stored_by_content, is_utf8, list_folder, readable, walk

_MAX_COUNTED = 100_000  # names whose way of differing is looked at
MAX_RAW = 4096  # bytes of a rejected line that are kept
# Images stand beside such a folder, not in it.
ANNOTATION_FOLDERS = ("Annotations", "Anno_coarse", "Anno_fine", "Anno", "Eval", "split")

MISNAMED = "the name of this file or of a folder above it is not UTF-8; rename it"

# How a line that is neither kept nor rejected is accounted for.
ACCOUNTS = ("superseded", "left_out", "joined", "header", "blank")


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that is not in the table: the row, the place of the fault (usually the same line), the rule and what was found."""

    row: RawLine
    place: RawLine
    rule: str
    message: str
    column: str = ""
    found: str = ""
    rules: tuple[str, ...] = ()


@dataclass
class RawFolder:
    """What a reader gets: the given folders, their common root, and the books.

    `files` are the annotation files read so far, `rejects` the rows refused, `warnings` counts of things kept but worth a
    look, `notes` sentences for the report, `totals` what was found where a total is published, `vocabularies` those that only
    the raw files know, by column. `mapping` holds what the user says with `--map`, `workers` how many processes a reader may
    start (0: one per core), `progress` takes (done, total) of the reading. `guessed` are columns by the key of `--map` that
    would have named them, `instances` says that several rows show the same image. `box_form` is how the files write boxes
    (`fprep.readers.units`), `landmark_set` and `column_groups` what only they know, `splits_are_given` says that none is cut from train
    although the reader may leave that to `convert`. `aside` is for the wide columns of more rows than memory
    may hold, where a reader makes it; its file then lies below `scratch`. `follow_links`: whether files behind links that leave
    the root may be read. `walked` counts what `walk` passed over.
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
    aside: Aside | None = None
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
    joins: dict[str, dict[str, tuple[str, list[int]]]] = field(
        default_factory=dict[str, dict[str, tuple[str, list[int]]]]
    )
    _odd_paths: dict[str, Path] = field(default_factory=dict[str, Path])

    @classmethod
    def open(cls, raw: Sequence[Path], *, follow_links: bool = False) -> RawFolder:
        """Resolve what the user gave; raises `UsageError` if a path does not exist. The root is the common parent of all."""
        if not raw:
            raise UsageError("no raw folder given; name at least one folder or annotation file")
        given: list[Path] = []
        homes: list[str] = []
        for path in raw:
            if not path.exists():
                raise UsageError(f"{readable(path)}: {absent(path)}; name the unpacked archive")
            if not (path.is_dir() or path.is_file()):
                raise UsageError(f"{readable(path)}: neither a folder nor a regular file; name the unpacked archive")
            place = real_path(path)
            if not is_utf8(str(place)):
                raise UsageError(f"{readable(place)}: the name is not UTF-8; rename the folder")
            if place not in given:
                given.append(place)
            home = place if place.is_dir() else place.parent
            homes.append(str(home.parent if home.name in ANNOTATION_FOLDERS else home))
        return cls(tuple(sorted(given)), Path(os.path.commonpath(homes)), follow_links)

    def walk(self, folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
        """`fschemas.walk.walk` under the rule of this conversion about links."""
        return walk(folder, follow_links=self.follow_links, walked=self.walked)

    def folders_in(self, folder: Path) -> list[Path]:
        """The folders in a folder, links to folders among them, by name; junk and hidden ones are left out."""
        found = list_folder(folder)
        return [folder / name for name in sorted([*found.folders, *found.linked])]

    @cached_property
    def images(self) -> ImageFinder:
        """Finds images below the root by names that may be spelled differently on the disk."""
        return ImageFinder(str(self.root))

    def has_image(self, folder: Path, name: str) -> bool:
        """Whether the folder, which lies below the root, has a file of that name or nearly that."""
        return self.images.has("/".join((*folder.relative_to(self.root).parts, name)))

    def close(self) -> None:
        """Give up what was put aside."""
        if self.aside is not None:
            self.aside.close()

    def name_of(self, path: Path) -> str:
        """The path relative to the root, with `/`; bytes that are not UTF-8 become escapes, and `path_of` knows what they were."""
        name = path.relative_to(self.root).as_posix()
        text = name if name.isascii() else readable(name)
        if text != name:
            self._odd_paths[text] = path
        return text

    def path_of(self, name: str) -> Path:
        """The path that `name_of` made the name of."""
        return self._odd_paths.get(name) or self.root / name

    def check_link(self, path: Path) -> None:
        """Raise `UsageError` for an annotation file behind a link that leaves the raw folders, unless links are followed."""
        real = os.path.realpath(path)
        inside = any(is_below(real, str(folder)) for folder in (self.root, *self.given))
        if not (self.follow_links or inside or is_stored_by_content(real)):
            name = self.name_of(path)
            raise UsageError(f"{name}: a symbolic link leads out of the raw folder, to {real}; {HOW_TO_FOLLOW}")

    def open_file(self, path: Path) -> RawFile:
        """Read an annotation file and enter it into the books; a byte order mark and line ends other than LF are noted."""
        name = self.name_of(path)
        if name not in self.files:
            self.check_link(path)
            file = self.files[name] = RawFile(path, name)
            for quirk, present in (("bom", file.has_bom), ("crlf", file.has_crlf), ("cr", file.has_cr)):
                if present:
                    self.warn(quirk, name)
        return self.files[name]

    def read_document(self, path: Path, limit: int) -> bytes:
        """The bytes of an annotation file of one row, at most `limit` + 1 of them; raises `CannotOpen`."""
        opened = open_inside(str(self.root), path.relative_to(self.root).as_posix(), follow_links=self.follow_links)
        try:
            return read_all(opened.descriptor, min(opened.size, limit + 1))
        finally:
            os.close(opened.descriptor)

    def count_documents(self, pattern: str, count: int, account: str = "") -> None:
        """Enter annotation files of one row each into the books, as one entry: a million of them are not kept in memory.

        `pattern` is the folder that they all stand in, relative to the root, with the rest of the name as `*.json`: it is
        what `document_pattern` makes of each row's `source_file`. With `account` (one of ACCOUNTS) they are no rows.
        """
        counts = self.documents.setdefault(pattern, Counter())
        counts["lines"] += count
        if account:
            counts[account] += count

    def account(self, file: str, account: str) -> None:
        """Enter one row of a file or document under one of ACCOUNTS."""
        books = self.files[file].accounts if file in self.files else self.documents[document_pattern(file)]
        books[account] += 1

    def line(self, file: str, number: int) -> RawLine:
        """A line by the names that a row has of it; the start of a document is read again."""
        if file in self.files:
            return self.files[file].line(number)
        try:
            return RawLine(file, number, 0, self.read_document(self.path_of(file), MAX_RAW)[:MAX_RAW])
        except CannotOpen:
            return RawLine(file, number, 0, b"")

    def option(self, key: str, known: Collection[str], default: str) -> str:
        """`chosen_option` of this conversion."""
        return chosen_option(self.mapping, key, known, default)

    def prefix_of(self, folder: Path) -> str:
        """What makes a path below `folder` one from the root: its name and a `/`, or "" for the root itself."""
        return "" if folder == self.root else f"{self.name_of(folder)}/"

    def nothing_found(self, message: str) -> UsageError:
        """The error to raise if the given folders hold nothing to read; `message` says what was expected."""
        return UsageError(f"{', '.join(map(str, self.given))}: {message}")

    def reject(self, row: RawLine, rule: str, message: str, column: str = "", found: str = "", *, place: RawLine | None = None,
               rules: tuple[str, ...] = ()) -> None:  # fmt: skip
        """Refuse a row, often with `*fault`. `message` says what is wrong, but not where; `place` is where, if not in the row's own line."""
        where = place or row
        message = f"{where}: {message}; row rejected"
        self.rejects.append(Reject(row, where, rule, message, column, found[:200], rules or (rule,)))

    def warn(self, rule: str, place: object) -> None:
        """Count something that is kept; the first ten places are named in the report."""
        self.warnings[rule] += 1
        places = self.examples.setdefault(rule, [])
        if len(places) < 10:
            places.append(str(place))

    def tell_near(self, names: Mapping[str, str]) -> None:
        """Count and note images that were taken although their names differ; `names` are as annotated: as on the disk."""
        if not names:
            return
        kinds = Counter(HOW[difference_of(*pair)] for pair, _ in zip(names.items(), range(_MAX_COUNTED), strict=False))
        told = ", ".join(f"{count} by {kind}" for kind, count in sorted(kinds.items()))
        first, other = next(iter(names.items()))
        self.notes.append(
            f"images whose names are spelled differently on the disk, but were found: {len(names)} ({told}), such as {first}, which "
            f"is {other}"
        )
        for name, path in names.items():
            self.warn("near_image_name", f"{name} -> {path}")

    def join(self, rows: str, column: str, file: str, numbers: list[int]) -> None:
        """Say that `column` of the i-th row line of file `rows` stands in line `numbers[line - 1]` of `file` (0: nowhere)."""
        self.joins.setdefault(rows, {})[column] = (file, numbers)

    def place(self, row: RawLine, column: str) -> RawLine:
        """The line where a column of a row stands."""
        for prefix, (file, numbers) in self.joins.get(row.file, {}).items():
            if column.startswith(prefix) and numbers[row.number - 1]:
                return self.line(file, numbers[row.number - 1])
        return row


def chosen_option(mapping: Mapping[str, str], key: str, known: Collection[str], default: str) -> str:
    """What `--map KEY=` says, else `default`; raises `UsageError` for a value that is not `known`."""
    value = mapping.get(key, default)
    if value in known:
        return value
    raise UsageError(f"--map {key}={value}: {did_you_mean(value, known)}expected {' or '.join(filter(None, known))}")


def real_path(path: Path) -> Path:
    """The path without links. Unlike `Path.resolve` it raises nothing for a link that leads to itself."""
    return Path(os.path.realpath(path))


def absent(path: Path) -> str:
    """Why nothing is at a path: there is nothing, or a link leads nowhere."""
    if path.is_symlink():
        return f"a link to {path.readlink()}, which leads nowhere"
    return "no such file or folder"


def document_pattern(name: str) -> str:
    """`labels/romantic/123.json` is one of `labels/romantic/*.json`."""
    folder, _, last = name.rpartition("/")
    suffix = last.rpartition(".")[2]
    return f"{folder}/*.{suffix}" if folder else f"*.{suffix}"


def text_fault(line: RawLine) -> tuple[str, str] | None:
    """Rule and message for a line that is too long, quoted or not UTF-8, else None."""
    if len(line.content) > MAX_LINE:
        return "line_too_long", f"the line has more than {MAX_LINE} bytes"
    if b'"' in line.content:
        return "quoted_row", 'the row holds a quotation mark ("), which these files never use'
    try:
        line.content.decode("utf-8")
    except UnicodeDecodeError as error:
        return "bad_encoding", f"byte 0x{line.content[error.start]:02x} at position {error.start + 1} is not UTF-8"
    return None
