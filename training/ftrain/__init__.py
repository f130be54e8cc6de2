"""Streaming trainers that read shard sets: stream, loop, tasks, metrics.

The Python API (docs/python-api.md): `load` a run and predict with it; `ShardDataset` streams a shard set to any training loop.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fschemas.cores import let_waiting_threads_sleep
from fschemas.extras import not_installed

if TYPE_CHECKING:
    from ftrain.data.dataset import ShardDataset
    from ftrain.use.predictor import Predictor, load

__all__ = ["Predictor", "ShardDataset", "load"]
_PLACES = {"Predictor": "ftrain.use.predictor", "ShardDataset": "ftrain.data.dataset", "load": "ftrain.use.predictor"}

let_waiting_threads_sleep()  # here, as every way to torch leads through this file, and OpenMP reads its settings when it is loaded


def __getattr__(name: str) -> Any:
    """The API, imported when it is asked for: torch takes seconds."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_PLACES[name]), name)
    except ModuleNotFoundError as error:
        raise ImportError(not_installed(error.name) or str(error), name=error.name) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
