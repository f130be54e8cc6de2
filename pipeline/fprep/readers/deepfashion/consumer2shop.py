"""Reader for DeepFashion Consumer-to-shop Clothes Retrieval: consumer and shop images of items, and pairs of them.

`Eval/list_eval_partition.txt` has one row per pair (and counts pairs), so the table has the rows of the box list, or of
the landmark list if there is none. The split of an image is that of its item's pairs; in val and test, consumer images
are queries and shop images the gallery. The release calls consumer images `comsumer_NN.jpg`; copies with `consumer_`
are accepted. Boxes and landmarks are 1-based pixels (up to 301) and become pixel centers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from fprep.raw.file import RawFile
from fprep.raw.folder import RawFolder
from fprep.raw.image_names import clean_path
from fprep.readers.deepfashion import signatures
from fprep.readers.deepfashion.item_attributes import add_item_attributes, check_items, compare_names, vocabulary_lines
from fprep.readers.deepfashion.landmark_rows import LandmarkRows
from fprep.readers.deepfashion.lists import ListFile, read_rows
from fprep.readers.deepfashion.retrieval_lists import (
    annotation_file,
    do_not_fit,
    find_images,
    join_labels,
    label_columns,
    partition_files,
    read_labels,
    spelling_on_disk,
)
from fprep.readers.deepfashion.tree import benchmark_reader
from fschemas.failures import UsageError
from fschemas.splits import QUERY_AND_GALLERY
from fschemas.tables import table_class
from fschemas.vocabularies import vocabulary

_TABLE = table_class("attributes", "box", "landmarks", "item", "domain", "pairs", "variation")
_ATTRIBUTES = vocabulary("deepfashion-consumer2shop-attribute-303")
_BOXES, _LANDMARKS = "list_bbox_consumer2shop.txt", "list_landmarks_consumer2shop.txt"
_FOLDERS = ("TOPS", "DRESSES", "CLOTHING", "TROUSERS")
_SPELLINGS = (
    ("/comsumer_", "/consumer_"),
    ("TOPS/Summer_Suit/", "TOPS/Summer_Wear/"),
    ("TOPS/Summer_Wear/", "TOPS/Summer_Suit/"),
)
_SOURCES = {1: "shop", 2: "consumer"}
_ROLES = dict(zip(("consumer", "shop"), QUERY_AND_GALLERY["test"], strict=True))
_PATH_PARTS = r"^img/[^/]+/[^/]+/(id_[0-9]{8})/([^/]+)$"
_BINDING = ("test", "val", "train")  # an item in several splits goes to the first of these
_SIDE = 301  # pixels of the longest side of the images that the coordinates belong to


@benchmark_reader(
    name="deepfashion-consumer2shop",
    table=_TABLE,
    vocabularies={"attributes": _ATTRIBUTES},
    signatures=signatures.CONSUMER2SHOP,
    image_side=_SIDE,
    variants={
        "boxes": ("**/list_eval_partition.txt", f"**/{_BOXES}"),
        "landmarks only": ("**/list_eval_partition.txt", f"**/{_LANDMARKS}"),
    },
    totals={"images": 239557, "pairs": 195540, "items": 33881},
)
def deepfashion_consumer2shop(raw: RawFolder) -> pl.LazyFrame:
    """Read a row for each image of the box lists found, with as many column groups as there are lists."""
    return pl.concat([_read(raw, path, home) for path, home in partition_files(raw)], how="diagonal").lazy()


def _read(raw: RawFolder, path: Path, home: Path) -> pl.DataFrame:
    lists = read_labels(raw, home, "consumer2shop")
    if not lists:
        raise UsageError(
            f"{home}: neither Anno/{_BOXES} nor Anno/{_LANDMARKS} is here; the partition lists pairs only, so one of them is "
            "needed for a row per image"
        )
    for listed in lists.values():
        listed.words = (_released_names(raw, listed.file.name, listed.names),)
    rows = lists["box"] if "box" in lists else lists["landmark"]
    landmarks = LandmarkRows(raw, lists["landmark"]) if "landmark" in lists else None
    pairs = _read_pairs(raw, path, rows.names)
    item = rows.names.str.extract(_PATH_PARTS).fill_null("")
    split, domain = pairs.split_of(item), _domains(raw, rows, lists.get("box"))
    _check_rows(rows, pairs, item, split, domain)
    kept, indices = join_labels(raw, rows, lists, landmarks)
    names = rows.names.gather(kept)
    image_folder, is_highres = find_images(raw, home, _FOLDERS)
    images = spelling_on_disk(raw, pl.Series([image_folder]) + names.str.slice(len("img/")), _SPELLINGS)
    chosen = {"item": item, "group": item, "split": split, "domain": domain}
    columns = {name: column.gather(kept) for name, column in chosen.items()}
    frame = rows.frame(kept, columns | {"image": images, "pairs": pairs.partners_of(names, images)})
    role = pl.col("domain").replace_strict(_ROLES, default="")
    held_out = pl.when(pl.col("split") == "val").then("val_" + role).otherwise(role)
    frame = frame.with_columns(pl.when(pl.col("split") == "train").then("split").otherwise(held_out).alias("split"))
    if not do_not_fit(raw, images, image_folder, is_highres, _SIDE):
        frame = frame.with_columns(label_columns(indices, lists.get("box"), landmarks))
    for row in kept[(frame["pairs"].list.len() == 0).to_numpy()].tolist():
        raw.warn("image_without_pair", rows.line(row))
    raw.totals["images"] += len(rows)
    raw.totals["pairs"] += len(pairs)
    return _add_attributes(raw, home, frame)


def _domains(raw: RawFolder, rows: ListFile, boxes: ListFile | None) -> pl.Series:
    """Return the domain of each image, from its name (warning if the box list disagrees), else from the box list."""
    word = rows.names.str.extract("/(comsumer|shop)_[^/]*$")
    named = word.replace({"comsumer": "consumer"}).fill_null("unknown").rename("named")
    if boxes is None:
        return named
    listed = pl.Series(boxes.matrix(6)[:, 1]).replace_strict(_SOURCES, default="unknown", return_dtype=pl.String)
    for row in ((named != "unknown") & (listed != named)).arg_true().to_list():
        if row not in rows.problems:
            raw.warn("source_differs", rows.line(row))
    return named.to_frame().select(pl.when(named == "unknown").then(listed).otherwise(named)).to_series()


def _check_rows(rows: ListFile, pairs: _Pairs, item: pl.Series, split: pl.Series, domain: pl.Series) -> None:
    rows.require(item != "", "unexpected_path", "not a path img/<part>/<folder>/<item>/<image>")
    no_pair = f"no pair of {pairs.file.name} names"
    rows.require(split != "", "no_split", lambda row: f"{no_pair} {item[row]}, so its split is not known", item)
    known = (domain != "unknown") | (split == "train")
    rows.require(known, "unknown_domain", "neither shop_ nor comsumer_: query or gallery is not known")


def _add_attributes(raw: RawFolder, home: Path, frame: pl.DataFrame) -> pl.DataFrame:
    if path := annotation_file(home, "list_item_consumer2shop.txt", "list_items_consumer2shop.txt"):
        check_items(raw, path, frame["item"])
    types = list(_ATTRIBUTES.groups)
    if path := annotation_file(home, "list_attr_type.txt"):
        lines = [(location, _columns(location, text, 2)[1]) for location, text in vocabulary_lines(raw, path)]
        compare_names(raw.name_of(path), lines, types)
    if path := annotation_file(home, "list_attr_cloth.txt"):
        lines = vocabulary_lines(raw, path)
        names = attribute_names([_columns(location, text, 3) for location, text in lines], types)
        compare_names(
            raw.name_of(path), list(zip([location for location, _ in lines], names, strict=True)), _ATTRIBUTES.values
        )
    return add_item_attributes(raw, annotation_file(home, "list_attr_items.txt"), len(_ATTRIBUTES), frame)


def _columns(location: str, text: str, count: int) -> list[str]:
    """Split a line into columns at two or more spaces.

    Columns are padded by display width, and names contain single spaces. One released row has a tab among the spaces.
    """
    columns = re.split(r"(?: {2,}|\t)[ \t]*", text)
    if len(columns) != count:
        raise UsageError(f"{location}: {len(columns)} columns, expected {count}; restore the file from the archive")
    return columns


def attribute_names(rows: Sequence[Sequence[str]], types: Sequence[str]) -> list[str]:
    """Return unique attribute names from rows of Chinese name, English name and type number.

    The name is the English one; if it is not unique, the type is appended; if that is not unique either, the Chinese
    name.
    """
    kinds = [types[int(number) - 1] if re.fullmatch("[1-9][0-9]?", number) and int(number) <= len(types) else number
             for _, _, number in rows]  # fmt: skip
    english = [name for _, name, _ in rows]
    typed = [f"{name} ({kind})" for name, kind in zip(english, kinds, strict=True)]
    full = [f"{name} ({kind}: {row[0]})" for name, kind, row in zip(english, kinds, rows, strict=True)]
    return [
        name if english.count(name) == 1 else with_type if typed.count(with_type) == 1 else with_both
        for name, with_type, with_both in zip(english, typed, full, strict=True)
    ]


def _released_names(raw: RawFolder, file: str, names: pl.Series) -> pl.Series:
    """Return the paths with the release's spelling, `comsumer_`; corrected copies are reverted, with a warning."""
    repaired = names.str.contains("/consumer_", literal=True)
    if repaired.any():
        raw.warn(
            "repaired_spelling", f"{file}: {repaired.sum()} paths have consumer_ instead of the release's comsumer_"
        )
    return names.str.replace("/consumer_", "/comsumer_", literal=True)


