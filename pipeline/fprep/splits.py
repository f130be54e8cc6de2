"""Which pictures are the same, what must not straddle splits, and how train is cut. Everything is a function of the rows."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

from fprep.reader import short_hash

# Of equal pictures the first one in the most binding split is kept: a test picture must not be trained on.
_PRIORITY = {"test": 0, "gallery": 0, "query": 0, "val": 1, "train": 2, "unlabelled": 3}
_HELD_OUT = ("test", "gallery", "query", "val")
_MD5 = re.compile(r"[0-9a-f]{32}")


def identity(image: str, sha256: str | None) -> str:
    """What tells a picture from another: its digest, or without one its name where that is a digest, else its path."""
    stem = image.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    return sha256 or (stem if _MD5.fullmatch(stem) else image)


def find_duplicates(identities: Sequence[str], splits: Sequence[str], images: Sequence[str]) -> list[tuple[int, int, str]]:
    """Rows to drop as (row, the row that is kept, rule): `leaked_image` when the kept one is held out of training, else
    `duplicate_image`."""
    order = sorted(range(len(identities)), key=lambda row: (_PRIORITY[splits[row]], row))
    kept: dict[str, int] = {}
    dropped: list[tuple[int, int, str]] = []
    for row in order:
        first = kept.setdefault(identities[row], row)
        if first != row:
            leaked = splits[first] in _HELD_OUT and splits[row] == "train"
            dropped.append((row, first, "leaked_image" if leaked and images[row] != images[first] else "duplicate_image"))
    return sorted(dropped)


def cut_train(groups: Iterable[str], *, val_share: float, test_share: float) -> list[str]:
    """train, val or test for each group, by a hash of the group's name: stable, without randomness, blind to the other rows."""
    splits: list[str] = []
    for group in groups:
        digest = hashlib.blake2b(group.encode(), digest_size=8).digest()
        share = int.from_bytes(digest, "big") / 2**64
        splits.append("val" if share < val_share else "test" if share < val_share + test_share else "train")
    return splits


def unique_keys(keys: Sequence[str], images: Sequence[str]) -> list[str]:
    """The keys, with a hash of the image path behind every one that occurs again."""
    seen: set[str] = set()
    unique: list[str] = []
    for key, image in zip(keys, images, strict=True):
        chosen = key if key not in seen else f"{key[:80]}-{short_hash(image)}"
        seen.add(chosen)
        unique.append(chosen)
    return unique
