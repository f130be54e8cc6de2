"""What a conversion tells of its whole table: names of classes that are nearly equal, and splits without a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import polars as pl

from fprep.raw.folder import RawFolder
from fprep.readers.class_names import near_names_of, shortened
from fschemas.splits import SIDES
from fschemas.wording import count


def tell_near_names(frame: pl.DataFrame, raw: RawFolder) -> None:
    """Classes that only differ in case and the like: two classes for the models, one for whoever wrote them."""
    vocabularies = {column: vocabulary.values for column, vocabulary in raw.vocabularies.items()}
    for told in near_names_of(frame, vocabularies).values():
        raw.notes += shortened(told)
        for sentence in told:
            raw.warn("near_equal_names", sentence)


def tell_empty_splits(frame: pl.DataFrame, raw: RawFolder, wanted: Mapping[str, float]) -> None:
    """Say which of the splits that were to be cut have no row."""
    sides = Counter(SIDES[split] for split in frame["split"].cast(pl.String).to_list())
    for split in ("train", "val", "test"):
        if split in wanted and not sides[split] and sum(sides[side] for side in ("train", "val", "test")):
            groups = frame["group"].n_unique()
            raw.warn("empty_split", split)
            raw.notes.append(
                f"the split {split} is empty: {count(len(frame), 'row')} in {count(groups, 'group')} leave nothing for a share "
                f"of {wanted[split]:g}; add images, or choose another --{split}-share"
                if split != "train"
                else f"the split train is empty: {count(groups, 'group')} went into val and test; add images, or choose smaller shares"
            )
