"""Training and inference on shard sets: data streaming, training loop, tasks, metrics and search.

Python API (docs/python-api.md): `load` a run and predict with it; stream a shard set to any training loop with
`ShardDataset`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fschemas.cores import let_waiting_threads_sleep
from fschemas.extras import not_installed

if TYPE_CHECKING:
    from ftrain.data.dataset import ShardDataset
    from ftrain.use.predictor import Predictor, load

__all__ = ["Predictor", "ShardDataset", "load"]
_EXPORTS = {"Predictor": "ftrain.use.predictor", "ShardDataset": "ftrain.data.dataset", "load": "ftrain.use.predictor"}

let_waiting_threads_sleep()  # OpenMP reads its settings when torch loads it


def __getattr__(name: str) -> Any:
    """Import the names of the API on first use: torch takes seconds."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_EXPORTS[name]), name)
    except ModuleNotFoundError as error:
        raise ImportError(not_installed(error.name) or str(error), name=error.name) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
