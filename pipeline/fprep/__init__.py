"""The pipeline: raw fashion annotation files to validated tables and to WebDataset shards.

The Python API (docs/python-api.md) has the commands as functions: `fprep.convert(...)` and `fprep.shard(...)`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fprep.convert.command import convert
    from fprep.shard.command import shard

__all__ = ["convert", "shard"]


def __getattr__(name: str) -> Any:
    """A subpackage that is called like the command it holds, imported when it is asked for: polars takes a second."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
