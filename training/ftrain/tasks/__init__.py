"""One folder per model: `task.py` holds the `Task`, `config.py` its configuration. Nothing is registered by hand."""

from pathlib import Path

from fschemas.failures import UsageError


def task_names() -> list[str]:
    """The tasks that can be trained: every folder here with a `config.py`. Found without importing torch."""
    return sorted(path.parent.name for folder in __path__ for path in Path(folder).glob("*/config.py"))


def check_task_name(name: str) -> None:
    """Raise `UsageError` with the known names for one that is no task."""
    if name not in (known := task_names()):
        raise UsageError(f"unknown task {name!r}; known are {', '.join(sorted(known))}")
