"""Reader for K-Fashion (AI-Hub 7988 and 51): styles, garments and labels.

There is one JSON file per image, `라벨링데이터/<style>/<id>.json`. Each of four parts (아우터, 하의, 원피스, 상의) may have a rect, a
polygon and labels of eleven families. Polygons are in pixel centers: on 800-pixel images they range from 0 to 799. A
rect starts half a pixel before the polygon. See `kfashion/labels.py` for unknown and absent labels and for shoots. A
file that cannot be parsed is rejected. A garment with an invalid rect (no size, outside the image, not four numbers) is
left out of its row with a warning; its labels are kept. The official test set was never published: Training is train,
Validation is val. Other trees are split by shoot.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NoReturn

import polars as pl

from fprep.engine import map_tasks
from fprep.raw.folder import MISNAMED, RawFolder, RawLine, document_pattern
from fprep.raw.spill import SPILL_ROW, SpillFile
from fprep.readers.kfashion.documents import Task, TaskResult, read_task
from fprep.readers.kfashion.labels import ATTRIBUTES, STYLES, folder_style, shoot_of
from fprep.readers.kfashion.tree import Folder, ImageFolders, scan, split_of
from fprep.readers.reader import reader, safe_key
from fprep.readers.signature import Signature
from fschemas.failures import EnvironmentProblem
from fschemas.tables import table_class
from fschemas.vocabularies import vocabulary
from fschemas.walk import readable
from fschemas.wording import count

_TASK = 256  # files per call
_CHUNK = 8  # calls per chunk sent to a process
_ALONE = 8 * _TASK  # files up to which no other processes are started


@reader(
    name="kfashion",
    table=table_class("style", "garments", "attributes"),
    vocabularies={"attributes": ATTRIBUTES, "style": STYLES, "part": vocabulary("kfashion-part-4")},
    signatures=(
        Signature(
            r".*\.json",
            "이미지 정보|데이터셋 정보".encode() + rb"|\\uc774\\ubbf8\\uc9c0 \\uc815\\ubcf4",
            "labels of an image",
        ),
    ),
    collects="documents",
    variants={"release": ("**/라벨링*/**/*.json",), "renamed": ("**/labels/**/*.json",), "flat": ("**/*.json",)},
    splits="cut",
    mapping={"polygons": "no: skip the polygons, which take two thirds of the time and of the table"},
    paper="K-Fashion image (K-패션 이미지), AI-Hub 2020, National Information Society Agency of Korea",
    license="AI-Hub terms: use for research and development after application, no redistribution",
    citation="@misc{kfashion2020, title={K-Fashion image}, author={{National Information Society Agency of Korea}}, "
    "howpublished={AI-Hub}, year={2020}}",
)
def kfashion(raw: RawFolder) -> pl.LazyFrame:
    """Read one row per image. JSON files that are not records are left out."""
    polygons = raw.option("polygons", ("yes", "no"), "yes")
    folders = scan(raw)
    images = ImageFolders(raw.root, folders)
    tasks: list[tuple[Folder, Task]] = []
    for folder in folders.values():
        for start in range(0, len(folder.labels), _TASK):
            names, style = tuple(folder.labels[start : start + _TASK]), folder_style(folder.path.rpartition("/")[2])
            task = Task(str(raw.root), folder.path, names, style, polygons == "yes", raw.follow_links)
            tasks.append((folder, task))
    _count(raw, folders.values())
    raw.spill = SpillFile(raw.scratch)
    frames: list[pl.DataFrame] = []
    foreign: list[str] = []
    for (folder, _), result in zip(tasks, _run(raw, [task for _, task in tasks]), strict=True):
        _account(raw, folder, result)
        foreign += [_name(folder, file) for file in result.foreign]
        frames.append(_frame(folder, result.rows, images).with_columns(raw.spill.append(result.wide)))
    if foreign:
        raw.notes.append(f"{len(foreign)} JSON files that are not records are left out, such as {foreign[0]}")
    raw.note_similar_spellings(images.near)
    frame = pl.concat(frames)
    homes = frame.select(pl.col("image").str.extract(r"^(.*)/").fill_null(".").unique().sort()).to_series()
    if len(homes):
        raw.notes.append(f"images are searched in {count(len(homes), 'folder')}, the first is {homes[0]}")
    return _finish(raw, frame).lazy()


def _run(raw: RawFolder, tasks: list[Task]) -> Iterator[TaskResult]:
    def crashed(task: Task, reason: str) -> NoReturn:
        first = f"{task.folder}/{task.names[0]}"
        raise EnvironmentProblem(f"{first} and its neighbors could not be read: {reason}; check disk and memory")

    alone = raw.workers == 1 or sum(len(task.names) for task in tasks) <= _ALONE
    return map_tasks(
        read_task, tasks, crashed=crashed, workers=1 if alone else raw.workers, trusted=alone, timeout=600.0, chunk=_CHUNK, ahead=3,
        units=lambda task: len(task.names), progress=raw.progress,
    )  # fmt: skip


def _count(raw: RawFolder, folders: Iterable[Folder]) -> None:
    for folder in folders:
        for pattern, number in Counter(document_pattern(_name(folder, name)) for name in folder.labels).items():
            raw.count_documents(pattern, number)
        for name in folder.misnamed:
            shown = _name(folder, readable(name))
            raw.count_documents(document_pattern(shown), 1)
            raw.reject(RawLine(shown, 1, 0, b""), "bad_name", MISNAMED, found=shown)


def _account(raw: RawFolder, folder: Folder, result: TaskResult) -> None:
    """Account for files that are not rows, with the reason, and count oddities."""
    for file, rule, message, found, content in result.rejects:
        raw.reject(RawLine(_name(folder, file), 1, 0, content), rule, message, found=found)
    for file in result.foreign:
        raw.account(_name(folder, file), "left_out")
    for rule, number in result.warnings.items():
        examples = result.examples[rule]
        for file in examples:
            raw.warn(rule, _name(folder, file))
        raw.warnings[rule] += number - len(examples)


def _name(folder: Folder, file: str) -> str:
    return file if folder.path == "." else f"{folder.path}/{file}"


def _frame(folder: Folder, rows: bytes, images: ImageFolders) -> pl.DataFrame:
    frame = pl.read_ipc_stream(rows)
    stems = [file[:-5] for file in frame["file"].to_list()]
    return frame.with_columns(
        pl.Series("stem", stems, pl.String),
        pl.Series("image", images.images(folder, stems, frame["image_number"].to_list()), pl.String),
        (pl.lit(_name(folder, "")) + pl.col("file")).alias("source_file"),
        pl.lit(split_of(folder.path)).alias("split"),
    )


def _finish(raw: RawFolder, frame: pl.DataFrame) -> pl.DataFrame:
    for name in frame.filter(pl.col("stem") != pl.col("image_number").cast(pl.String))["source_file"]:
        raw.warn("file_name_is_not_the_id", name)
    is_key = pl.col("stem").str.contains(r"^[A-Za-z0-9_-]{1,90}$")
    keys = {stem: safe_key(stem) for stem in frame.filter(~is_key)["stem"]}
    styles = pl.Series([*STYLES.values, ""])
    return frame.select(
        pl.col("stem").replace(keys).alias("key"),
        "image",
        pl.col("width").replace(0, None),
        pl.col("height").replace(0, None),
        "split",
        shoot_of(pl.col("original")).alias("group"),
        "source_file",
        pl.lit(1, pl.Int32).alias("source_line"),
        *[pl.col(name).cast(pl.Int32).replace(-1, len(STYLES)).replace_strict(dict(enumerate(styles)), return_dtype=pl.String) for name in ("style", "substyle")],
        SPILL_ROW,
    )  # fmt: skip
