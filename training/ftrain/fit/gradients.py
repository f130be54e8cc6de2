"""Gradients of a global batch out of micro-batches, on any number of processes.

`accumulate_exactly` gathers the gradient of each micro-batch and adds them in index order, and does the same with the
statistics of batch normalization, so that the result has the same bits for every number of processes that divides the
micro-batches. It costs one gathering of micro-batches x parameters numbers a step.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ftrain.data.stream import Batch
from ftrain.fit.distributed import Processes

Losses = dict[str, torch.Tensor]
LossFunction = Callable[[Batch, int], Losses]  # (micro-batch, its number in the global batch) -> loss and parts


def split_batch(batch: Batch, num_parts: int) -> list[Batch]:
    """Cut a local batch into its micro-batches."""
    if num_parts == 1:
        return [batch]
    chunks = {name: tensor.chunk(num_parts) for name, tensor in batch.items()}
    return [{name: parts[number] for name, parts in chunks.items()} for number in range(num_parts)]


def accumulate(parts: list[Batch], loss_of: LossFunction, model: Callable[..., object], processes: Processes) -> Losses:
    """Leave the mean gradient in `.grad`; the mean over processes is taken by DistributedDataParallel."""
    totals: Losses = {}
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        with model.no_sync() if isinstance(model, DistributedDataParallel) and not last else nullcontext():
            losses = loss_of(part, processes.rank + number * processes.world_size)
            (losses["loss"] / len(parts)).backward()
        _add(totals, losses, 1 / len(parts))
    return totals


def accumulate_exactly(parts: list[Batch], loss_of: LossFunction, task: nn.Module, processes: Processes) -> Losses:
    """Leave the mean gradient in `.grad` and the mean statistics in the buffers, both summed in the order of micro-batches.

    Losses are those of this process; a count such as `num_batches_tracked` advances once, whatever the number of micro-batches.
    """
    parameters = [parameter for parameter in task.parameters() if parameter.requires_grad]
    buffers = list(task.buffers())
    before = [buffer.clone() for buffer in buffers]
    statistics = [buffer for buffer in buffers if buffer.is_floating_point()]
    vectors: list[torch.Tensor] = []
    totals: Losses = {}
    for number, part in enumerate(parts):
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
        for parameter in parameters:
            parameter.grad = None
        losses = loss_of(part, processes.rank + number * processes.world_size)
        losses["loss"].backward()
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        vectors.append(_vector([*gradients, *statistics]))
        _add(totals, losses, 1 / len(parts))
    by_rank = processes.gather(torch.stack(vectors))
    in_order = [by_rank[m % len(by_rank)][m // len(by_rank)] for m in range(len(parts) * processes.world_size)]
    mean = _ordered_mean(in_order)
    # What no micro-batch changed keeps its bits: a mean of equal numbers may differ from them in the last one.
    first = sum(parameter.numel() for parameter in parameters)
    old = _vector([value for value in before if value.is_floating_point()], like=mean)
    constant = torch.stack([vector[first:] for vector in in_order]).eq(old).all(dim=0)
    mean[first:] = torch.where(constant, old, mean[first:])
    _scatter(mean, parameters, statistics)
    return totals


def _ordered_mean(vectors: list[torch.Tensor]) -> torch.Tensor:
    total = vectors[0].clone()
    for vector in vectors[1:]:
        total += vector
    return total.div_(len(vectors))


def _vector(tensors: list[torch.Tensor], like: torch.Tensor | None = None) -> torch.Tensor:
    if not tensors:
        assert like is not None
        return like.new_empty(0)
    return torch.cat([tensor.detach().reshape(-1).float() for tensor in tensors])


def _scatter(vector: torch.Tensor, parameters: list[nn.Parameter], statistics: list[torch.Tensor]) -> None:
    position = 0
    for tensor in (*parameters, *statistics):
        values = vector[position : position + tensor.numel()].view(tensor.shape)
        position += tensor.numel()
        if isinstance(tensor, nn.Parameter):
            tensor.grad = torch.empty_like(tensor).copy_(values)  # in the layout of the parameter
        else:
            tensor.copy_(values)


def _add(totals: Losses, losses: Losses, share: float) -> None:
    for name, value in losses.items():
        totals[name] = totals.get(name, torch.zeros_like(value)) + value.detach() * share
