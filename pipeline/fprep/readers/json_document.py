"""JSON annotation documents: parsing, and reasons for rejecting a document or a part of it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, cast

from fprep.raw.file import encoding_problem

Entry = dict[str, Any]  # a JSON object

LIMIT = 100_000  # pixels; larger numbers are not valid coordinates


class Problem(NamedTuple):
    """Why an item is rejected: rule, sentence, column and value found, as in `raw.reject(line, *problem)`."""

    rule: str
    message: str
    column: str = ""
    found: str = ""

    def within(self, location: str) -> Problem:
        """Prefix the sentence with the location in the document."""
        return self._replace(message=f"{location}: {self.message}")


def parse_document(content: bytes) -> Entry | Problem:
    """Parse the JSON object in `content`; NaN, Infinity, other encodings and non-objects return a `Problem`."""
    if not content.strip():
        return Problem("empty_file", "the file is empty")
    try:
        document = json.loads(content.decode("utf-8-sig"), parse_constant=_refuse)
    except UnicodeDecodeError:
        return Problem("bad_encoding", encoding_problem(content))
    except (ValueError, RecursionError) as error:
        return Problem("bad_json", f"this is not JSON ({str(error)[:100] or 'nested too deeply'})")
    if not isinstance(document, dict):
        return Problem("bad_json", "this is JSON, but not an object")
    return cast("Entry", document)


def whole_number_of(entry: Entry, name: str, *, low: int = 0, high: int = 2**31) -> int | Problem:
    """Return an integer of an entry, from `low` to `high`; `True` and "1" return a `Problem`."""
    value = entry.get(name)
    if type(value) is int and low <= value <= high:
        return value
    found = str(value)[:40]
    return Problem("bad_number", f"{name} is {found!r}, expected a whole number from {low}", name, found)


def numbers_of(value: object, name: str) -> list[float] | Problem:
    """Return a list of numbers in the coordinate range; `True` and "1" return a `Problem`. `name` is used in messages."""
    if not isinstance(value, list):
        return Problem("bad_number", f"{name} is {type(value).__name__}, expected a list of numbers", name)
    numbers = cast("list[float]", value)
    if not set(map(type, numbers)) <= {int, float}:
        strange = str(next(value for value in numbers if type(value) not in (int, float)))[:40]
        return Problem("bad_number", f"{name} holds {strange!r}, expected numbers only", name, strange)
    if numbers and not (min(numbers) > -LIMIT and max(numbers) < LIMIT):
        return Problem("bad_number", f"{name} holds a number beyond {LIMIT}", name)
    return numbers


def polygons_of(value: object) -> list[list[float]] | Problem:
    """Return the polygons (x, y, x, y …) of a `segmentation`, as written."""
    if not isinstance(value, list):
        message = f"segmentation is {type(value).__name__}, expected a list of polygons"
        return Problem("bad_polygon", message, "polygons")
    polygons: list[list[float]] = []
    for number, outline in enumerate(cast("list[object]", value), start=1):
        numbers = numbers_of(outline, "it")
        if isinstance(numbers, Problem):
            return Problem("bad_polygon", f"polygon {number}: {numbers.message}", "polygons", numbers.found)
        if len(numbers) % 2:
            message = f"polygon {number} has {len(numbers)} numbers, expected pairs of x and y"
            return Problem("bad_polygon", message, "polygons", str(len(numbers)))
        polygons.append(numbers)
    return polygons


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not a number")
