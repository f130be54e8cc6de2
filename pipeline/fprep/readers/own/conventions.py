"""Shared by the readers of a user's own images: split names, spellings, open vocabularies."""

import re
import unicodedata
from collections.abc import Iterable

from fprep.raw.folder import RawFolder
from fprep.readers.class_names import shortened
from fschemas.splits import QUERY_AND_GALLERY
from fschemas.vocabularies import Vocabulary

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
