"""Attributes per item of a retrieval benchmark (`list_attr_items.txt`), and the lists that go with them.

1 is positive, -1 negative, 0 unknown. The released In-shop list reportedly repeats some items: identical rows count
once; for different ones, only the values they agree on are known.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from fprep.raw.folder import RawFolder, text_problem
from fprep.readers.deepfashion.lists import ListFile, read_list
from fschemas.failures import UsageError

ITEM = re.compile(rb"id_[0-9]+")
_ITEM_NAME = r"^id_[0-9]{8}$"


def add_item_attributes(raw: RawFolder, path: Path | None, count: int, frame: pl.DataFrame) -> pl.DataFrame:
    """Add the attributes of each row's `item` from the list of `count` flags per item, if it exists.

    A bad row of the list is rejected, and its item has unknown attributes. Items missing from the list are counted as a
    warning, and all their attributes are unknown.
    """
    if path is None:
        return frame
    wanted = frame["item"]
    listed = read_list(raw, path, numbers=count, key=ITEM)
    flags = listed.matrix(count)
    message = "an attribute label is {value}, expected 1 (positive), -1 (negative) or 0 (unknown)"
    listed.require_each(np.abs(flags) <= 1, flags, "bad_cell", message)
    names = listed.names
    listed.require(
        names.str.contains(_ITEM_NAME), "bad_item",
        lambda row: f"{names[row][:40]!r} is not an item id (id_ and eight digits)", names.str.slice(0, 40),
    )  # fmt: skip
    listed.reject_bad(raw, "attributes")
    good = np.flatnonzero(listed.good)
    names = listed.names.gather(good)
    known = names.is_in(wanted.unique().implode()).to_numpy()
    listed.file.accounts["joined"] += int(known.sum())
    listed.file.accounts["left_out"] += int((~known).sum())
    for row in good[~known].tolist():
        raw.warn("row_without_image", listed.line(row))
    merged = _merge_twins(raw, listed, good, names, flags[good].astype(np.int8))
    first = names.is_first_distinct()
    items, values = names.filter(first), np.concatenate([merged[first.to_numpy()], np.zeros((1, count), np.int8)])
    for item in sorted(set(wanted.to_list()) - set(items.to_list())):
        raw.warn("item_without_attributes", item)
    rows = pl.DataFrame({"item": items, "row": np.arange(len(items))})
    index = frame.select("item").join(rows, on="item", how="left", maintain_order="left")["row"].fill_null(len(items))
    flags_of = {"attributes_positive": _ids(values == 1), "attributes_unknown": _ids(values == 0)}
    return frame.with_columns(ids.gather(index).alias(name) for name, ids in flags_of.items())


def check_items(raw: RawFolder, path: Path, wanted: pl.Series) -> None:
    """Compare the item list (a count line, then one id per line) with the images' items; differences are warnings."""
    file = raw.open_file(path)
    listed: dict[str, int] = {}
    count: int | None = None
    for line in file.lines():
        text = line.content.strip(b" \t")
        if not listed and count is None and text.isdigit():
            count = int(text[:12])
            file.accounts["header"] += 1
        elif len(text) == 11 and ITEM.fullmatch(text):
            listed.setdefault(text.decode(), line.number)
            file.accounts["joined"] += 1
        else:
            raw.reject(line, "bad_item", "not an item id (id_ and eight digits)", column="item", found=repr(text[:40]))
    if count != len(listed):
        raw.warn("count_differs", f"{file.name}: announces {count} items, has {len(listed)}")
    raw.totals["items"] = len(listed)
    imaged = set(wanted.unique().to_list())
    for item in sorted(set(listed) - imaged):
        raw.warn("item_without_image", f"{file.name}:{listed[item]}")
    for item in sorted(imaged - set(listed)):
        raw.warn("item_not_listed", item)


def vocabulary_lines(raw: RawFolder, path: Path) -> list[tuple[str, str]]:
    """Return location and text of each line of a vocabulary file below its heading; accounts for all lines."""
    file = raw.open_file(path)
    rows: list[tuple[str, str]] = []
    for line in file.lines():
        if (problem := text_problem(line)) is not None:
            raise UsageError(f"{line}: {problem[1]}; restore the file from the archive")
        text = line.content.decode().strip(" \t")
        if not rows and (text.isdigit() or text.startswith("attribute_")):
            file.accounts["header"] += 1
            continue
        rows.append((str(line), text))
        file.accounts["joined"] += 1
    return rows


def compare_names(name: str, found: Sequence[tuple[str, str]], expected: Sequence[str]) -> None:
    """Raise `UsageError` at the first name that differs from the expected one, or for another number of names.

    `name` is the file name; `found` are pairs of location and name.
    """
    for (location, text), value in zip(found, expected, strict=False):
        if text != value:
            raise UsageError(
                f"{location}: {text[:60]!r}, expected {value!r}; the ids of the labels would shift: restore the file"
            )
    if len(found) != len(expected):
        raise UsageError(f"{name}: {len(found)} names, expected {len(expected)}; restore the file from the archive")


def _merge_twins(raw: RawFolder, listed: ListFile, good: np.ndarray, names: pl.Series, flags: np.ndarray) -> np.ndarray:
    """Set the first row of an item to 0 where rows of the item differ."""
    rows = pl.DataFrame({"name": names, "row": np.arange(len(names))}).group_by("name", maintain_order=True).agg("row")
    for twins in rows.filter(pl.col("row").list.len() > 1)["row"].to_list():
        differs = (flags[twins] != flags[twins[0]]).any(0)
        for twin in twins[1:]:
            raw.warn("conflicting_attributes" if differs.any() else "repeated_row", listed.line(int(good[twin])))
        flags[twins[0]] = np.where(differs, 0, flags[twins[0]])
    return flags


def _ids(flags: np.ndarray) -> pl.Series:
    """Return the ids of the set columns of each row, as lists of Int16. `flags` is (rows, attributes) bool."""
    rows, columns = np.nonzero(flags)
    offsets = np.searchsorted(rows, np.arange(len(flags) + 1)).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(columns.astype(np.int16)))
    return pl.Series(values=lists, dtype=pl.List(pl.Int16))
