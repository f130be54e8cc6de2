"""Duplicate images, leaks between splits, and splitting train. Everything depends on the rows alone."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from fprep.raw.folder import RawFolder
from fprep.readers.reader import short_hash
from fschemas.splits import HELD_OUT, SIDES
from fschemas.wording import count

# Of identical images, the one in the most held-out split is kept: a test image must not be used for training.
PRIORITY = {split: ("test", "val", "train", "unlabeled").index(side) for split, side in SIDES.items()}

_STEM = pl.col("image").str.extract(r"([^/]*)$").str.extract(r"^(.*?)(?:\.[^.]*)?$")
# Identity of an image: its digest; without one, its name if that is a digest, else its path.
IDENTITY = pl.coalesce("sha256", pl.when(_STEM.str.contains("^[0-9a-f]{32}$")).then(_STEM), "image").alias("group")


def duplicate_rows(frame: pl.DataFrame, *, instances: bool) -> list[tuple[int, int, str]]:
    """Return the rows that repeat an image, as (row, kept row, rule).

    The rule is `leaked_image` if the kept row is held out of training, else `duplicate_image`. With `instances`, rows
    with the same path belong together: all are kept, or all are dropped as copies of another image.
    """
    identities = frame.select(IDENTITY).to_series()
    rows = identities.is_duplicated().arg_true()
    names, images, splits = (values.gather(rows).to_list() for values in (identities, frame["image"], frame["split"]))
    members: dict[str | int, list[int]] = {}
    for index, unit in enumerate(images if instances else rows.to_list()):
        members.setdefault(unit, []).append(index)
    units = {min(indices, key=lambda index: PRIORITY[splits[index]]): indices for indices in members.values()}
    kept: dict[str, int] = {}
    dropped: list[tuple[int, int, str]] = []
    for row in sorted(units, key=lambda row: PRIORITY[splits[row]]):
        first = kept.setdefault(names[row], row)
        if first != row:
            leaked = SIDES[splits[first]] in HELD_OUT and splits[row] == "train" and images[row] != images[first]
            rule = "leaked_image" if leaked else "duplicate_image"
            dropped += [(rows[index], rows[first], rule) for index in units[row]]
    return sorted(dropped)


def cut_train(groups: Iterable[str], *, val_share: float, test_share: float) -> list[str]:
    """Return train, val or test for each group, by a hash of its name, independent of all other rows."""
    splits: list[str] = []
    for group in groups:
        digest = hashlib.blake2b(group.encode(), digest_size=8).digest()
        share = int.from_bytes(digest, "big") / 2**64
        splits.append("val" if share < val_share else "test" if share < val_share + test_share else "train")
    return splits


def shares_to_cut(splits: Iterable[str], *, val_share: float, test_share: float) -> dict[str, float]:
    """Return the shares of train that become val and test: 0 if the source has that split."""
    given = set(splits)
    has_val = "val" in given  # then a missing test split is deliberate
    return {
        "val": 0.0 if has_val else val_share,
        "test": 0.0 if has_val or any(SIDES[split] == "test" for split in given) else test_share,
    }


def unique_keys(keys: Sequence[str], images: Sequence[str]) -> list[str]:
    """Return unique keys: repeated keys get a hash of the image path as suffix."""
    if len(set(keys)) == len(keys):
        return list(keys)
    seen: set[str] = set()
    unique: list[str] = []
    for key, image in zip(keys, images, strict=True):
        chosen = key if key not in seen else f"{key[:80]}-{short_hash(image)}"
        seen.add(chosen)
        unique.append(chosen)
    return unique


def warn_empty_splits(frame: pl.DataFrame, raw: RawFolder, wanted: Mapping[str, float]) -> None:
    """Warn about requested splits without rows."""
    sides = Counter(SIDES[split] for split in frame["split"].cast(pl.String).to_list())
    for split in ("train", "val", "test"):
        if split in wanted and not sides[split] and sum(sides[side] for side in ("train", "val", "test")):
            groups = count(frame["group"].n_unique(), "group")
            left = f"{count(len(frame), 'row')} in {groups} leave nothing for a share of {wanted[split]:g}"
            why = f"{left}; add images, or choose another --{split}-share"
            if split == "train":
                why = f"{groups} went into val and test; add images, or choose smaller shares"
            raw.warn("empty_split", split)
            raw.notes.append(f"the split {split} is empty: {why}")
