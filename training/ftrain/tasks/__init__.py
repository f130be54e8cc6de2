"""One folder per model: `task.py` defines the `Task`, `config.py` its configuration. Tasks are found by convention."""

from pathlib import Path

from fschemas.failures import UsageError


def task_names() -> list[str]:
    """Return the names of the trainable tasks: every folder here with a `config.py`. Does not import torch."""
    return sorted(path.parent.name for folder in __path__ for path in Path(folder).glob("*/config.py"))


def check_task_name(name: str) -> None:
    """Raise `UsageError` with the known names if there is no task called `name`."""
    if name not in (known := task_names()):
        raise UsageError(f"unknown task {name!r}; choose from {', '.join(sorted(known))}")
