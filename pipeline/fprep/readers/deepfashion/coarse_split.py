"""Split in the coarse benchmark of images of the fine annotation; the two benchmarks split the same images differently.

4,188 of the 14,000 images of fine-train and 653 of the 2,000 of fine-val are test images of the Category and Attribute
benchmark: models trained on both must exclude them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from fprep.raw.file import is_file
from fprep.raw.folder import RawFolder
from fprep.readers.deepfashion.lists import read_list

PARTITION = "list_eval_partition.txt"
RULE = "in_coarse_test"


def add_coarse_split(raw: RawFolder, folders: Sequence[Path], frame: pl.DataFrame, names: pl.Series) -> pl.DataFrame:
    """Add the column coarse_split if the partition of the coarse benchmark is next to one of the `folders`.

    `names` are the images as written in the lists. Warns about train and val rows in the coarse benchmark's test split.
    """
    paths = dict.fromkeys(path for folder in folders if (path := _partition_beside(raw, folder)) is not None)
    if not paths:
        return frame
    known = pl.concat([_read(raw, path) for path in paths]).unique("name", keep="first", maintain_order=True)
    joined = names.to_frame("name").join(known, on="name", how="left", maintain_order="left")
    splits = joined["coarse_split"].fill_null("")
    frame = frame.with_columns(splits)
    trained = frame.filter(pl.col("split").is_in(["train", "val"]) & (splits == "test"))
    for file, line in trained.select("source_file", "source_line").iter_rows():
        raw.warn(RULE, f"{file}:{line}")
    held_out = (pl.col("coarse_split") == "test").sum().alias("test")
    counts = frame.group_by("split").agg(pl.len().alias("all"), held_out).sort("split")
    shares = ", ".join(f"{test} of {every} {split}" for split, every, test in counts.iter_rows())
    raw.notes.append(
        f"images in the coarse test set: {shares}; exclude them when training for the Category and Attribute benchmark"
    )
    return frame


def _partition_beside(raw: RawFolder, folder: Path) -> Path | None:
    homes = (folder.parent, folder.parent.parent)
    found = [path for home in homes for name in ("Eval", "eval") if is_file(path := home / name / PARTITION)]
    return next(
        (path for path in found if any(Path(os.path.normpath(path)).is_relative_to(given) for given in raw.given)), None
    )


def _read(raw: RawFolder, path: Path) -> pl.DataFrame:
    """Return name and split of every valid row; all rows are accounted for as joined."""
    rows = read_list(raw, path, words=2)
    for row, (_, message, _) in rows.problems.items():
        raw.warn("bad_partition_row", f"{rows.line(row)}: {message}")
    rows.file.accounts["joined"] += len(rows)
    good = pl.Series([row not in rows.problems for row in range(len(rows))], dtype=pl.Boolean)
    return pl.DataFrame({"name": rows.names, "coarse_split": rows.words[1]}).filter(good)
