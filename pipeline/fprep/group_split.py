"""Splits without leaks: whatever belongs together stays together, be it by item, shoot, bytes or looks.

Rows are joined by their group, item, picture, the pairs that the source names, and by near-identical pictures where these were
looked for. The connected parts are put in the order of a hash of their smallest name and fill test, then val, then train, so
that the shares are met within one part, and nothing depends on the order of the rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from fprep.auditing.pairs import near_pairs
from fprep.auditing.perceptual_hash import PictureTask, Views, hash_pictures

_HELD_BACK = 0.5  # of a split's share: a part that is larger goes to train
_RETRIEVAL = {"query", "gallery"}


@dataclass(frozen=True)
class GroupSplit:
    """New `split` and `group` of each row, and what to say of it."""

    splits: list[str]
    groups: list[str]
    note: str


def regroup(
    frame: pl.DataFrame, root: Path | None, val_share: float, test_share: float, notes: list[str], *, workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> pl.DataFrame:  # fmt: skip
    """The frame with new `split` and `group`; a note says so. Pictures below `root` are looked at, if it is given."""
    pairs = near_rows(frame, root, workers=workers, progress=progress) if root else []
    cut = split_by_groups(frame, val_share=val_share, test_share=test_share, pairs=pairs)
    notes.append(cut.note)
    return frame.with_columns(pl.Series("split", cut.splits, pl.String), pl.Series("group", cut.groups, pl.String))


def split_by_groups(
    frame: pl.DataFrame, *, val_share: float, test_share: float, pairs: Sequence[tuple[int, int]] = ()
) -> GroupSplit:
    """Cut the labelled rows anew into train, val and test; `pairs` are row numbers of near-identical pictures.

    Unlabelled rows stay so. Where the frame has query and gallery, the test side becomes query and gallery again: consumer
    pictures ask and shop pictures answer, or the first picture of each item asks.
    """
    parts = connected(len(frame), [*_edges(frame), *pairs])
    splits: list[str] = frame["split"].cast(pl.String).to_list()
    labelled = np.array([split != "unlabelled" for split in splits])
    names = frame["group"].to_list()
    members: dict[int, list[int]] = {}
    for row, part in enumerate(parts.tolist()):
        members.setdefault(part, []).append(row)
    smallest = {part: min(names[row] for row in rows) for part, rows in members.items()}
    sizes = {part: int(labelled[rows].sum()) for part, rows in members.items()}
    sides = _fill(smallest, sizes, {"test": test_share, "val": val_share})
    new = [sides[part] if labelled[row] else "unlabelled" for row, part in enumerate(parts.tolist())]
    if _RETRIEVAL & set(splits):
        new = _ask_and_answer(frame, new)
    largest = max(sizes.values(), default=0)
    moved = sum(before != after for before, after in zip(splits, new, strict=True))
    note = (
        f"--group-split: {len(frame)} rows in {len(members)} parts that belong together, the largest of {largest} rows; "
        f"{moved} rows are in another split than the source says"
    )
    return GroupSplit(new, [smallest[part] for part in parts.tolist()], note)


def connected(num_rows: int, edges: Sequence[tuple[int, int]]) -> np.ndarray:
    """The smallest row number of each row's connected part, (num_rows,) int64."""
    labels = np.arange(num_rows)
    if not len(edges):
        return labels
    first, second = np.array(edges, np.int64).T
    while True:
        before = labels.copy()
        lower = np.minimum(labels[first], labels[second])
        for side in (first, second):
            np.minimum.at(labels, labels[side], lower)
            np.minimum.at(labels, side, lower)
        labels = labels[labels]
        if (labels == before).all():
            return labels


def _edges(frame: pl.DataFrame) -> list[tuple[int, int]]:
    """Every row with the first one that shares its group, item, picture or path, and with the pictures that it is paired with."""
    edges: list[tuple[int, int]] = []
    for column in ("group", "item", "sha256", "image"):
        if column in frame.columns:
            known = frame.select(column).with_row_index("row").filter(pl.col(column).is_not_null() & (pl.col(column) != ""))
            firsts = known.select("row", pl.col("row").first().over(column).alias("first")).filter(
                pl.col("row") != pl.col("first")
            )
            edges += firsts.iter_rows()
    if "pairs" in frame.columns:
        rows = frame.select("image").with_row_index("partner").unique("image", keep="first")
        paired = frame.select("pairs").with_row_index("row").explode("pairs").drop_nulls()
        edges += paired.join(rows, left_on="pairs", right_on="image").select("row", "partner").sort("row", "partner").iter_rows()
    return edges


def _fill(names: dict[int, str], sizes: dict[int, int], shares: dict[str, float]) -> dict[int, str]:
    """Fill each split of `shares` up to its part of all rows; what remains is train."""
    total = sum(sizes.values())
    wanted = {split: share * total for split, share in shares.items()}
    room = dict(wanted)
    sides: dict[int, str] = {}
    for part in sorted(names, key=lambda part: (hashlib.blake2b(names[part].encode(), digest_size=8).digest(), names[part])):
        size = sizes[part]
        fits = (split for split in room if size <= _HELD_BACK * max(wanted[split], 2.0) and size <= room[split] + size / 2)
        side = next((split for split in fits if room[split] > 0), "train")
        sides[part] = side
        if side in room:
            room[side] -= size
    return sides


def _ask_and_answer(frame: pl.DataFrame, sides: list[str]) -> list[str]:
    """Query and gallery for test."""
    domains = frame["domain"].cast(pl.String).to_list() if "domain" in frame.columns else [""] * len(frame)
    items = frame["item"].to_list() if "item" in frame.columns else frame["group"].to_list()
    order = sorted((row for row, side in enumerate(sides) if side == "test"), key=lambda row: (items[row], frame["image"][row]))
    count: dict[str, int] = {}
    for row in order:
        count[items[row]] = count.get(items[row], 0) + 1
    asked: set[str] = set()
    result = list(sides)
    for row in order:
        if domains[row] in ("consumer", "shop"):
            result[row] = "query" if domains[row] == "consumer" else "gallery"
        elif count[items[row]] > 1 and items[row] not in asked:
            asked.add(items[row])
            result[row] = "query"
        else:
            result[row] = "gallery"
    return result


def near_rows(
    frame: pl.DataFrame, root: Path, *, workers: int = 0, progress: Callable[[int, int], None] | None = None
) -> list[tuple[int, int]]:
    """Row numbers of near-identical pictures below `root`; of several rows of one picture the first."""
    first = frame.select("image", "image_orientation").with_row_index("row").unique("image", keep="first", maintain_order=True)
    tasks = [PictureTask(str(root), image, orientation or 1) for _, image, orientation in first.iter_rows()]
    hashes = hash_pictures(tasks, workers=workers, progress=progress)
    pairs = near_pairs(Views.of(dict(enumerate(hashes))))
    rows = first["row"].to_numpy()
    return list(zip(rows[pairs.first].tolist(), rows[pairs.second].tolist(), strict=True))
