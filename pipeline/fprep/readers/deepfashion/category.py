"""Reader for DeepFashion Category and Attribute Prediction.

289,222 images, 50 categories, 1,000 attributes, boxes, 8 landmarks. The lists are in `Anno/` in the old release and in
`Anno_coarse/` in the current one; both have the same content, with a count line and a header line. The rows are those
of `Eval/list_eval_partition.txt`; the other lists are joined by path if they exist.

Boxes and landmarks are 1-based pixels, inclusive, and become pixel centers (1 becomes 0). Visibility is 0 visible, 1
occluded, 2 truncated. An attribute is 1 (positive), -1 (absent) or 0 (unknown). Category labels are 1-based; Cape,
Nightdress, Shirtdress and Sundress were merged into Dress, so that 46 of the 50 occur.
"""

import numpy as np
import polars as pl

from fprep.raw.folder import RawFolder
from fprep.readers.deepfashion import signatures
from fprep.readers.deepfashion.attribute_matrix import read_attributes
from fprep.readers.deepfashion.landmark_rows import GARMENTS, LandmarkRows
from fprep.readers.deepfashion.lists import ListFile, join_lists, read_list
from fprep.readers.deepfashion.tree import (
    Benchmark,
    benchmark_reader,
    check_words,
    find_benchmarks,
    image_paths,
    read_partition,
    warn_of_case,
)
from fschemas.tables import table_class
from fschemas.vocabularies import vocabulary

_ATTRIBUTES = vocabulary("deepfashion-attribute-1000")
_CATEGORIES = vocabulary("deepfashion-category-50")
_ATTRIBUTE_TYPES = ("texture", "fabric", "shape", "part", "style")  # 1 to 5
_GARMENT_OF = np.array([
    next(kind for kind, garment in enumerate(GARMENTS) if label in _CATEGORIES.groups[garment])
    for label in range(len(_CATEGORIES))
])  # fmt: skip
_MERGED = ("Cape", "Nightdress", "Shirtdress", "Sundress")
_LISTS = {"category": "list_category_img.txt", "attributes": "list_attr_img.txt", "box": "list_bbox.txt",
          "landmark": "list_landmarks.txt"}  # fmt: skip


@benchmark_reader(
    name="deepfashion-category",
    table=table_class("category", "attributes", "box", "landmarks"),
    vocabularies={"attributes": _ATTRIBUTES, "category": _CATEGORIES},
    signatures=signatures.CATEGORY,
    image_side=301,
    variants={
        "present release (Anno_coarse)": ("**/Anno_coarse/list_category_img.txt", "**/Eval/list_eval_partition.txt"),
        "old release (Anno)": ("**/Anno/list_category_img.txt", "**/Eval/list_eval_partition.txt"),
        "attributes only": ("**/list_attr_img.txt", "**/list_eval_partition.txt"),
    },
    totals={"images": 289222, "train": 209222, "val": 40000, "test": 40000},
)
def deepfashion_category(raw: RawFolder) -> pl.LazyFrame:
    """Read every Category and Attribute folder found, with the column groups of its lists."""
    benchmarks = find_benchmarks(raw, (_LISTS["category"], _LISTS["attributes"]))
    return pl.concat([_read(raw, benchmark) for benchmark in benchmarks], how="diagonal").lazy()


def _read(raw: RawFolder, benchmark: Benchmark) -> pl.DataFrame:
    check_words(raw, benchmark.file("list_category_cloth.txt"), _CATEGORIES, "category", GARMENTS)
    rows = read_partition(raw, benchmark)
    lists = _read_lists(raw, benchmark)
    columns: dict[str, pl.Series] = {}
    attributes = None
    if (path := benchmark.file(_LISTS["attributes"])) is not None:
        check_words(raw, benchmark.file("list_attr_cloth.txt"), _ATTRIBUTES, "attr", _ATTRIBUTE_TYPES)
        lists["attributes"], *attributes = read_attributes(raw, path, len(_ATTRIBUTES))
    landmarks = LandmarkRows(raw, lists["landmark"]) if "landmark" in lists else None
    kept, indices = join_lists(raw, rows, lists)
    if landmarks is not None and "category" in lists:
        # The released lists agree in every row about the garment, so one of two conflicting labels is wrong.
        labels = lists["category"].matrix(1)[indices["category"], 0] - 1
        garments = landmarks.garments[indices["landmark"]]
        fits = _GARMENT_OF[labels] == garments
        for index in np.flatnonzero(~fits).tolist():
            name, kind = _CATEGORIES.values[labels[index]], GARMENTS[_GARMENT_OF[labels[index]]]
            message = f"clothes type {GARMENTS[garments[index]]}, but category {name} is of type {kind}"
            location = lists["landmark"].line(int(indices["landmark"][index]))
            raw.reject(rows.line(int(kept[index])), "garment_mismatch", message, "garment", name, location=location)
        kept, indices = kept[fits], {column: found[fits] for column, found in indices.items()}
    if "category" in lists:
        columns["category"] = _categories(raw, rows, kept, lists["category"], indices["category"])
    if attributes is not None:
        positive, unknown = (ids.lists(indices["attributes"]) for ids in attributes)
        columns |= {"attributes_positive": positive, "attributes_unknown": unknown}
        raw.notes.append(
            f"{lists['attributes'].file.name}: {positive.list.len().sum()} positive and {unknown.list.len().sum()} unknown values; "
            "all others are known to be absent"
        )
    if "box" in lists:
        columns["box"] = lists["box"].boxes(indices["box"])
    if landmarks is not None:
        columns |= landmarks.columns(indices["landmark"])
        if (landmarks.variations < 0).all():
            del columns["variation"]
    names = rows.names.gather(kept)
    warn_of_case(raw, names)
    columns |= {"image": image_paths(raw, benchmark.home, names), "split": rows.words[1].gather(kept)}
    return rows.frame(kept, columns)


def _read_lists(raw: RawFolder, benchmark: Benchmark) -> dict[str, ListFile]:
    lists: dict[str, ListFile] = {}
    benchmark.note_missing(raw, _LISTS.values())
    for column, count in (("category", 1), ("box", 4), ("landmark", None)):
        if (path := benchmark.file(_LISTS[column])) is not None:
            lists[column] = read_list(raw, path, numbers=count)
    if "category" in lists:
        labels = lists["category"].matrix(1)[:, 0]
        lists["category"].require_between(labels, 1, len(_CATEGORIES), "unknown_category", "category")
    return lists


def _categories(raw: RawFolder, rows: ListFile, kept: np.ndarray, listed: ListFile, indices: np.ndarray) -> pl.Series:
    """Return category names; the last word of the folder name is the category in all released rows checked."""
    names = pl.Series(np.array(_CATEGORIES.values)[listed.matrix(1)[indices, 0] - 1], dtype=pl.String)
    folders = rows.names.gather(kept).str.extract(r"([^/]*)/[^/]*$").fill_null("")
    folders = folders.str.extract(r"([^_]*)$").fill_null("")
    for index in (folders.str.to_lowercase() != names.str.to_lowercase()).arg_true().to_list():
        raw.warn("category_differs_from_folder", f"{listed.line(int(indices[index]))}: {names[index]}")
    occurring = set(names.unique())
    for name in names.filter(names.is_in(list(_MERGED))):
        raw.warn("merged_category", f"{listed.file.name}: {name}")
    raw.notes.append(
        f"{listed.file.name}: {len(occurring)} of {len(_CATEGORIES)} categories occur; {', '.join(_MERGED[:-1])} and {_MERGED[-1]} "
        "were merged into Dress before the release, which leaves 46"
    )
    return names
