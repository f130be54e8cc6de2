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

for _name in __all__:
    # Python sets a subpackage as an attribute when it is first imported. Import these two (they are empty) and delete
    # the attributes, so that `fprep.convert` is always the function, and `from fprep.convert.rules import …` works.
    import_module(f"{__name__}.{_name}")
    del globals()[_name]


def __getattr__(name: str) -> Any:
    """Import the functions of the API on first use: polars takes a second."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{name}.command"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
