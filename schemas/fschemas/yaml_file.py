"""YAML files of users, read within limits on memory and time.

Anchors and aliases are allowed, because DVC users share values with them, but the expanded document must be small: nine
lines of nested aliases can expand to a billion values.
"""

from pathlib import Path
from typing import Any, cast

import yaml

from fschemas.failures import UsageError
from fschemas.regular_file import read_regular

MAX_BYTES = 256 << 10  # PyYAML reads about 100 KiB per second; the largest params.yaml of a project has about 20 KiB
MAX_VALUES = 100_000  # with all aliases expanded
MAX_LEVELS = 100


class YamlLimitError(UsageError):
    """YAML that exceeds the limits, possibly after expanding aliases."""


class _Loader(yaml.SafeLoader):
    """Safe loader (plain values only) with a nesting limit: deep nesting takes quadratic time and all of the stack."""

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:  # noqa: N803 - PyYAML's name
        """Start a list or mapping in brackets."""
        self._check(self.flow_level)
        super().fetch_flow_collection_start(TokenClass)

    def add_indent(self, column: int) -> bool:
        """Start a list or mapping by indentation."""
        self._check(len(self.indents))
        return super().add_indent(column)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Read a mapping. Raises an error for duplicate keys, of which PyYAML would keep the last."""
        node = super().compose_mapping_node(anchor)
        seen = set[str]()
        for key, _ in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen and key.value != "<<":
                    raise yaml.YAMLError(f"{key.value!r} occurs twice, again in line {key.start_mark.line + 1}")
                seen.add(str(key.value))
        return node

    def _check(self, levels: int) -> None:
        if levels > MAX_LEVELS:
            raise yaml.YAMLError(f"nested more than {MAX_LEVELS} levels deep")


def read_yaml(path: Path) -> Any:
    """Read a YAML file. Raises `UsageError` if it is missing, not a regular file, not valid YAML, or too large."""
    try:
        content = read_regular(path, MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{path}: no such file") from None
    return parse_yaml(content, str(path))


def parse_yaml(content: bytes | str, source: str) -> Any:
    """Parse YAML text, plain values only; `source` names it in messages of `UsageError`."""
    if len(content) > MAX_BYTES:
        raise YamlLimitError(f"{source}: larger than the limit of {MAX_BYTES} characters of YAML; shorten it")
    try:
        loader = _Loader(content)
        node = loader.get_single_node()
        too_large = node is not None and _weight(node, {}) > MAX_VALUES
        value = None if node is None or too_large else loader.construct_document(node)
    # Scalars can raise other errors than YAML's: a date with month 13, a number of 5,000 digits.
    except (yaml.YAMLError, ValueError, OverflowError, TypeError) as error:
        raise UsageError(f"{source}: not valid YAML ({' '.join(str(error).split())})") from None
    if too_large:
        raise YamlLimitError(f"{source}: its aliases expand to more than {MAX_VALUES} values; use fewer aliases")
    return value


def _weight(node: yaml.Node, known: dict[int, int]) -> int:
    """Number of values of a node, each alias counted as a copy; above the limit for a node that contains itself."""
    key = id(node)
    if key in known:
        return known[key]
    known[key] = MAX_VALUES + 1  # while its children are being counted
    children: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        children = cast("list[yaml.Node]", node.value)
    elif isinstance(node, yaml.MappingNode):
        children = [one for pair in cast("list[tuple[yaml.Node, yaml.Node]]", node.value) for one in pair]
    known[key] = 1 + sum(_weight(child, known) for child in children)
    return known[key]
