"""`ftrain summary`: parameters, multiply-adds and outputs of a network, module by module.

A parameter shared by several modules counts for the first. It is trainable if a stage of the configuration trains it.
Multiply-adds are those of convolutions, matrix products and attention in `predict` for one image of the configured
input size, without test-time augmentation (flips, rotations). One multiply-add is two floating-point operations:
ResNet-50 at 224 pixels has 4.1 G.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fschemas.failures import UsageError
from ftrain.data.config import RunConfig, Stage
from ftrain.data.remote import open_shards
from ftrain.fit.config import load_config
from ftrain.fit.profiles import params_here
from ftrain.fit.run_folder import RunFolder
from ftrain.fit.splits import names_to_learn
from ftrain.layers.weights import weights_to_come
from ftrain.tasks.task import Task, build_task, find_task


def count_parameters(module: nn.Module, depth: int = 1) -> dict[str, int]:
    """Count parameters by module name, down to `depth` dots; the total comes first, under the name ""."""
    counts = {"": 0}
    for name, parameter in module.named_parameters():
        counts[""] += parameter.numel()
        for prefix in _prefixes(name, depth):
            counts[prefix] = counts.get(prefix, 0) + parameter.numel()
    return counts


def network_of(
    run: Path | None,
    task: str | None,
    profile: str | None,
    params: Path | None,
    dataset: str | None,
    overrides: Sequence[str],
) -> tuple[Task, RunConfig]:
    """Build a network without weights, as configured by a run or by a task and a shard set.

    Without a shard set, the data set on which the task was published is assumed. Raises `UsageError` unless a run or a
    task is given.
    """
    if (run is None) == (task is None):
        raise UsageError("pass either a run folder or --task")
    if run is not None:
        if overrides or profile or params:
            raise UsageError(
                "a run has its own configuration; omit --profile, --params and --set, or use --task instead of the run"
            )
        config, facts = RunFolder(run).config(), RunFolder(run).dataset()
    else:
        assert task is not None
        config = load_config(task, params_here(params), profile, list(overrides))
        if dataset:
            shards = open_shards(dataset)
            facts = {**shards.metadata, "names": names_to_learn(config, shards)}
        else:
            published = find_task(config.task)
            facts = published.published_dataset(published.Config(**config.model))
    with weights_to_come():  # the counts do not depend on weights
        network = build_task(config, facts)
    network.set_tta(False)
    return network.eval(), config


def summarize(task: Task, config: RunConfig, *, depth: int = 2) -> dict[str, Any]:
    """Return the table as JSON values: `modules` (one per row), `totals`, and `stages` with what each trains.

    `multiply_adds` and `output` are None for a task that cannot predict single images; `output` is also None for
    modules that are not called themselves. The counts of a row include those of its submodules.
    """
    trained = _trained(task, config.fit.stages)
    multiply_adds, outputs, size = _measured(task, depth)
    parameters, trainable = count_parameters(task, depth), dict[str, int]()
    for name, parameter in task.named_parameters():
        for prefix in ("", *_prefixes(name, depth)) if name in trained else ():
            trainable[prefix] = trainable.get(prefix, 0) + parameter.numel()
    modules = [
        {
            "name": name, "type": type(module).__name__, "parameters": parameters.get(name, 0),
            "trainable": trainable.get(name, 0), "multiply_adds": None if size is None else multiply_adds.get(name, 0),
            "output": outputs.get(name),
        }
        for name, module in task.named_modules()
        if name and name.count(".") < depth and (name in parameters or multiply_adds.get(name))
    ]  # fmt: skip
    return {
        "task": task.name,
        "input": size,
        "modules": modules,
        "totals": {
            "parameters": parameters[""], "trainable": trainable.get("", 0),
            "multiply_adds": None if size is None else multiply_adds.get("", 0),
        },
        "stages": [
            {"until": stage.until, "trainable": sum(p.numel() for n, p in task.named_parameters() if n in _trained(task, (stage,)))}
            for stage in config.fit.stages
        ],
    }  # fmt: skip


def summary_lines(summary: dict[str, Any]) -> Iterator[str]:
    """Format the table as text."""
    rows = [("module", "type", "parameters", "trainable", "multiply-adds", "output")]
    total: dict[str, Any] = {"name": "all", "type": "", "output": None, **summary["totals"]}
    for row in [*summary["modules"], total]:
        indent = "  " * row["name"].count(".")
        output = " ".join("x".join(map(str, shape)) for shape in row["output"] or ())
        rows.append((
            indent + row["name"].rpartition(".")[2], row["type"], f"{row['parameters']:,}", f"{row['trainable']:,}",
            "" if row["multiply_adds"] is None else f"{row['multiply_adds'] / 1e6:,.1f} M", output,
        ))  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    at = f", {'x'.join(map(str, summary['input']))} pixels" if summary["input"] else ""
    yield f"{summary['task']}: one image{at}, test-time augmentation off"
    for row in rows:
        left = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(row[2:5], widths[2:5], strict=True)]
        yield "  ".join([*left, *right, row[5]]).rstrip()
    for number, stage in enumerate(summary["stages"] if len(summary["stages"]) > 1 else (), 1):
        yield f"stage {number}, until {stage['until']:.0%} of the steps: {stage['trainable']:,} trainable"


def _prefixes(name: str, depth: int) -> list[str]:
    """Enclosing modules of a parameter, with at most `depth` parts; the parameter itself if it has none."""
    parts = name.split(".")
    return [".".join(parts[:number]) for number in range(1, min(depth, max(1, len(parts) - 1)) + 1)]


def _trained(task: Task, stages: Sequence[Stage]) -> set[str]:
    """Names of the parameters trained by at least one stage."""
    return {
        name
        for name, parameter in task.named_parameters()
        if parameter.requires_grad and not all(name.startswith(stage.freeze) for stage in stages)
    }


def _measured(task: Task, depth: int) -> tuple[dict[str, int], dict[str, list[list[int]]], list[int] | None]:
    """Return multiply-adds and output shapes by module name ("" for all), and the image's width and height.

    The last is [] if there are several images, and None if the task cannot predict single images. A module that is
    called several times has one output shape per call.
    """
    try:
        encoded = task.encode_image(np.full((256, 256, 3), 128, np.uint8))
    except UsageError:
        return {}, {}, None
    batch = {name: torch.from_numpy(array[None].copy()) for name, array in encoded.items()}
    outputs: dict[str, list[list[int]]] = {}
    hooks = [
        module.register_forward_hook(partial(_note_shapes, outputs, name))
        for name, module in task.named_modules()
        if name and name.count(".") < depth
    ]
    counter = FlopCounterMode(display=False)
    own_forward, learning = task.forward, [parameter for parameter in task.parameters() if parameter.requires_grad]
    task.forward = task.predict  # the counter hooks into forward
    task.requires_grad_(False)  # and asks for the gradients of inputs, including parameters
    try:
        with torch.no_grad(), counter:
            task(batch)
    finally:
        task.forward = own_forward
        for parameter in learning:
            parameter.requires_grad_(True)
        for hook in hooks:
            hook.remove()
    counts = {name: sum(parts.values()) // 2 for name, parts in counter.flop_counts.items()}
    found = _of_module(task, type(task).__name__, "", counts)
    size = [int(side) for side in encoded["image"].shape[1::-1]] if "image" in encoded else []
    return {**found, "": counter.get_total_flops() // 2}, outputs, size


def _of_module(module: nn.Module, call_path: str, name: str, counts: dict[str, int]) -> dict[str, int]:
    """Counts of a module and its submodules by name.

    A module that is not called through forward has the sum of its children.
    """
    found: dict[str, int] = {}
    total = 0
    for child_name, child in module.named_children():
        path = f"{name}.{child_name}".lstrip(".")
        below = _of_module(child, f"{call_path}.{child_name}", path, counts)
        total += below[path]
        found |= below
    return {name: counts.get(call_path, total), **found}


def _note_shapes(outputs: dict[str, list[list[int]]], name: str, module: nn.Module, given: Any, output: Any) -> None:
    del module, given
    outputs.setdefault(name, _shapes(output))


def _shapes(output: Any) -> list[list[int]]:
    if isinstance(output, Tensor):
        return [list(output.shape)]
    values = output.values() if isinstance(output, dict) else output if isinstance(output, list | tuple) else ()
    return [shape for value in values for shape in _shapes(value)]
