"""Reader for DeepFashion In-shop Clothes Retrieval: shop photographs, several per item, in train, query and gallery.

The rows are those of `Eval/list_eval_partition.txt`; everything else is joined by image or by item if it exists. Gender
and category come from the path `img/{WOMEN|MEN}/<folder>/<item>/NN_V_<view>.jpg`; 99 items have images in several
folders, so the category belongs to the image. Boxes and landmarks are 1-based pixels of the 256 x 256 images (img.zip)
and become pixel centers. With the images of `img_highres`, boxes and landmarks are left out, with a note, because the
lists do not state the scale.
"""

from pathlib import Path

import numpy as np
import polars as pl

from fprep.raw.folder import RawFolder
from fprep.readers.deepfashion import signatures
from fprep.readers.deepfashion.descriptions import add_descriptions, read_descriptions
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
    refuse_leaks,
)
from fprep.readers.deepfashion.tree import benchmark_reader
from fschemas.splits import QUERY_AND_GALLERY
from fschemas.tables import table_class
from fschemas.vocabularies import vocabulary

_TABLE = table_class("category", "attributes", "box", "landmarks", "item", "shop", "variation")
_ATTRIBUTES = vocabulary("deepfashion-inshop-attribute-463")
_CATEGORIES = vocabulary("deepfashion-inshop-category-17")
_SPLITS = ("train", *QUERY_AND_GALLERY["test"])
_PATH = r"^img/([^/]+)/([^/]+)/(id_[0-9]{8})/([^/]+)$"
_VIEW = r"^(?<variant>[0-9]{2})_(?<code>[0-9])_(?<pose>front|side|back|full|flat|additional)\.jpg$"
_POSE_TYPES = {"1": 1, "2": 2, "3": 3, "4": 4, "6": 6}  # view code of the file name -> pose type of the box list
_GENDERS = {"MEN": "men", "WOMEN": "women"}
_SIDE = 256  # pixels of a side of the images that the coordinates belong to


@benchmark_reader(
    name="deepfashion-inshop",
    table=_TABLE,
    vocabularies={"attributes": _ATTRIBUTES, "category": _CATEGORIES},
    signatures=signatures.INSHOP,
    image_side=_SIDE,
    variants={
        "version 1.3 and later (attributes)": (
            "**/list_eval_partition.txt",
            "**/list_bbox_inshop.txt",
            "**/list_attr_items.txt",
        ),
        "version 1.2 (landmarks)": ("**/list_eval_partition.txt", "**/list_landmarks_inshop.txt"),
        "partition only": ("**/list_eval_partition.txt",),
    },
    totals={"images": 52712, "train": 25882, "query": 14218, "gallery": 12612, "items": 7982},
)
def deepfashion_inshop(raw: RawFolder) -> pl.LazyFrame:
    """Read all partition files found, with as many column groups as there are lists."""
    frames = [_read(raw, path, home) for path, home in partition_files(raw)]
    return pl.concat(frames, how="diagonal").lazy()


