"""Batch sizes that fit into the memory of a GPU: the rule of docs/gpus.md, `ftrain plan` and `ftrain doctor`.

A training step keeps 22 bytes per parameter: weight, gradient, two moments and the moving average in float32, and the
bfloat16 weights of autocast. Per image, it keeps what the backward pass needs. The rule adds a fifth to that (gradients
of activations, workspaces), and leaves a tenth of the memory and 1.5 GB unused (CUDA context, libraries, fragments).
None of this has been measured on a GPU.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ftrain.data.config import FitConfig
from ftrain.data.stream import Batch
from ftrain.fit.optimization import autocast, enter_stage, weigh
from ftrain.tasks.task import Task

CARDS = (24, 80, 141)  # GB of the cards in docs/gpus.md, such as RTX 4090, A100 or H100, and H200
_BYTES_PER_PARAMETER = 22
_UNUSED_SHARE, _UNUSED_BYTES, _BACKWARD = 0.1, 1.5e9, 1.2
_MAX_GROWTH = 4  # times the batch that a recipe was written for; larger ones have not been tried
_ALIGNED = 8  # batches are multiples of this, for tensor cores and for 2, 4 or 8 processes


@dataclass(frozen=True)
class Footprint:
    """What a training step keeps in device memory: so many parameters, and so many bytes per image."""

    parameters: int
    bytes_per_image: int


# The `full` profiles on the data sets that they were published on, as found by `measure_footprint`.
FULL_PROFILES = {
    "keypoints": Footprint(46_100_000, 489_000_000),
    "category": Footprint(53_100_000, 45_000_000),
    "fashionnet": Footprint(193_400_000, 45_000_000),
    "retrieval": Footprint(26_600_000, 44_000_000),
    "style": Footprint(41_700_000, 49_000_000),
}


@dataclass(frozen=True)
class BatchAdvice:
    """Batch for a device. `fits` is the largest micro-batch in its memory."""

    fits: int
    batch_size: int
    micro_batches: int
    learning_rate: float


def advise_batch(footprint: Footprint, memory: float, fit: FitConfig) -> BatchAdvice | None:
    """Recommend a batch for a device with `memory` bytes; None if it cannot take micro-batches of the configured batch.

    The recommended batch is at most four times the configured one. The learning rate grows with the square root of the
    batch for AdamW (Malladi et al., NeurIPS 2022), and in proportion to it for SGD (Goyal et al., 2017).
    """
    group = kept_together(fit)
    free = (1 - _UNUSED_SHARE) * memory - _UNUSED_BYTES - _BYTES_PER_PARAMETER * footprint.parameters
    room = max(0, int(free / (_BACKWARD * footprint.bytes_per_image)))
    fits = room // math.lcm(_ALIGNED, group) * math.lcm(_ALIGNED, group)
    if fits >= fit.batch_size:
        size = min(fits, _MAX_GROWTH * fit.batch_size)
        growth = size / fit.batch_size
        return BatchAdvice(fits, size, 1, fit.learning_rate * (growth if fit.optimizer == "sgd" else math.sqrt(growth)))
    for parts in range(2, fit.batch_size // 2 + 1):
        if fit.batch_size % (parts * group) == 0 and fit.batch_size // parts <= room:
            return BatchAdvice(fits, fit.batch_size, parts, fit.learning_rate)
    return None


def kept_together(fit: FitConfig) -> int:
    """Images that a micro-batch cannot split: K of P x K, or 1 with a sampler without identities."""
    return fit.samples_per_identity if fit.sampler in ("identities", "auto") else 1


def measure_footprint(task: Task, fit: FitConfig, sample: Batch) -> Footprint:
    """Count what a step keeps for an image, in the stage that keeps most, on tensors without data.

    `sample` is a batch of the task's inputs, of which only shapes and types matter. Raises `NotImplementedError` for a
    loss with shapes that depend on values.
    """
    modes = [(module, module.training) for module in task.modules()]
    learning = [(parameter, parameter.requires_grad) for parameter in task.parameters()]
    try:
        small, large = (_saved_bytes(task.train(), fit, sample, size) for size in (4, 8))
    except RuntimeError as error:
        raise NotImplementedError(f"the loss of {task.name} cannot be traced") from error
    finally:
        for module, training in modes:
            module.training = training
        for parameter, requires_grad in learning:
            parameter.requires_grad_(requires_grad)
    inputs = sum(tensor[0].nbytes for tensor in sample.values())
    return Footprint(sum(parameter.numel() for parameter in task.parameters()), (large - small) // 4 + inputs)


def _saved_bytes(task: Task, fit: FitConfig, sample: Batch, size: int) -> int:
    """Bytes that autograd saves in the forward pass of `size` images, without parameters and buffers."""
    most = 0
    own = {tensor.untyped_storage()._cdata for tensor in (*task.parameters(), *task.buffers())}  # noqa: SLF001
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, autocast(torch.device("cpu"), fit.amp):
        batch = {
            name: mode.from_tensor(tensor[:1].expand(size, *tensor.shape[1:]).contiguous())
            for name, tensor in sample.items()
        }
        for stage in fit.stages:
            enter_stage(task, stage)
            saved: dict[int, Tensor] = {}

            def pack(tensor: Tensor, saved: dict[int, Tensor] = saved) -> Tensor:
                if not isinstance(tensor, nn.Parameter):
                    saved[tensor.untyped_storage()._cdata] = tensor  # noqa: SLF001 - equal for views of the same memory
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                weigh(task(batch), stage)
            most = max(most, sum(t.untyped_storage().nbytes() for key, t in saved.items() if key not in own))
    return most
