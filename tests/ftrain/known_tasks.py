"""Tasks of the tests, which are not in `ftrain.tasks`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ftrain.tasks.task import Task


def use_tasks(patch: pytest.MonkeyPatch, find: Callable[[str], type[Task]]) -> None:
    """Replace `ftrain.tasks.task.find_task`, and the class of a configuration by that of the task it finds."""
    patch.setattr("ftrain.tasks.task.find_task", find)
    patch.setattr("ftrain.fit.config.config_class", lambda name: find(name).Config)
