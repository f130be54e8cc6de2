"""Gradients of a global batch out of micro-batches, on any number of processes.

`exact` gathers the gradient of each micro-batch and adds them in index order, and does the same with the statistics of
batch normalisation, so that the result has the same bits for every number of processes that divides the micro-batches.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ftrain.distributed import Processes
from ftrain.stream import Batch

Losses = dict[str, torch.Tensor]
LossFunction = Callable[[Batch, int], Losses]  # (micro-batch, its number in the global batch) -> loss and parts


def split_batch(batch: Batch, num_parts: int) -> list[Batch]:
    """Cut a local batch into its micro-batches."""
    if num_parts == 1:
        return [batch]
    chunks = {name: tensor.chunk(num_parts) for name, tensor in batch.items()}
    return [{name: parts[number] for name, parts in chunks.items()} for number in range(num_parts)]


def accumulate(parts: list[Batch], loss_of: LossFunction, model: nn.Module, processes: Processes) -> Losses:
    """Leave the mean gradient in `.grad`; the mean over processes is taken by DistributedDataParallel."""
    totals: Losses = {}
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        silent = isinstance(model, DistributedDataParallel) and not last
        with model.no_sync() if silent else nullcontext():  # type: ignore[operator]
            losses = loss_of(part, processes.rank + number * processes.world_size)
            (losses["loss"] / len(parts)).backward()
        _add(totals, losses, 1 / len(parts))
    return totals


def accumulate_exactly(parts: list[Batch], loss_of: LossFunction, model: nn.Module, processes: Processes) -> Losses:
    """Leave the mean gradient in `.grad` and the mean statistics in the buffers, both summed in the order of micro-batches."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    before = [buffer.clone() for buffer in buffers]
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
        vectors.append(torch.cat([tensor.reshape(-1).float() for tensor in (*gradients, *buffers)]))
        _add(totals, losses, 1 / len(parts))
    by_rank = processes.gather(torch.stack(vectors))
    num_micro_batches = len(parts) * processes.world_size
    mean = torch.zeros_like(vectors[0])
    for number in range(num_micro_batches):
        mean += by_rank[number % processes.world_size][number // processes.world_size]
    mean /= num_micro_batches
    _scatter(mean, parameters, buffers)
    return totals


def _scatter(vector: torch.Tensor, parameters: list[nn.Parameter], buffers: list[torch.Tensor]) -> None:
    position = 0
    for tensor in (*parameters, *buffers):
        values = vector[position : position + tensor.numel()].view(tensor.shape).to(tensor.dtype)
        position += tensor.numel()
        if isinstance(tensor, nn.Parameter):
            tensor.grad = values.clone(memory_format=torch.preserve_format)
        else:
            tensor.copy_(values)


def _add(totals: Losses, losses: Losses, share: float) -> None:
    for name, value in losses.items():
        totals[name] = totals.get(name, torch.zeros_like(value)) + value.detach() * share
