"""COCO files (Lin et al., Microsoft COCO, ECCV 2014): lists that reference each other by id, with keys in any order.

Nothing depends on positions: images, categories and attributes are found by id, and categories keep the names of the
file. Files written by `fprep export --to coco` are recognized, because they contain more than COCO fields.
"""

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import cast

from fprep.raw.file import is_file, read_unchanged
from fprep.raw.folder import RawFolder, RawLine, document_pattern
from fprep.readers.json_document import Entry, Problem, parse_document
from fprep.readers.own.conventions import SPLIT_NAMES
from fschemas.failures import UsageError
from fschemas.regular_file import open_regular
from fschemas.splits import SPLITS
from fschemas.walk import walk

MAX_COCO = 1 << 30  # bytes; files are parsed as a whole
_BLOCK = 1 << 22
_MAX_DEPTH = 5  # levels of folders to search for COCO files
_MAX_FOLDERS = 10_000  # to search for images
_KEYS = re.compile(rb'"(images|annotations)"\s*:\s*\[')
_SPLIT_WORDS = {**{name: name for name in SPLITS}, **SPLIT_NAMES}
_WORD = re.compile(r"val_query|val_gallery|[a-z]+")
_IMAGE_FOLDERS = ("", "image", "images", "img", "imgs", "data")


@dataclass(frozen=True)
class CocoFile:
    """One file: entries by id (as text, since 7 and "7" are the same), annotations in file order.

    `ambiguous` are ids used by several images. `labels` are the column groups and vocabularies that `fprep export`
    writes to `info`, None for files of other programs.
    """

    name: str
    path: Path
    images: dict[str, Entry]
    categories: dict[str, Entry]
    attributes: dict[str, Entry]
    annotations: list[Entry]
    ambiguous: frozenset[str]
    labels: Entry | None

    def category_name(self, entry: Entry) -> str | None:
        """Return the category name of an annotation, None if the file lacks its id."""
        category = self.categories.get(str(entry.get("category_id")))
        return None if category is None else str(category.get("name", "")).strip() or None


def _is_coco(path: Path) -> bool:
    """Return whether a JSON file has the list `images` or `annotations`. Raises `UsageError` like `is_file`."""
    if not is_file(path):
        return False
    with open_regular(path) as file:
        rest = b""
        start = file.read(_BLOCK)
        if start[:2] in (b"\xff\xfe", b"\xfe\xff"):  # not UTF-8; `read_coco` reports it
            return _KEYS.search(start.decode("utf-16", "ignore").encode("utf-8", "ignore")) is not None
        if not start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
            return False
        while start:
            if _KEYS.search(rest + start):
                return True
            rest, start = start[-64:], file.read(_BLOCK)
    return False


def coco_files(raw: RawFolder, pattern: str = "*.json") -> list[Path]:
    """Return the COCO files, at most five levels deep, by name. Raises `UsageError` if none exist.

    `pattern` selects files of the folders by name, in lower case, if a release has other JSON files with images too.
    """
    found: dict[Path, None] = {}
    for given in raw.given:
        if given.is_file():
            found |= {given: None} if given.suffix.lower() == ".json" else {}
            continue
        for here, names, entries in raw.walk(given):
            names[:] = [] if len(here.relative_to(given).parts) >= _MAX_DEPTH else names
            jsons = [name for name in entries if fnmatchcase(name.lower(), pattern)]
            found |= dict.fromkeys(here / name for name in jsons if is_coco_among(raw, here / name))
    if not found:
        if raw.rejects:  # a file that cannot be read
            raise raw.nothing_found(f"no COCO file here; {raw.rejects[0].message.removesuffix('; row rejected')}")
        raise raw.nothing_found(f"no COCO file here; expected {pattern} with images, annotations and categories")
    return sorted(found)


def is_coco_among(raw: RawFolder, path: Path) -> bool:
    """Return whether a file found in a folder is a COCO file; a file that cannot be read is rejected."""
    try:
        return _is_coco(path)
    except UsageError as error:
        name = raw.name_of(path)
        raw.count_documents(document_pattern(name), 1)
        raw.reject(RawLine(name, 1, 0, b""), "unreadable_file", str(error), found=name)
        return False


