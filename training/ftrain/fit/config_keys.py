"""Keys of a task's configuration with value, default, type and help, for `ftrain config show`.

Does not import torch.
"""

import json
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ftrain.data.config import RunConfig
from ftrain.fit.config import config_class, load_config
from ftrain.fit.profiles import profile_values

_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "multiple_of": "multiple of", "min_length": "length >="}
_NAMES = {str: "text", bool: "true | false", int: "integer", float: "number", type(None): "null", Any: "anything"}


@dataclass(frozen=True)
class ConfigKey:
    """A key as `--set` takes it, such as `fit.learning_rate`.

    Keys of list entries, `fit.stages[].until`, have no `value`.
    """

    key: str
    value: Any
    default: Any
    type: str
    help: str


def config_keys(
    task: str, params: Path | None, profile: str | None, overrides: Sequence[str], section: str | None = None
) -> tuple[list[ConfigKey], str]:
    """Keys of the resolved configuration of a task, and the source of its values.

    Raises the same `UsageError`s as training.
    """
    model, config = config_class(task), load_config(task, params, profile, overrides, section)
    _, source = profile_values(task, params, profile, section)
    keys: list[ConfigKey] = []
    for name, field in RunConfig.model_fields.items():
        value = config.model_dump(mode="json")[name]
        inner = model if name == "model" else _model_in(field.annotation)
        keys += _keys_of(inner, f"{name}.", value) if inner else [_key(name, field, value)]
    return keys, ", ".join([source, *(f"--set {override}" for override in overrides)])


def _keys_of(
    model: type[BaseModel], prefix: str, values: dict[str, Any] | None, defaults: dict[str, Any] | None = None
) -> Iterator[ConfigKey]:
    for name, field in model.model_fields.items():
        key = _key(f"{prefix}{name}", field, None if values is None else values[name])
        entry = _model_in(field.annotation)
        if entry is not None and entry is field.annotation:
            yield from _keys_of(entry, f"{key.key}.", key.value, key.default)
            continue
        yield key if defaults is None else replace(key, default=defaults[name])
        if entry is not None:
            yield from _keys_of(entry, f"{key.key}[].", None)


def _key(name: str, field: FieldInfo, value: Any) -> ConfigKey:
    default = None if field.is_required() else _plain(field.get_default(call_default_factory=True))
    return ConfigKey(name, value, default, _type_of(field.annotation, field.metadata), field.description or "")


def _plain(value: Any) -> Any:
    """Return a default as JSON values."""
    return json.loads(json.dumps(value, default=lambda model: model.model_dump(mode="json")))


def _model_in(annotation: Any) -> type[BaseModel] | None:
    candidates = (annotation, *get_args(annotation))
    return next((one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel)), None)


def _type_of(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """Describe a type with its bounds in YAML terms: `integer >= 1`, `cosine | constant`, `list of (text)`."""
    bounds = [
        f"{sign} {getattr(entry, name):g}"
        for entry in metadata
        for name, sign in _BOUNDS.items()
        if getattr(entry, name, None) is not None
    ]
    inner, origin = get_args(annotation), get_origin(annotation)
    if origin is Literal:
        words = " | ".join(map(str, inner))
    elif origin is Annotated:
        words = _type_of(inner[0], inner[1].metadata if isinstance(inner[1], FieldInfo) else inner[1:])
    elif origin is tuple:
        entries = [_type_of(entry) for entry in inner if entry is not Ellipsis]
        words = f"list of ({entries[0]})" if Ellipsis in inner else f"[{', '.join(entries)}]"
    elif origin is dict:
        words = f"mapping to ({_type_of(inner[1])})"
    elif origin in (Union, types.UnionType):
        words = " | ".join(map(_type_of, inner))
    else:
        words = _NAMES.get(annotation) or annotation.__name__
    return f"{words} {', '.join(bounds)}".strip()
