"""Gradients of a global batch from micro-batches, on any number of processes.

Losses that compare images must see the whole global batch, so a task passes what it compares to `Task.gather`. With one
micro-batch per process, the forward pass gathers. With several, a first pass without gradient collects the embeddings
of all micro-batches; a second replaces those of one micro-batch at a time by embeddings with gradient (GradCache, Gao
et al., RepL4NLP 2021). Each process computes the same loss from the same numbers, so the gradient of its own embeddings
needs no further communication: it is multiplied by the number of micro-batches, over which gradients are averaged.

`accumulate_exactly` gathers the gradients of all micro-batches and sums them in index order, and does the same with the
statistics of batch normalization. The result is therefore bit-identical for every number of processes that divides the
number of micro-batches. It gathers micro-batches x parameters numbers per step.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from ftrain.data.stream import Batch
from ftrain.fit.distributed import Processes
from ftrain.tasks.task import Task

Losses = dict[str, Tensor]
Backward = Callable[[Tensor], None]  # computes the gradients of a loss
LossFunction = Callable[[Batch, int], Losses]  # (micro-batch, its index in the global batch) -> loss and its terms


class GlobalBatch:
    """What the losses of a step compare, gathered from all micro-batches in index order.

    Micro-batch m belongs to process m mod `processes.world_size`.
    """

    def __init__(self, task: Task, processes: Processes, *, compiled: bool = False) -> None:
        self.task, self.processes, self.compiled = task, processes, compiled
        self.compares = True  # False once a pass has shown that the losses of the current stage compare nothing
        # Per call of `gather` in a forward pass: the tensors of all micro-batches.
        self.gathered: list[list[Tensor]] = []

    def collect(self, micro_batches: list[Batch], loss_of: LossFunction) -> None:
        """Run the micro-batches without gradient and gather what they compare; buffers keep their values."""
        self.gathered = []
        if not self.compares:
            return
        processes, recorded = self.processes, list[list[Tensor]]()
        buffers = list(self.task.buffers())
        before = [buffer.clone() for buffer in buffers]
        for number, micro_batch in enumerate(micro_batches):
            calls: list[Tensor] = []
            with torch.no_grad(), self._gathering(lambda own, calls=calls: (calls.append(own), own)[1]):
                loss_of(micro_batch, processes.rank + number * processes.world_size)
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
            if not calls:
                self.compares = False
                return
            recorded.append(calls)
        for parts in zip(*recorded, strict=True):
            of_ranks = [rank.unbind() for rank in processes.gather(torch.stack(parts))]
            self.gathered.append([rank[number] for number in range(len(parts)) for rank in of_ranks])

    @contextmanager
    def around(self, micro_batch: int) -> Generator[None]:
        """Let `Task.gather` return the global batch, with the gradient of the micro-batch of this global index."""
        calls = iter(self.gathered)

        def gather(own: Tensor) -> Tensor:
            parts = list(next(calls)) if self.gathered else self.processes.gather(own.detach())
            parts[micro_batch] = _ScaledGradient.apply(own, float(len(parts))) if own.requires_grad else own  # type: ignore[assignment]
            return torch.cat(parts)

        with self._gathering(gather):
            yield

    @contextmanager
    def _gathering(self, gather: Callable[[Tensor], Tensor]) -> Generator[None]:
        self.task.gather = torch.compiler.disable(gather) if self.compiled else gather  # type: ignore[method-assign]
        try:
            yield
        finally:
            del self.task.gather


class _ScaledGradient(torch.autograd.Function):
    """Identity whose gradient is multiplied by a number."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.scale, None


def split_batch(batch: Batch, count: int) -> list[Batch]:
    """Split a local batch, tensors (B, …), into micro-batches of B / `count` samples."""
    if count == 1:
        return [batch]
    chunks = {name: tensor.chunk(count) for name, tensor in batch.items()}
    return [{name: parts[number] for name, parts in chunks.items()} for number in range(count)]


def accumulate(
    micro_batches: list[Batch],
    loss_of: LossFunction,
    model: Callable[..., object],
    whole: GlobalBatch,
    backward: Backward = Tensor.backward,
) -> Losses:
    """Accumulate the mean gradient in `.grad`; DistributedDataParallel averages over processes."""
    totals: Losses = {}
    processes = whole.processes
    if len(micro_batches) > 1:
        whole.collect(micro_batches, loss_of)
    for number, micro_batch in enumerate(micro_batches):
        last = number == len(micro_batches) - 1
        index = processes.rank + number * processes.world_size
        with model.no_sync() if isinstance(model, DistributedDataParallel) and not last else nullcontext():
            with whole.around(index) if len(micro_batches) * processes.world_size > 1 else nullcontext():
                losses = loss_of(micro_batch, index)
            backward(losses["loss"] / len(micro_batches))
        _add(totals, losses, 1 / len(micro_batches))
    return totals


def accumulate_exactly(
    micro_batches: list[Batch],
    loss_of: LossFunction,
    task: Task,
    whole: GlobalBatch,
    backward: Backward = Tensor.backward,
) -> Losses:
    """Accumulate the mean gradient in `.grad` and the mean statistics in the buffers, in micro-batch order.

    Returns the losses of this process. Counters such as `num_batches_tracked` advance once, regardless of the number of
    micro-batches.
    """
    parameters = [parameter for parameter in task.parameters() if parameter.requires_grad]
    buffers = list(task.buffers())
    before = [buffer.clone() for buffer in buffers]
    statistics = [buffer for buffer in buffers if buffer.is_floating_point()]
    vectors: list[Tensor] = []
    totals: Losses = {}
    processes = whole.processes
    # Even a single one, so that the kernels are the same on any number of processes.
    whole.collect(micro_batches, loss_of)
    for number, micro_batch in enumerate(micro_batches):
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
        for parameter in parameters:
            parameter.grad = None
        index = processes.rank + number * processes.world_size
        with whole.around(index):
            losses = loss_of(micro_batch, index)
        backward(losses["loss"])
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
        if isinstance(tensor, torch.nn.Parameter):
            tensor.grad = torch.empty_like(tensor).copy_(values)  # in the memory layout of the parameter
        else:
            tensor.copy_(values)
    return totals


def _vector(tensors: list[Tensor], like: Tensor | None = None) -> Tensor:
    if not tensors:
        assert like is not None
        return like.new_empty(0)
    return torch.cat([tensor.detach().reshape(-1).float() for tensor in tensors])


def _add(totals: Losses, losses: Losses, share: float) -> None:
    for name, value in losses.items():
        totals[name] = totals.get(name, torch.zeros_like(value)) + value.detach() * share
