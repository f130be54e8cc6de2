"""JSON documents of fashionkit: any error gives one message with file and entry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fschemas.failures import IntegrityError, UsageError
from fschemas.json_file import COUNT, problem_of, read_json
from fschemas.names import DIGEST


def _file(folder: Path, content: bytes | str | dict[str, Any]) -> Path:
    path = folder / "note.json"
    content = json.dumps(content) if isinstance(content, dict) else content
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


SHAPE = {
    "name": str,
    "count?": COUNT,
    "parts": [{"bytes": COUNT, "sha256": DIGEST}],
    "sets": {"*": (None, {"n": float})},
}
GOOD: dict[str, Any] = {
    "name": "a", "count": 3, "parts": [{"bytes": 1, "sha256": "0" * 64}], "sets": {"x": None, "y": {"n": 0.5}}, "more": [[]],
}  # fmt: skip


def test_a_document_of_the_shape_is_given_as_it_is(tmp_path: Path) -> None:
    assert read_json(_file(tmp_path, GOOD), SHAPE) == GOOD


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"name": 3}, "name is a whole number instead of a string"),
        ({"name": None}, "name is null instead of a string"),
        ({"count": -1}, "count is -1, which is not valid"),
        ({"count": True}, "count is true or false instead of a whole number"),
        ({"count": 1.5}, "count is a number instead of a whole number"),
        ({"parts": {}}, "parts is an object instead of a list"),
        ({"parts": [{"bytes": 1}]}, "parts[0].sha256 is missing"),
        ({"parts": [{"bytes": 1, "sha256": "../../x"}]}, "parts[0].sha256 is '../../x', which is not valid"),
        ({"parts": [{"bytes": 1, "sha256": 7}]}, "parts[0].sha256 is a whole number instead of a string"),
        ({"sets": []}, "sets is a list instead of an object"),
        ({"sets": {"y": {"n": "x"}}}, "sets.y"),
    ],
)
def test_the_entry_at_fault_is_named(tmp_path: Path, change: dict[str, Any], fault: str) -> None:
    with pytest.raises(IntegrityError, match=r"note\.json") as raised:
        read_json(_file(tmp_path, {**GOOD, **change}), SHAPE, remedy="write it again")
    assert fault in str(raised.value)
    assert str(raised.value).endswith("; write it again")


@pytest.mark.parametrize("key", ["name", "parts", "sets"])
def test_a_missing_entry_is_named(tmp_path: Path, key: str) -> None:
    with pytest.raises(IntegrityError, match=f": {key} is missing; "):
        read_json(_file(tmp_path, {name: value for name, value in GOOD.items() if name != key}), SHAPE)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("{", "not valid JSON"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": 1}{"b": 2}', "not valid JSON"),
        (b'{"a": "\xad"}', "not UTF-8 (byte 7 is 0xad)"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"a":' * 100 + "1" + "}" * 100, "nested too deeply"),
        ("[]", "contains a list instead of an object"),
        ("3", "contains a whole number instead of an object"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON"),
        (r'{"a": "\ud800"}', "no Unicode text"),
        (r'{"\ud800": 1}', "no Unicode text"),
        ('{"a": "' + "x" * 200 + '"}', "larger than 150 bytes"),
    ],
)
def test_what_is_no_document_is_damage_in_one_sentence(tmp_path: Path, content: bytes | str, fault: str) -> None:
    with pytest.raises(IntegrityError) as raised:
        read_json(_file(tmp_path, content), limit=150 if "x" * 200 in str(content) else 1 << 20)
    assert fault in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"set/dataset\.json: no such file"):
        read_json(tmp_path / "a" / "b", source="set/dataset.json")
    with pytest.raises(UsageError, match="a folder, but must be a regular file"):
        read_json(tmp_path)


def test_a_number_is_finite_and_no_truth_value() -> None:
    assert (
        problem_of(1, float)
        == problem_of(1.5, float)
        == problem_of(None, (None, float))
        == problem_of([None, 1], list)
        == ""
    )
    assert problem_of(True, float)
    assert problem_of(1e999, float)
    assert problem_of(None, object) == ""
