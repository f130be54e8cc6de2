"""Image pairs of the same item, and their splits: `Eval/list_eval_partition.txt` of Consumer-to-shop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from fprep.raw.file import RawFile
from fprep.raw.folder import RawFolder
from fprep.readers.deepfashion.lists import ListFile, clean_paths
from fprep.readers.deepfashion.retrieval_lists import read_rows

PATH_PARTS = r"^img/[^/]+/[^/]+/(id_[0-9]{8})/([^/]+)$"
_BINDING = ("test", "val", "train")  # an item in several splits goes to the first of these


def released_names(raw: RawFolder, file: str, names: pl.Series) -> pl.Series:
    """Return the paths with the release's spelling, `comsumer_`; corrected copies are reverted, with a warning."""
    repaired = names.str.contains("/consumer_", literal=True)
    if repaired.any():
        raw.warn(
            "repaired_spelling", f"{file}: {repaired.sum()} paths have consumer_ instead of the release's comsumer_"
        )
    return names.str.replace("/consumer_", "/comsumer_", literal=True)


class Pairs:
    """The valid pairs of a partition file: columns a, b (paths), item, split."""

    def __init__(self, file: RawFile, frame: pl.DataFrame) -> None:
        self.file, self.frame = file, frame
        rank = pl.col("split").replace_strict(list(_BINDING), range(len(_BINDING)), return_dtype=pl.UInt8)
        first = rank.min().replace_strict(list(range(len(_BINDING))), _BINDING, return_dtype=pl.String)
        self._splits = frame.group_by("item", maintain_order=True).agg(first)

    def __len__(self) -> int:
        return len(self.frame)

    def split_of(self, items: pl.Series) -> pl.Series:
        """Return the split of each item (N), "" for an item without pairs."""
        joined = pl.DataFrame({"item": items}).join(self._splits, on="item", how="left", maintain_order="left")
        return joined["split"].fill_null("")

    def partners_of(self, names: pl.Series, images: pl.Series) -> pl.Series:
        """Return for each image (N, by its path in the lists) the `images` that it is paired with, ascending."""
        pairs = self.frame.select("a", "b")
        both = pl.concat([pairs, pairs.select(pl.col("b").alias("a"), pl.col("a").alias("b"))])
        known = pl.DataFrame({"b": names, "partner": images}).unique("b", maintain_order=True)
        partners = both.join(known, on="b").group_by("a").agg(pl.col("partner").unique().sort())
        joined = pl.DataFrame({"a": names}).join(partners, on="a", how="left", maintain_order="left")
        return joined["partner"].fill_null(pl.Series([[]], dtype=pl.List(pl.String)))


def read_pairs(raw: RawFolder, path: Path, images: pl.Series) -> Pairs:
    """Read a partition file; bad rows are rejected. `images` are the paths that have a row in the table.

    All lines are accounted for; pairs without a listed image are left out, with a warning.
    """
    listed = read_rows(raw, path, words=4)
    first, second = (released_names(raw, listed.file.name, clean_paths(column)) for column in listed.words[:2])
    _check(listed, first, second)
    good = np.ones(len(listed), bool)
    for row, (rule, message, found) in listed.problems.items():
        raw.reject(listed.line(row), rule, message, column="pairs", found=found)
        good[row] = False
    known = first.is_in(images.implode()).to_numpy().astype(int) + second.is_in(images.implode()).to_numpy()
    for row in np.flatnonzero(good & (known < 2)).tolist():
        raw.warn("pair_without_image", listed.line(row))
    listed.file.accounts["joined"] += int((good & (known > 0)).sum())
    listed.file.accounts["left_out"] += int((good & (known == 0)).sum())
    columns = {"a": first, "b": second, "item": listed.words[2], "split": listed.words[3]}
    frame = pl.DataFrame(columns).with_columns(pl.Series("line", listed.lines)).filter(pl.Series(good))
    odd = frame.filter((pl.col("split").n_unique().over("item") > 1) | pl.struct("a", "b").is_duplicated())
    pairs = Pairs(listed.file, frame)
    for first_split, split, line in zip(pairs.split_of(odd["item"]), odd["split"], odd["line"], strict=True):
        raw.warn("repeated_row" if split == first_split else "item_in_several_splits", listed.file.line(line))
    return pairs


def _check(listed: ListFile, first: pl.Series, second: pl.Series) -> None:
    items, splits = listed.words[2], listed.words[3]
    parts = [names.str.extract_groups(PATH_PARTS).struct.unnest() for names in (first, second)]
    of_path = [part["1"].fill_null("") for part in parts]
    roles = [
        part["2"].fill_null("").str.extract_groups("^(comsumer|shop)_").struct.field("1").fill_null("")
        for part in parts
    ]
    is_path = (of_path[0] != "") & (of_path[1] != "")
    listed.require(is_path, "unexpected_path", "not two paths img/<part>/<folder>/<item>/<image>", second)
    listed.require(
        (of_path[0] == items) & (of_path[1] == items), "item_path_mismatch",
        lambda row: f"item {items[row][:40]!r}, but the paths have {of_path[0][row]} and {of_path[1][row]}", items,
    )  # fmt: skip
    is_pair = (roles[0] != roles[1]) | (roles[0] == "")
    listed.require(is_pair, "not_a_pair", lambda row: f"both images are called {roles[0][row]}_", first)
    listed.require_known(splits, _BINDING[::-1], "unknown_split", "evaluation status")
