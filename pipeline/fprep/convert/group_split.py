"""Leak-free splits: keep rows together that share an item, a shoot, file content or appearance.

Rows are connected by group, item, image, the pairs of the source, and near-duplicate images if these were searched for.
The connected components, ordered by a hash of their smallest name, fill test, then val, then train. The shares are
therefore met to within one component, and the result does not depend on the row order. If images have classes (styles,
else categories), each class is distributed over the splits in the same shares, so that no class with several components
is evaluated but never trained.

In collections from keyword searches, the same images turn up under several keywords, and such duplicates chain most
groups into one component. In this case only groups are kept together, and of two near-duplicates in different splits,
the one in the less held-out split is dropped.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from fprep.convert.splits import PRIORITY
from fprep.near_duplicates.pairs import near_pairs
from fprep.near_duplicates.perceptual_hash import ImageTask, Views, hash_images
from fschemas import wording
from fschemas.splits import QUERY_AND_GALLERY

_HELD_BACK = 0.5  # of a split's share: a larger component goes to train
_CHAINED = 0.5  # of all rows in one component, connected by appearance alone: nothing is left to split
_CLASSES = ("style", "category")
_QUERY, _GALLERY = QUERY_AND_GALLERY["test"]


@dataclass(frozen=True)
class GroupSplit:
    """New `split` and `group` of each row, with notes for the report.

    `twins` contains pairs (row to drop, near-duplicate row in a more held-out split).
    """

    splits: list[str]
    groups: list[str]
    note: str
    twins: list[tuple[int, int]]


def split_by_groups(
    frame: pl.DataFrame, *, val_share: float, test_share: float, pairs: Sequence[tuple[int, int]] = ()
) -> GroupSplit:
    """Re-split the labeled rows into train, val and test. `pairs` are row indices of near-duplicate images.

    Unlabeled rows keep their split. If the frame has query and gallery splits, test is divided into query and gallery
    again: consumer images are queries and shop images form the gallery; otherwise the first image of each item is the
    query.
    """
    splits: list[str] = frame["split"].cast(pl.String).to_list()
    labeled = np.array([split != "unlabeled" for split in splits])
    names = frame["group"].to_list()
    parts, chain = _parts(frame, labeled, pairs)
    members: dict[int, list[int]] = {}
    for row, part in enumerate(parts.tolist()):
        members.setdefault(part, []).append(row)
    smallest = {part: min(names[row] for row in rows) for part, rows in members.items()}
    sizes = {part: int(labeled[rows].sum()) for part, rows in members.items()}
    order = _interleaved(smallest, sizes, _class_of_parts(frame, members))
    sides = _fill(order, sizes, {"test": test_share, "val": val_share})
    new = [sides[part] if labeled[row] else "unlabeled" for row, part in enumerate(parts.tolist())]
    twins, notes = [], []
    if chain:
        twins = _twins(new, pairs)
        notes.append(f"near-identical images chain {chain} of them, so groups alone are kept")
        notes.append(f"rejected for looking like a row of a more held-out split: {wording.count(len(twins), 'row')}")
    if {_QUERY, _GALLERY} & set(splits):
        new = _query_and_gallery(frame, new)
    moved = sum(before != after for before, after in zip(splits, new, strict=True))
    notes.append(f"{wording.count(moved, 'row')} in another split than in the source")
    counted = f"{wording.count(len(members), 'part')} that belong together, the largest of {wording.count(max(sizes.values(), default=0), 'row')}"
    note = f"--group-split: {wording.count(len(frame), 'row')} in {counted}; {'; '.join(notes)}"
    return GroupSplit(new, [smallest[part] for part in parts.tolist()], note, twins)


def _parts(frame: pl.DataFrame, labeled: np.ndarray, pairs: Sequence[tuple[int, int]]) -> tuple[np.ndarray, int]:
    """Return component labels (see `connected`) and the number of rows in a chain that was broken up, else 0.

    Components connect groups and appearance; groups alone if appearance chains most rows into one component and groups
    do not.
    """
    edges = _edges(frame)
    parts = connected(len(frame), [*edges, *pairs])
    by_groups = connected(len(frame), edges) if pairs else parts
    largest = _largest(parts, labeled)
    chained = largest > _CHAINED * labeled.sum() >= _largest(by_groups, labeled)
    return (by_groups, largest) if chained else (parts, 0)


def _largest(parts: np.ndarray, labeled: np.ndarray) -> int:
    return int(np.bincount(parts[labeled]).max()) if labeled.any() else 0


def _twins(splits: Sequence[str], pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return one (row, near-duplicate in a more held-out split) for each row that has one."""
    found: dict[int, int] = {}
    for pair in pairs:
        kept, row = sorted(pair, key=lambda row: PRIORITY[splits[row]])
        if splits[row] not in ("unlabeled", splits[kept]):
            found.setdefault(row, kept)
    return sorted(found.items())


