"""Configuration: frozen pydantic models, filled from defaults, then a profile, then `--set a.b=c`; unknown keys are refused.

Profiles are those of a params.yaml, and those that the package brings: its own params.yaml, a link in a checkout and a file in the
wheel. A profile of the user's file takes the place of the one of the same name in the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fschemas.failures import UsageError
from ftrain.data.config import RunConfig
from ftrain.fit.config_values import load_values, resolve_values
from ftrain.fit.profiles import read_values
from ftrain.tasks.task import Task, find_task


def load_config(
    task: str, params: Path | None, profile: str | None, overrides: list[str], *, section: str | None = None
) -> RunConfig:
    """Resolve the configuration of a task; raises `UsageError` for unknown keys, profiles or values, with the nearest match.

    `section` is the part of `params` that holds the profiles: that of the task's name, unless given. Without a file and a profile the
    defaults of the models count.
    """
    model = find_task(task).Config  # a name that is no task is no missing section either
    return load_values(model, task, params, profile, overrides, section)


def resolve(values: dict[str, Any], place: str, overrides: Sequence[str] = ()) -> RunConfig:
    """Check plain values against the models of the task and fill in the defaults.

    An error names the override that gave a value, or else the `place` where the values were read.
    """
    return resolve_values(find_task(str(values.get("task"))).Config, values, place, overrides)


def read_config(path: Path) -> RunConfig:
    """Read the config.yaml of a run folder."""
    if not path.exists():
        raise UsageError(f"{path.parent}: not a run folder ({path.name} is missing); train one with `ftrain`")
    return resolve(read_values(path), str(path))


def build_task(config: RunConfig, dataset: dict[str, Any]) -> Task:
    """The task of a configuration, for the landmark set and vocabularies of `dataset`."""
    task = find_task(config.task)
    return task(task.Config(**config.model), dataset)
