"""K-Fashion records to columns, many files per call, so that processes can share the work.

A file is read with three system calls and parsed by orjson while it is cached; only columns are kept. Without polygons,
four fifths of the bytes are cut out before parsing.
"""

import contextlib
import errno
import gc
import os
import stat
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, TypeGuard

import numpy as np
import orjson

from fprep.raw.file import encoding_problem
from fprep.raw.safe_open import FLAGS, OpenError, open_inside
from fprep.readers.kfashion.columns import Columns
from fprep.readers.kfashion.labels import PARTS, part_ids, style_of, unknown_ids
from fschemas.regular_file import kind_of

MAX_DOCUMENT = 1 << 20  # bytes
MAX_RAW = 4096  # bytes to keep of a rejected record
_RECTS, _POLYGONS, _LABELS = "렉트좌표", "폴리곤좌표", "라벨링"
_FRONT, _BACK = f'"{_POLYGONS}":'.encode(), f',"{_LABELS}":'.encode()
_NO_FILE = (errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENXIO, errno.ENODEV, errno.ENOENT)
_SHORTEST = 200  # minimum bytes before the polygons: the length of the keys alone
_ABSENT: list[dict[str, Any]] = [{}]
_NOTHING: dict[str, Any] = {}
_NO_OUTLINES = (None, _ABSENT)

Objects = list[dict[str, Any]]
Sections = tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Task:
    """Files in one `folder` below the real path `root`.

    `style` is the style in the folder's name, or ""; `polygons=False` skips them; `follow_links` allows links that
    leave the root.
    """

    root: str
    folder: str
    names: tuple[str, ...]
    style: str
    polygons: bool = True
    follow_links: bool = False


@dataclass
class TaskResult:
    """Result of a task: columns of the valid files, rejects with reasons, counts of oddities with examples.

    `rows` is an Arrow stream of the narrow columns, `wide` one of garments and labels. `rejects` contains (file, rule,
    message, value found, first bytes), `foreign` the JSON files that are not records.
    """

    rows: bytes
    wide: bytes
    rejects: list[tuple[str, str, str, str, bytes]]
    foreign: list[str]
    warnings: Counter[str]
    examples: dict[str, list[str]]


class NotARecord(Exception):
    """Rule, message and value found; the rule `foreign` is for other kinds of JSON."""


def read_task(task: Task) -> TaskResult:
    """Read and parse the files of a task, in order. Raises `OSError` for disk errors."""
    parser = Parser(task)
    folder = os.open(os.path.join(task.root, task.folder), os.O_RDONLY | os.O_CLOEXEC)
    try:
        with _without_collector():
            for name in task.names:
                try:
                    content = _read(name, folder, task)
                except OpenError as problem:
                    parser.rejects.append((name, "unreadable_file", problem.message, name, b""))
                except OSError as error:
                    if error.errno not in _NO_FILE:
                        raise
                    why = f"{os.strerror(error.errno)}): a link, a folder, or without permission"
                    parser.rejects.append((name, "unreadable_file", f"the file cannot be opened ({why}", name, b""))
                else:
                    parser.parse(name, content)
            return parser.result()
    finally:
        os.close(folder)


def _read(name: str, folder: int, task: Task) -> bytes:
    try:
        file = os.open(name, FLAGS, dir_fd=folder)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        file = open_inside(task.root, f"{task.folder}/{name}", follow_links=task.follow_links).descriptor
    try:
        content = os.read(file, 1 << 13)
        if not content and not stat.S_ISREG(mode := os.fstat(file).st_mode):
            raise OpenError("unreadable_file", f"not a regular file but {kind_of(mode)}", name)
        if len(content) == 1 << 13:
            while len(content) <= MAX_DOCUMENT and (more := os.read(file, 1 << 16)):
                content += more
    finally:
        os.close(file)
    return content


