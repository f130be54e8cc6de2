"""Reader for FashionAI keypoints (Tianchi 2018).

Archives contain `Images/<category>/<md5>.jpg` and one CSV file of `x_y_v` cells. Recognized: the warm-up and train
archives (`Annotations/annotations.csv`, `Annotations/train.csv`), the test archives (`test.csv`, names only), the
answer files published later, and standalone CSV files, with or without a header. Copies saved by a spreadsheet with
another delimiter or with quotes are accepted (`fprep.raw.dialect`).
"""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl

from fprep.raw.dialect import HEAD, Record, find_dialect, read_table
from fprep.raw.folder import ANNOTATION_FOLDERS, RawFile, RawFolder
from fprep.raw.image_names import clean_path, image_path_problem
from fprep.readers.fashionai.archive import (
    ROLES,
    Row,
    annotation_files,
    fashionai_reader,
    image_columns,
    is_sound,
    without_answered,
)
from fprep.readers.reader import frame_of
from fprep.readers.signature import Signature
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
    totals={
        **{archive: sum(counts) for archive, counts in _TOTALS.items()},
        **{
            f"{archive}/{garment}": count
            for archive, counts in _TOTALS.items()
            for garment, count in zip(FASHIONAI_24.garments, counts, strict=True)
        },
    },
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
    archives = {path: path.parents[path.parent.name in ANNOTATION_FOLDERS] for path in paths}
    listed = {row.name: archives[path] for path, (role, rows) in parsed.items() if role == "unlabeled" for row in rows}
    answered = {row.name for role, rows in parsed.values() if role == "test" for row in rows}
    frames: list[pl.DataFrame] = []
    for path, (role, rows) in sorted(parsed.items(), key=lambda item: (ROLES[item[1][0]], item[0])):
        home = archives[path]
        homes = dict.fromkeys((row.name for row in rows), home)
        if role == "test" and not (home / "Images").is_dir():  # the archive that lists the image, else one that has it
            siblings = [sibling for sibling in raw.folders_in(home) if (sibling / "Images").is_dir()]
            for name in homes:
                has_image = (sibling for sibling in siblings if raw.has_image(sibling, name))
                homes[name] = listed.get(name) or next(has_image, home)
        kept = without_answered(raw, path, rows, answered, "replaced by rows of a labeled test file")
        frames.append(_frame(raw, role, kept, [homes[row.name] for row in kept]))
    return pl.concat(frames).lazy()


def _parse(raw: RawFolder, file: RawFile, path: Path) -> tuple[str, list[Row]]:
    records = read_table(file, find_dialect(file.head(HEAD), widths=_WIDTHS))
    unread = _until_valid(file, records)
    first = unread[-1]
    cells = tuple(first.cells)
    is_header = cells in (_HEADER, _HEADER[:2])
    if cells and not is_header and not (len(cells) in _WIDTHS and re.search(r"[/\\]", cells[0])):
        raise UsageError(f"{first.line}: {_wrong_header(cells)}; restore the file from the archive")
    labeled = len(cells) != 2
    if is_header:
        file.accounts["header"] += 1
        unread.pop()
    else:
        raw.warn("no_header", file.name)
    rows, counts = list[Row](), Counter[str]()
    for record in chain(unread, records):
        if not is_sound(raw, record):
            counts[""] += 1
            continue
        counts.update(record.cells[1:2] or [""])
        row = _read_row(record, labeled=labeled)
        if isinstance(row, Row):
            rows.append(row)
        else:
            raw.reject(record.line, *row)
    for archive, pattern in _ARCHIVES:
        if pattern.search(str(path.relative_to(raw.root.parent))):
            found = {f"{archive}/{garment}": counts[garment] for garment in FASHIONAI_24.garments}
            for name, number in (found | {archive: counts.total()}).items():
                raw.totals[name] = max(raw.totals[name], number)
            break
    return "unlabeled" if not labeled else "test" if re.search(r"answer|^test", path.name) else "train", rows


def _until_valid(file: RawFile, records: Iterator[Record]) -> list[Record]:
    """Return the records up to the first valid one. Raises `UsageError` for an invalid header, or if there are none."""
    found: list[Record] = []
    for record in records:
        found.append(record)
        if record.problem is None:
            break
        if len(found) == 1 and not re.search(rb"[/\\]", record.line.content):
            raise UsageError(f"{record.line}: {record.problem[1]}; restore the file from the archive")
    if not found:
        raise UsageError(f"{file.name}: only blank lines; restore it from the archive")
    return found


