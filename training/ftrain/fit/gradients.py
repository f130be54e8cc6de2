"""Gradients of a global batch from micro-batches, on any number of processes.

`accumulate_exactly` gathers the gradients of all micro-batches and sums them in index order, and does the same with the
statistics of batch normalization. The result is therefore bit-identical for every number of processes that divides the
number of micro-batches. It gathers micro-batches x parameters numbers per step.
"""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ftrain.data.stream import Batch
from ftrain.fit.distributed import Processes

Losses = dict[str, torch.Tensor]
LossFunction = Callable[[Batch, int], Losses]  # (micro-batch, its index in the global batch) -> loss and its terms


def split_batch(batch: Batch, count: int) -> list[Batch]:
    """Split a local batch, tensors (B, …), into micro-batches of B / `count` samples."""
    if count == 1:
        return [batch]
    chunks = {name: tensor.chunk(count) for name, tensor in batch.items()}
    return [{name: parts[number] for name, parts in chunks.items()} for number in range(count)]


def accumulate(
    micro_batches: list[Batch], loss_of: LossFunction, model: Callable[..., object], processes: Processes
) -> Losses:
    """Accumulate the mean gradient in `.grad`; DistributedDataParallel averages over processes."""
    totals: Losses = {}
    for number, micro_batch in enumerate(micro_batches):
        last = number == len(micro_batches) - 1
        with model.no_sync() if isinstance(model, DistributedDataParallel) and not last else nullcontext():
            losses = loss_of(micro_batch, processes.rank + number * processes.world_size)
            (losses["loss"] / len(micro_batches)).backward()
        _add(totals, losses, 1 / len(micro_batches))
    return totals


def accumulate_exactly(
    micro_batches: list[Batch], loss_of: LossFunction, task: nn.Module, processes: Processes
) -> Losses:
    """Accumulate the mean gradient in `.grad` and the mean statistics in the buffers, in micro-batch order.

    Returns the losses of this process. Counters such as `num_batches_tracked` advance once, regardless of the number of
    micro-batches.
    """
    parameters = [parameter for parameter in task.parameters() if parameter.requires_grad]
    buffers = list(task.buffers())
    before = [buffer.clone() for buffer in buffers]
    statistics = [buffer for buffer in buffers if buffer.is_floating_point()]
    vectors: list[torch.Tensor] = []
    totals: Losses = {}
    for number, micro_batch in enumerate(micro_batches):
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
        for parameter in parameters:
            parameter.grad = None
        losses = loss_of(micro_batch, processes.rank + number * processes.world_size)
        losses["loss"].backward()
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        vectors.append(_vector([*gradients, *statistics]))
        _add(totals, losses, 1 / len(micro_batches))
    by_rank = processes.gather(torch.stack(vectors))
    in_order = [by_rank[m % len(by_rank)][m // len(by_rank)] for m in range(len(micro_batches) * processes.world_size)]
    mean = in_order[0].clone()
    for vector in in_order[1:]:
        mean += vector
    mean.div_(len(in_order))
    # Tensors that no micro-batch changed keep their bits: the mean of equal numbers may differ in the last bit.
    first = sum(parameter.numel() for parameter in parameters)
    old = _vector([value for value in before if value.is_floating_point()], like=mean)
    constant = torch.stack([vector[first:] for vector in in_order]).eq(old).all(dim=0)
    mean[first:] = torch.where(constant, old, mean[first:])
    position = 0
    for tensor in (*parameters, *statistics):
        values = mean[position : position + tensor.numel()].view(tensor.shape)
        position += tensor.numel()
        if isinstance(tensor, nn.Parameter):
            tensor.grad = torch.empty_like(tensor).copy_(values)  # in the memory layout of the parameter
        else:
            tensor.copy_(values)
    return totals


def _vector(tensors: list[torch.Tensor], like: torch.Tensor | None = None) -> torch.Tensor:
    if not tensors:
        assert like is not None
        return like.new_empty(0)
    return torch.cat([tensor.detach().reshape(-1).float() for tensor in tensors])


def _add(totals: Losses, losses: Losses, share: float) -> None:
    for name, value in losses.items():
        totals[name] = totals.get(name, torch.zeros_like(value)) + value.detach() * share
