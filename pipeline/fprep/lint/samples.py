"""Checks of a single sample for `fprep lint`: tar headers, key, CRC, annotation and image."""

import json
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from tarfile import TarInfo
from typing import Any, cast

import simplejpeg

from fschemas.image_limits import check_jpeg
from fschemas.landmarks import Visibility
from fschemas.tables import COLUMN_GROUPS

_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
Row = dict[str, Any]
_BASE_KEYS = ("key", "split", "group", "width", "height", "image", "copy")


class SampleChecks:
    """Checks samples one by one and collects what must be consistent between them. Problems are reported as text."""

    def __init__(self, metadata: dict[str, Any], sample_limit: int | None) -> None:
        self.keys: dict[str, list[str]] = {}  # by split, in the order of the shards
        self._groups: list[str] = metadata["column_groups"]
        landmark_set = metadata["landmark_set"]
        self._num_points: int | None = len(landmark_set["points"]) if landmark_set else None
        self._limit = sample_limit
        self._shape: dict[str, str] | None = None

    def pair(
        self, tar: tarfile.TarFile, image: TarInfo, annotation: TarInfo | None, split: str, row: Row | None
    ) -> Iterator[str]:
        """Yield the problems of one sample. `row` is its row of the index."""
        key = image.name.removesuffix(".jpg")
        keys = self.keys.setdefault(split, [])
        keys.append(key)
        if not image.name.endswith(".jpg") or not _KEY.fullmatch(key):
            yield "the name is not `<key>.jpg` with a key of letters, digits, - and _"
        if annotation is None or annotation.name != f"{key}.json":
            yield f"is followed by {annotation.name if annotation else 'nothing'} instead of {key}.json"
            return
        contents: list[bytes] = []
        for info, prefix in ((image, "image"), (annotation, "json")):
            file = tar.extractfile(info) if info.isfile() else None
            contents.append(file.read() if file else b"")
            yield from _header_problems(info, prefix, contents[-1], row)
        if row is not None and (row["key"], row["split"]) != (key, split):
            yield f"the index has {row['key']} of {row['split']} at this position"
        size = None
        if self._limit is None or len(keys) <= self._limit:
            size = _decoded_size(contents[0])
            if size is None:
                yield "the image cannot be decoded"
        yield from self._annotation_problems(contents[1], key, split, size)

    def repeated_keys(self) -> Iterator[tuple[str, str]]:
        """Yield (key, problem) for keys that occur more than once in the set."""
        counts = Counter(key for keys in self.keys.values() for key in keys)
        for key, count in sorted(counts.items()):
            if count > 1:
                yield key, f"the key occurs {count} times; loaders merge or lose such samples"

    def _annotation_problems(self, text: bytes, key: str, split: str, size: tuple[int, int] | None) -> Iterator[str]:
        try:
            value: object = json.loads(text)
        except (ValueError, RecursionError) as error:
            yield f"the annotation is not JSON ({error})"
            return
        if not isinstance(value, dict):
            yield "the annotation is not a JSON object"
            return
        annotation = cast("dict[str, Any]", value)
        shape = {name: _kind(item) for name, item in annotation.items()}
        if self._shape is None:
            self._shape = shape
            columns = [name for group in self._groups for name in COLUMN_GROUPS.get(group, ())]
            missing = [name for name in (*_BASE_KEYS, *columns) if name not in shape]
            if missing:
                yield f"the annotation lacks {', '.join(missing)}"
        elif list(shape) != list(self._shape):
            yield f"the annotation has the keys {', '.join(shape)}, the first sample has {', '.join(self._shape)}"
        else:
            for name, kind in shape.items():
                if self._shape[name] == "[]":
                    self._shape[name] = kind
                elif kind not in ("[]", self._shape[name]):
                    yield f"{name} is {kind}, in earlier samples {self._shape[name]}"
        if (annotation.get("key"), annotation.get("split")) != (key, split):
            yield f"the annotation belongs to {annotation.get('key')} of {annotation.get('split')}"
        if size is not None and (annotation.get("width"), annotation.get("height")) != size:
            yield f"the image has {size[0]} x {size[1]} pixels, unlike the annotation"
        try:
            yield from self._value_problems(annotation)
        except (KeyError, TypeError, ValueError) as error:
            yield f"the annotation has values of a wrong type ({error})"

    def _value_problems(self, annotation: dict[str, Any]) -> Iterator[str]:
        width, height = annotation["width"], annotation["height"]
        nulls = [name for name, value in annotation.items() if None in (value if isinstance(value, list) else [value])]
        if nulls:
            yield f"null in {', '.join(nulls)}"
            return
        if "landmark_visibility" in annotation:
            yield from self._landmark_problems(annotation, width, height)
        if "box" in annotation:
            x1, y1, x2, y2 = annotation["box"]
            if not (-1 <= x1 < x2 <= width and -1 <= y1 < y2 <= height):
                yield f"the box {annotation['box']} is empty or outside {width} x {height}"

    def _landmark_problems(self, annotation: dict[str, Any], width: int, height: int) -> Iterator[str]:
        x, y, visibility = annotation["landmark_x"], annotation["landmark_y"], annotation["landmark_visibility"]
        if not len(x) == len(y) == len(visibility) == (self._num_points or len(x)):
            yield f"{len(x)} x, {len(y)} y and {len(visibility)} visibilities for {self._num_points} landmarks"
            return
        for number, (left, top, code) in enumerate(zip(x, y, visibility, strict=True)):
            if code not in iter(Visibility):
                yield f"landmark {number}: unknown visibility {code}"
            elif code < Visibility.OCCLUDED and (left, top) != (0, 0):
                yield f"landmark {number}: must not have coordinates by its visibility, but is at ({left}, {top})"
            elif code >= Visibility.OCCLUDED and not (-1 <= left <= width and -1 <= top <= height):
                yield f"landmark {number}: ({left}, {top}) is outside {width} x {height}"


def _header_problems(info: TarInfo, prefix: str, content: bytes, row: dict[str, Any] | None) -> Iterator[str]:
    if (info.type, info.mode, info.uid, info.gid, info.mtime) != (tarfile.REGTYPE, 0o644, 0, 0, 0):
        yield f"{info.name}: not a plain file of mode 644, owner 0 and time 0"
    if row is None:
        return
    if (info.offset_data, info.size) != (row[f"{prefix}_offset"], row[f"{prefix}_size"]):
        yield f"{info.name}: {info.size} bytes at {info.offset_data}, unlike the index"
    elif zlib.crc32(content) != row[f"{prefix}_crc"]:
        yield f"{info.name}: damaged, the CRC differs from the index"


def _decoded_size(content: bytes) -> tuple[int, int] | None:
    """Return width and height of a JPEG that decodes to its end, else None.

    Extra bytes between its segments are accepted, as in `fprep convert`.
    """
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(content)
        check_jpeg(content, int(width), int(height))
        image = simplejpeg.decode_jpeg(content, "GRAY")
    except ValueError as error:
        if "extraneous" not in str(error):
            return None
        image = simplejpeg.decode_jpeg(content, "GRAY", strict=False)
    return image.shape[1], image.shape[0]


def _kind(value: object) -> str:
    """Return the type of a JSON value: `str`, `int`, `float`, …; of a list that of its elements: `[float]` or `[]`."""
    if not isinstance(value, list):
        return type(value).__name__
    return f"[{'|'.join(sorted({type(item).__name__ for item in cast('list[object]', value)}))}]"
