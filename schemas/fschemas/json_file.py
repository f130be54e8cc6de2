"""Strict reader for JSON documents written by this package; every problem is reported as a one-sentence error.

A **shape** describes the expected content of a document in JSON form:

    str, int, float, bool, dict, list    a value of that type; `float` accepts integers, neither accepts true or NaN
    None                                 null
    range(0, 10)                         an integer in that range; `COUNT` is any non-negative integer
    re.compile("[0-9a-f]{64}")           a string that matches completely, such as `names.DIGEST`
    [shape]                              a list of such values
    (shape, shape)                       one of these
    {"a": shape, "b?": shape, "*": shape}  an object with `a`, optionally `b`, and other values of the last shape;
                                         without "*", other entries can have any value
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from fschemas.failures import IntegrityError, UsageError
from fschemas.regular_file import open_regular

Shape = Any  # as above; a recursive alias would add nothing
COUNT = range(1 << 62)
SEAL = "seal"
_MAX_BYTES = 1 << 30  # a split lock of 30 million images
_DEEPEST = 64  # documents of this package nest up to 8 levels; Python fails at about 1,000
_SURROGATE = re.compile("[\ud800-\udfff]")
_REMEDY = "restore the file, or write it again with the command that made it"
_KINDS: dict[type, str] = {
    str: "a string", int: "a whole number", float: "a number", bool: "true or false", list: "a list", dict: "an object",
}  # fmt: skip


def read_json(
    path: Path,
    shape: Shape = dict,
    *,
    format: str = "",  # noqa: A002 - the name of the entry
    sealed: bool = False,
    source: str = "",
    missing: str = "",
    remedy: str = _REMEDY,
    limit: int = _MAX_BYTES,
) -> dict[str, Any]:
    """Read a JSON object and check it against `shape` (see the module).

    For a `sealed` document (see `seal`), its digest is compared with the content, so that no change goes unnoticed.
    Messages refer to the file as `source` (by default its path).

    Raises `UsageError` if the file does not exist (with the message `missing`), is not a regular file, or has another
    "format" than `format`. Raises `IntegrityError`, with the entry and `remedy`, if the file is empty, larger than
    `limit` bytes, not UTF-8, not JSON, nested too deeply, not an object, or not of the expected shape. Other disk
    errors are not caught.
    """
    source = source or str(path)
    try:
        with open_regular(path) as file:
            content = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(missing or f"{source}: no such file") from None
    if len(content) > limit:
        raise IntegrityError(f"{source}: larger than {limit} bytes; {remedy}")
    return parse_json(content, shape, format=format, sealed=sealed, source=source, remedy=remedy)


def parse_json(
    content: bytes,
    shape: Shape = dict,
    *,
    format: str = "",  # noqa: A002
    sealed: bool = False,
    source: str,
    remedy: str = _REMEDY,
) -> dict[str, Any]:
    """Parse the content of a file, or one line of it, like `read_json`."""
    try:
        value: object = json.loads(content.decode(), parse_constant=_refuse)
    except UnicodeDecodeError as error:
        raise IntegrityError(
            f"{source}: not UTF-8 (byte {error.start} is 0x{content[error.start]:02x}); {remedy}"
        ) from None
    except RecursionError:
        raise IntegrityError(f"{source}: nested too deeply to be a file of this package; {remedy}") from None
    except ValueError as error:
        # For a long number, Python's message refers to a function to call.
        reason = "a number of too many digits" if "set_int_max_str_digits" in str(error) else str(error)
        raise IntegrityError(
            f"{source}: {'not valid JSON' if content.strip() else 'empty'} ({reason}); {remedy}"
        ) from None
    if not isinstance(value, dict):
        raise IntegrityError(f"{source}: contains {_kind(value)} instead of an object; {remedy}")
    document = cast("dict[str, Any]", value)
    problem = _deep(document)
    # Earlier versions did not seal; no single error makes a sealed document look like one of theirs.
    if not problem and sealed and SEAL in document and seal(document)[SEAL] != document[SEAL]:
        problem = "was changed since it was written (its checksum does not match its content)"
    if format and not problem:
        problem = problem_of(document, {"format": str})
        if not problem and document["format"] != format:
            raise UsageError(f"{source}: format {document['format'][:80]!r}, but this version reads {format}; {remedy}")
    problem = problem or problem_of(document, shape)
    if problem:
        raise IntegrityError(f"{source}: {problem}; {remedy}")
    return document


def seal(document: dict[str, Any]) -> dict[str, Any]:
    """Add the SHA-256 of the values as last entry; it does not depend on their order and layout in a file."""
    content = {name: value for name, value in document.items() if name != SEAL}
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return {**content, SEAL: hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()}


def problem_of(value: object, shape: Shape, name: str = "") -> str:
    """Describe the problem of a JSON value, starting with the dotted name of the entry; "" if it has the shape."""
    if isinstance(shape, tuple):
        problems = [problem_of(value, one, name) for one in cast("tuple[Shape, ...]", shape)]
        return "" if "" in problems else problems[0]
    if isinstance(shape, Mapping) and isinstance(value, dict):
        return _problem_of_object(cast("dict[str, object]", value), cast("Mapping[str, Shape]", shape), name)
    if isinstance(shape, list) and isinstance(value, list):
        (member,) = cast("list[Shape]", shape)
        problems = (
            problem_of(one, member, f"{name}[{number}]") for number, one in enumerate(cast("list[object]", value))
        )
        return next(filter(None, problems), "")
    return "" if _fits(value, shape) else f"{name or 'the document'} {_found(value, shape)}"


def _problem_of_object(value: dict[str, object], shape: Mapping[str, Shape], name: str) -> str:
    dotted = f"{name}." if name else ""
    wanted = {key.removesuffix("?"): one for key, one in shape.items() if key != "*"}
    for key, one in wanted.items():
        if key in value:
            problem = problem_of(value[key], one, dotted + key)
            if problem:
                return problem
        elif f"{key}?" not in shape:
            return f"{dotted}{key} is missing"
    if "*" in shape:
        problems = (problem_of(one, shape["*"], dotted + key) for key, one in value.items() if key not in wanted)
        return next(filter(None, problems), "")
    return ""


def _fits(value: object, shape: Shape) -> bool:
    if shape is None or value is None:
        return value is shape or shape is object
    if isinstance(shape, re.Pattern):
        return isinstance(value, str) and cast("re.Pattern[str]", shape).fullmatch(value) is not None
    if isinstance(shape, range):
        return type(value) is int and value in shape
    if shape is float:
        return type(value) is int or (type(value) is float and math.isfinite(value))
    return shape is object or (isinstance(shape, type) and type(value) is shape)


def _found(value: object, shape: Shape) -> str:
    """Describe a wrong value: `is a string instead of a number`, or the value if its type is right."""
    if isinstance(shape, range) and type(value) is int:
        return f"is {value}, which is not valid"
    if isinstance(shape, re.Pattern) and isinstance(value, str):
        return f"is {value[:80]!r}, which is not valid"
    kinds: Mapping[type, type] = {re.Pattern: str, range: int, list: list, dict: dict}
    wanted = shape if isinstance(shape, type) else kinds.get(type(shape))
    return f"is {_kind(value)} instead of {_KINDS.get(wanted, 'null') if wanted else 'null'}"


def _kind(value: object) -> str:
    return "null" if value is None else _KINDS[type(value)]


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not JSON")


def _deep(document: dict[str, object]) -> str:
    """Describe content that later steps cannot handle: deep nesting, and lone surrogates, which cannot be encoded."""
    level: list[object] = [document]
    for _ in range(_DEEPEST):
        inner: list[object] = []
        for value in level:
            if isinstance(value, dict):
                items = cast("dict[str, object]", value)
                inner += [*items, *items.values()]
            elif isinstance(value, list):
                inner += cast("list[object]", value)
        broken = next((one for one in inner if isinstance(one, str) and _SURROGATE.search(one)), None)
        if broken is not None:
            return f"the string {broken[:80]!a} is no Unicode text"
        level = [one for one in inner if isinstance(one, dict | list)]
        if not level:
            return ""
    return "nested too deeply to be a file of this package"
