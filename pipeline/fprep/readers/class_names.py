"""Confusable class names: they differ only in case, whitespace, Unicode form or look-alike letters."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping

import polars as pl

from fprep.raw.folder import RawFolder

# Letters of other scripts that look like Latin ones (Unicode Technical Standard 39; common Cyrillic and Greek ones).
_LOOK_ALIKE = str.maketrans(
    "АВЕЅІЈКМНОРСТУХаеіјѕорсухԁԛԝһӏ" "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧαινορυχϲ" "ıɑɡ",
    "ABESIJKMHOPCTYXaeijsopcyxdqwhl" "ABEZHIKMNOPTYXaivopuxc" "iag",
)  # fmt: skip
_COLUMNS = ("category", "style", "substyle", "item", "color", "pose", "garment")
_MAX_NOTES = 5


def confusable_skeleton(name: str) -> str:
    """Reduce a name for comparison: no case, whitespace, invisible characters, compatibility forms or look-alikes."""
    text = unicodedata.normalize("NFKC", name).translate(_LOOK_ALIKE)
    kept = (character for character in text if not character.isspace() and unicodedata.category(character) != "Cf")
    return unicodedata.normalize("NFC", "".join(kept).casefold()).translate(_LOOK_ALIKE)


def similar_names(names: Iterable[str]) -> list[list[str]]:
    """Return groups of distinct names with the same skeleton, each sorted, ordered by first name."""
    found: dict[str, set[str]] = {}
    for name in names:
        if name:
            found.setdefault(confusable_skeleton(name), set()).add(name)
    return sorted(sorted(group) for group in found.values() if len(group) > 1)


def difference_between(group: Iterable[str]) -> str:
    """Describe the smallest difference that separates the names, such as `case` or `look-alike letters`."""
    names = list(group)
    steps = {
        "Unicode form": lambda name: unicodedata.normalize("NFC", name),
        "case": str.casefold,
        "whitespace": lambda name: "".join(name.split()),
        "case and whitespace": lambda name: "".join(name.casefold().split()),
        "compatibility forms or invisible characters": lambda name: "".join(
            character for character in unicodedata.normalize("NFKC", name) if unicodedata.category(character) != "Cf"
        ),
        "look-alike letters of other scripts": lambda name: name.translate(_LOOK_ALIKE),
    }
    least = (what for what, change in steps.items() if len(set(map(change, names))) == 1)
    return next(least, "case, whitespace or look-alikes")


def similar_names_of(frame: pl.DataFrame, vocabularies: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Return a sentence for each group of confusable names, by column, for the table's columns and the vocabularies."""
    names: dict[str, Counter[str]] = {}
    for column in _COLUMNS:
        if column in frame.columns:
            kept = frame[column].cast(pl.String).drop_nulls().value_counts()
            names.setdefault("style" if column == "substyle" else column, Counter()).update(dict(kept.iter_rows()))
    for column, values in vocabularies.items():
        names.setdefault(column, Counter()).update(dict.fromkeys(values, 0))
    return {column: sentences for column, counts in names.items() if (sentences := _describe(column, counts))}


def _describe(column: str, counts: Counter[str]) -> list[str]:
    sentences: list[str] = []
    for group in similar_names(counts):
        how = difference_between(group)
        write = repr if how.startswith(("case", "whitespace")) else ascii  # write invisible differences as escapes
        shown = ", ".join(f"{write(name)} ({counts[name]})" for name in group)
        sentences.append(f"{column}: {shown} differ only in {how}; if they are one class, use one spelling")
    return sentences


def shortened(sentences: list[str]) -> list[str]:
    """Return the first sentences, and the number of remaining ones."""
    more = [f"{len(sentences) - _MAX_NOTES} more such groups"] if len(sentences) > _MAX_NOTES else []
    return [*sentences[:_MAX_NOTES], *more]


def warn_similar_names(frame: pl.DataFrame, raw: RawFolder) -> None:
    """Warn about confusable class names: separate classes for a model, but probably meant as one."""
    vocabularies = {column: vocabulary.values for column, vocabulary in raw.vocabularies.items()}
    for sentences in similar_names_of(frame, vocabularies).values():
        raw.notes += shortened(sentences)
        for sentence in sentences:
            raw.warn("near_equal_names", sentence)