def connected(num_rows: int, edges: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return the smallest row index of each row's connected component, (num_rows,) int64."""
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
    """Connect every row to the first row with the same group, item, image or path, and to its paired images."""
    edges: list[tuple[int, int]] = []
    for column in ("group", "item", "sha256", "image"):
        if column in frame.columns:
            known = frame.select(column).with_row_index("row").filter(pl.col(column) != "")
            firsts = known.select("row", pl.col("row").first().over(column).alias("first"))
            edges += firsts.filter(pl.col("row") != pl.col("first")).iter_rows()
    if "pairs" in frame.columns:
        rows = frame.select("image").with_row_index("partner").unique("image", keep="first")
        paired = frame.select("pairs").with_row_index("row").explode("pairs").drop_nulls()
        partners = paired.join(rows, left_on="pairs", right_on="image").select("row", "partner")
        edges += partners.sort("row", "partner").iter_rows()
    return edges


def _class_of_parts(frame: pl.DataFrame, members: dict[int, list[int]]) -> dict[int, str]:
    """Return the most frequent class of each component; "" for all if the frame has no classes."""
    column = next((name for name in _CLASSES if name in frame.columns), None)
    if column is None:
        return dict.fromkeys(members, "")
    values = frame[column].cast(pl.String).fill_null("").to_list()
    counts = {part: Counter(values[row] for row in rows) for part, rows in members.items()}
    return {part: min(found, key=lambda value: (-found[value], value)) for part, found in counts.items()}


def _interleaved(names: dict[int, str], sizes: dict[int, int], classes: dict[int, str]) -> list[int]:
    """Order components by their relative position within their class, 0 to 1; within a class, by a hash of the name."""
    digests = {part: hashlib.blake2b(name.encode(), digest_size=8).digest() for part, name in names.items()}
    by_hash = sorted(names, key=lambda part: (digests[part], names[part]))
    totals = Counter[str]()
    for part in by_hash:
        totals[classes[part]] += sizes[part]
    before, positions = Counter[str](), dict[int, float]()
    for part in by_hash:
        positions[part] = (before[classes[part]] + sizes[part] / 2) / max(1, totals[classes[part]])
        before[classes[part]] += sizes[part]
    return sorted(by_hash, key=lambda part: positions[part])


def _fill(order: Sequence[int], sizes: dict[int, int], shares: dict[str, float]) -> dict[int, str]:
    """Fill each split of `shares` up to its share of all rows; the rest is train."""
    total = sum(sizes.values())
    wanted = {split: share * total for split, share in shares.items()}
    room = dict(wanted)
    sides: dict[int, str] = {}
    for part in order:
        size = sizes[part]
        fits = (split for split in room if size <= min(_HELD_BACK * max(wanted[split], 2.0), room[split] + size / 2))
        side = next((split for split in fits if room[split] > 0), "train")
        sides[part] = side
        if side in room:
            room[side] -= size
    return sides


def _query_and_gallery(frame: pl.DataFrame, sides: list[str]) -> list[str]:
    domains = frame["domain"].cast(pl.String).to_list() if "domain" in frame.columns else [""] * len(frame)
    items = frame["item"].to_list() if "item" in frame.columns else frame["group"].to_list()
    held_out = [row for row, side in enumerate(sides) if side == "test"]
    order = sorted(held_out, key=lambda row: (items[row], frame["image"][row]))
    count = Counter(items[row] for row in order)
    queried: set[str] = set()
    result = list(sides)
    for row in order:
        if domains[row] in ("consumer", "shop"):
            result[row] = _QUERY if domains[row] == "consumer" else _GALLERY
        elif count[items[row]] > 1 and items[row] not in queried:
            queried.add(items[row])
            result[row] = _QUERY
        else:
            result[row] = _GALLERY
    return result


def near_rows(
    frame: pl.DataFrame, root: Path, follow_links: bool, workers: int, progress: Callable[[int, int], None]
) -> list[tuple[int, int]]:
    """Return row index pairs of near-duplicate images below `root`; for several rows of one image, the first row."""
    known = frame.select("image", "image_orientation").with_row_index("row")
    first, real = known.unique("image", keep="first", maintain_order=True), os.path.realpath(root)
    tasks = [ImageTask(real, image, orientation or 1, follow_links) for _, image, orientation in first.iter_rows()]
    hashes = hash_images(tasks, workers=workers, progress=progress)
    pairs = near_pairs(Views.of(dict(enumerate(hashes))))
    rows = first["row"].to_numpy()
    return list(zip(rows[pairs.first].tolist(), rows[pairs.second].tolist(), strict=True))
