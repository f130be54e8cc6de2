"""Exponential moving average of the weights of a task, updated without reading anything from the device."""

import copy

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from ftrain.tasks.task import Task


class WeightAverage(nn.Module):
    """A copy of a task, `module`, with the average of its parameters and of the statistics in its buffers.

    Counters and labels (tensors of integers) have no average; `copy_counters` copies them when they are needed.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.module: Task = copy.deepcopy(task)
        own = {name: tensor.detach() for name, tensor in task.state_dict(keep_vars=True).items()}
        pairs = [(average, own[name]) for name, average in self.module.state_dict().items()]
        self.averages = [pair for pair in pairs if pair[0].is_floating_point()]
        self.counters = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, decay: float, skip: Tensor) -> None:
        """Set every average to `decay` times itself plus 1 - `decay` times the value of the task, unless `skip` is 1.

        `skip` is a float32 scalar on the device. With weight decay 1 and the value as the gradient to ascend, a step of
        SGD is this average, and the fused kernel of all tensors skips it without asking the host.
        """
        averages, values = (list(tensors) for tensors in zip(*self.averages, strict=True))
        sgd(
            averages, values, [None] * len(averages), fused=True, found_inf=skip, lr=1 - decay, weight_decay=1.0, maximize=True,
            momentum=0.0, dampening=0.0, nesterov=False,
        )  # fmt: skip

    @torch.no_grad()
    def copy_counters(self) -> None:
        """Copy what has no average from the task."""
        if self.counters:
            copies, values = (list(tensors) for tensors in zip(*self.counters, strict=True))
            torch._foreach_copy_(copies, values)  # pyright: ignore[reportPrivateImportUsage]
