"""Which images are the same, what must not straddle splits, and how train is cut. Everything is a function of the rows."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from fprep.raw.folder import RawFolder
from fprep.readers.reader import short_hash
from fschemas.splits import HELD_OUT, SIDES
from fschemas.wording import count

# Of equal images the first one in the most binding split is kept: a test image must not be trained on.
PRIORITY = {split: ("test", "val", "train", "unlabelled").index(side) for split, side in SIDES.items()}

_STEM = pl.col("image").str.extract(r"([^/]*)$").str.extract(r"^(.*?)(?:\.[^.]*)?$")
# What tells an image from another: its digest, or without one its name where that is a digest, else its path.
IDENTITY = pl.coalesce("sha256", pl.when(_STEM.str.contains("^[0-9a-f]{32}$")).then(_STEM), "image").alias("group")


def duplicate_rows(frame: pl.DataFrame, *, instances: bool) -> list[tuple[int, int, str]]:
    """Rows of a table whose image is already there, as `find_duplicates` gives them.

    With `instances` rows of one path belong together: they stay, or go as copies of another image all at once.
    """
    identities = frame.select(IDENTITY).to_series()
    rows = identities.is_duplicated().arg_true()
    images, splits = (frame[name].gather(rows).to_list() for name in ("image", "split"))
    members: dict[str | int, list[int]] = {}
    for index, unit in enumerate(images if instances else rows.to_list()):
        members.setdefault(unit, []).append(index)
    units = list(members.values())
    firsts = [min(indices, key=lambda index: PRIORITY[splits[index]]) for indices in units]
    chosen = [[values[index] for index in firsts] for values in (identities.gather(rows).to_list(), splits, images)]
    found = find_duplicates(chosen[0], chosen[1], chosen[2])
    return sorted((rows[index], rows[firsts[kept]], rule) for unit, kept, rule in found for index in units[unit])


def find_duplicates(
    identities: Sequence[str], splits: Sequence[str], images: Sequence[str]
) -> list[tuple[int, int, str]]:
    """Rows to drop as (row, the row that is kept, rule): `leaked_image` when the kept one is held out of training, else
    `duplicate_image`."""
    order = sorted(range(len(identities)), key=lambda row: (PRIORITY[splits[row]], row))
    kept: dict[str, int] = {}
    dropped: list[tuple[int, int, str]] = []
    for row in order:
        first = kept.setdefault(identities[row], row)
        if first != row:
            leaked = SIDES[splits[first]] in HELD_OUT and splits[row] == "train"
            rule = "leaked_image" if leaked and images[row] != images[first] else "duplicate_image"
            dropped.append((row, first, rule))
    return sorted(dropped)


def cut_train(groups: Iterable[str], *, val_share: float, test_share: float) -> list[str]:
    """train, val or test for each group, by a hash of the group's name: stable, without randomness, blind to the other rows."""
    splits: list[str] = []
    for group in groups:
        digest = hashlib.blake2b(group.encode(), digest_size=8).digest()
        share = int.from_bytes(digest, "big") / 2**64
        splits.append("val" if share < val_share else "test" if share < val_share + test_share else "train")
    return splits


def cut_missing(splits: Sequence[str], groups: Sequence[str], *, val_share: float, test_share: float) -> list[str]:
    """The splits, with val and test cut off train where the source gives none."""
    shares = shares_to_cut(splits, val_share=val_share, test_share=test_share)
    cut = cut_train(groups, val_share=shares["val"], test_share=shares["test"])
    return [new if old == "train" else old for old, new in zip(splits, cut, strict=True)]


def shares_to_cut(splits: Iterable[str], *, val_share: float, test_share: float) -> dict[str, float]:
    """Which shares of train become val and test: none where the source has that split."""
    given = set(splits)
    has_val = "val" in given  # and then a missing test split is the owner's choice
    return {
        "val": 0.0 if has_val else val_share,
        "test": 0.0 if has_val or any(SIDES[split] == "test" for split in given) else test_share,
    }


def unique_keys(keys: Sequence[str], images: Sequence[str]) -> list[str]:
    """The keys, with a hash of the image path behind every one that occurs again."""
    if len(set(keys)) == len(keys):
        return list(keys)
    seen: set[str] = set()
    unique: list[str] = []
    for key, image in zip(keys, images, strict=True):
        chosen = key if key not in seen else f"{key[:80]}-{short_hash(image)}"
        seen.add(chosen)
        unique.append(chosen)
    return unique


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