@contextlib.contextmanager
def _without_collector() -> Generator[None]:
    """Disable garbage collection: thousands of small objects without cycles would be scanned repeatedly."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Parser:
    """The columns, rejects and warnings of the files of a task so far."""

    def __init__(self, task: Task) -> None:
        self.style, self.polygons = task.style, task.polygons
        self.columns = Columns()
        self.rejects: list[tuple[str, str, str, str, bytes]] = []
        self.foreign: list[str] = []
        self.warnings = Counter[str]()
        self.examples: dict[str, list[str]] = {}
        self.name = ""

    def parse(self, name: str, content: bytes) -> None:
        """Add the row of a file, or its reject."""
        self.name = name
        try:
            self._add(_parse(content, polygons=self.polygons))
        except NotARecord as problem:
            if problem.args[0] == "foreign":
                self.foreign.append(name)
            else:
                self.rejects.append((name, *problem.args, content[:MAX_RAW]))

    def result(self) -> TaskResult:
        """Return the result for all files."""
        return TaskResult(*self.columns.to_arrow(self.warn), self.rejects, self.foreign, self.warnings, self.examples)

    def warn(self, rule: str, name: str = "") -> None:
        """Count an oddity of a record, by default the current one."""
        self.warnings[rule] += 1
        examples = self.examples.setdefault(rule, [])
        if len(examples) < 10:
            examples.append(name or self.name)

    def _add(self, sections: Sections) -> None:
        image, rects, polygons, labels = sections
        columns, warn = self.columns, self.warn
        num_unknown = len(columns.unknown)
        for index, part in enumerate(PARTS):
            boxes, outlines, named = rects.get(part), polygons.get(part), labels.get(part)
            if boxes == _ABSENT and named == _ABSENT and outlines in _NO_OUTLINES:
                continue
            if _is_single(boxes) and _is_single(named) and (_is_single(outlines) or outlines in _NO_OUTLINES):
                columns.add_garment(index, boxes[0], outlines[0] if outlines else _NOTHING, warn)
                columns.unknown.append(part_ids(part, named[0], columns.positive, warn))
            else:
                self._unusual_part(index, _objects(boxes), _objects(named), _objects(outlines))
        if len(columns.unknown) == num_unknown:  # no garment at all: not annotated
            columns.unknown += [unknown_ids(part, ()) for part in PARTS]
        style, substyle = style_of(labels.get("스타일"), self.style, warn)
        columns.end_row(self.name, image, style, substyle)

    def _unusual_part(self, index: int, rects: Objects, named: Objects, outlines: Objects) -> None:
        """Add a part without rect or labels, or with several garments: the i-th rect and polygon belong together.

        Labels of any garment are positive; families that no garment mentions are unknown.
        """
        if not (rects or named or outlines):
            return
        for rect, outline in zip_longest(rects, outlines, fillvalue=_NOTHING):
            self.columns.add_garment(index, rect, outline, self.warn)
        part, positive = PARTS[index], self.columns.positive
        unknown = [set(part_ids(part, labels, positive, self.warn).tolist()) for labels in named or [{}]]
        self.columns.unknown.append(np.array(sorted(set.intersection(*unknown)), np.int16))


def _parse(content: bytes, *, polygons: bool) -> Sections:
    if len(content) > MAX_DOCUMENT:
        raise NotARecord("file_too_long", f"more than {MAX_DOCUMENT} bytes", str(len(content)))
    if not polygons:
        front, back = content.find(_FRONT, _SHORTEST), content.rfind(_BACK)
        if 0 < front < back:
            try:
                return _sections(orjson.loads(content[:front] + content[back + 1 :]))
            except (orjson.JSONDecodeError, NotARecord):
                pass  # unusual key order
    try:
        record = orjson.loads(content)
    except orjson.JSONDecodeError:
        record = load_record(content)
    image, rects, outlines, labels = _sections(record)
    return image, rects, outlines if polygons else _NOTHING, labels


def load_record(content: bytes) -> Any:
    """Return the JSON value of a file. Raises `NotARecord`."""
    if not content.strip():
        raise NotARecord("empty_file", "the file is empty", "")
    try:
        return orjson.loads(content.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        if wrong := encoding_problem(content):
            raise NotARecord("bad_encoding", wrong, repr(content[:40])) from None
        message = f"not valid JSON: {error.msg} (character {error.pos + 1})"
        raise NotARecord("bad_json", message, repr(content[:40])) from None


def _sections(record: Any) -> Sections:
    """Return image, rects, polygons and labels of a record. Raises `NotARecord`."""
    try:
        details = record["데이터셋 정보"]["데이터셋 상세설명"]
        image, rects, labels = record["이미지 정보"], details[_RECTS], details[_LABELS]
        polygons = details.get(_POLYGONS, _NOTHING)
        if dict is image.__class__ is rects.__class__ is labels.__class__ is polygons.__class__:
            return image, rects, polygons, labels
    except (KeyError, TypeError, AttributeError, IndexError):
        pass
    if not isinstance(record, dict):
        raise NotARecord("bad_json", "an object was expected", repr(record)[:40])
    if record and not {"이미지 정보", "데이터셋 정보"} & record.keys():
        raise NotARecord("foreign")
    details_path = ("데이터셋 정보", "데이터셋 상세설명")
    for path in (("이미지 정보",), (*details_path, _RECTS), (*details_path, _LABELS), (*details_path, _POLYGONS)):
        value: Any = record
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, dict):
            raise NotARecord("missing_key", f"{' > '.join(path)} is missing or not an object", repr(value)[:40])
    raise AssertionError(record)


def _is_single(value: Any) -> TypeGuard[Objects]:
    """Return whether this is a list with a single non-empty object, as nearly all are."""
    return value.__class__ is list and len(value) == 1 and value[0].__class__ is dict and bool(value[0])


def _objects(value: Any) -> Objects:
    """Return the entries of a part; `[{}]`, `[]`, null and a missing part have none."""
    values = value if value.__class__ is list else [value]
    return [entry for entry in values if entry.__class__ is dict and entry]