def _wrong_header(cells: tuple[str, ...]) -> str:
    expected = _HEADER if len(cells) > 2 else _HEADER[:2]
    for index, (found, name) in enumerate(zip(cells, expected, strict=False), start=1):
        if found != name:
            return f"column {index} of the header is {found[:60]!r}, expected {name!r}"
    return f"the header has {len(cells)} columns, expected {len(_HEADER)} (labeled) or 2 (test.csv)"


def _read_row(record: Record, *, labeled: bool) -> Row | tuple[str, str, str, str]:
    """Return a row, or rule, message, column and value of its problem."""
    cells = record.cells
    match = _KEYPOINT_CELLS.fullmatch(",".join(cells[2:])) if labeled else None
    if len(cells) != _WIDTHS[labeled] or not all(cells[:2]) or (labeled and match is None):
        return _wrong_form(cells, _WIDTHS[labeled])
    name, garment = clean_path(cells[0]), cells[1]
    if (problem := image_path_problem(name)) is not None:
        return (*problem, "image_id", name)
    if garment not in FASHIONAI_24.garments:
        message = f"unknown category {garment[:60]!r}; expected one of {', '.join(FASHIONAI_24.garments)}"
        return "unknown_category", message, "image_category", garment
    if name.split("/")[-2:-1] != [garment]:
        message = f"the image is in another folder ({name}) than that of its category {garment!r}"
        return "category_folder_mismatch", message, "image_id", name
    numbers = tuple(map(int, match.groups())) if match else None
    if numbers and min(numbers) < 0:
        for column, *cell in zip(_KEYPOINTS, numbers[::3], numbers[1::3], numbers[2::3], strict=True):
            if -1 in cell and cell != [-1, -1, -1]:
                text = "_".join(map(str, cell))
                message = f"{column} is {text!r}: a point is absent with all three of -1_-1_-1 or with none"
                return "bad_cell", message, column, text
    return Row(record.line, name, garment, numbers)


def _wrong_form(cells: list[str], width: int) -> tuple[str, str, str, str]:
    """Return the problem of the first cell without the form of its column."""
    if len(cells) != width:
        return "wrong_columns", f"{len(cells)} columns, expected {width}", "", str(len(cells))
    for column, cell in zip(_HEADER, cells, strict=False):
        text, match = cell[:60], _CELL.fullmatch(cell)
        if column in _HEADER[:2]:
            if not cell:
                return "bad_cell", f"{column} is empty", column, ""
        elif match is None:
            return "bad_cell", f"{column} is {text!r}, expected x_y_v with whole numbers", column, text
        elif match[3] not in ("-1", "0", "1"):
            message = f"the visibility of {column} is {match[3]}, expected 1 (visible), 0 (occluded) or -1 (absent)"
            return "bad_visibility", message, column, text
    raise AssertionError(cells)


def _frame(raw: RawFolder, role: str, rows: list[Row], homes: list[Path]) -> pl.DataFrame:
    garments, count = list(FASHIONAI_24.garments), len(_KEYPOINTS)
    is_applicable = np.array([[index in points for index in range(count)] for points in FASHIONAI_24.garments.values()])
    expected = is_applicable[[garments.index(row.topic) for row in rows]].reshape(-1, count)
    cells = np.array([row.label or (-1,) * 3 * count for row in rows], np.int32).reshape(-1, count, 3)
    absent = cells[:, :, 2] < 0
    missing = np.where(expected, Visibility.ABSENT, Visibility.NOT_APPLICABLE)
    visibility = np.where(absent, missing, np.where(cells[:, :, 2] == 1, Visibility.VISIBLE, Visibility.OCCLUDED))
    columns = {
        "split": [role] * len(rows),
        "garment": [row.topic for row in rows],
        "landmark_x": np.where(absent, 0, cells[:, :, 0]).astype(np.float32),
        "landmark_y": np.where(absent, 0, cells[:, :, 1]).astype(np.float32),
        "landmark_visibility": visibility.astype(np.int8),
    }
    return frame_of(_TABLE, image_columns(raw, rows, homes) | columns)
