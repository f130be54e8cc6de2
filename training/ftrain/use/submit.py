"""`ftrain submit RUN TEST.csv OUT.csv`: the 26-column file of the FashionAI keypoint challenge (Tianchi 2018).

RUN is one run, for all garments or for one, or a folder with one run per garment (RUN/blouse, RUN/dress, …), because
the winners trained one model per category.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fschemas.failures import UsageError
from fschemas.folders import claim_file
from fschemas.landmarks import FASHIONAI_24
from fschemas.progress import show
from fschemas.publish import publish_bytes, remove_leftovers_of
from fschemas.regular_file import read_regular
from ftrain.data.types import Results
from ftrain.data.user_images import ImageError, read_image
from ftrain.fit.distributed import one_process
from ftrain.fit.run_folder import CONFIG_FILE
from ftrain.inference.detector import Detector, detector_for
from ftrain.inference.trained_task import Arrays, image_threads, load_ahead, load_task, predict_batch
from ftrain.tasks.keypoints.answer import check_category
from ftrain.tasks.keypoints.task import Keypoints

HEADER = ("image_id", "image_category", *FASHIONAI_24.names)
_ABSENT = "-1_-1_-1"
_MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class TestRow:
    """One image of the test list; `location` is file:line for errors."""

    location: str
    image: str
    garment: str
    path: Path


def write_submission(
    run: Path,
    test: Path,
    out: Path,
    *,
    checkpoint: str = "best",
    tta: bool = True,
    device: str = "auto",
    batch_size: int = 16,
    detector: Path | None = None,
) -> int:
    """Predict every row of `test` in order, publish the file `out` and return the number of rows.

    `detector` is a run that predicts the bounding box, for runs with `model.crop`.

    Valid landmarks of the garment are whole pixels inside the image with visibility 1, all others -1_-1_-1. Raises
    `UsageError` for a malformed list, a missing or damaged image, and a garment or landmark set unknown to the run.
    """
    if out.exists() and test.exists() and out.samefile(test):
        raise UsageError(f"{out}: would replace the test list; choose another file")
    out = claim_file(out, "a submission", _is_submission)
    rows = read_test_list(test)
    lines: list[str] = [""] * len(rows)
    done = 0
    with one_process(device) as target, image_threads() as pool:
        for folder, numbers in _share_out(run, rows).items():
            task = load_task(folder, checkpoint, tta, target)
            if not isinstance(task, Keypoints) or task.landmarks.name != FASHIONAI_24.name:
                raise UsageError(
                    f"{folder}: the challenge requires {FASHIONAI_24.name}; use a keypoint run of that landmark set"
                )
            own = [rows[number] for number in numbers]
            finder = detector_for(task, detector, target)
            for number, line in zip(numbers, _predict_rows(task, own, finder, target, pool, batch_size), strict=True):
                lines[number] = line
                done += 1
                show("predicting", done, len(rows))
    remove_leftovers_of(out)
    publish_bytes(out, "\n".join([",".join(HEADER), *lines, ""]).encode())
    return len(rows)


def _is_submission(content: bytes) -> bool:
    """Whether a file looks like a submission written by this command.

    An image list has fewer columns, and annotations have occluded landmarks (visibility 0).
    """
    return content.startswith(",".join(HEADER).encode()) and b"_0," not in content and b"_0\n" not in content


def read_test_list(test: Path) -> list[TestRow]:
    """Read test.csv (2 columns) or an answer file (26 columns); image paths are relative to the file.

    A byte order mark and CRLF are accepted. Raises `UsageError` with file:line for any other deviation.
    """
    try:
        lines = read_regular(test, _MAX_BYTES).decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UsageError(f"{test}: no such file; pass the test.csv of the challenge") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{test}: byte {error.start} is not UTF-8; restore the file from the archive") from None
    header = tuple(lines[0].split(","))
    if header not in (HEADER, HEADER[:2]):
        expected = f"{','.join(HEADER[:2])}, alone or followed by the {len(FASHIONAI_24)} landmark columns"
        raise UsageError(
            f"{test}:1: the header is {lines[0][:60]!r}, expected {expected}; restore the file from the archive"
        )
    rows = [_row(test, number, line, len(header)) for number, line in enumerate(lines[1:], 2) if line]
    if not rows:
        raise UsageError(f"{test}: only a header; restore the file from the archive")
    return rows


def _row(test: Path, number: int, line: str, num_columns: int) -> TestRow:
    location, cells = f"{test}:{number}", line.split(",")
    if len(cells) != num_columns:
        raise UsageError(f"{location}: {len(cells)} columns instead of {num_columns}; fix the line")
    image, garment = cells[:2]
    if garment not in FASHIONAI_24.garments:
        raise UsageError(
            f"{location}: unknown category {garment[:60]!r}; expected one of {', '.join(FASHIONAI_24.garments)}"
        )
    if not image or "\0" in image or Path(image).is_absolute() or ".." in Path(image).parts:
        raise UsageError(f"{location}: {image[:60]!r} is not a path below the folder of the file; fix the line")
    path = test.parent / image
    if not path.is_file():
        raise UsageError(f"{location}: {image} is missing; unpack the images next to {test.name}")
    return TestRow(location, image, garment, path)


def _share_out(run: Path, rows: list[TestRow]) -> dict[Path, list[int]]:
    """Assign rows to runs: all rows to a single run, or each to the run of its garment."""
    own = {garment: run / garment for garment in FASHIONAI_24.garments if (run / garment / CONFIG_FILE).is_file()}
    if (run / CONFIG_FILE).is_file() or not own:
        return {run: list(range(len(rows)))}
    shares: dict[Path, list[int]] = {}
    for number, row in enumerate(rows):
        if row.garment not in own:
            raise UsageError(f"{row.location}: {run} has no run for {row.garment}; it has {', '.join(own)}")
        shares.setdefault(own[row.garment], []).append(number)
    return shares


def _predict_rows(
    task: Keypoints,
    rows: list[TestRow],
    detector: Detector | None,
    device: torch.device,
    pool: ThreadPoolExecutor,
    batch_size: int,
) -> Iterator[str]:
    """Yield the lines of the submission for these rows, in order."""
    for row in rows:
        _check_garment(task, row)
    remaining = iter(rows)
    for batch in load_ahead(pool, lambda row: _load(task, detector, row), rows, batch_size):
        results = predict_batch(task, batch, device)
        for number in range(len(batch)):
            yield _line(next(remaining), results, number)


def _check_garment(task: Keypoints, row: TestRow) -> None:
    try:
        check_category(task, row.garment)
    except UsageError as error:
        raise UsageError(f"{row.location}: {error}") from None


def _load(task: Keypoints, detector: Detector | None, row: TestRow) -> Arrays:
    try:
        image = read_image(row.path)
    except ImageError as error:
        raise UsageError(f"{row.location}: {row.image}: {error}; restore the image from the archive") from None
    return task.encode_image(image, None if detector is None else detector(image, row.garment))


def _line(row: TestRow, results: Results, number: int) -> str:
    points = np.rint(np.clip(results["points"][number], 0, results["size"][number] - 1)).astype(int)
    cells = [_ABSENT] * len(FASHIONAI_24)
    for point in FASHIONAI_24.valid_landmarks(row.garment):
        cells[point] = f"{points[point, 0]}_{points[point, 1]}_1"
    return ",".join([row.image, row.garment, *cells])
