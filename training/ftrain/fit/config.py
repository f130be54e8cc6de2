"""Configuration: frozen pydantic models, filled from defaults, a profile and `--set a.b=c`. Unknown keys are refused.

Profiles come from a params.yaml and from the params.yaml of the package (a link in a checkout, a file in the wheel). A
profile in the user's file overrides the packaged profile of the same name.
"""

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
    """Resolve the configuration of a task.

    `section` is the section of `params` that holds the profiles; the task's name by default. Without a file and a
    profile, the defaults of the models apply. Raises `UsageError` for unknown keys, profiles or values, with the
    nearest match.
    """
    model = find_task(task).Config  # report an unknown task before a missing section
    return load_values(model, task, params, profile, overrides, section)


def resolve(values: dict[str, Any], source: str, overrides: Sequence[str] = ()) -> RunConfig:
    """Check plain values against the models of the task and fill in the defaults.

    An error refers to the override that set the value, or to `source`, the source of the values.
    """
    return resolve_values(find_task(str(values.get("task"))).Config, values, source, overrides)


def read_config(path: Path) -> RunConfig:
    """Read the config.yaml of a run folder."""
    if not path.exists():
        raise UsageError(f"{path.parent}: not a run folder ({path.name} is missing); train one with `ftrain`")
    return resolve(read_values(path), str(path))


def build_task(config: RunConfig, dataset: dict[str, Any]) -> Task:
    """Build the task of a configuration for the landmark set and vocabularies of `dataset`."""
    task = find_task(config.task)
    return task(task.Config(**config.model), dataset)