class _Pairs:
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


def _read_pairs(raw: RawFolder, path: Path, images: pl.Series) -> _Pairs:
    """Read a partition file; bad rows are rejected. `images` are the paths that have a row in the table.

    All lines are accounted for; pairs without a listed image are left out, with a warning.
    """
    listed = read_rows(raw, path, words=4)
    paths = (pl.Series([clean_path(path) for path in column], dtype=pl.String) for column in listed.words[:2])
    first, second = (_released_names(raw, listed.file.name, column) for column in paths)
    _check_pairs(listed, first, second)
    listed.reject_bad(raw, "pairs")
    good = listed.good
    known = first.is_in(images.implode()).to_numpy().astype(int) + second.is_in(images.implode()).to_numpy()
    for row in np.flatnonzero(good & (known < 2)).tolist():
        raw.warn("pair_without_image", listed.line(row))
    listed.file.accounts["joined"] += int((good & (known > 0)).sum())
    listed.file.accounts["left_out"] += int((good & (known == 0)).sum())
    columns = {"a": first, "b": second, "item": listed.words[2], "split": listed.words[3]}
    frame = pl.DataFrame(columns).with_columns(pl.Series("line", listed.lines)).filter(pl.Series(good))
    odd = frame.filter((pl.col("split").n_unique().over("item") > 1) | pl.struct("a", "b").is_duplicated())
    pairs = _Pairs(listed.file, frame)
    for first_split, split, line in zip(pairs.split_of(odd["item"]), odd["split"], odd["line"], strict=True):
        raw.warn("repeated_row" if split == first_split else "item_in_several_splits", listed.file.line(line))
    return pairs


def _check_pairs(listed: ListFile, first: pl.Series, second: pl.Series) -> None:
    items, splits = listed.words[2], listed.words[3]
    parts = [names.str.extract_groups(_PATH_PARTS).struct.unnest() for names in (first, second)]
    of_path = [part["1"].fill_null("") for part in parts]
    roles = [part["2"].str.extract("^(comsumer|shop)_").fill_null("") for part in parts]
    is_path = (of_path[0] != "") & (of_path[1] != "")
    listed.require(is_path, "unexpected_path", "not two paths img/<part>/<folder>/<item>/<image>", second)
    listed.require(
        (of_path[0] == items) & (of_path[1] == items), "item_path_mismatch",
        lambda row: f"item {items[row][:40]!r}, but the paths have {of_path[0][row]} and {of_path[1][row]}", items,
    )  # fmt: skip
    is_pair = (roles[0] != roles[1]) | (roles[0] == "")
    listed.require(is_pair, "not_a_pair", lambda row: f"both images are called {roles[0][row]}_", first)
    listed.require_known(splits, _BINDING[::-1], "unknown_split", "evaluation status")
