"""Reader for the DeepFashion fine annotation: parallel text files, with row i of each for image i of `<split>.txt`.

There are two layouts. "course" is a common re-release of 7,000 images: `split/train.txt`, `train_attr.txt` (six class
ids), `train_bbox.txt`, `train_landmards.txt` (sic). "official" is `Anno_fine/`: `train_attr.txt` has 26 x 0/1, and
`train_cate.txt`, if present, the category. Boxes and landmarks are 1-based and become pixel centers (1 becomes 0); `0
0` is absent.

Landmarks are packed to the left in the order of the clothes type, which the course layout lacks (`packed_landmarks`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fprep.raw.file import is_file
from fprep.raw.folder import RawFile, RawFolder, RawLine, text_problem
from fprep.raw.image_names import clean_path, image_path_problem
from fprep.readers.deepfashion import signatures
from fprep.readers.deepfashion.coarse_split import add_coarse_split
from fprep.readers.deepfashion.packed_landmarks import (
    GARMENTS,
    garment_of_category,
    garment_of_landmarks,
    is_ambiguous,
    unpack,
)
from fprep.readers.deepfashion.tree import benchmark_reader
from fprep.readers.reader import frame_of, safe_key, source_columns
from fschemas.failures import UsageError
from fschemas.landmarks import DEEPFASHION_8, Visibility
from fschemas.tables import COLUMN_GROUPS, table_class
from fschemas.vocabularies import vocabulary

_NUMBER = re.compile(rb"-?[0-9]{1,5}")
_TABLE = table_class("category", "attributes", "box", "landmarks")
_VOCABULARY = vocabulary("deepfashion-fine-26")
_CATEGORIES = vocabulary("deepfashion-category-50")
_GROUPS = tuple(_VOCABULARY.groups.values())
_SUFFIXES = {"attributes": ("attr",), "box": ("bbox",), "landmark": ("landmarks", "landmards"), "category": ("cate",)}
_NUM_LANDMARKS = len(DEEPFASHION_8)
_COORDINATE_COLUMNS = (*COLUMN_GROUPS["box"], *COLUMN_GROUPS["landmarks"])


@benchmark_reader(
    name="deepfashion-fine",
    table=_TABLE,
    vocabularies={"attributes": _VOCABULARY, "category": _CATEGORIES},
    signatures=signatures.FINE,
    variants={
        "course": tuple(f"split/train{end}.txt" for end in ("", "_attr", "_bbox", "_land*")),
        "official": tuple(f"Anno_fine/train{end}.txt" for end in ("", "_attr", "_bbox", "_land*")),
    },
    totals={
        "course-train": 5000, "course-val": 1000, "course-test": 1000,
        "official-train": 14000, "official-val": 2000, "official-test": 4000,
    },
)  # fmt: skip
def deepfashion_fine(raw: RawFolder) -> pl.LazyFrame:
    """Read train, val and test of every fine folder found; a split without label files becomes "unlabeled".

    If the partition of the coarse benchmark is next to the folder, rows also have their split in it.
    """
    frames: list[pl.DataFrame] = []
    names: list[pl.Series] = []
    folders = _folders(raw)
    for folder in folders:
        _check_vocabulary(raw, folder)
        splits = [split for split in ("train", "val", "test") if is_file(folder / f"{split}.txt")]
        frames += [_read_split(raw, folder, split) for split in splits]
        names += [frame["image"].str.strip_prefix(_prefix(raw, folder)) for frame in frames[-len(splits) :]]
    if any("box" not in frame.columns for frame in frames):
        frames = [frame.drop(_COORDINATE_COLUMNS, strict=False) for frame in frames]
        raw.notes.append("attributes only: there are no boxes and landmarks beside them")
    return add_coarse_split(raw, folders, pl.concat(frames), pl.concat(names)).lazy()


def _folders(raw: RawFolder) -> list[Path]:
    found = {
        folder
        for given in raw.given
        for folder in (given, given / "split", given / "Anno_fine", given / "Anno" / "Anno_fine")
        if any(is_file(folder / f"{split}.txt") for split in ("train", "val", "test"))
    }
    if not found:
        raise raw.nothing_found(
            "no fine annotation here; expected split/train.txt or Anno_fine/train.txt and its labels"
        )
    return sorted(found)


def _check_vocabulary(raw: RawFolder, folder: Path) -> None:
    path = folder / "list_attr_cloth.txt"
    if not is_file(path):
        return
    file = raw.open_file(path)
    lines = list(file.lines())
    for line in lines:
        problem = text_problem(line)
        if problem is not None:
            raise UsageError(f"{line}: {problem[1]}; restore the list of the 26 fine attributes")
    names = [line.content.split()[0].decode() for line in lines[2:]]
    file.accounts["header"] += 2
    file.accounts["joined"] += len(names)
    for line, name, expected in zip(lines[2:], names, _VOCABULARY.values, strict=False):
        if name != expected:
            raise UsageError(
                f"{line}: attribute {name!r}, expected {expected!r}; this is not the list of the 26 fine attributes"
            )
    if len(names) != len(_VOCABULARY) or lines[0].content.split()[:1] != [b"26"]:
        raise UsageError(
            f"{file.name}: {len(names)} attributes under a count line, expected 26 and 26; restore the file"
        )


def _read_split(raw: RawFolder, folder: Path, split: str) -> pl.DataFrame:
    names_file = raw.open_file(folder / f"{split}.txt")
    lines = _data_lines(raw, names_file, is_list=True)
    paths = [(column, folder / f"{split}_{end}.txt") for column, ends in _SUFFIXES.items() for end in reversed(ends)]
    files = {column: path for column, path in paths if is_file(path)}  # the first of the suffixes, if there are several
    layout = "official" if folder.name == "Anno_fine" else "course"
    raw.totals[f"{layout}-{split}"] += len(lines)
    needed = [column for column in _SUFFIXES if column != "category"]
    missing = [f"{split}_{_SUFFIXES[column][0]}.txt" for column in needed if column not in files]
    bare = "attributes" in files and "box" not in files and "landmark" not in files
    if missing and len(missing) < len(needed) and not bare:
        raise UsageError(f"{raw.name_of(folder)}: {', '.join(missing)} is missing; restore it beside {split}.txt")
    good = {line.number for line in lines if _name_is_good(raw, line)}
    if missing and not bare:
        raw.notes.append(f"{names_file.name}: names only, without label files; its rows go into the split unlabeled")
        rows = [line for line in lines if line.number in good]
        blank, no_attributes = np.zeros((len(rows), _NUM_LANDMARKS, 2)), np.zeros((len(rows), 0), int)
        return _frame(raw, folder, "unlabeled", rows, np.full(len(rows), 2), blank, None, no_attributes)
    columns = {
        column: _read_labels(raw, column, raw.open_file(path), names_file, lines, good)
        for column, path in files.items()
    }
    kept = [index for index, line in enumerate(lines) if line.number in good]
    arrays = {column: np.array([values[index] for index in kept], int) for column, values in columns.items()}
    shapes = {"attributes": (-1, 6), "box": (-1, 4), "landmark": (-1, _NUM_LANDMARKS, 2), "category": (-1,)}
    arrays = {column: values.reshape(shapes[column]) for column, values in arrays.items()}
    if bare:
        rows = [lines[index] for index in kept]
        nowhere = np.zeros((len(rows), _NUM_LANDMARKS, 2))
        frame = _frame(raw, folder, split, rows, np.full(len(rows), 2), nowhere, None, arrays["attributes"])
        return frame.drop(_COORDINATE_COLUMNS)
    return _labeled_frame(raw, folder, split, [lines[index] for index in kept], arrays)


def _data_lines(raw: RawFolder, file: RawFile, *, is_list: bool) -> list[RawLine]:
    """Return the data lines: without blank lines and without the header line that one re-release added."""
    lines = list(file.lines())
    first = lines[0].content.split() if lines else []
    is_data = re.search(rb"[/\\]", lines[0].content) if lines and is_list else any(map(_NUMBER.fullmatch, first))
    if lines and not is_data:
        file.accounts["header"] += 1
        raw.warn("header_line", lines[0])
        lines = lines[1:]
    return lines


def _name_is_good(raw: RawFolder, line: RawLine) -> bool:
    problem = text_problem(line)
    if problem is None:
        problem = image_path_problem(clean_path(line.content.decode().strip(" \t")))
    if problem is not None:
        raw.reject(line, *problem, column="image", found=repr(line.content[:100]))
    return problem is None


def _read_labels(
    raw: RawFolder, column: str, file: RawFile, names_file: RawFile, names: list[RawLine], good: set[int]
) -> list[list[int] | None]:
    lines = _data_lines(raw, file, is_list=False)
    file.accounts["joined"] += len(lines)
    if len(lines) != len(names):
        raise UsageError(
            f"{file.name}: {len(lines)} rows, but {names_file.name} names {len(names)} images; row i of each belongs "
            "together, so restore both files from the archive"
        )
    numbers = [0] * len(names_file)
    for name, line in zip(names, lines, strict=True):
        numbers[name.number - 1] = line.number
    raw.join(names_file.name, column, file.name, numbers)
    values: list[list[int] | None] = []
    for name, line in zip(names, lines, strict=True):
        parsed = _numbers(column, line)
        if isinstance(parsed, list):
            values.append(parsed)
            continue
        values.append(None)
        if name.number in good:
            good.discard(name.number)
            rule, message, found = parsed
            raw.reject(name, rule, message, location=line, column=column, found=found)
    return values


def _numbers(column: str, line: RawLine) -> list[int] | tuple[str, str, str]:
    """Return the numbers of a label row, or (rule, message, value found)."""
    tokens = line.content.split()
    for token in tokens:
        if _NUMBER.fullmatch(token) is None:
            text = repr(token[:40])[2:-1]
            return "bad_cell", f"{text!r} is not a whole number", text
    numbers = list(map(int, tokens))
    if column == "attributes":
        return _attributes(numbers)
    expected = {"box": 4, "landmark": 2 * _NUM_LANDMARKS, "category": 1}[column]
    if len(numbers) != expected:
        return "wrong_columns", f"{len(numbers)} numbers, expected {expected}", str(len(numbers))
    if column == "category" and not 1 <= numbers[0] <= 50:
        return "unknown_category", f"category {numbers[0]}, expected 1 to 50", str(numbers[0])
    if column == "landmark":
        for index in range(_NUM_LANDMARKS):
            x, y = numbers[2 * index : 2 * index + 2]
            if (x == 0) != (y == 0):
                message = f"point {index + 1} is ({x}, {y}): absent points are 0 0, others start at 1"
                return "bad_cell", message, f"{x} {y}"
    return numbers


def _attributes(numbers: list[int]) -> list[int] | tuple[str, str, str]:
    """Return ids of the vocabulary, one per group, from six class ids or from 26 flags."""
    found = " ".join(map(str, numbers))
    if len(numbers) == len(_GROUPS):
        for (group, members), value in zip(_VOCABULARY.groups.items(), numbers, strict=True):
            if not 0 <= value < len(members):
                return "unknown_attribute", f"{group} is {value}, expected 0 to {len(members) - 1}", found
        return [members[value] for members, value in zip(_GROUPS, numbers, strict=True)]
    if len(numbers) != len(_VOCABULARY):
        return "wrong_columns", f"{len(numbers)} numbers, expected 6 class ids or 26 flags", str(len(numbers))
    if not set(numbers) <= {0, 1}:
        return "bad_cell", "an attribute flag is neither 0 nor 1", found
    chosen = [[member for member in members if numbers[member]] for members in _GROUPS]
    for group, members in zip(_VOCABULARY.groups, chosen, strict=True):
        if len(members) != 1:
            return "attribute_group", f"{len(members)} attributes of the group {group}, expected exactly one", found
    return [members[0] for members in chosen]


def _labeled_frame(
    raw: RawFolder, folder: Path, split: str, rows: list[RawLine], arrays: dict[str, np.ndarray]
) -> pl.DataFrame:
    points, box = arrays["landmark"], arrays["box"]
    present = (points != 0).any(2)
    if "category" in arrays:
        garments, slotted = garment_of_category(present, arrays["category"])
        order = "in their slots" if slotted else "packed"
        raw.notes.append(f"{raw.name_of(folder)}/{split}: clothes types by category, points {order}")
        points = points if slotted else unpack(points, garments)
    else:
        garments = garment_of_landmarks(present, box, points, arrays["attributes"])
        points = unpack(points, garments)
        ambiguous = is_ambiguous(present)
        counts = ", ".join(f"{name} {int((garments[ambiguous] == index).sum())}" for index, name in enumerate(GARMENTS))
        raw.notes.append(
            f"{raw.name_of(folder)}/{split}: the clothes type is not stated; {int(ambiguous.sum())} of {len(rows)} rows have "
            f"points in pairs 1-4 only and were decided by attributes and geometry ({counts}), "
            f"{int((~present.any(1)).sum())} rows have no point"
        )
    categories = [_CATEGORIES.values[number - 1] for number in arrays.get("category", np.zeros(0, int)).tolist()]
    return _frame(raw, folder, split, rows, garments, points, box, arrays["attributes"], categories)


def _prefix(raw: RawFolder, folder: Path) -> str:
    """Return the prefix of the list paths, relative to the root."""
    home = next(
        (parent for parent in (folder.parent, folder.parent / "Img") if (parent / "img").is_dir()), folder.parent
    )
    return raw.prefix_of(home)


def _frame(
    raw: RawFolder, folder: Path, split: str, rows: list[RawLine], garments: np.ndarray, points: np.ndarray, box: np.ndarray | None,
    attributes: np.ndarray, categories: list[str] | None = None,
) -> pl.DataFrame:  # fmt: skip
    """Return table columns for the images in `rows`; `points` is N x 8 x 2 in landmark slots, 1-based, 0 if absent."""
    names = [clean_path(line.content.decode().strip(" \t")) for line in rows]
    prefix = _prefix(raw, folder)
    is_applicable = np.array(
        [[index in DEEPFASHION_8.garments[name] for index in range(_NUM_LANDMARKS)] for name in GARMENTS]
    )
    present = (points != 0).any(2)
    missing = np.where(is_applicable[garments], Visibility.ABSENT, Visibility.NOT_APPLICABLE)
    positions = np.where(present[:, :, None], points - 1, 0).astype(np.float32)
    unknown = [] if attributes.size else list(range(len(_VOCABULARY)))
    columns: dict[str, Any] = {
        "key": [safe_key(re.sub(r"^img/|\.[^./]*$", "", name).replace("/", "-")) for name in names],
        "image": [prefix + name for name in names],
        "split": [split] * len(rows),
        "garment": [GARMENTS[index] for index in garments.tolist()],
        "landmark_x": positions[:, :, 0],
        "landmark_y": positions[:, :, 1],
        "landmark_visibility": np.where(present, Visibility.VISIBLE, missing),
        "box": [None] * len(rows) if box is None else (box - 1).astype(np.float32),
        "category": categories or [""] * len(rows),
        "attributes_positive": attributes.tolist(),
        "attributes_unknown": [unknown] * len(rows),
        **source_columns(rows),
    }
    return frame_of(_TABLE, columns)
