"""Optimizer, learning rates and stages: pure functions of a configuration and a step."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from fschemas.failures import UsageError
from ftrain.data.config import BackboneConfig, FitConfig, Stage
from ftrain.layers.backbone import parameter_layers, plain_name, timm_networks


def make_optimizer(model: nn.Module, config: FitConfig) -> torch.optim.Optimizer:
    """Build the optimizer with one parameter group per learning rate factor, weight decay and stage prefix.

    Its kernels are fused: they skip a step whose `found_inf` is 1 on the device, and the host need not know.

    Biases, normalization layers and embeddings have no weight decay. A backbone has the factor `backbone_lr_scale`,
    multiplied by `layer_lr_decay` once per layer above (see `layer_heights`).
    """
    heights = layer_heights(model) if config.layer_lr_decay < 1 else {}
    networks = tuple(f"{name}." for name in timm_networks(model))
    parts = [prefix for stage in config.stages for prefix in stage.lr_scales]
    groups: dict[tuple[bool, bool, int, str], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        is_backbone = name.startswith(networks)
        decayed = parameter.ndim > 1 and not (is_backbone and name.endswith(_EMBEDDINGS))
        kind = is_backbone, decayed, heights.get(name, 0), _longest_prefix(name, parts)
        groups.setdefault(kind, []).append(parameter)
    settings = [
        {
            "params": parameters,
            "weight_decay": config.weight_decay if decayed else 0.0,
            "share": (config.backbone_lr_scale if is_backbone else 1.0) * config.layer_lr_decay**height,
            "part": part,
        }
        for (is_backbone, decayed, height, part), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(settings, lr=config.learning_rate, momentum=config.momentum, fused=True)
    return torch.optim.AdamW(settings, lr=config.learning_rate, fused=True)


def start_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Create the momentum of SGD, 0, for trainable parameters that have none.

    torch creates it in the first step, without a value if that step is skipped.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"] if group.get("momentum") else ():
            if parameter.requires_grad and "momentum_buffer" not in optimizer.state[parameter]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def ema_decay_at(decay: float, step: int) -> float:
    """EMA decay at a step (from 0): 0, then small, so that the initial weights are forgotten quickly.

    With a constant decay of 0.998, a quarter of the average after 690 steps still comes from the untrained heads. Like
    TensorFlow's ExponentialMovingAverage with `num_updates`, the average covers about the last tenth of the completed
    steps.
    """
    return min(decay, (1 + step) / (10 + step)) if step else 0.0


# Embeddings that no network of timm decays, although they have more than one dimension.
_EMBEDDINGS = ("pos_embed", "cls_token", "reg_token", "dist_token", "relative_position_bias_table")


def layer_heights(model: nn.Module) -> dict[str, int]:
    """Height of each backbone parameter: the number of layers up to the head of the timm network, 1 for the last one.

    Other parameters are omitted. Layers are those of timm (`timm.optim.param_groups_layer_decay`), which knows them for
    each family: a residual or transformer block, or a stage. The stem with its embeddings is one more; a final
    normalization belongs to the head (height 0). Layers that a cut removed count. After Clark et al., ICLR 2020, and
    Bao et al., ICLR 2022.
    """
    heights: dict[str, int] = {}
    for prefix, network in timm_networks(model).items():
        if isinstance(config := getattr(network, "config", None), BackboneConfig):
            layers = parameter_layers(config)
            top = max(layers.values())
            names = [name for name, _ in network.named_parameters()]
            heights |= {f"{prefix}.{name}": top - layers[plain_name(name)] for name in names}
    return heights


def rate_at(step: int, num_steps: int, config: FitConfig) -> float:
    """Learning rate of a step: linear warmup, then cosine decay to zero, or constant."""
    warmup = round(config.warmup_ratio * num_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if config.schedule == "constant":
        return config.learning_rate
    progress = (step - warmup) / max(1, num_steps - warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def autocast(device: torch.device, amp: str) -> torch.autocast:
    """Context of the mixed precision `fit.amp`."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(amp)
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed the generators used on `device`; `torch.manual_seed` records a stack trace for every other device type."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def set_rate(optimizer: torch.optim.Optimizer, rate: float, rates: Mapping[str, float]) -> None:
    """Set the learning rate of every group: `rate` times the factors of the group and of the stage (`lr_scales`)."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["share"] * rates.get(_longest_prefix(group["part"], rates), 1.0)


def _longest_prefix(name: str, prefixes: Iterable[str]) -> str:
    """The longest of the prefixes that match a name; "" if none does."""
    return max((prefix for prefix in prefixes if name.startswith(prefix)), key=len, default="")


def stage_at(step: int, num_steps: int, stages: tuple[Stage, ...]) -> Stage:
    """Stage of a step."""
    return next((stage for stage in stages if step < stage.until * num_steps), stages[-1])


def check_stages(model: nn.Module, stages: tuple[Stage, ...]) -> None:
    """Raise `UsageError` for stages out of order and for prefixes that match no parameter."""
    ends = [stage.until for stage in stages]
    if not ends or ends != sorted(set(ends)):
        raise UsageError(f"fit.stages: `until` is {ends}; list at least one stage, in ascending order of `until`")
    names = [name for name, _ in model.named_parameters()]
    for prefix in [prefix for stage in stages for prefix in (*stage.freeze, *stage.lr_scales)]:
        if not any(name.startswith(prefix) for name in names):
            raise UsageError(f"fit.stages: no parameter's name starts with {prefix!r}; the first is {names[0]}")
    for stage in stages:
        if all(name.startswith(stage.freeze) for name in names):
            frozen = list(stage.freeze)
            raise UsageError(f"fit.stages: frozen={frozen} leaves nothing to train; freeze fewer parameters")


def weigh(losses: dict[str, torch.Tensor], stage: Stage) -> dict[str, torch.Tensor]:
    """Recompute `loss` as the sum of the terms with the weights of a stage; unchanged if the stage has no weights."""
    if not stage.loss_weights:
        return losses
    parts = {name: value for name, value in losses.items() if name != "loss"}
    unknown = sorted(stage.loss_weights.keys() - parts.keys())
    if unknown:
        raise UsageError(f"fit.stages: the task has no loss {unknown[0]!r}; its losses are {', '.join(parts)}")
    return {
        **losses,
        "loss": torch.stack([stage.loss_weights.get(name, 1.0) * value for name, value in parts.items()]).sum(),
    }


def enter_stage(model: nn.Module, stage: Stage) -> None:
    """Freeze and unfreeze parameters; normalization layers without trainable parameters keep their statistics."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(stage.freeze))
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 - torch has no public base class
            module.train(all(parameter.requires_grad for parameter in module.parameters()))
