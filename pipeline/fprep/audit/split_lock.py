"""The split lock: the split of every image and group, so that held-out data is never used for training.

`fprep audit --write-lock` writes it for several tables together: an image held out in one of them is held out in all.
`fprep shard --lock` rejects tables that violate it and stores the digest of the lock in dataset.json; `--lock` of
ftrain commands rejects shard sets without this digest. An image is identified by the first 64 bits of its SHA-256 (if
unknown, by its path within a family of benchmarks), a group by a hash of data set and name. The same tables give the
same bytes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from fprep.convert.splits import PRIORITY
from fschemas.failures import IntegrityError, UsageError
from fschemas.json_file import COUNT, read_json, seal
from fschemas.names import DIGEST
from fschemas.splits import SIDES
from fschemas.wording import count

if TYPE_CHECKING:
    from fprep.audit.tables import Images
    from fprep.near_duplicates.pairs import NearPairs

LOCK_FILE = "splits.lock.json"
FORMAT = "fashionkit-split-lock/1"
_DIGITS = 16  # hex digits of a hash: two of a million images collide with probability 1 in 37 million
_SHAPE = {"digits": COUNT, "images": {"*": str}, "groups": {"*": str}, "digest": DIGEST}


@dataclass(frozen=True)
class SplitLock:
    """The split of each image and the side (train, val or test) of each group with only one side, by short hash."""

    images: dict[str, str]
    groups: dict[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 of the content."""
        return hashlib.sha256(json.dumps(self._content(), sort_keys=True).encode()).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the content of the file: the hashes of each split, concatenated in ascending order."""
        counts = {"images": len(self.images), "groups": len(self.groups)}
        content = {**self._content(), "counts": counts, "digest": self.digest}
        return json.dumps(seal(content), indent=1).encode() + b"\n"

    def _content(self) -> dict[str, Any]:
        return {"format": FORMAT, "digits": _DIGITS, "images": _packed(self.images), "groups": _packed(self.groups)}

    @classmethod
    def read(cls, path: Path) -> SplitLock:
        """Read a lock. Raises `UsageError` if it is missing, `IntegrityError` if it is damaged."""
        path = path / LOCK_FILE if path.is_dir() else path
        command = "`fprep audit TABLE --write-lock`"
        missing, remedy = f"{path}: no such split lock; write one with {command}", f"write it again with {command}"
        content = read_json(path, _SHAPE, format=FORMAT, sealed=True, missing=missing, remedy=remedy)
        lock = cls(_unpacked(content["images"]), _unpacked(content["groups"]))
        if content["digest"] != lock.digest:
            raise IntegrityError(f"{path}: changed since it was written (its digest differs); restore it, or {remedy}")
        return lock


def make_lock(rows: pl.DataFrame, images: Images, pairs: NearPairs) -> SplitLock:
    """Create the lock of the rows of an audit.

    The most binding split of an image counts. A training image nearly identical to a held-out one is held out too.
    Groups on several sides are not locked; only their images are.
    """
    splits, sides = rows["split"].to_list(), rows["side"].to_list()
    strongest: dict[int, int] = {}
    for row, image_id in enumerate(images.of_row.tolist()):
        before = strongest.setdefault(image_id, row)
        if PRIORITY[sides[row]] < PRIORITY[sides[before]]:
            strongest[image_id] = row
    decided = {image_id: splits[row] for image_id, row in strongest.items()}
    near = zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
    for first, second in [*near, *_same_paths(rows, images)]:
        for image_id, twin in ((first, second), (second, first)):
            if decided[image_id] == "train" and sides[strongest[twin]] in ("val", "test"):
                decided[image_id] = splits[strongest[twin]]
    known: dict[str, str] = {}
    for name, image_id in zip(_image_names(rows), images.of_row.tolist(), strict=True):
        split = decided[image_id]
        if split != "unlabeled" and (name not in known or PRIORITY[split] < PRIORITY[known[name]]):
            known[name] = split
    return SplitLock(known, _groups(rows))


def check_table(lock: SplitLock, rows: pl.DataFrame, source: str, *, leave_out: bool = False) -> list[int]:
    """Compare the rows of a table with the lock and return the indices of rows to leave out.

    `rows` has `key`, `image`, `split`, `group`, `sha256` and `dataset`. New images are accepted. Unless `leave_out` is
    set, raises `IntegrityError` if a held-out image is in train, or an image or group has another split. Raises
    `UsageError` if the lock does not cover the table.
    """
    rows = rows.with_row_index("row").filter(pl.col("split") != "unlabeled")
    rows = rows.with_columns(pl.col("split").cast(pl.String), pl.col("sha256").fill_null(""))
    names = zip(_image_names(rows), _path_names(rows), strict=True)
    locked = [lock.images.get(name) or lock.images.get(path, "") for name, path in names]
    sides = [lock.groups.get(name, "") for name in _group_names(rows)]
    if len(rows) and not any(locked) and not any(sides):
        raise UsageError(
            f"{source}: the lock contains none of its {count(len(rows), 'row')}; choose the lock of this table"
        )
    compared = rows.with_columns(pl.Series("locked", locked, pl.String), pl.Series("locked_side", sides, pl.String))
    held = (pl.col("locked") != "") & (pl.col("locked") != "train")
    other = (pl.col("locked") != "") & (pl.col("locked") != pl.col("split"))
    side = pl.col("split").replace_strict(SIDES, default="unlabeled")
    moved = (pl.col("locked_side") != "") & (pl.col("locked_side") != side)
    if leave_out:
        return compared.filter(other | moved)["row"].to_list()
    for what, column, rule in (
        ("in train, but held out by the lock", "locked", (pl.col("split") == "train") & held),
        ("in a different split than in the lock", "locked", other),
        ("of groups that are on another side in the lock", "locked_side", moved),
    ):
        bad = compared.filter(rule)
        if not bad.is_empty():
            key, split, expected = bad.select("key", "split", column).row(0)
            raise IntegrityError(
                f"{source}: {count(len(bad), 'image')} {what} (the first is {key}: {split} instead of {expected}); "
                "exclude such images with --leave-out, or fix the splits"
            )
    return []


@dataclass(frozen=True)
class LockCheck:
    """The result of checking a table: the digest of the lock, and the rows to leave out."""

    digest: str
    left_out: tuple[int, ...] = ()


def checked_table(path: Path, frame: pl.DataFrame, dataset: str, source: str, *, leave_out: bool) -> LockCheck:
    """Check a table against the lock at `path`. Raises the errors of `SplitLock.read` and `check_table`."""
    lock = SplitLock.read(path)
    rows = frame.select("key", "image", "group", "sha256", pl.col("split").cast(pl.String), dataset=pl.lit(dataset))
    return LockCheck(lock.digest, tuple(check_table(lock, rows, source, leave_out=leave_out)))


def _groups(rows: pl.DataFrame) -> dict[str, str]:
    labeled = rows.filter(pl.col("side") != "unlabeled")
    named = labeled.with_columns(pl.Series("name", _group_names(labeled), pl.String)).filter(pl.col("name") != "")
    sides = named.group_by("name").agg(pl.col("side").first(), pl.col("side").n_unique().alias("count"))
    return dict(sides.filter(pl.col("count") == 1).select("name", "side").iter_rows())


def _same_paths(rows: pl.DataFrame, images: Images) -> list[tuple[int, int]]:
    """Return pairs of images with the same path in one family if the bytes of one of them are unknown."""
    unknown = set(rows.filter(pl.col("sha256") == "")["image"].to_list())
    first: dict[str, int] = {}
    found: list[tuple[int, int]] = []
    for name, image, image_id in zip(_path_names(rows), rows["image"].to_list(), images.of_row.tolist(), strict=True):
        if image in unknown and first.setdefault(name, image_id) != image_id:
            found.append((first[name], image_id))
    return found


def _image_names(rows: pl.DataFrame) -> list[str]:
    return [sha256[:_DIGITS] or path for sha256, path in zip(rows["sha256"].to_list(), _path_names(rows), strict=True)]


def _path_names(rows: pl.DataFrame) -> list[str]:
    """Return image paths with their family: `deepfashion-fine` and `deepfashion-category` share images and paths."""
    columns = rows.select("dataset", "image").iter_rows()
    return [_hash(f"{dataset.partition('-')[0]}\0{image}") for dataset, image in columns]


def _group_names(rows: pl.DataFrame) -> list[str]:
    """Return group names, "" for a group that is the image itself."""
    columns = rows.select("group", "dataset", "image", "sha256").iter_rows()
    return ["" if group in other else _hash(f"{dataset}\0group\0{group}") for group, dataset, *other in columns]


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=_DIGITS // 2).hexdigest()


def _packed(names: dict[str, str]) -> dict[str, str]:
    ordered = sorted(names.items(), key=lambda entry: (entry[1], entry[0]))
    return {split: "".join(name for name, _ in entries) for split, entries in groupby(ordered, lambda entry: entry[1])}


def _unpacked(packed: dict[str, str]) -> dict[str, str]:
    starts = {split: range(0, len(text), _DIGITS) for split, text in packed.items()}
    return {packed[split][start : start + _DIGITS]: split for split in packed for start in starts[split]}
