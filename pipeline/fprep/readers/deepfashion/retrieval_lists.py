"""Shared code of DeepFashion's two retrieval benchmarks: list locations, columns of boxes and landmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from fprep.raw.file import is_file
from fprep.raw.folder import RawFolder
from fprep.readers.deepfashion.image_folders import are_larger
from fprep.readers.deepfashion.landmark_rows import GARMENTS, LandmarkRows, absent_landmarks
from fprep.readers.deepfashion.lists import ListFile, join_lists, read_list
from fschemas.failures import UsageError

PARTITION = "list_eval_partition.txt"
_FOLDERS = ("Anno", "anno", "Anno/attributes", "anno/attributes", ".", "attributes")


def partition_files(raw: RawFolder) -> list[tuple[Path, Path]]:
    """Return the partition files with the folder of their benchmark. Raises `UsageError` if there are none."""
    found: set[Path] = set()
    for given in raw.given:
        if given.is_file():
            found |= {given} if given.name.startswith("list_eval_partition") else set()
            continue
        home = given.parent if given.name in ("Anno", "Eval") and given != raw.root else given
        choices = [home / "Eval" / PARTITION, home / "eval" / PARTITION, home / PARTITION]
        here = [path for path in choices if is_file(path)][:1]
        below = [folder / "Eval" / PARTITION for folder in raw.folders_in(home)]
        found |= set(here or [path for path in below if is_file(path)])
    if not found:
        raise raw.nothing_found(f"no Eval/{PARTITION} here; choose the folder with Anno, Eval and Img of the benchmark")
    homes = [(path, path.parents[path.parent.name.lower() == "eval"]) for path in sorted(found)]
    return [(path, home if home.is_relative_to(raw.root) else path.parent) for path, home in homes]


def annotation_file(home: Path, *names: str) -> Path | None:
    """Return the first of these files in the usual folders of a benchmark."""
    candidates = [home / folder / name for name in names for folder in _FOLDERS]
    return next((path for path in candidates if is_file(path)), None)


def read_rows(raw: RawFolder, path: Path, *, words: int = 1, numbers: int | None = 0, text: bool = False) -> ListFile:
    """Read a list with `read_list`; raises `UsageError` for a file without rows, e.g. one emptied by a tool."""
    listed = read_list(raw, path, words=words, numbers=numbers, text=text)
    if not len(listed):
        name = listed.file.name
        raise UsageError(f"{name}: no row that begins with the path of an image; restore it from the archive")
    return listed


def read_boxes(raw: RawFolder, path: Path) -> ListFile:
    """Read a box list: image, clothes type, another type, x_1, y_1, x_2, y_2."""
    listed = read_rows(raw, path, numbers=6)
    listed.require_between(listed.matrix(6)[:, 0], 1, len(GARMENTS), "bad_clothes_type", "clothes type")
    return listed


def join_labels(
    raw: RawFolder, rows: ListFile, lists: Mapping[str, ListFile]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Join lists in which rows may be missing; a row without box and landmarks is rejected: its garment is unknown.

    One of `lists` may be `rows` itself.
    """
    others = {column: other for column, other in lists.items() if other is not rows}
    kept, indices = join_lists(raw, rows, others, optional=tuple(others))
    indices |= {column: kept for column in lists if column not in others}
    for column, found in indices.items():
        for row in kept[found < 0].tolist():
            raw.warn("missing_row", f"{rows.line(row)}: not in {lists[column].file.name}")
    if "landmark" not in lists:
        return kept, indices
    bare = (indices["landmark"] < 0) & (indices["box"] < 0 if "box" in indices else True)
    for row in kept[bare].tolist():
        message = f"{lists['landmark'].file.name} has no row for {rows.names[row]!r}, and no list has its clothes type"
        raw.reject(rows.line(row), "missing_row", message, column="landmark", found=rows.names[row])
    return kept[~bare], {column: found[~bare] for column, found in indices.items()}


def do_not_fit(raw: RawFolder, images: pl.Series, image_folder: str, is_highres: bool, side: int) -> bool:
    """Return whether the images are larger than the `side` pixels that the coordinates belong to; adds a note if so."""
    if not is_highres and not are_larger(raw, images, side):
        return False
    raw.warn("high_resolution", image_folder)
    raw.notes.append(
        f"{image_folder} holds images of high resolution, but the coordinates of the lists are pixels of images with sides of at "
        f"most {side}, and the lists state no scale: boxes and landmarks are left out; unpack img.zip instead to have them"
    )
    return True


def label_columns(
    indices: Mapping[str, np.ndarray], boxes: ListFile | None, landmarks: LandmarkRows | None
) -> list[pl.Series]:
    """Return columns of the groups box, landmarks and variation for the given lists.

    `indices` are their rows, -1 if missing.
    """
    columns: list[pl.Series] = []
    numbers = boxes.matrix(6) if boxes is not None else np.zeros((0, 6), np.int32)
    if boxes is not None:
        corners = _padded(numbers[:, 2:].astype(np.float32) - 1)[indices["box"]]
        lists = pl.Series("box", corners).arr.to_list()
        columns.append(lists.to_frame().select(pl.when(pl.Series(indices["box"] >= 0)).then("box").alias("box"))["box"])
    if landmarks is None:
        return columns
    found = indices["landmark"]
    listed = landmarks.columns(found)
    if (found < 0).any():
        types = _padded(numbers[:, :1])[indices["box"], 0] if boxes is not None else np.ones(len(found), np.int32)
        absent = absent_landmarks(np.clip(types - 1, 0, len(GARMENTS) - 1))
        is_listed = pl.Series(found >= 0)
        pairs = [pl.DataFrame({"listed": listed[name], "absent": absent[name]}) for name in listed]
        merged = [pair.select(pl.when(is_listed).then("listed").otherwise("absent")).to_series() for pair in pairs]
        listed = {name: column.alias(name) for name, column in zip(listed, merged, strict=True)}
    return columns + [column.alias(name) for name, column in listed.items()]


def compare_types(raw: RawFolder, rows: ListFile, kept: np.ndarray, indices: Mapping[str, np.ndarray],
                  boxes: ListFile | None, landmarks: LandmarkRows | None) -> None:  # fmt: skip
    """Warn if the box list and the landmark list disagree about the clothes type."""
    if boxes is None or landmarks is None:
        return
    both = (indices["box"] >= 0) & (indices["landmark"] >= 0)
    differs = both & (_padded(boxes.matrix(6))[indices["box"], 0] - 1 != landmarks.garments[indices["landmark"]])
    for row in kept[differs].tolist():
        raw.warn("clothes_type_differs", rows.line(row))


def refuse_leaks(rows: ListFile, items: pl.Series, splits: pl.Series, held_out: Sequence[str]) -> None:
    """Add a problem to training rows of an item that is also held out."""
    good = np.ones(len(rows), bool)
    good[list(rows.problems)] = False
    is_held_out = splits.is_in(list(held_out)).to_numpy() & good
    elsewhere = items.is_in(items.filter(pl.Series(is_held_out)).unique().implode())
    leaked = (elsewhere & (splits == "train")).to_numpy()
    rows.require(~leaked, "leaked_item", lambda row: f"{items[row]} is also held out of training", items)


def _padded(values: np.ndarray) -> np.ndarray:
    """Append a row for index -1."""
    return np.concatenate([values, np.zeros((1, values.shape[1]), values.dtype)])
