"""Shared by the readers of a user's own images: split names, image files, open vocabularies."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from fprep.raw.folder import RawFolder
from fprep.readers.class_names import shortened
from fschemas import wording
from fschemas.image_limits import IMAGE_EXTENSIONS
from fschemas.splits import QUERY_AND_GALLERY
from fschemas.vocabularies import Vocabulary
from fschemas.walk import readable

SPLIT_NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test",
    "testing": "test", **{name: name for name in QUERY_AND_GALLERY["test"]},
}  # fmt: skip
_WORDS = re.compile(r"[\s_.-]+")


def plain(text: str) -> str:
    """Normalize a name: NFC, stripped."""
    return unicodedata.normalize("NFC", text).strip()


class Spellings:
    """Class names in normalized spelling, with a record of the names that occurred in several spellings.

    "Café" looks the same however its é is encoded, so both spellings are the same class; but the merge is reported.
    """

    def __init__(self) -> None:
        self._written: dict[tuple[str, str], set[str]] = {}

    def plain(self, column: str, text: str) -> str:
        """Normalize a name in a column and record its spelling."""
        name = plain(text)
        self._written.setdefault((column, name), set()).add(text)
        return name

    def note(self, raw: RawFolder) -> None:
        """Note and count the names with several spellings."""
        sentences = [
            f"{column}: {', '.join(ascii(text) for text in sorted(texts))} are read as one, {name!r}"
            for (column, name), texts in sorted(self._written.items())
            if name and len(texts) > 1
        ]
        raw.notes += shortened(sentences)
        for sentence in sentences:
            raw.warn("respelled_names", sentence)


def last_word(text: str) -> str:
    """Return the last word of a name: `Dress` for `Abstract_Print_Dress`."""
    return next((word for word in reversed(_WORDS.split(text)) if word), "")


def add_vocabulary(raw: RawFolder, column: str, dataset: str, values: Iterable[str]) -> None:
    """Make the distinct names of a column its vocabulary, without ""."""
    names = tuple(sorted(set(values) - {""}))
    raw.vocabularies[column] = Vocabulary(f"{dataset}-{column}", names)


def walk_images(raw: RawFolder) -> tuple[list[str], list[str]]:
    """Return the sorted paths from the root of all images, and of those with non-UTF-8 names.

    Files without an image extension are counted in a note.
    """
    found, misnamed = set[str](), set[str]()
    others = Counter[str]()
    for given in raw.given:
        single = [(given.parent, [], [given.name])]
        for here, _, files in single if given.is_file() else raw.walk(given):
            prefix = raw.prefix_of(here)
            is_text = prefix.isascii() or prefix[:-1] == here.relative_to(raw.root).as_posix()
            for name in files:
                shown = name if name.isascii() else readable(name)
                end = Path(shown).suffix.lower()
                if end not in IMAGE_EXTENSIONS and not given.is_file():
                    others[end or "without an extension"] += 1
                else:
                    (found if is_text and shown == name else misnamed).add(prefix + shown)
    if others:
        kinds = ", ".join(f"{count} {end}" for end, count in sorted(others.items())[:6])
        files = wording.count(sum(others.values()), "file")
        raw.notes.append(f"ignored: {files} that are not images by their names: {kinds}")
    return sorted(found), sorted(misnamed)
