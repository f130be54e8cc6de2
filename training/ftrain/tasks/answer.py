"""Defaults for tasks without an `answer.py`: single images cannot be predicted."""

from typing import Any

import numpy as np

from fschemas.failures import UsageError
from ftrain.data.types import Results
from ftrain.tasks.task import Task


def describe(task: Task, results: Results, index: int) -> dict[str, Any]:
    """Raise `UsageError`."""
    del results, index
    raise UsageError(f"the task {task.name} cannot predict single images")


def draw(task: Task, image: np.ndarray, prediction: dict[str, Any]) -> np.ndarray:
    """Return the image unchanged."""
    del task, prediction
    return image


def check_category(task: Task, category: str | None) -> None:
    """Raise `UsageError` if a category is given."""
    if category is not None:
        raise UsageError(f"the task {task.name} does not accept a garment; omit --garment")
