"""Reader for FashionAI keypoints (Tianchi 2018).

Archives contain `Images/<category>/<md5>.jpg` and one CSV file of `x_y_v` cells. Recognized: the warm-up and train
archives (`Annotations/annotations.csv`, `Annotations/train.csv`), the test archives (`test.csv`, names only), the
answer files published later, and standalone CSV files, with or without a header. Copies saved by a spreadsheet with
another delimiter or with quotes are accepted (`fprep.raw.dialect`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl

from fprep.raw.dialect import HEAD, Record, find_dialect, read_table, stray_quote
from fprep.raw.folder import ANNOTATION_FOLDERS, RawFile, RawFolder, RawLine
from fprep.raw.image_names import clean_path, image_path_problem
from fprep.readers.fashionai.archive import annotation_files, fashionai_reader
from fprep.readers.reader import frame_of, safe_key, source_columns
from fprep.readers.signature import Signature
from fschemas import wording
from fschemas.failures import UsageError
from fschemas.landmarks import FASHIONAI_24, Visibility
from fschemas.tables import table_class

_TABLE = table_class("landmarks")
_KEYPOINTS = FASHIONAI_24.names
_HEADER = ("image_id", "image_category", *_KEYPOINTS)
_FILE_NAMES = re.compile(r"(annotations|train|test|.*answer.*)\.csv")
_MISSING = (
    "no FashionAI annotation file here; expected Annotations/train.csv, Annotations/annotations.csv, test.csv or a "
    "*answer*.csv of an unpacked archive, or choose the CSV file itself"
)
_WIDTHS = (2, len(_HEADER))  # columns of test.csv, and of a labeled file
_KEYPOINT_CELLS = re.compile(",".join([r"(-?[0-9]{1,5})_(-?[0-9]{1,5})_(-1|0|1)"] * len(_KEYPOINTS)))
_CELL = re.compile(r"(-?[0-9]{1,5})_(-?[0-9]{1,5})_(-?[0-9]{1,5})")
_ABSENT = (-1, -1, -1)
_ROLES = {"train": 0, "test": 1, "unlabeled": 2}

# Published row counts, with the path patterns of the archives.
_ARCHIVES = (
    ("round-2-test-a", re.compile(r"(test_a_20180426|round2_test_a)")),
    ("round-2-test-b", re.compile(r"(test_b_20180530|round2_test_b)")),
    ("test-a", re.compile(r"test_a")),
    ("test-b", re.compile(r"test_b")),
    ("warm-up", re.compile(r"warm_up")),
    ("train", re.compile(r"key_points_train_2018")),
)
_TOTALS = {
    "warm-up": (2997, 2138, 2312, 2292, 2795),
    "train": (7158, 5596, 4912, 7618, 6347),
    "test-a": (1977, 2043, 2038, 1980, 1958),
    "test-b": (1974, 1947, 2052, 2051, 1946),
    "round-2-test-a": (2586, 2508, 2693, 2683, 2631),
    "round-2-test-b": (10670, 10906, 11096, 11154, 10618),
}  # in the order of the landmark set: blouse, outwear, dress, skirt, trousers


def _published_totals() -> dict[str, int]:
    totals: dict[str, int] = {}
    for archive, counts in _TOTALS.items():
        totals[archive] = sum(counts)
        totals |= {f"{archive}/{garment}": count for garment, count in zip(FASHIONAI_24.garments, counts, strict=True)}
    return totals


@dataclass
class _Rows:
    """Columns of one file during parsing; `cells` has 72 numbers (x, y, v of 24 keypoints) per labeled row."""

    role: str
    lines: list[RawLine] = field(default_factory=list[RawLine])
    names: list[str] = field(default_factory=list[str])
    garments: list[str] = field(default_factory=list[str])
    cells: list[tuple[int, ...]] = field(default_factory=list[tuple[int, ...]])


@fashionai_reader(
    name="fashionai-keypoints",
    table=_TABLE,
    landmark_set=FASHIONAI_24,
    signatures=(
        Signature(
            r".*\.csv",
            rb"\Aimage_id,image_category|^Images/(blouse|outwear|dress|skirt|trousers)/[^,]+,",
            "rows",
            rows=True,
            widths=(2, 26),
        ),
    ),
    image_side=512,
    variants={
        "train archive": ("**/Annotations/train.csv",),
        "warm-up archive": ("**/Annotations/annotations.csv",),
        "test archive": ("**/test.csv",),
        "answer file": ("**/*answer*.csv",),
    },
    totals=_published_totals(),
    paper="FashionAI Global Challenge 2018, key points detection of apparel; "
    "Zou et al., FashionAI: A Hierarchical Dataset for Fashion Understanding, CVPR Workshops 2019",
)
def fashionai_keypoints(raw: RawFolder) -> pl.LazyFrame:
    """Read all CSV files below the given folders. An answer supersedes the row of the same image in `test.csv`.

    Coordinates are pixel indices (0 is the left column); v is 1 visible, 0 occluded; -1_-1_-1 is missing or not
    applicable.
    """
    paths = annotation_files(raw, lambda path: _FILE_NAMES.fullmatch(path.name) is not None, _MISSING)
    parsed = {path: _parse(raw, raw.open_file(path), path) for path in paths}
    archives = {path: _archive_of(path) for path in paths}
    listed = {name: archives[path] for path, rows in parsed.items() if rows.role == "unlabeled" for name in rows.names}
    answered = {name for rows in parsed.values() if rows.role == "test" for name in rows.names}
    frames: list[pl.LazyFrame] = []
    for path, rows in sorted(parsed.items(), key=lambda item: (_ROLES[item[1].role], item[0])):
        folder = archives[path]
        folders = [folder] * len(rows.names)
        if rows.role == "test" and not (folder / "Images").is_dir():
            siblings = [sibling for sibling in raw.folders_in(folder) if (sibling / "Images").is_dir()]
            folders = [_home(raw, folder, name, listed, siblings) for name in rows.names]
        keep = [rows.role != "unlabeled" or name not in answered for name in rows.names]
        if superseded := keep.count(False):
            raw.files[raw.name_of(path)].accounts["superseded"] += superseded
            replaced = wording.count(superseded, "row")
            raw.notes.append(f"{raw.name_of(path)}: replaced by rows of a labeled test file: {replaced}")
        frames.append(_frame(raw, rows, folders).filter(pl.Series(keep, dtype=pl.Boolean)).lazy())
    return pl.concat(frames)


def _archive_of(path: Path) -> Path:
    return path.parent.parent if path.parent.name in ANNOTATION_FOLDERS else path.parent


def _home(raw: RawFolder, folder: Path, name: str, listed: dict[str, Path], siblings: list[Path]) -> Path:
    """Return the archive of an answered image: the one with the image in its test.csv, else a sibling with the file."""
    if name in listed:
        return listed[name]
    return next((sibling for sibling in siblings if raw.has_image(sibling, name)), folder)


def _parse(raw: RawFolder, file: RawFile, path: Path) -> _Rows:
    records = read_table(file, find_dialect(file.head(HEAD), widths=_WIDTHS))
    unread, first = _first_record(file, records)
    cells = tuple(cell.strip() for cell in first.fields) if first else _HEADER
    is_header = first is not None and cells in (_HEADER, _HEADER[:2])
    if not is_header and not (len(cells) in _WIDTHS and (first is None or re.search(r"[/\\]", cells[0]))):
        location = first.line if first else file.name
        raise UsageError(f"{location}: {_wrong_header(cells)}; restore the file from the archive")
    labeled = len(cells) == len(_HEADER)
    role = "unlabeled" if not labeled else "test" if re.search(r"answer|^test", path.name) else "train"
    rows, counts = _Rows(role), Counter[str]()
    if is_header:
        file.accounts["header"] += 1
    else:
        raw.warn("no_header", file.name)
        unread += [first] if first else []
    for record in chain(unread, records):
        _parse_row(raw, record, rows, labeled, counts)
    for archive, pattern in _ARCHIVES:
        if pattern.search(str(path.relative_to(raw.root.parent))):
            for garment in FASHIONAI_24.garments:
                raw.totals[f"{archive}/{garment}"] = max(raw.totals[f"{archive}/{garment}"], counts[garment])
            raw.totals[archive] = max(raw.totals[archive], counts.total())
            break
    return rows


def _first_record(file: RawFile, records: Iterator[Record]) -> tuple[list[Record], Record | None]:
    """Return the first valid record and the invalid rows before it. Raises `UsageError` if a header is invalid."""
    faulty: list[Record] = []
    for record in records:
        if record.problem is None:
            return faulty, record
        if not faulty and not re.search(rb"[/\\]", record.line.content):
            raise UsageError(f"{record.line}: {record.problem[1]}; restore the file from the archive")
        faulty.append(record)
    if not faulty:
        raise UsageError(f"{file.name}: only blank lines; restore it from the archive")
    return faulty, None


def _wrong_header(cells: tuple[str, ...]) -> str:
    expected = _HEADER if len(cells) > 2 else _HEADER[:2]
    for index, (found, name) in enumerate(zip(cells, expected, strict=False), start=1):
        if found != name:
            return f"column {index} of the header is {found[:60]!r}, expected {name!r}"
    return f"the header has {len(cells)} columns, expected {len(_HEADER)} (labeled) or 2 (test.csv)"


def _parse_row(raw: RawFolder, record: Record, rows: _Rows, labeled: bool, counts: Counter[str]) -> None:
    line = record.line
    if (problem := record.problem or stray_quote(record)) is not None:
        counts[""] += 1
        rule, message, _ = problem
        return raw.reject(line, rule, message, found=repr(line.content[:60]))
    cells = record.cells
    name, garment = (*cells[:2], "")[:2]
    name = clean_path(name)
    counts[garment if garment in FASHIONAI_24.garments else ""] += 1
    match = _KEYPOINT_CELLS.fullmatch(",".join(cells[2:])) if labeled else None
    has_form = len(cells) == _WIDTHS[labeled] and all(cells[:2]) and (match is not None or not labeled)
    if not has_form:
        return _reject_form(raw, record, labeled)
    if (problem := image_path_problem(name)) is not None:
        return raw.reject(line, *problem, column="image_id", found=name)
    if garment not in FASHIONAI_24.garments:
        known = ", ".join(FASHIONAI_24.garments)
        message = f"unknown category {garment[:60]!r}; known are {known}"
        return raw.reject(line, "unknown_category", message, column="image_category", found=garment)
    if name.split("/")[-2:-1] != [garment]:
        message = f"the image is in another folder ({name}) than that of its category {garment!r}"
        return raw.reject(line, "category_folder_mismatch", message, column="image_id", found=name)
    if match is not None:
        numbers = tuple(map(int, match.groups()))
        if min(numbers) < 0 and not _absent_is_whole(raw, line, numbers):
            return None
        rows.cells.append(numbers)
    rows.lines.append(line)
    rows.names.append(name)
    rows.garments.append(garment)
    return None


def _reject_form(raw: RawFolder, record: Record, labeled: bool) -> None:
    """Reject a row that does not have the form of its file; the message has the first offending cell."""
    line, cells, width = record.line, record.cells, _WIDTHS[labeled]
    if len(cells) != width:
        return raw.reject(line, "wrong_columns", f"{len(cells)} columns, expected {width}", found=str(len(cells)))
    for column, cell in zip(_HEADER, cells, strict=False):
        text = cell[:60]
        if column in _HEADER[:2]:
            if not cell:
                return raw.reject(line, "bad_cell", f"{column} is empty", column=column)
        elif (match := _CELL.fullmatch(cell)) is None:
            message = f"{column} is {text!r}, expected x_y_v with whole numbers"
            return raw.reject(line, "bad_cell", message, column=column, found=text)
        elif match[3] not in ("-1", "0", "1"):
            message = f"the visibility of {column} is {match[3]}, expected 1 (visible), 0 (occluded) or -1 (absent)"
            return raw.reject(line, "bad_visibility", message, column=column, found=text)
    raise AssertionError(f"{line} has the form of its file")


def _absent_is_whole(raw: RawFolder, line: RawLine, numbers: tuple[int, ...]) -> bool:
    for index, column in enumerate(_KEYPOINTS):
        cell = numbers[3 * index : 3 * index + 3]
        if -1 in cell and cell != _ABSENT:
            text = "_".join(map(str, cell))
            message = f"{column} is {text!r}: a point is absent with all three of -1_-1_-1 or with none"
            raw.reject(line, "bad_cell", message, column=column, found=text)
            return False
    return True


def _frame(raw: RawFolder, rows: _Rows, folders: list[Path]) -> pl.DataFrame:
    count, num_keypoints = len(rows.names), len(_KEYPOINTS)
    garments = FASHIONAI_24.garments.values()
    is_applicable = np.array([[index in points for index in range(num_keypoints)] for points in garments])
    garment_ids = [list(FASHIONAI_24.garments).index(garment) for garment in rows.garments]
    expected = is_applicable[garment_ids].reshape(count, num_keypoints)
    cells = (
        np.array(rows.cells, np.int32) if rows.cells else np.tile(np.array(_ABSENT, np.int32), (count, num_keypoints))
    )
    cells = cells.reshape(count, num_keypoints, 3)
    absent = cells[:, :, 2] < 0
    missing = np.where(expected, Visibility.ABSENT, Visibility.NOT_APPLICABLE)
    visibility = np.where(absent, missing, np.where(cells[:, :, 2] == 1, Visibility.VISIBLE, Visibility.OCCLUDED))
    prefixes = {folder: raw.prefix_of(folder) for folder in set(folders)}
    stems = [name.rsplit("/", 1)[-1].rsplit(".", 1)[0] for name in rows.names]
    return frame_of(
        _TABLE,
        {
            "key": [safe_key(f"{garment}-{stem}") for garment, stem in zip(rows.garments, stems, strict=True)],
            "image": [prefixes[folder] + name for folder, name in zip(folders, rows.names, strict=True)],
            "split": [rows.role] * count,
            "garment": rows.garments,
            "landmark_x": np.where(absent, 0, cells[:, :, 0]).astype(np.float32),
            "landmark_y": np.where(absent, 0, cells[:, :, 1]).astype(np.float32),
            "landmark_visibility": visibility.astype(np.int8),
            **source_columns(rows.lines),
        },
    )
