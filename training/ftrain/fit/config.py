"""Configuration: profiles and `--set a.b=c`, checked by frozen pydantic models. Unknown keys are refused.

Profiles come from a params.yaml and from the params.yaml of the package (a link in a checkout, a file in the wheel). A
profile in the user's file overrides the packaged profile of the same name. Nothing here imports torch, so that a wrong
key or value is reported immediately.
"""

import importlib
import reprlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from fschemas.failures import UsageError, did_you_mean
from ftrain.data.config import RunConfig, TaskConfig
from ftrain.data.split_lock import lock_digest
from ftrain.fit.profiles import profile_values, read_values, set_value
from ftrain.tasks import check_task_name

_Model = TypeVar("_Model", bound=BaseModel)


def config_class(task: str) -> type[TaskConfig]:
    """Class of the `model` section of a task: the last one in its `config.py` or, without that, in its `task.py`."""
    if find_spec(f"ftrain.tasks.{task}") is None:
        check_task_name(task)
    name = f"ftrain.tasks.{task}.config"
    module = importlib.import_module(name if find_spec(name) else f"ftrain.tasks.{task}.task")
    own = (value for value in vars(module).values() if isinstance(value, type) and value.__module__ == module.__name__)
    return [value for value in own if issubclass(value, TaskConfig)][-1]


def load_config(
    task: str, params: Path | None, profile: str | None, overrides: Sequence[str], section: str | None = None
) -> RunConfig:
    """Resolve the configuration of a task.

    `section` is the section of `params` that holds the profiles; the task's name by default. Without a file and a
    profile, the defaults of the models apply. Raises `UsageError` for unknown keys, profiles or values, with the
    nearest match.
    """
    config_class(task)  # report an unknown task before a missing section
    values, source = profile_values(task, params, profile, section)
    for override in overrides:
        set_value(values, override)
    if values.setdefault("task", task) != task:
        source = _origin("task", overrides) or source
        raise UsageError(
            f"{source}: task={values['task']}, but this command is for {task}; omit it, or use `ftrain {values['task']}`"
        )
    return resolve(values, source, overrides)


def resolve(values: dict[str, Any], source: str, overrides: Sequence[str] = ()) -> RunConfig:
    """Check plain values against the models of the task and fill in the defaults.

    An error refers to the override that set the value, or to `source`, the source of the values.
    """
    model = config_class(str(values.get("task")))
    chosen = _check(model, values.get("model") or {}, source, "model.", overrides)
    values = {**values, "model": chosen.model_dump(mode="json")}
    if isinstance(values.get("split_lock"), str):
        values["split_lock"] = lock_digest(values["split_lock"])
    return _check(RunConfig, values, source, "", overrides)


def read_config(path: Path) -> RunConfig:
    """Read the config.yaml of a run folder."""
    if not path.exists():
        raise UsageError(f"{path.parent}: not a run folder ({path.name} is missing); train one with `ftrain`")
    return resolve(read_values(path), str(path))


def _check(model: type[_Model], values: Any, source: str, prefix: str, overrides: Sequence[str]) -> _Model:
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        source = _origin(prefix.rstrip("."), overrides) or source
        raise UsageError(f"{source}: expected a mapping of names to values{f' as {prefix[:-1]}' if prefix else ''}")
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = prefix + ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:  # parameters that do not suit each other; the message names them
            given = [path for path, _, _ in (override.partition("=") for override in overrides) if path in message]
            raise UsageError(f"{_origin(given[-1], overrides) if given else source}: {message}") from None
        source = _origin(name, overrides) or source
        if first["type"] == "extra_forbidden":
            known = _known_names(model, first["loc"][:-1])
            raise UsageError(
                f"{source}: unknown parameter {name}; {did_you_mean(str(first['loc'][-1]), known)}choose from {', '.join(known)}"
            ) from None
        raise UsageError(f"{source}: {name}={reprlib.repr(first['input'])} is not valid ({message})") from None


def _origin(name: str, overrides: Sequence[str]) -> str:
    """The last `--set` that set a parameter or a part of it; "" if there is none."""
    for override in reversed(overrides):
        given = override.partition("=")[0]
        if f"{name}.".startswith(f"{given}.") or given.startswith(f"{name}."):
            return f"--set {given}={reprlib.repr(override[len(given) + 1 :])[1:-1]}"
    return ""


def _known_names(model: type[BaseModel], parents: tuple[int | str, ...]) -> list[str]:
    for parent in parents:
        field = model.model_fields.get(str(parent))
        if field is None:
            continue  # index of a list entry
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                model = inner
    return list(model.model_fields)
