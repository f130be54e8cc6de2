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

import polars as pl

from fprep.raw.folder import RawFolder
from fprep.readers.deepfashion import signatures
from fprep.readers.deepfashion.image_folders import find_images, spelling_on_disk
from fprep.readers.deepfashion.item_attributes import add_item_attributes, check_items, compare_names, vocabulary_lines
from fprep.readers.deepfashion.landmark_rows import LandmarkRows
from fprep.readers.deepfashion.lists import ListFile
from fprep.readers.deepfashion.pairs import PATH_PARTS, Pairs, read_pairs, released_names
from fprep.readers.deepfashion.retrieval_lists import (
    annotation_file,
    compare_types,
    do_not_fit,
    join_labels,
    label_columns,
    partition_files,
    read_boxes,
    read_rows,
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
    lists = _read_lists(raw, home)
    rows = lists["box"] if "box" in lists else lists["landmark"]
    landmarks = LandmarkRows(raw, lists["landmark"]) if "landmark" in lists else None
    pairs = read_pairs(raw, path, rows.names)
    item = rows.names.str.extract_groups(PATH_PARTS).struct.field("1").fill_null("")
    split, domain = pairs.split_of(item), _domains(raw, rows, lists.get("box"))
    _check_rows(rows, pairs, item, split, domain)
    kept, indices = join_labels(raw, rows, lists)
    compare_types(raw, rows, kept, indices, lists.get("box"), landmarks)
    names = rows.names.gather(kept)
    image_folder, is_highres = find_images(raw, home, _FOLDERS)
    images = spelling_on_disk(raw, pl.Series([image_folder]) + names.str.slice(len("img/")), _SPELLINGS)
    chosen = {"item": item, "group": item, "split": split, "domain": domain}
    columns = {name: column.gather(kept) for name, column in chosen.items()}
    frame = rows.frame(kept, columns | {"image": images, "pairs": pairs.partners_of(names, images)})
    frame = frame.with_columns(_split_by_role().alias("split"))
    if not do_not_fit(raw, images, image_folder, is_highres, _SIDE):
        frame = frame.with_columns(label_columns(indices, lists.get("box"), landmarks))
    for row in kept[(frame["pairs"].list.len() == 0).to_numpy()].tolist():
        raw.warn("image_without_pair", rows.line(row))
    raw.totals["images"] += len(rows)
    raw.totals["pairs"] += len(pairs)
    return _add_attributes(raw, home, frame)


def _read_lists(raw: RawFolder, home: Path) -> dict[str, ListFile]:
    lists: dict[str, ListFile] = {}
    if path := annotation_file(home, _BOXES):
        lists["box"] = read_boxes(raw, path)
    if path := annotation_file(home, _LANDMARKS):
        lists["landmark"] = read_rows(raw, path, numbers=None)
    if not lists:
        raise UsageError(
            f"{home}: neither Anno/{_BOXES} nor Anno/{_LANDMARKS} is here; the partition lists pairs only, so one of them is "
            "needed for a row per image"
        )
    for listed in lists.values():
        listed.words = (released_names(raw, listed.file.name, listed.names),)
    return lists


def _domains(raw: RawFolder, rows: ListFile, boxes: ListFile | None) -> pl.Series:
    """Return the domain of each image, from its name (warning if the box list disagrees), else from the box list."""
    word = rows.names.str.extract_groups("/(comsumer|shop)_[^/]*$").struct.field("1")
    named = word.replace({"comsumer": "consumer"}).fill_null("unknown").rename("named")
    if boxes is None:
        return named
    listed = pl.Series(boxes.matrix(6)[:, 1]).replace_strict(_SOURCES, default="unknown", return_dtype=pl.String)
    for row in ((named != "unknown") & (listed != named)).arg_true().to_list():
        if row not in rows.problems:
            raw.warn("source_differs", rows.line(row))
    return named.to_frame().select(pl.when(named == "unknown").then(listed).otherwise(named)).to_series()


def _check_rows(rows: ListFile, pairs: Pairs, item: pl.Series, split: pl.Series, domain: pl.Series) -> None:
    rows.require(item != "", "unexpected_path", "not a path img/<part>/<folder>/<item>/<image>")
    no_pair = f"no pair of {pairs.file.name} names"
    rows.require(split != "", "no_split", lambda row: f"{no_pair} {item[row]}, so its split is not known", item)
    known = (domain != "unknown") | (split == "train")
    rows.require(known, "unknown_domain", "neither shop_ nor comsumer_: query or gallery is not known")


def _split_by_role() -> pl.Expr:
    role = pl.col("domain").replace_strict(_ROLES, default="")
    held_out = pl.when(pl.col("split") == "val").then("val_" + role).otherwise(role)
    return pl.when(pl.col("split") == "train").then(pl.lit("train")).otherwise(held_out)


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
