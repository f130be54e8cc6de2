"""Reader for the DeepFashion fine annotation: parallel text files, with row i of each for image i of `<split>.txt`.

There are two layouts. "course" is a common re-release of 7,000 images: `split/train.txt`, `train_attr.txt` (six class
ids), `train_bbox.txt`, `train_landmards.txt` (sic). "official" is `Anno_fine/`: `train_attr.txt` has 26 x 0/1, and
`train_cate.txt`, if present, the category. Boxes and landmarks are 1-based and become pixel centers (1 becomes 0); `0
0` is absent.

Landmarks are packed to the left in the order of the clothes type, which the course layout lacks (`packed_landmarks`).

The coarse benchmark splits the same images differently: 4,188 of the 14,000 images of fine-train and 653 of the 2,000
of fine-val are test images there, so models trained on both must exclude them.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fprep.raw.file import is_file
from fprep.raw.folder import RawFile, RawFolder, RawLine, path_in
from fprep.readers.deepfashion import signatures
from fprep.readers.deepfashion.item_attributes import compare_names, vocabulary_lines
from fprep.readers.deepfashion.landmark_rows import APPLICABLE, GARMENTS
from fprep.readers.deepfashion.lists import read_list
from fprep.readers.deepfashion.packed_landmarks import garment_of_category, garment_of_landmarks, is_ambiguous, unpack
from fprep.readers.deepfashion.tree import PARTITION, SPLITS, benchmark_reader, is_given
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

Problem = tuple[str, str, str]  # rule, message, value found


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
        if is_file(path := folder / "list_attr_cloth.txt"):
            words = [(location, text.split()[0]) for location, text in vocabulary_lines(raw, path)]
            compare_names(raw.name_of(path), words, _VOCABULARY.values)
        splits = [split for split in SPLITS if is_file(folder / f"{split}.txt")]
        frames += [_read_split(raw, folder, split) for split in splits]
        names += [frame["image"].str.strip_prefix(_prefix(raw, folder)) for frame in frames[-len(splits) :]]
    if any("box" not in frame.columns for frame in frames):
        frames = [frame.drop(_COORDINATE_COLUMNS, strict=False) for frame in frames]
        raw.notes.append("attributes only: there are no boxes and landmarks with them")
    return _with_coarse_split(raw, folders, pl.concat(frames), pl.concat(names)).lazy()


def _folders(raw: RawFolder) -> list[Path]:
    found = {
        folder
        for given in raw.given
        for folder in (given, given / "split", given / "Anno_fine", given / "Anno" / "Anno_fine")
        if any(is_file(folder / f"{split}.txt") for split in SPLITS)
    }
    if not found:
        raise raw.nothing_found(
            "no fine annotation here; expected split/train.txt or Anno_fine/train.txt and its labels"
        )
    return sorted(found)


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
        raise UsageError(f"{raw.name_of(folder)}: {', '.join(missing)} is missing; restore it next to {split}.txt")
    good = {line.number for line in lines if raw.has_path(line)}
    if missing and not bare:
        raw.notes.append(f"{names_file.name}: names only, without label files; its rows go into the split unlabeled")
        split, files = "unlabeled", {}
    columns = {
        column: _read_labels(raw, column, raw.open_file(path), names_file, lines, good)
        for column, path in files.items()
    }
    kept = [index for index, line in enumerate(lines) if line.number in good]
    shapes = {"attributes": (-1, 6), "box": (-1, 4), "landmark": (-1, _NUM_LANDMARKS, 2), "category": (-1,)}
    arrays = {
        column: np.array([values[index] for index in kept], int).reshape(shapes[column])
        for column, values in columns.items()
    }
    frame = _frame(raw, folder, split, [lines[index] for index in kept], arrays)
    return frame.drop(_COORDINATE_COLUMNS) if bare else frame


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
        values.append(parsed if isinstance(parsed, list) else None)
        if isinstance(parsed, tuple) and name.number in good:
            good.discard(name.number)
            rule, message, found = parsed
            raw.reject(name, rule, message, location=line, column=column, found=found)
    return values


def _numbers(column: str, line: RawLine) -> list[int] | Problem:
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


def _attributes(numbers: list[int]) -> list[int] | Problem:
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


def _in_slots(raw: RawFolder, source: str, arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the clothes types (N, indices into GARMENTS) and the landmarks in their slots, N x 8 x 2."""
    points = arrays["landmark"]
    present = (points != 0).any(2)
    if "category" in arrays:
        garments, slotted = garment_of_category(present, arrays["category"])
        raw.notes.append(f"{source}: clothes types by category, points {'in their slots' if slotted else 'packed'}")
        return garments, points if slotted else unpack(points, garments)
    garments = garment_of_landmarks(present, arrays["box"], points, arrays["attributes"])
    ambiguous = is_ambiguous(present)
    counts = ", ".join(f"{name} {int((garments[ambiguous] == index).sum())}" for index, name in enumerate(GARMENTS))
    raw.notes.append(
        f"{source}: the clothes type is not stated; {int(ambiguous.sum())} of {len(points)} rows have points in pairs 1-4 only and "
        f"were decided by attributes and geometry ({counts}), {int((~present.any(1)).sum())} rows have no point"
    )
    return garments, unpack(points, garments)


