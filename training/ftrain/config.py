"""Configuration: frozen pydantic models, filled from defaults, then a profile, then `--set a.b=c`; unknown keys are refused.

Profiles are those of a params.yaml, and those that the package brings: its own params.yaml, a link in a checkout and a file in the
wheel. A profile of the user's file takes the place of the one of the same name in the package.
"""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fschemas.failures import UsageError, did_you_mean
from ftrain.profiles import profile_values, read_values, set_value
from ftrain.split_lock import lock_digest
from ftrain.task import Stage, Task, find_task

_Model = TypeVar("_Model", bound=BaseModel)


class FitConfig(BaseModel):
    """How a task is trained. Defaults are those of a small run on a CPU."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    epochs: float = Field(10, gt=0, le=1e6)
    batch_size: int = Field(32, ge=1)  # over all processes
    micro_batches: int = Field(1, ge=1)  # parts of a batch that go through the network one after the other
    exact: bool = False  # sum micro-batches in index order, so that the number of processes does not change a bit
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    backbone_rate: float = Field(1.0, ge=0)  # multiplies the rate of parameters named backbone.*
    layer_decay: float = Field(1.0, gt=0, le=1)  # multiplies it once more for each layer from the head down; 1 is off
    weight_decay: float = Field(1e-4, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)  # sgd
    warmup: float = Field(0.05, ge=0, lt=1)  # share of the steps
    schedule: Literal["cosine", "constant"] = "cosine"
    clip_norm: float = Field(10.0, gt=0)
    average: float = Field(0.0, ge=0, lt=1)  # decay of the exponential moving average of weights; 0 is off
    amp: Literal["none", "bf16"] = "none"
    compile: bool = False
    seed: int = Field(0, ge=0, lt=2**63)
    # windowed: a few shards at a time; balanced: every class equally often; identities: P identities with K pictures each
    sampler: Literal["shuffled", "windowed", "balanced", "identities"] = "shuffled"
    per_identity: int = Field(4, ge=2)  # K of the sampler `identities`
    validate_every: float = Field(1.0, gt=0, le=1e9)  # epochs
    checkpoint_every: int = Field(100, ge=1)  # steps
    log_every: int = Field(25, ge=1)  # steps
    keep_checkpoints: int = Field(2, ge=1)  # besides the best
    stages: tuple[Stage, ...] = Field((Stage(),), min_length=1)


class RunConfig(BaseModel):
    """Everything that decides the weights of a run, as config.yaml keeps it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    task: str
    model: dict[str, Any]
    fit: FitConfig = Field(default_factory=lambda: FitConfig.model_validate({}))
    train_split: str = "train"
    validation_split: str = "val"  # "none": nothing judges the run while it trains, and its last checkpoint counts as the best
    hold_out: float = Field(0.1, gt=0, lt=1)  # share of the training groups that validate where the set has no such split
    lock: str = ""  # digest of the split lock (or its file) that the shards must carry; empty asks for none

    @property
    def digest(self) -> str:
        """SHA-256 over the values, whatever their order in a file. A lock refuses shards, but changes no weight."""
        values = self.model_dump(mode="json", exclude={"lock"})
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def to_yaml(self) -> str:
        """The text of config.yaml."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def load_config(
    task: str, params: Path | None, profile: str | None, overrides: list[str], *, section: str | None = None
) -> RunConfig:
    """Resolve the configuration of a task; raises `UsageError` for unknown keys, profiles or values, with the nearest match.

    `section` is the part of `params` that holds the profiles: that of the task's name, unless given. Without a file and a profile the
    defaults of the models count.
    """
    find_task(task)  # a name that is no task is no missing section either
    values, place = profile_values(task, params, profile, section)
    for override in overrides:
        set_value(values, override)
    if values.setdefault("task", task) != task:
        place = _origin("task", overrides) or place
        raise UsageError(
            f"{place}: task={values['task']}, but this command is for {task}; leave it out, or use `ftrain {values['task']}`"
        )
    return resolve(values, place, overrides)


def resolve(values: dict[str, Any], place: str, overrides: Sequence[str] = ()) -> RunConfig:
    """Check plain values against the models of the task and fill in the defaults.

    An error names the override that gave a value, or else the `place` where the values were read.
    """
    task = find_task(str(values.get("task")))
    model = _check(task.Config, values.get("model") or {}, place, "model.", overrides)
    values = {**values, "model": model.model_dump(mode="json")}
    if isinstance(values.get("lock"), str):
        values["lock"] = lock_digest(values["lock"])
    return _check(RunConfig, values, place, "", overrides)


def read_config(path: Path) -> RunConfig:
    """Read the config.yaml of a run folder."""
    if not path.exists():
        raise UsageError(f"{path.parent}: not a run folder ({path.name} is missing); train one with `ftrain`")
    return resolve(read_values(path), str(path))


def build_task(config: RunConfig, dataset: dict[str, Any]) -> Task:
    """The task of a configuration, for the landmark set and vocabularies of `dataset`."""
    task = find_task(config.task)
    return task(task.Config(**config.model), dataset)


def _check(model: type[_Model], values: Any, place: str, prefix: str, overrides: Sequence[str] = ()) -> _Model:
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        place = _origin(prefix.rstrip("."), overrides) or place
        raise UsageError(f"{place}: expected a mapping of names to values{f' as {prefix[:-1]}' if prefix else ''}")
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = prefix + ".".join(str(part) for part in first["loc"])
        place = _origin(name, overrides) or place
        if first["type"] == "extra_forbidden":
            known = _known_names(model, first["loc"][:-1])
            raise UsageError(
                f"{place}: unknown parameter {name}; {did_you_mean(str(first['loc'][-1]), known)}known are {', '.join(known)}"
            ) from None
        raise UsageError(
            f"{place}: {name}={reprlib.repr(first['input'])} is not possible ({first['msg'].removeprefix('Value error, ')})"
        ) from None


def _origin(name: str, overrides: Sequence[str]) -> str:
    """The last `--set` that gave a parameter, all of it or a part; empty where none did."""
    for override in reversed(overrides):
        given = override.partition("=")[0]
        if f"{name}.".startswith(f"{given}.") or given.startswith(f"{name}."):
            return f"--set {given}={reprlib.repr(override[len(given) + 1 :])[1:-1]}"
    return ""


def _known_names(model: type[BaseModel], parents: tuple[int | str, ...]) -> list[str]:
    for parent in parents:
        field = model.model_fields.get(str(parent))
        if field is None:
            continue  # the number of an entry in a list
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                model = inner
    return list(model.model_fields)
