"""Optimizer, rates and stages: pure functions of a configuration and a step."""

from __future__ import annotations

import math

import torch
from torch import nn

from fschemas.failures import UsageError
from ftrain.config import FitConfig
from ftrain.task import Stage


def make_optimizer(model: nn.Module, config: FitConfig) -> torch.optim.Optimizer:
    """One parameter group per (backbone or not, decayed or not); biases and norms are not decayed."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        groups.setdefault((name.startswith("backbone") or ".backbone." in name, parameter.ndim > 1), []).append(parameter)
    settings = [
        {
            "params": parameters,
            "weight_decay": config.weight_decay if decayed else 0.0,
            "share": config.backbone_rate if is_backbone else 1.0,
        }
        for (is_backbone, decayed), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(settings, lr=config.learning_rate, momentum=config.momentum)
    return torch.optim.AdamW(settings, lr=config.learning_rate)


def rate_at(step: int, num_steps: int, config: FitConfig) -> float:
    """The learning rate of a step: linear warm-up, then half a cosine down to zero, or constant."""
    warmup = round(config.warmup * num_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if config.schedule == "constant":
        return config.learning_rate
    progress = (step - warmup) / max(1, num_steps - warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed the generators that a model on `device` draws from; `torch.manual_seed` would note the stack for every other kind."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["share"]


def stage_at(step: int, num_steps: int, stages: tuple[Stage, ...]) -> Stage:
    """The stage that a step belongs to."""
    return next((stage for stage in stages if step < stage.until * num_steps), stages[-1])


def check_stages(model: nn.Module, stages: tuple[Stage, ...]) -> None:
    """Raise `UsageError` before the first step for stages out of order, or frozen names that no parameter has."""
    ends = [stage.until for stage in stages]
    if not ends or ends != sorted(set(ends)):
        raise UsageError(f"fit.stages: they end at {ends}; write at least one, in ascending order of `until`")
    names = [name for name, _ in model.named_parameters()]
    for prefix in [prefix for stage in stages for prefix in stage.frozen]:
        if not any(name.startswith(prefix) for name in names):
            raise UsageError(f"fit.stages: no parameter's name starts with {prefix!r}; the first is {names[0]}")


def weigh(losses: dict[str, torch.Tensor], stage: Stage) -> dict[str, torch.Tensor]:
    """Losses with `loss` as the sum of the parts in the weights of a stage; as they are where it names none."""
    if not stage.losses:
        return losses
    parts = {name: value for name, value in losses.items() if name != "loss"}
    unknown = sorted(stage.losses.keys() - parts.keys())
    if unknown:
        raise UsageError(f"fit.stages: the task has no loss {unknown[0]!r}; its losses are {', '.join(parts)}")
    return {**losses, "loss": torch.stack([stage.losses.get(name, 1.0) * value for name, value in parts.items()]).sum()}


def enter_stage(model: nn.Module, stage: Stage) -> None:
    """Freeze and thaw: frozen parameters get no gradient, and norms without a free parameter keep their statistics."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(stage.frozen))
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 - torch has no public base class
            module.train(all(parameter.requires_grad for parameter in module.parameters()))