def _prefix(raw: RawFolder, folder: Path) -> str:
    homes = (folder.parent, folder.parent / "Img")
    return raw.prefix_of(next((home for home in homes if (home / "img").is_dir()), folder.parent))


def _frame(
    raw: RawFolder, folder: Path, split: str, rows: list[RawLine], arrays: dict[str, np.ndarray]
) -> pl.DataFrame:
    names, prefix = [path_in(line) for line in rows], _prefix(raw, folder)
    garments, points = np.full(len(rows), GARMENTS.index("full")), np.zeros((len(rows), _NUM_LANDMARKS, 2))
    if "landmark" in arrays:
        garments, points = _in_slots(raw, f"{raw.name_of(folder)}/{split}", arrays)
    present = (points != 0).any(2)
    missing = np.where(APPLICABLE[garments], Visibility.ABSENT, Visibility.NOT_APPLICABLE)
    positions = np.where(present[:, :, None], points - 1, 0).astype(np.float32)
    unknown = [] if "attributes" in arrays else list(range(len(_VOCABULARY)))
    categories = arrays["category"].tolist() if "category" in arrays else [None] * len(rows)
    columns: dict[str, Any] = {
        "key": [safe_key(re.sub(r"^img/|\.[^./]*$", "", name).replace("/", "-")) for name in names],
        "image": [prefix + name for name in names],
        "split": [split] * len(rows),
        "garment": [GARMENTS[index] for index in garments.tolist()],
        "landmark_x": positions[:, :, 0],
        "landmark_y": positions[:, :, 1],
        "landmark_visibility": np.where(present, Visibility.VISIBLE, missing),
        "box": (arrays["box"] - 1).astype(np.float32) if "box" in arrays else [None] * len(rows),
        "category": [_CATEGORIES.values[number - 1] if number else "" for number in categories],
        "attributes_positive": arrays["attributes"].tolist() if "attributes" in arrays else [[]] * len(rows),
        "attributes_unknown": [unknown] * len(rows),
        **source_columns(rows),
    }
    return frame_of(_TABLE, columns)


def _with_coarse_split(raw: RawFolder, folders: list[Path], frame: pl.DataFrame, names: pl.Series) -> pl.DataFrame:
    """Add the column coarse_split if the partition of the coarse benchmark is next to one of the `folders`.

    `names` are the images as written in the lists. Warns about train and val rows in the coarse benchmark's test split.
    """
    known: list[pl.DataFrame] = []
    for path in dict.fromkeys(_partitions(raw, folders)):
        rows = read_list(raw, path, words=2)
        for row, (_, message, _) in rows.problems.items():
            raw.warn("bad_partition_row", f"{rows.line(row)}: {message}")
        rows.file.accounts["joined"] += len(rows)
        listed = pl.DataFrame({"name": rows.names, "coarse_split": rows.words[1]})
        known.append(listed.filter(pl.Series(rows.good)))
    if not known:
        return frame
    first = pl.concat(known).unique("name", keep="first", maintain_order=True)
    joined = names.to_frame("name").join(first, on="name", how="left", maintain_order="left")
    splits = joined["coarse_split"].fill_null("")
    frame = frame.with_columns(splits)
    trained = frame.filter(pl.col("split").is_in(["train", "val"]) & (splits == "test"))
    for file, line in trained.select("source_file", "source_line").iter_rows():
        raw.warn("in_coarse_test", f"{file}:{line}")
    held_out = (pl.col("coarse_split") == "test").sum().alias("test")
    counts = frame.group_by("split").agg(pl.len().alias("all"), held_out).sort("split")
    shares = ", ".join(f"{test} of {every} {split}" for split, every, test in counts.iter_rows())
    raw.notes.append(
        f"images in the coarse test set: {shares}; exclude them when training for the Category and Attribute benchmark"
    )
    return frame


def _partitions(raw: RawFolder, folders: list[Path]) -> Iterator[Path]:
    """Yield the partition of the coarse benchmark next to each folder that has one, among the given folders."""
    for folder in folders:
        homes = (folder.parent, folder.parent.parent)
        paths = (home / name / PARTITION for home in homes for name in ("Eval", "eval"))
        yield from [path for path in paths if is_file(path) and is_given(raw, path)][:1]
