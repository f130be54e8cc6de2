"""Batch normalization with the statistics of all processes.

On GPUs, the layers of torch and timm. torch's does not run on CPUs, so there `_Synchronized` computes the same with
gloo; it is what the tests of several processes run.
"""

from typing import Any

import torch
import torch.distributed as dist
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.modules.batchnorm import _BatchNorm


def synchronize_batch_norm(model: nn.Module, device: torch.device) -> None:
    """Convert the batch normalization layers inside `model` in place; names, parameters and buffers stay the same."""
    if device.type == "cuda":
        convert_sync_batchnorm(model)
        return
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            kind = type(module)
            module.__class__ = type(f"Synchronized{kind.__name__}", (_Synchronized, kind), {})


class _Synchronized(nn.Module):
    """Mixin for a batch normalization layer, with equal batch sizes on all processes."""

    def forward(self, values: Tensor) -> Tensor:
        """Normalize `values` B, C, ... per channel; in training mode, over all processes."""
        layer: Any = self
        if not layer.training:
            return super().forward(values)
        axes, shape = [0, *range(2, values.dim())], (1, -1, *[1] * (values.dim() - 2))
        with torch.autocast(values.device.type, enabled=False):
            exact = values.float()
            mean = _MeanOverProcesses.apply(exact.mean(axes))
            centered = exact - mean.view(shape)
            variance = _MeanOverProcesses.apply(centered.square().mean(axes))
            result = centered * (variance + layer.eps).rsqrt().view(shape)
            if layer.affine:
                result = result * layer.weight.view(shape)
                result = result if layer.bias is None else result + layer.bias.view(shape)
            _update_statistics(layer, mean.detach(), variance.detach(), values.numel() // values.shape[1])
        result = result.to(values.dtype)
        return layer.act(layer.drop(result)) if hasattr(layer, "act") else result  # timm's layers with an activation


@torch.no_grad()
def _update_statistics(layer: Any, mean: Tensor, variance: Tensor, per_process: int) -> None:
    number = per_process * dist.get_world_size()
    layer.running_mean.lerp_(mean, layer.momentum)
    layer.running_var.lerp_(variance * number / max(1, number - 1), layer.momentum)
    layer.num_batches_tracked.add_(1)


class _MeanOverProcesses(Function):
    """Mean with gradient; torch's own `all_reduce` with gradient is deprecated, and warns users."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        del ctx
        total = values.clone()
        dist.all_reduce(total)
        return total / dist.get_world_size()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # each process has a part of the loss
        return _MeanOverProcesses.forward(ctx, gradients[0])
