"""YAML that a user wrote: read within limits, so that no file takes all memory or time.

Anchors and aliases are allowed, for DVC's users share values with them, but a document must stay small when all of them are
written out: nine lines of nested aliases stand for a billion values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import yaml

from fschemas.failures import UsageError
from fschemas.regular_file import read_regular

MOST_BYTES = 256 << 10  # PyYAML reads about 100 KiB a second; the largest params.yaml of a project takes some 20 KiB
MOST_VALUES = 100_000  # with every alias written out
MOST_LEVELS = 100
_TOO_LARGE = object()


class YamlLimitError(UsageError):
    """YAML that is larger, or stands for more, than is read."""


class _Loader(yaml.SafeLoader):
    """Plain values only, and nothing nested so deeply that reading takes quadratic time and then the whole stack."""

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:  # noqa: N803 - PyYAML's name
        """Begin a list or mapping in brackets."""
        self._check(self.flow_level)
        super().fetch_flow_collection_start(TokenClass)

    def add_indent(self, column: int) -> bool:
        """Begin a list or mapping by indentation."""
        self._check(len(self.indents))
        return super().add_indent(column)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Read a mapping; of a key that occurs twice in it, YAML's own loader would take the last."""
        node = super().compose_mapping_node(anchor)
        seen = set[str]()
        for key, _ in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen and key.value != "<<":
                    raise yaml.YAMLError(f"{key.value!r} occurs twice, again in line {key.start_mark.line + 1}")
                seen.add(str(key.value))
        return node

    def _check(self, levels: int) -> None:
        if levels > MOST_LEVELS:
            raise yaml.YAMLError(f"nested more than {MOST_LEVELS} levels deep")


def read_yaml(path: Path) -> Any:
    """The value in a YAML file; raises `UsageError` where it is missing, no regular file, not valid YAML, or beyond the limits."""
    try:
        content = read_regular(path, MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{path}: no such file") from None
    return parse_yaml(content, str(path))


def parse_yaml(content: bytes | str, place: str) -> Any:
    """The value of a YAML text, plain values only; `place` begins the sentence of a `UsageError`."""
    if len(content) > MOST_BYTES:
        raise YamlLimitError(f"{place}: more than {MOST_BYTES} characters of YAML, the most that is read; shorten it")
    try:
        value = _value(content)
    # Not all that a scalar can do wrong is an error of YAML's: a date of month 13, a number of 5,000 digits.
    except (yaml.YAMLError, ValueError, OverflowError, TypeError) as error:
        raise UsageError(f"{place}: not valid YAML ({' '.join(str(error).split())})") from None
    if value is _TOO_LARGE:
        raise YamlLimitError(f"{place}: its aliases stand for more than {MOST_VALUES} values; write out what is needed")
    return value


def _value(content: bytes | str) -> Any:
    loader = _Loader(content)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        return loader.construct_document(node) if _weight(node, {}) <= MOST_VALUES else _TOO_LARGE
    finally:
        loader.dispose()


def _weight(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for, each alias counted as a copy; too many for a node that holds itself."""
    key = id(node)
    if key in known:
        return known[key]
    known[key] = MOST_VALUES + 1  # while it is being counted
    children: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        children = cast("list[yaml.Node]", node.value)
    elif isinstance(node, yaml.MappingNode):
        children = [one for pair in cast("list[tuple[yaml.Node, yaml.Node]]", node.value) for one in pair]
    known[key] = 1 + sum(_weight(child, known) for child in children)
    return known[key]
