"""What the readers of a user's own images share: names of splits, what counts as an image, open vocabularies."""

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
    """One spelling of a name: NFC, no blanks at the ends."""
    return unicodedata.normalize("NFC", text).strip()


class Spellings:
    """Names of classes in one spelling each, and an account of those that were written in several.

    On a screen "Café" looks the same however its é is stored, so nobody means two classes by it; but nothing is merged in silence.
    """

    def __init__(self) -> None:
        self._written: dict[tuple[str, str], set[str]] = {}

    def plain(self, column: str, text: str) -> str:
        """`plain` of a name in a column."""
        name = plain(text)
        self._written.setdefault((column, name), set()).add(text)
        return name

    def tell(self, raw: RawFolder) -> None:
        """Note and count the names that were written in several ways."""
        told = [
            f"{column}: {', '.join(ascii(text) for text in sorted(texts))} are read as one, {name!r}"
            for (column, name), texts in sorted(self._written.items())
            if name and len(texts) > 1
        ]
        raw.notes += shortened(told)
        for sentence in told:
            raw.warn("respelled_names", sentence)


def last_word(text: str) -> str:
    """`Abstract_Print_Dress` is a `Dress`."""
    return next((word for word in reversed(_WORDS.split(text)) if word), "")


def add_vocabulary(raw: RawFolder, column: str, dataset: str, values: Iterable[str]) -> None:
    """The names that a column has become its vocabulary; "" is none."""
    names = tuple(sorted(set(values) - {""}))
    raw.vocabularies[column] = Vocabulary(f"{dataset}-{column}", names)


def walk_images(raw: RawFolder) -> tuple[list[str], list[str]]:
    """Paths from the root of all images below what was given, by name, and of those whose names are not UTF-8.

    Files whose names are not those of images are counted in a note.
    """
    found, misnamed = set[str](), set[str]()
    others = Counter[str]()
    for given in raw.given:
        single = [(given.parent, [], [given.name])]
        for place, _, files in single if given.is_file() else raw.walk(given):
            prefix = raw.prefix_of(place)
            is_text = prefix.isascii() or prefix[:-1] == place.relative_to(raw.root).as_posix()
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
        raw.notes.append(f"passed over: {files} that by their names are no images: {kinds}")
    return sorted(found), sorted(misnamed)
