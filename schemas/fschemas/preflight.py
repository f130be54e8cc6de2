"""What commands look at before anything slow is imported: whether the paths are there at all.

Whoever opens a path checks it again and says more of it; here only a wrong path is answered at once. Sentences are the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fschemas.failures import UsageError

_INDEX_FILE, _CONFIG_FILE, _DATASET_FILE, _TABLE_FILE = "index.json", "config.yaml", "dataset.json", "table.parquet"


def check_run(run: Path | None) -> None:
    """Raise `UsageError` where there is no folder that could be a run; None is none asked for."""
    if run is not None and not run.is_dir():
        raise UsageError(f"{run}: not a run folder ({_CONFIG_FILE} is missing); train one with `ftrain`")


def check_shards(place: str | Path | None) -> None:
    """Raise `UsageError` where there is no folder that could be a shard set; a URL passes."""
    if place is not None and "://" not in str(place) and not Path(place).is_dir():
        raise UsageError(f"{place}: no finished shard set here ({_DATASET_FILE} is missing); run `fprep shard` first")


def check_index(index: Path) -> None:
    """Raise `UsageError` where there is no folder that could be an index."""
    if not index.is_dir():
        raise UsageError(f"{index}: no finished index here ({_INDEX_FILE} is missing); build one with `ftrain index`")


def check_tables(tables: Iterable[Path]) -> None:
    """Raise `UsageError` at the first that is neither a file nor a folder."""
    for table in tables:
        if not table.exists():
            raise UsageError(f"{table}: no such table; write it with `fprep convert`")


def check_paths(paths: Iterable[Path | None], what: str) -> None:
    """Raise `UsageError` at the first path that leads nowhere: `what` says what is missing, and perhaps what to do."""
    for path in paths:
        if path is not None and not path.exists():
            raise UsageError(f"{path}: {what}")
