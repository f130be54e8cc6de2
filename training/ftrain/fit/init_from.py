"""Initial weights: from another run, of the same or another task, or from a timm or torchvision backbone file."""

from pathlib import Path

from torch import Tensor, nn

from fschemas.failures import UsageError
from ftrain.data.config import BackboneConfig
from ftrain.fit.run_folder import RunFolder
from ftrain.layers.backbone import fitting_state, load_backbone_state, timm_networks
from ftrain.layers.weights import read_weights
from ftrain.tasks.task import Task


def init_from(task: Task, source: Path) -> str:
    """Load initial weights from `source`; return a sentence on how many were loaded.

    A folder is a run. Its best checkpoint (EMA weights if it has them) provides all tensors with the same name and
    shape, and those of the backbone even if the tasks use different names for it. A file holds weights of the backbone
    only. Raises `UsageError` if nothing fits, or less than half of the backbone.
    """
    return _from_run(task, source) if source.is_dir() else _from_file(task, source)


def _from_run(task: Task, source: Path) -> str:
    other, _, _ = RunFolder(source).load()
    given, own = _by_key(other), _by_key(task)
    taken = {key: tensor for key in own if (tensor := _fitting(own[key], given, key)) is not None}
    inside = [key for key in own if key[0] is not None]
    num_inside = sum(key[0] is not None for key in taken)
    if not taken or 2 * num_inside < len(inside):
        raise UsageError(
            f"{source}: a run of {other.name}; {num_inside} of the {len(inside)} tensors of the backbone fit, "
            f"{len(taken)} of {len(own)} in all; choose a run with the same model.backbone"
        )
    for key, tensor in taken.items():
        own[key].copy_(tensor)
    prefixes = list(timm_networks(task))
    left = [name if at is None else f"{prefixes[at]} {name}" for at, name in own if (at, name) not in taken]
    rest = f"; new are {', '.join(left[:3])}{' …' if len(left) > 3 else ''}" if left else ""
    return (
        f"{len(taken)} of {len(own)} tensors come from {source}, a run of {other.name} "
        f"({num_inside} of {len(inside)} of the backbone){rest}"
    )


def _from_file(task: Task, source: Path) -> str:
    state = read_weights(source)
    modules = timm_networks(task)
    if not modules:
        raise UsageError(f"the task {task.name} has no backbone that a weight file could fill; use a run folder")
    for module in modules.values():
        try:
            given = fitting_state(task.config, module, state) if isinstance(task.config, BackboneConfig) else state
            load_backbone_state(module, given)
        except UsageError as error:
            raise UsageError(f"{source}: {error}") from None
    num_tensors = sum(len(module.state_dict()) for module in modules.values())
    return f"{num_tensors} of {len(task.state_dict())} tensors, the backbone's, come from {source}"


# Task-independent key of a tensor: (index of the backbone, name in it with `_` for `.`), or (None, name).
_Key = tuple[int | None, str]


def _by_key(task: nn.Module) -> dict[_Key, Tensor]:
    prefixes = list(timm_networks(task))
    tensors: dict[_Key, Tensor] = {}
    for name, tensor in task.state_dict().items():
        number = next((number for number, prefix in enumerate(prefixes) if name.startswith(f"{prefix}.")), None)
        inside = name if number is None else name.removeprefix(f"{prefixes[number]}.").replace(".", "_")
        tensors[number, inside] = tensor
    return tensors


def _fitting(own: Tensor, given: dict[_Key, Tensor], key: _Key) -> Tensor | None:
    """Tensor for a key, if the shape fits; from any backbone, as a task may have two backbones, or a split one."""
    number, name = key
    others = [] if number is None else sorted({(other, name) for other, _ in given if other is not None})
    for candidate in (key, *others):
        tensor = given.get(candidate)
        if tensor is not None and tensor.shape == own.shape:
            return tensor
    return None
