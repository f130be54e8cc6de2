"""Shared code of DeepFashion's two retrieval benchmarks: list and image locations, columns of boxes and landmarks.

Lists use `img/…` even for the high-resolution images of `img_highres/…`. Archives are unpacked to `img/`, `Img/img/`,
or deeper, e.g. `img/img/img_highres_seg-003/img_highres/`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from fprep.images.check import check_image
from fprep.raw.file import is_file
from fprep.raw.folder import RawFolder
from fprep.readers.deepfashion.landmark_rows import GARMENTS, LandmarkRows
from fprep.readers.deepfashion.lists import ListFile, join_lists, read_rows
from fprep.readers.deepfashion.tree import NUM_PROBES, PARTITION, evenly_spread

_MAX_DEPTH = 6
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


def find_images(raw: RawFolder, home: Path, markers: Sequence[str]) -> tuple[str, bool]:
    """Return the folder that corresponds to `img/` in the lists, and whether its name indicates high resolution.

    The folder is relative to the root and ends in `/` (or is ""). `markers` are subfolders, at least one of which must
    exist. Low-resolution folders are preferred, then the shortest path; the default is `img/` next to the lists.
    """
    found: list[tuple[bool, int, str]] = []
    lower = {marker.lower() for marker in markers}
    for here, folders, _ in raw.walk(home):
        relative = here.relative_to(home)
        if any(name.lower() in lower for name in folders):
            name = relative.as_posix()
            found.append(("highres" in name.lower(), len(relative.parts), name))
            folders[:] = [folder for folder in folders if folder.lower().startswith("img")]
        depth = len(relative.parts)
        folders[:] = [folder for folder in folders if depth < _MAX_DEPTH and folder.lower() not in lower]
    base = raw.prefix_of(home)
    if not found:
        return f"{base}img/", False
    is_highres, _, name = min(found)
    if len(found) > 1:
        others = ", ".join(other or "." for _, _, other in sorted(found)[1:4])
        raw.notes.append(f"images are taken from {base}{name}; there are others in {others}")
    return (base if name == "." else f"{base}{name}/"), is_highres


def are_larger(raw: RawFolder, images: pl.Series, side: int) -> bool:
    """Return whether most of a sample of the existing images have a side above `side` pixels."""
    chosen, root = evenly_spread(images, NUM_PROBES), str(raw.root)
    facts = [check_image(root, name, decode=False, follow_links=raw.follow_links) for name in chosen]
    sizes = [max(fact.width, fact.height) for fact in facts if fact.width and fact.height]
    return sum(size > side for size in sizes) * 2 > len(sizes)


def spelling_on_disk(raw: RawFolder, images: pl.Series, spellings: Sequence[tuple[str, str]]) -> pl.Series:
    """Return the paths with the spelling used on disk.

    If the first path with a spelling does not exist, but does with the alternative, all such paths are changed, with a
    note. `spellings` are pairs (in the lists, on disk).
    """
    for listed, other in spellings:
        first = next(iter(images.filter(images.str.contains(listed, literal=True)).head(1)), None)
        if first is None or (raw.root / first).exists() or not (raw.root / first.replace(listed, other, 1)).exists():
            continue
        raw.notes.append(f"the lists have {listed}, the images {other}: the latter is used")
        images = images.str.replace(listed, other, literal=True)
    return images


def read_labels(raw: RawFolder, home: Path, benchmark: str) -> dict[str, ListFile]:
    """Read the lists that exist: "box" (image, clothes type, another type, x_1, y_1, x_2, y_2), and "landmark"."""
    lists: dict[str, ListFile] = {}
    if path := annotation_file(home, f"list_bbox_{benchmark}.txt"):
        lists["box"] = read_rows(raw, path, numbers=6)
        lists["box"].require_between(lists["box"].matrix(6)[:, 0], 1, len(GARMENTS), "bad_clothes_type", "clothes type")
    if path := annotation_file(home, f"list_landmarks_{benchmark}.txt"):
        lists["landmark"] = read_rows(raw, path, numbers=None)
    return lists


def join_labels(
    raw: RawFolder, rows: ListFile, lists: Mapping[str, ListFile], landmarks: LandmarkRows | None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Join lists in which rows may be missing; a row without box and landmarks is rejected: its garment is unknown.

    One of `lists` may be `rows` itself. Warns if the lists of boxes and landmarks disagree about the clothes type.
    """
    others = {column: other for column, other in lists.items() if other is not rows}
    kept, indices = join_lists(raw, rows, others, optional=tuple(others))
    indices |= {column: kept for column in lists if column not in others}
    for column, found in indices.items():
        for row in kept[found < 0].tolist():
            raw.warn("missing_row", f"{rows.line(row)}: not in {lists[column].file.name}")
    if landmarks is None:
        return kept, indices
    bare = (indices["landmark"] < 0) & (indices["box"] < 0 if "box" in indices else True)
    for row in kept[bare].tolist():
        message = f"{lists['landmark'].file.name} has no row for {rows.names[row]!r}, and no list has its clothes type"
        raw.reject(rows.line(row), "missing_row", message, column="landmark", found=rows.names[row])
    kept, indices = kept[~bare], {column: found[~bare] for column, found in indices.items()}
    if "box" in lists:
        both = (indices["box"] >= 0) & (indices["landmark"] >= 0)
        types = _padded(lists["box"].matrix(6))[indices["box"], 0]
        for row in kept[both & (types - 1 != landmarks.garments[indices["landmark"]])].tolist():
            raw.warn("clothes_type_differs", rows.line(row))
    return kept, indices


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
    garments = np.zeros(len(indices["landmark"]), int) if landmarks is not None else None
    if boxes is not None:
        numbers, found = _padded(boxes.matrix(6))[indices["box"]], pl.Series(indices["box"] >= 0)
        corners = pl.Series("box", numbers[:, 2:].astype(np.float32) - 1).arr.to_list().to_frame()
        columns.append(corners.select(pl.when(found).then("box").alias("box")).to_series())
        garments = np.clip(numbers[:, 0] - 1, 0, len(GARMENTS) - 1)
    return columns + (list(landmarks.columns(indices["landmark"], garments).values()) if landmarks is not None else [])


def refuse_leaks(rows: ListFile, items: pl.Series, splits: pl.Series, held_out: Sequence[str]) -> None:
    """Add a problem to training rows of an item that is also held out."""
    is_held_out = splits.is_in(list(held_out)).to_numpy() & rows.good
    elsewhere = items.is_in(items.filter(pl.Series(is_held_out)).unique().implode())
    leaked = (elsewhere & (splits == "train")).to_numpy()
    rows.require(~leaked, "leaked_item", lambda row: f"{items[row]} is also held out of training", items)


def _padded(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values, np.zeros((1, values.shape[1]), values.dtype)])
