"""User YAML: plain values and aliases are read, and no file exhausts memory or time."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from fprep.shard.augment import load_recipe
from fschemas.failures import UsageError
from fschemas.yaml_file import MAX_BYTES, parse_yaml, read_yaml
from ftrain.fit.config import load_config, read_config

_TENS = ",".join(["*{}"] * 10)
BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{one}: &{one} [{_TENS.format(*[before] * 10)}]\n" for before, one in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{one}: &{one} {{<<: [{_TENS.format(*[before] * 10)}]}}\n"
    for before, one in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE = {
    "aliases": BOMB, "merges": MERGES, "itself": "a: &a [*a]\n", "deep": "[" * 50_000, "deep map": "{a: " * 5_000,
    "long": "# x\n" * MAX_BYTES, "digits": f"a: {'9' * 5000}\n", "month 13": "a: 2001-13-40\n", "no UTF-8": b"a: \xff\n",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_yaml_is_refused_at_once_and_in_a_short_sentence(tmp_path: Path, name: str) -> None:
    text = HOSTILE[name]
    content = text if isinstance(text, bytes) else text.encode()
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    start = time.perf_counter()
    for read in (
        lambda: read_yaml(path),
        lambda: parse_yaml(content, str(path)),
        lambda: read_config(path),
        lambda: load_config("category", path, None, []),
        lambda: load_recipe(str(path)),
    ):
        with pytest.raises(UsageError) as caught:
            read()
        assert str(path) in str(caught.value)
        assert len(str(caught.value)) < 600
    assert time.perf_counter() - start < 30


def test_a_value_of_a_command_line_is_read_within_the_same_limits() -> None:
    bomb = "{" + BOMB.replace("\n", ", ") + "}"
    with pytest.raises(UsageError, match="is not a value") as caught:
        load_config("category", None, None, [f"fit.epochs={bomb}"])
    assert len(str(caught.value)) < 400


def test_a_wrong_value_is_not_repeated_in_full() -> None:
    with pytest.raises(UsageError, match="is not valid") as caught:
        load_config("category", None, None, [f"fit.epochs=[{', '.join(['1'] * 5000)}]"])
    assert len(str(caught.value)) < 300


def test_a_pipe_is_no_yaml_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "params.yaml")
    with pytest.raises(UsageError, match="pipe"):
        read_yaml(tmp_path / "params.yaml")


def test_a_duplicate_key_is_refused() -> None:
    with pytest.raises(UsageError, match=r"p.yaml: not valid YAML \('a' occurs twice, again in line 3\)"):
        parse_yaml("a: 1\nb: 2\na: 3\n", "p.yaml")
    assert parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: {x: 1}\n", "p")["b"] == {"x": 3, "y": 2}


def test_what_people_write_is_read() -> None:
    text = "base: &base {a: 1, b: [x, 2.5]}\nother:\n  <<: *base\n  b: null\nempty:\n"
    assert parse_yaml(text, "here") == {"base": {"a": 1, "b": ["x", 2.5]}, "other": {"a": 1, "b": None}, "empty": None}
    assert parse_yaml("", "here") is None
    assert parse_yaml("0.5", "here") == 0.5