def read_coco(raw: RawFolder, path: Path) -> CocoFile:
    """Parse a COCO file. Raises `UsageError` if it is not one."""
    name = raw.name_of(path)
    raw.check_link(path)
    if path.stat().st_size > MAX_COCO:
        raise UsageError(f"{name}: a COCO file of more than {MAX_COCO} bytes; split it by images")
    document = parse_document(read_unchanged(path, name))
    if isinstance(document, Problem):
        raise UsageError(f"{name}: {document.message}; restore the file")
    raw.collections.add(name)
    images, annotations = (_entries(document, key, name) for key in ("images", "annotations"))
    optional = [_entries(document, key, name) if document.get(key) else [] for key in ("categories", "attributes")]
    categories, attributes = optional
    seen: set[str] = set()
    ambiguous = {number for entry in images if (number := str(entry.get("id"))) in seen or seen.add(number)}
    info: object = document.get("info")
    stored = cast("Entry", info).get("table") if isinstance(info, dict) else None
    return CocoFile(
        name, path, _by_id(images), _by_id(categories), _by_id(attributes), annotations, frozenset(ambiguous),
        cast("Entry", stored) if isinstance(stored, dict) and isinstance(cast("Entry", stored).get("column_groups"), list) else None,
    )  # fmt: skip


def split_named(name: str) -> str | None:
    """Return the split in the name of a file or folder: `instances_val2017.json`, `valid/_annotations.json`."""
    stem, *folders = [part.lower() for part in reversed(name.removesuffix(".json").split("/"))]
    for part in (stem, *folders):
        words = [_SPLIT_WORDS[word] for word in _WORD.findall(part) if word in _SPLIT_WORDS]
        if words:
            return words[0]
    return None


def image_prefix(raw: RawFolder, path: Path, names: Sequence[str]) -> str:
    """Return the prefix of a COCO file's images, relative to the root.

    The images are next to the file, in a folder of the usual layouts, or else in the folder with most of them.
    """
    stem = path.stem.lower()
    own = [folder for folder in ("train2017", "val2017", "test2017", "train2020", "val2020") if folder in stem]
    splits = ("", "train/", "validation/", "val/", "valid/", "test/")
    bases = [
        path.parent,
        path.parent.parent,
        *(given if given.is_dir() else given.parent for given in raw.given),
        raw.root,
    ]
    parts = [
        *own,
        *(f"images/{folder}" for folder in own),
        *(split + folder for folder in _IMAGE_FOLDERS for split in splits),
    ]
    homes = dict.fromkeys(base / part for part in parts for base in bases)
    inside = [home for home in homes if home.is_relative_to(raw.root)]
    sample = names[:: max(1, len(names) // 20)][:20]
    hits = {home: sum(bool(name) and raw.has_image(home, name) for name in sample) for home in inside}
    if not any(hits.values()):
        lasts = {name.rpartition("/")[2] for name in sample if name}
        for here, _, files in itertools.islice(walk(raw.root, follow_links=raw.follow_links), _MAX_FOLDERS):
            for name in lasts.intersection(files):
                up = next(full for full in sample if full.rpartition("/")[2] == name).count("/")
                hits.setdefault(here.parents[up - 1] if up else here, 0)
        inside = [home for home in hits if home.is_relative_to(raw.root)]
        hits = {home: sum(bool(name) and raw.has_image(home, name) for name in sample) for home in inside}
    home = max(hits, key=lambda home: hits[home]) if any(hits.values()) else path.parent
    return raw.prefix_of(home)


def _entries(document: Entry, key: str, name: str) -> list[Entry]:
    value = document.get(key)
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in cast("list[object]", value)):
        raise UsageError(f"{name}: {key} is not a list of objects ({json.dumps(value)[:60]}); this is not a COCO file")
    return cast("list[Entry]", value)


def _by_id(entries: list[Entry]) -> dict[str, Entry]:
    return {str(entry.get("id")): entry for entry in entries}
