"""What the readers of a user's own pictures share: names of splits, what counts as a picture, open vocabularies."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from fprep.raw import RawFolder
from fschemas.vocabularies import Vocabulary

PICTURE_ENDS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp")
SPLIT_NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test",
    "testing": "test", "query": "query", "gallery": "gallery",
}  # fmt: skip
_WORDS = re.compile(r"[\s_.-]+")


def plain(text: str) -> str:
    """One spelling of a name: NFC, no blanks at the ends."""
    return unicodedata.normalize("NFC", text).strip()


def last_word(text: str) -> str:
    """`Abstract_Print_Dress` is a `Dress`."""
    return next((word for word in reversed(_WORDS.split(text)) if word), "")


def add_vocabulary(raw: RawFolder, column: str, dataset: str, values: Iterable[str]) -> None:
    """The names that a column has become its vocabulary; "" is none."""
    names = tuple(sorted(set(values) - {""}))
    raw.vocabularies[column] = Vocabulary(f"{dataset}-{column}", names)


def walk_pictures(raw: RawFolder) -> list[str]:
    """Paths from the root of all pictures below what was given, by name; links to folders are not followed.

    What is no picture by its name is counted in a note. Raises `UsageError` for a name that is not UTF-8.
    """
    found: set[str] = set()
    others, links = Counter[str](), 0
    for given in raw.given:
        waiting = [given]
        while waiting:
            place = waiting.pop()
            if place.is_file():
                found.add(raw.name_of(place))
                continue
            prefix = "" if place == raw.root else f"{raw.name_of(place)}/"
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.name[0] == "." or entry.name == "__MACOSX":
                        continue
                    end = os.fsencode(Path(entry.name).suffix.lower()).decode(errors="replace")
                    if entry.is_dir():
                        links += entry.is_symlink()
                        waiting += [] if entry.is_symlink() else [place / entry.name]
                    elif end in PICTURE_ENDS:
                        found.add(prefix + entry.name if entry.name.isascii() else raw.name_of(place / entry.name))
                    else:
                        others[end or "without an extension"] += 1
    if others:
        kinds = ", ".join(f"{count} {end}" for end, count in sorted(others.items())[:6])
        raw.notes.append(f"{sum(others.values())} files that are no pictures by their names are passed over: {kinds}")
    if links:
        raw.notes.append(f"{links} links to folders are not followed; name the folders that they point to")
    return sorted(found)