def _read(raw: RawFolder, path: Path, home: Path) -> pl.DataFrame:
    rows = read_rows(raw, path, words=3)
    path_parts = rows.names.str.extract_groups(_PATH).struct.unnest()
    gender, folder, item, file = (path_parts[name].fill_null("") for name in path_parts.columns)
    _check_rows(rows, folder, item)
    image_folder, is_highres = find_images(raw, home, ("WOMEN", "MEN"))
    images = (pl.Series([image_folder]) + rows.names.str.slice(len("img/"))).rename("image")
    fit = not do_not_fit(raw, images, image_folder, is_highres, _SIDE)
    lists = read_labels(raw, home, "inshop") if fit else {}
    if color_path := annotation_file(home, "list_color_cloth.txt"):
        lists["color"] = read_rows(raw, color_path, text=True)
    landmarks = LandmarkRows(raw, lists["landmark"]) if "landmark" in lists else None
    kept, indices = join_labels(raw, rows, lists, landmarks)
    view = file.str.extract_groups(_VIEW).struct.unnest().select(pl.all().fill_null(""))
    chosen = {
        "image": images, "split": rows.words[2], "category": folder, "item": item, "group": item, "pose": view["pose"],
        "gender": gender.replace_strict(_GENDERS, default="unknown", return_dtype=pl.String), "variant": view["variant"],
    }  # fmt: skip
    frame = rows.frame(kept, {name: column.gather(kept) for name, column in chosen.items()})
    frame = frame.with_columns(label_columns(indices, lists.get("box"), landmarks))
    _check_views(raw, rows, kept, view["code"], lists.get("box"), indices.get("box", kept))
    for split in _SPLITS:
        raw.totals[split] += int((rows.words[2] == split).sum())
    raw.totals["images"] += len(rows)
    return _add_words(raw, home, frame, indices, lists.get("color"))


def _check_rows(rows: ListFile, folder: pl.Series, item: pl.Series) -> None:
    words, splits = rows.words[1], rows.words[2]
    rows.require(item != "", "unexpected_path", "not a path img/<gender>/<folder>/<item>/<image>")
    known, rest = folder.is_in(list(_CATEGORIES.values)), f"is none of the {len(_CATEGORIES)} known"
    rows.require(known, "unknown_category", lambda row: f"the folder {folder[row][:60]!r} {rest}", folder)
    differs = "item {!r}, but its path has {}".format
    rows.require(item == words, "item_path_mismatch", lambda row: differs(words[row][:40], item[row]), words)
    rows.require_known(splits, _SPLITS, "unknown_split", "evaluation status")
    refuse_leaks(rows, item, splits, _SPLITS[1:])


def _check_views(
    raw: RawFolder, rows: ListFile, kept: np.ndarray, codes: pl.Series, boxes: ListFile | None, found: np.ndarray
) -> None:
    """Warn about file names without a view, and views that differ from the box list (which lacks 7_additional)."""
    views = codes.replace_strict(_POSE_TYPES, default=0, return_dtype=pl.Int32).gather(kept).to_numpy()
    for row in kept[(codes.gather(kept) == "").to_numpy()].tolist():
        raw.warn("unknown_view", rows.line(row))
    if boxes is None:
        return
    poses = np.append(boxes.matrix(6)[:, 1], 0)[found]
    for rule, odd in (
        ("pose_differs", (poses != views) & (views > 0) & (found >= 0)),
        ("unknown_pose_type", ((poses < 1) | (poses > 6)) & (found >= 0)),
    ):
        for row in found[odd].tolist():
            raw.warn(rule, boxes.line(row))


def _add_words(
    raw: RawFolder, home: Path, frame: pl.DataFrame, indices: dict[str, np.ndarray], colors: ListFile | None
) -> pl.DataFrame:
    """Add the columns color and description, and the attributes of the item."""
    color = pl.Series([""] * len(frame), dtype=pl.String)
    if colors is not None and colors.texts is not None:
        color = pl.concat([colors.texts, pl.Series([""])]).gather(indices["color"] % (len(colors) + 1))
    frame = frame.with_columns(color.alias("color"), pl.lit("").alias("description"))
    if path := annotation_file(home, "list_description_inshop.json"):
        records = read_descriptions(raw, path)
        frame = add_descriptions(frame.drop("description"), records, has_colors=colors is not None)
    frame = frame.drop("variant")
    if path := annotation_file(home, "list_item_inshop.txt"):
        check_items(raw, path, frame["item"])
    if path := annotation_file(home, "list_attr_cloth.txt"):
        compare_names(raw.name_of(path), vocabulary_lines(raw, path), _ATTRIBUTES.values)
    return add_item_attributes(raw, annotation_file(home, "list_attr_items.txt"), len(_ATTRIBUTES), frame)
